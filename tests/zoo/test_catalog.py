"""Names, domains and options of models, and the errors for those that do not exist."""

import pytest

from comhe.errors import UnknownOptionError, UsageError
from comhe.zoo import create_model, list_models, model_domain, register_model

from ..forks import python


def test_graph_models_are_listed_under_their_domain():
    assert {"gcn", "gat", "sage", "appnp", "gcn2"} <= set(list_models(domain="graphs"))
    assert model_domain("gcn") == "graphs"
    assert list_models("gcn*") == ["gcn", "gcn2"]
    assert list_models("nothing*") == []


def test_natural_order(clean_registry):
    for n in (110, 20, 8):
        exec(f"def zznet{n}(): ...", scope := {"__name__": "somewhere"})
        register_model(scope[f"zznet{n}"])
    assert list_models("zznet*") == ["zznet8", "zznet20", "zznet110"]
    assert model_domain("zznet8") == "custom"
    assert list_models("zz*", domain="graphs") == []


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UsageError, match=r"unknown model 'gnc'; did you mean .*gcn"):
        create_model("gnc")
    with pytest.raises(UsageError, match=r"unknown model '@@@@'; there are .*gcn"):
        create_model("@@@@")
    with pytest.raises(UsageError, match="unknown domain 'graph'; the domains are images, points, graphs, custom"):
        list_models(domain="graph")


def test_wrong_arguments_name_the_accepted_ones():
    with pytest.raises(
        UnknownOptionError, match=r"'gcn' takes no 'hidden'; it accepts in_channels: int, .*hidden_channels"
    ):
        create_model("gcn", in_channels=3, num_classes=2, hidden=4)
    with pytest.raises(UnknownOptionError, match=r"'gcn' needs 'in_channels', 'num_classes'; it accepts"):
        create_model("gcn")


def test_a_name_of_the_zoo_cannot_be_taken_before_its_networks_are_imported():
    """Whichever call imports them: each is the first one in a fork of its own."""
    code = """
import os
from comhe.zoo import *
@register_model
def gcn(): ...
for call in (lambda: create_model("gcn"), list_models, lambda: model_domain("gcn")):
    if not os.fork():
        try:
            call()
        except ValueError as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
"""
    done = python("-c", code)
    message = "model 'gcn' is registered twice, by __main__.gcn and by comhe.zoo.graphs.gcn.GCN; rename one of them"
    assert done.stdout.splitlines() == [message] * 3, done.stderr


@pytest.mark.parametrize("context", ["torch.device('meta')", "FakeTensorMode()", "torch.inference_mode()"])
def test_the_first_model_may_be_built_without_data(context):
    """Building it imports all networks, which must make no tensor of their own; nor does using one then warn."""
    code = f"""
import warnings
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "Failing to pass a value to the 'type_params'")  # PyTorch Geometric on Python 3.13
from comhe.zoo import create_model
with {context}:
    create_model("cnn6")
    create_model("gcn", in_channels=3, num_classes=2)
model = create_model("gcn", in_channels=3, num_classes=2)
print(*model(torch.eye(4, 3), torch.tensor([[0, 1, 2], [1, 2, 3]])).shape)
"""
    done = python("-c", code)
    assert done.stdout == "4 2\n", done.stderr
