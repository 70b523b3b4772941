"""A model without a classifier has no output layer, and the report says why."""

import warnings

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from comhe.regularizers import create_regularizer
from comhe.regularizers.selection import select


def chosen(model):
    """The names of the output layers, and what is said where there are none; a warning of ours is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the output layer")
        layers, skipped = select(model)
    return [x.name for x in layers if x.role == "output"], [x for x in skipped if "no output layer" in x.reason]


def network(name, head, replacement):
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    owner, _, key = head.rpartition(".")
    model.get_submodule(owner)._modules[key] = replacement
    return model


class Wrapped(nn.Module):
    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def backbone(replacement=None):
    return network("resnet18", "fc", nn.Identity() if replacement is None else replacement)


REMOVED = {
    "an Identity": lambda: (backbone(), "fc"),
    "an empty Sequential": lambda: (backbone(nn.Sequential()), "fc"),
    "a Flatten": lambda: (backbone(nn.Flatten()), "fc"),
    "wrapped": lambda: (Wrapped(encoder=backbone()), "encoder.fc"),
    "in a Sequential": lambda: (nn.Sequential(backbone(), nn.Flatten()), "0.fc"),
    "a whole classifier": lambda: (network("vgg11", "classifier", nn.Identity()), "classifier"),
    "in a classifier": lambda: (network("mobilenet_v2", "classifier.1", nn.Identity()), "classifier"),
    "in heads": lambda: (network("vit_b_16", "heads.head", nn.Identity()), "heads"),
    "None": lambda: (network("resnet18", "fc", None), "fc"),
}


@pytest.mark.parametrize("what", REMOVED)
def test_a_head_that_was_taken_away_has_no_successor(what):
    model, name = REMOVED[what]()
    outputs, (said,) = chosen(model)
    assert outputs == []
    assert said.name == name
    assert said.reason == "no weight matrix, so there is no output layer"


@pytest.mark.parametrize(
    "build",
    [
        lambda: network("vgg11", "classifier.6", nn.Identity()),
        lambda: network("mobilenet_v3_small", "classifier.3", nn.Identity()),
        lambda: Wrapped(body=nn.Linear(4, 8), head=nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Identity())),
    ],
)
def test_the_last_layer_of_a_head(build):
    outputs, (said,) = chosen(build())
    assert outputs == []
    assert "has no classifier" in said.reason


def cut(name, count=1):
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    model.classifier = model.classifier[:-count]
    return model


RELU, DROP = nn.ReLU(), nn.Dropout()
CUT = {
    "before a dropout": lambda: cut("vgg11"),
    "before an activation": lambda: cut("alexnet"),
    "with the dropout": lambda: cut("vgg11", 2),
    "another activation": lambda: cut("mobilenet_v3_small"),
    "few features, dropped": lambda: Wrapped(body=nn.Linear(4, 8), fc=nn.Sequential(nn.Linear(8, 6), RELU, DROP)),
    "maps, dropped": lambda: Wrapped(
        body=nn.Conv2d(3, 8, 3), classifier=nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), RELU, DROP)
    ),
    "in another model": lambda: nn.Sequential(cut("vgg11"), nn.Flatten()),
    "before the last activation": lambda: cut("vgg11", 3),
    "after the first layer": lambda: cut("alexnet", 5),
    "before another activation": lambda: cut("mobilenet_v3_small", 3),
    "all but a normalization": lambda: cut("convnext_tiny"),
    "in another model, before the activation": lambda: nn.Sequential(cut("vgg11", 3), nn.Flatten()),
}


@pytest.mark.parametrize("what", CUT)
def test_a_head_that_ends_with_a_hidden_activation_has_lost_its_last_layer(what):
    outputs, (said,) = chosen(CUT[what]())
    assert outputs == []
    assert said.reason.endswith("so there is no output layer")


RECTIFIED = {
    "few numbers": {"head": [nn.Linear(8, 32), RELU, DROP, nn.Linear(32, 4), RELU]},
    "maps that are averaged": {"classifier": [DROP, nn.Conv2d(8, 32, 1), RELU]},
    "an autoencoder": {"decoder": [nn.Linear(8, 16), RELU, nn.Linear(16, 32), RELU]},
    "probabilities": {"head": [nn.Linear(8, 32), nn.Sigmoid()]},
    "positive numbers": {"head": [nn.Linear(8, 32), nn.Softplus()]},
}


@pytest.mark.parametrize("what", RECTIFIED)
def test_a_head_may_end_with_an_activation_of_its_outputs(what):
    ((name, layers),) = RECTIFIED[what].items()
    index = max(i for i, layer in enumerate(layers) if hasattr(layer, "weight"))
    assert chosen(Wrapped(body=nn.Conv2d(3, 8, 3), **{name: nn.Sequential(*layers)})) == ([f"{name}.{index}"], [])


def test_the_order_in_which_other_modules_call_their_children_is_not_known():
    head = Wrapped(dense=nn.Linear(8, 8), out=nn.Linear(8, 32), activation=RELU, dropout=DROP)
    assert chosen(Wrapped(body=nn.Linear(4, 8), head=head)) == (["head.out"], [])


def test_of_two_heads_the_whole_one_is_taken():
    projection = nn.Sequential(nn.Linear(8, 16), RELU, DROP)
    assert chosen(Wrapped(body=nn.Linear(4, 8), classifier=nn.Linear(8, 5), head=projection)) == (["classifier"], [])


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d, lambda n, **_: nn.GroupNorm(4, n, affine=False)])
@pytest.mark.parametrize("width", [8, 16])
def test_a_norm_follows_the_layer_of_as_many_features(norm, width):
    """Without weights, too: its number of features says which."""
    outputs, _ = chosen(Wrapped(body=nn.Conv2d(3, 16, 3), last=nn.Conv2d(16, 8, 1), norm=norm(width, affine=False)))
    assert outputs == ([] if width == 8 else ["last"])


def test_an_identity_at_the_end_of_a_whole_sequential():
    layers = [nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Identity()]
    outputs, (said,) = chosen(nn.Sequential(*layers))
    assert (outputs, said.name) == ([], "4")
    assert chosen(nn.Sequential(*layers[:3], nn.Identity())) == (["2"], [])


@pytest.mark.parametrize("end", [[nn.Sigmoid(), nn.Identity()], [nn.Softmax(1), nn.Identity()],
                                 [Wrapped(fc=nn.Linear(5, 5), act=nn.ReLU(), drop=nn.Identity())]])  # fmt: skip
def test_an_identity_after_an_output_or_in_a_block_cuts_nothing(end):
    """Dropout of probability 0 is often an Identity."""
    outputs, said = chosen(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5), *end))
    assert (len(outputs), said) == (1, [])


def test_a_normalizer_of_one_number_follows_nothing():
    normalizer = nn.Module()
    normalizer.register_buffer("running_var", torch.tensor(1.0))
    assert chosen(Wrapped(body=nn.Conv2d(3, 8, 3), last=nn.Conv2d(8, 5, 1), normalizer=normalizer)) == (["last"], [])


ENDS = {
    "a normalization of linear layers": (Wrapped(body=nn.Linear(4, 8), norm=nn.LayerNorm(8)), "a normalization"),
    "a normalization of all that is joined": (
        nn.Sequential(nn.Conv2d(3, 8, 3), Wrapped(grow=nn.Conv2d(8, 4, 3)), nn.BatchNorm2d(12)),
        "a normalization",
    ),
    "a pooling": (nn.Sequential(nn.Conv2d(3, 8, 3), RELU, nn.Conv2d(8, 16, 3), RELU, nn.MaxPool2d(2)), "a max-pooling"),
    "a pooling further up": (
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3)), nn.MaxPool2d(2)),
        "a max-pooling",
    ),
}


@pytest.mark.parametrize("what", ENDS)
def test_features_end_with(what):
    model, end = ENDS[what]
    outputs, (said,) = chosen(model)
    assert outputs == []
    assert f"is followed by {end}, so there is no output layer" in said.reason


def test_maps_of_classes_may_be_pooled_over_all_of_an_image():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 5, 3), RELU, nn.AdaptiveMaxPool2d(1))
    assert chosen(model) == (["2"], [])


@pytest.mark.parametrize("name", ["squeezenet1_0", "swin_v2_t"])
def test_of_a_network_without_a_head_nothing_is_guessed(name):
    """Its branches end side by side, of which a warning would tell."""
    head = "classifier" if name == "squeezenet1_0" else "head"
    assert chosen(network(name, head, nn.Identity()))[0] == []


def test_of_two_encoders_that_end_with_normalizations_none_is_told():
    encoders = {
        n: Wrapped(a=nn.Linear(n, n), b=nn.Linear(n, 7), c=nn.Linear(7, n), norm=nn.LayerNorm(n)) for n in (9, 8)
    }
    outputs, (said,) = chosen(Wrapped(image=encoders[9], text=encoders[8]))
    assert outputs == []
    assert "text.c, is followed by a normalization" in said.reason
    del encoders[9].norm
    with pytest.warns(UserWarning, match="may be any of image.c, text.c"):
        select(Wrapped(image=encoders[9], text=encoders[8]))


def test_a_backbone_that_was_cut_off():
    with torch.device("meta"):
        model = nn.Sequential(*list(torchvision.models.resnet18().children())[:-1])
    outputs, (said,) = chosen(model)
    assert outputs == []
    assert "7.1.conv2, is followed by a normalization" in said.reason


HEADS = {
    "a new head": (Wrapped(backbone=backbone(), top=nn.Linear(512, 5)), ["top"]),
    "as many classes as colors": (Wrapped(backbone=backbone(), top=nn.Linear(512, 3)), ["top"]),
    "two backbones": (Wrapped(a=backbone(), b=backbone(), top=nn.Linear(1024, 3)), ["top"]),
    "an activation": (Wrapped(body=nn.Linear(4, 8), out=nn.Linear(8, 3), head=nn.Softmax(1)), ["out"]),
    "an Identity for none": (
        Wrapped(body=nn.Linear(4, 8), head=nn.Sequential(nn.Linear(8, 3), nn.Identity())),
        ["head.0"],
    ),
    "another name": (Wrapped(body=nn.Linear(4, 8), fc=nn.Identity(), head=nn.Linear(8, 3)), ["head"]),
    "convolutions": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 5, 1), nn.Flatten()), ["2"]),
}


@pytest.mark.parametrize("what", HEADS)
def test_a_head_elsewhere_is_found(what):
    model, expected = HEADS[what]
    assert chosen(model) == (expected, [])


def test_extractors_of_torchvision():
    model = torchvision.models.resnet18()
    assert chosen(create_feature_extractor(model, ["layer1"]))[0] == []
    assert chosen(create_feature_extractor(model, ["fc"]))[0] == ["fc"]
    fpn = torchvision.models.detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    assert chosen(fpn)[0] == []


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_b0", "swin_tiny_patch4_window7_224"])
def test_extractors_of_timm(name):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        for options in ({"features_only": True}, {"num_classes": 0}):
            model = timm.create_model(name, **options)
            outputs, said = chosen(model)
            assert outputs == []
            assert len(said) == 1
            assert chosen(Wrapped(body=model, top=nn.Linear(7, 3)))[0] == ["top"]


def test_the_report_says_so():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    model.add_module("fc", nn.Identity())
    regularizer = create_regularizer("mhe", model, weight=1.0, output_weight=10.0)
    assert "skipped fc: no weight matrix, so there is no output layer" in str(regularizer.report())
    assert {regularizer.weight_of(layer) for layer in regularizer.layers} == {1.0}
    named = create_regularizer("mhe", model, output="2")
    assert not named.skipped
    assert [layer.role for layer in named.layers] == ["hidden", "output"]


CONV = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 10, 3), nn.MaxPool2d(8), nn.Flatten())
BODY, END = nn.Sequential(nn.Linear(10, 64), nn.ReLU()), nn.Linear(64, 5)
HAVE_AN_OUTPUT = {
    "batch norms after all layers": (
        {"l1": nn.Linear(64, 64), "l2": nn.Linear(64, 64), "bn1": nn.BatchNorm1d(64), "bn2": nn.BatchNorm1d(64)},
        "l2",
    ),
    "maps of classes, pooled": ({"features": CONV}, "features.2"),
    "a head that only normalizes": ({"body": BODY, "head": nn.LayerNorm(64), "last": nn.Linear(64, 10)}, "last"),
    "a classifier after a norm": ({"body": BODY, "norm_top": nn.Sequential(nn.LayerNorm(64), END)}, "norm_top.1"),
}


@pytest.mark.parametrize("name", HAVE_AN_OUTPUT)
def test_norms_and_pools_that_leave_a_network_its_output(name):
    modules, expected = HAVE_AN_OUTPUT[name]
    found = select(nn.ModuleDict(modules))
    assert [layer.name for layer in found.layers if layer.role == "output"] == [expected]
