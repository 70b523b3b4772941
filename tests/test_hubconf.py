"""What ``torch.hub`` finds in the repository."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from comhe.zoo import list_models

from .forks import python

REPOSITORY = Path(__file__).parents[1]
# A checkout from which nothing was installed: neither the finder of an editable install nor a path to the package.
UNINSTALL = """
import sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in getattr(f, "__module__", type(f).__module__)]
sys.path = [p for p in sys.path if not __import__("os").path.isdir(p + "/comhe")]
"""
LOAD = f"""
import torch
model = torch.hub.load({str(REPOSITORY)!r}, "resnet8", source="local", num_classes=3)
pretrained = torch.hub.load({str(REPOSITORY)!r}, "gcn", source="local", weights="citations-rp-comhe")
import comhe.zoo
from comhe.zoo.images import CifarResNet
assert type(model) is CifarResNet
ours = comhe.zoo.create_model("gcn", weights="citations-rp-comhe").state_dict()
assert all(value.equal(ours[key]) for key, value in pretrained.state_dict().items())
assert not {{"zoo", "datasets", "train", "regularizers"}} & set(__import__("sys").modules)
print(comhe.zoo.__path__[0])
"""


@pytest.mark.parametrize("installed", [True, False])
def test_models_are_those_of_the_package(installed, tmp_path):
    code = LOAD if installed else UNINSTALL + LOAD
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if not installed:
        assert Path(done.stdout.strip()).resolve() == REPOSITORY / "zoo"


def test_every_model_is_an_entry_point():
    code = f"""
import runpy, sys
sys.path.insert(0, {str(REPOSITORY)!r})
hub = runpy.run_path({str(REPOSITORY / "hubconf.py")!r})
print(*hub["dependencies"], *(name for name in hub["list_models"]() if callable(hub[name])))
"""
    done = python("-c", code)
    names = done.stdout.split()
    assert names[-len(list_models()) :] == list_models()
    assert all(find_spec(name) for name in names[: -len(list_models())])
