"""Every matrix of a model is a candidate, or said to have no view, whatever it is called."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from comhe.regularizers import create_regularizer
from comhe.regularizers.candidates import find_candidates, find_unread

pytestmark = pytest.mark.filterwarnings("ignore:the output layer")
HINT = "; add one with register_neurons"


class Bag(nn.Module):
    """Parameters of all kinds and names."""

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.randn(6, 10))
        self.class_token = nn.Parameter(torch.zeros(1, 1, 6))
        self.scale = nn.Parameter(torch.ones(6))
        self.spectrum = nn.Parameter(torch.randn(3, 4, dtype=torch.cfloat))
        self.lists = nn.ParameterList([torch.randn(4, 6), torch.randn(6)])
        self.tables = nn.ParameterDict({"a": torch.randn(3, 3)})
        self.register_buffer("memory", torch.randn(5, 5))
        self.lin = nn.Linear(6, 6)


def unread(model):
    return {name: reason for name, reason, _ in find_unread(model, *find_candidates(model))}


def test_what_no_view_reads_is_said_with_name_and_shape():
    assert unread(nn.Sequential(Bag())) == {
        "0": f"no matrix view for Bag.W [6, 10], Bag.spectrum [3, 4]{HINT}",
        "0.lists": f"no matrix view for ParameterList.0 [4, 6]{HINT}",
        "0.tables": f"no matrix view for ParameterDict.a [3, 3]{HINT}",
    }


def test_the_scales_of_a_norm_are_no_matrix():
    assert unread(nn.Sequential(nn.LayerNorm([4, 5]), nn.RMSNorm([4, 5]))) == {}
    modulated = type("Modulated", (nn.LayerNorm,), {})(5)
    modulated.table = nn.Parameter(torch.randn(3, 5))
    assert unread(modulated) == {"": f"no matrix view for Modulated.table [3, 5]{HINT}"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["relative_position_bias_table", "pos_embed"])
def test_tables_of_positions_take_no_outputs_of_a_classifier(name):
    window = nn.Sequential(nn.Linear(8, 8))
    window.register_parameter(name, nn.Parameter(torch.zeros(9, 5)))
    layers = create_regularizer("mhe", nn.ModuleDict({"window": window, "top": nn.Linear(8, 5)})).layers
    assert [layer.name for layer in layers if layer.role == "output"] == ["top"]


def test_a_classifier_of_positions_is_no_table_of_them():
    head = nn.Module()
    head.position_classifier = nn.Parameter(torch.zeros(5, 8))
    with pytest.warns(UserWarning, match="the output layer seems to be head, which is skipped"):
        create_regularizer("mhe", nn.ModuleDict({"body": nn.Linear(9, 8), "head": head}))


def test_what_a_layer_leaves_unread_is_said_too():
    assert unread(nn.LSTM(4, 3, proj_size=2)) == {
        "": "the view of LSTM does not read LSTM.weight_hh_l0 [12, 2], LSTM.weight_hr_l0 [2, 3]; "
        "one for a subclass can (register_neurons)"
    }


def parametrized(layer, *names):
    for name in names:
        layer = parametrizations.weight_norm(layer, name)
    return layer


def test_a_parametrized_weight_is_its_modules():
    said = "the view of ParametrizedGRU does not read ParametrizedGRU.weight_hh_l0 [9, 3]"
    for name, model in (
        ("", parametrized(nn.GRU(4, 3), "weight_hh_l0")),
        ("0", parametrized(nn.GRU(4, 3), "weight_hh_l0")),
    ):
        ((found, reason),) = unread(nn.Sequential(model) if name else model).items()
        assert (found, reason) == (name, f"{said}; one for a subclass can (register_neurons)")
    assert unread(parametrized(Bag(), "W"))[""].startswith("no matrix view for ParametrizedBag.W [6, 10]")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("names", [["weight_hh_l0"], ["weight_hh_l0", "weight_ih_l0"], ["weight_ih_l0"]])
def test_a_parametrized_recurrent_weight_does_not_take_the_role_of_the_output(names):
    for model in (
        parametrized(nn.LSTM(8, 16), *names),
        nn.Sequential(nn.Linear(3, 8), parametrized(nn.LSTM(8, 16), *names)),
    ):
        assert create_regularizer("mhe", model).layers[-1].role == "output"


def test_a_parametrized_classifier_without_a_view_is_told_by_its_own_name():
    with pytest.warns(UserWarning, match="the output layer seems to be 1, which is skipped"):
        create_regularizer("mhe", nn.Sequential(nn.Linear(3, 6), parametrized(Bag(), "W")))


def test_a_parameter_in_two_places_is_said_once():
    first, second = Bag(), nn.Module()
    second.V = first.W
    assert list(unread(nn.ModuleList([first, second]))) == ["0", "0.lists", "0.tables"]
    second.lin = nn.Linear(10, 6)
    second.lin.weight = first.W  # here it has a view
    assert "Bag.W" not in unread(nn.ModuleList([first, second]))["0"]


class Packed(nn.Module):
    """Four-bit weights in integers, as GPTQ and AWQ keep them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("qweight", torch.zeros(4, 6, dtype=torch.int32))
        self.register_buffer("index", torch.zeros(4, 6, dtype=torch.int64))


def linear(change):
    layer = nn.Linear(4, 6)
    layer.weight = nn.Parameter(change(layer.weight.detach()), requires_grad=False)
    return layer


def quantized(model, kind):
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(model), {kind}, dtype=torch.qint8)[0]


ODD = {
    "complex": (lambda: nn.Linear(4, 6, dtype=torch.cfloat), r"Linear\.weight is complex"),
    "complex convolution": (lambda: nn.Conv2d(4, 6, 3, dtype=torch.cfloat), r"Conv2d\.weight is complex"),
    "sparse": (lambda: linear(torch.Tensor.to_sparse), r"Linear\.weight is sparse \(torch\.sparse_coo\)"),
    "compressed": (lambda: linear(torch.Tensor.to_sparse_csr), "is sparse"),
    "eight bits": (lambda: linear(lambda w: w.to(torch.int8)), r"quantized \(torch\.int8\)"),
    "float of eight bits": (lambda: linear(lambda w: w.to(torch.float8_e4m3fn)), "quantized"),
    "packed": (Packed, r"Packed\.qweight is quantized"),
    "lazy": (lambda: nn.LazyLinear(6), "LazyLinear is lazy: run one forward pass"),
    "dynamically quantized": (lambda: quantized(nn.Linear(4, 6), nn.Linear), r"Linear\.weight is quantized"),
    "recurrent, quantized": (lambda: quantized(nn.LSTM(4, 6), nn.LSTM), r"LSTM\.weights is quantized"),
    "statically quantized": (lambda: torch.ao.nn.quantized.Conv2d(4, 6, 3), r"Conv2d\.weight is quantized"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", ODD)
def test_weights_that_are_no_real_matrices_are_named_at_attachment(name):
    make, reason = ODD[name]
    layer = make()
    regularizer = create_regularizer("mhe", nn.Sequential(layer, nn.Linear(6, 3)))
    assert [item.name for item in regularizer.layers] == ["1"]
    (skipped,) = regularizer.skipped
    assert skipped.name == "0"
    regularizer().backward()
    with pytest.raises(ValueError, match=f"Sequential has no layer to regularize: 0: .*{reason}") as caught:
        create_regularizer("mhe", nn.Sequential(layer))
    assert "\n" not in str(caught.value)


def test_torchao():
    torchao = pytest.importorskip("torchao.quantization")
    model = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 8))
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig(), filter_fn=lambda module, name: name == "0")
    regularizer = create_regularizer("mhe", model)
    assert [item.name for item in regularizer.layers] == ["1"]
    assert "quantized" in regularizer.skipped[0].reason


def test_weights_of_half_precision_or_none_yet_are_fine():
    with torch.device("meta"):
        assert len(find_candidates(nn.Sequential(nn.Linear(4, 6), nn.Conv2d(3, 4, 2)))[0]) == 2
    model = nn.Sequential(nn.Linear(4, 6), nn.utils.skip_init(nn.Linear, 6, 3))
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert [item.reason for item in find_candidates(model.to(dtype))[0]] == [None, None]
