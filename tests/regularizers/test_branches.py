"""Which layers follow each other and which stand side by side, told by their shapes."""

import warnings

import pytest
from torch import nn

from comhe.regularizers.selection import select

from .networks import Model, linear, outputs

HIDDEN = ["fc", "linear", "output", "out", "decoder", "predictor", "head", "cls"]
LAST = ["final", "generator", "seg_head", "reg_head", "cls_layer", "to_classes", "readout"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("last", LAST)
def test_a_layer_with_the_name_of_a_head_that_feeds_another_one_is_none(hidden, last):
    assert outputs(Model(body=linear(7, 8), **{hidden: linear(8, 16), last: linear(16, 3)})) == [last]
    encoder_decoder = Model(encoder=linear(8, 12, 16), **{hidden: linear(16, 10, 9), last: linear(9, 3)})
    assert outputs(encoder_decoder) == [last]


HEADS = {
    "dictionary": (nn.ModuleDict({"a": linear(16, 5), "b": linear(16, 7)}), ["a", "b"]),
    "list": (nn.ModuleList([linear(16, 5) for _ in range(3)]), ["0", "1", "2"]),
    "of several layers": (nn.ModuleDict({"a": linear(16, 8, 5), "b": linear(16, 8, 7)}), ["a.1", "b.1"]),
    "of one's own": (Model(a=linear(16, 5), b=linear(16, 7)), ["a", "b"]),
    "after a common layer": (nn.ModuleDict({"x": linear(16, 12), "a": linear(12, 5), "b": linear(12, 7)}), ["a", "b"]),
    "scales": (nn.ModuleList([nn.Conv2d(16, 18, 1), nn.Conv2d(32, 18, 1)]), ["0", "1"]),
    "one after another": (nn.ModuleList([linear(16, 12), linear(12, 5)]), ["1"]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["heads", "head", "classifiers", "tasks"])
@pytest.mark.parametrize("what", HEADS)
def test_heads_side_by_side_are_all_outputs(name, what):
    heads, expected = HEADS[what]
    if what == "of one's own" and name not in ("heads", "head"):
        pytest.skip("it is no container and has no name of a head")
    assert outputs(Model(body=linear(8, 16), **{name: heads})) == [f"{name}.{end}" for end in expected]


class Parallel(nn.Sequential):
    def forward(self, inputs):
        return [child(x) for child, x in zip(self, inputs, strict=True)]


@pytest.mark.filterwarnings("error")
def test_children_of_a_sequential_that_does_not_call_them_in_a_row():
    scales = (Model(conv=nn.Conv2d(n, 64, 1), bbox=nn.Conv2d(64, 4, 1), score=nn.Conv2d(64, 2, 1)) for n in (16, 32))
    model = Model(body=nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3)), decoder=Parallel(*scales))
    assert outputs(model) == ["decoder.0.score", "decoder.1.score"]


AMBIGUOUS = {
    "square heads": (
        Model(body=linear(8, 16), heads=nn.ModuleList([linear(16, 16), linear(16, 16)])),
        "heads.0, heads.1",
    ),
    "two networks": (nn.ModuleDict({"g": linear(6, 8, 3), "d": linear(6, 8, 3)}), "g.1, d.1"),
    "a projection of features": (Model(student=linear(6, 8, 3), projection=linear(8, 16)), "student.1, projection"),
    "heads in the last module": (nn.Sequential(linear(8, 16), Model(a=linear(16, 5), b=linear(16, 7))), "1.a, 1.b"),
    "a weak name": (Model(body=linear(3, 8), fc=linear(8, 10), fc2=linear(8, 5)), "fc, fc2"),
    "a head in a circle": (Model(classifier=linear(16, 8), body=linear(3, 8, 16)), "classifier, body.1"),
}


@pytest.mark.parametrize("what", AMBIGUOUS)
def test_what_shapes_leave_open_is_told(what):
    model, candidates = AMBIGUOUS[what]
    with pytest.warns(UserWarning, match=rf"the output layer may be any of {candidates};"):
        select(model)


def test_a_network_from_images_to_images():
    stages = {"inc": nn.Conv2d(3, 16, 3), "down": nn.Conv2d(16, 32, 3), "up": nn.Conv2d(48, 16, 3)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert outputs(Model(**stages, out=nn.Conv2d(16, 3, 1))) == ["out"]
        assert outputs(Model(encoder=linear(6, 8, 4), second=linear(4, 8, 6))) == ["second.1"]


def inception(*kernels):
    return nn.ModuleList(nn.Conv2d(3, 8, k, padding=k // 2) for k in kernels)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("model", "found"),
    [
        (lambda: Model(stems=inception(3, 5, 7), body=nn.Conv2d(24, 16, 3), out=nn.Conv2d(16, 3, 3)), ["out"]),
        (lambda: Model(stems=inception(3, 5), conv_last=nn.Conv2d(16, 3, 3)), ["conv_last"]),
        (lambda: nn.Sequential(Model(branches=inception(3, 5)), nn.ReLU(), nn.Conv2d(16, 3, 1)), ["2"]),
        (lambda: Model(state=nn.Linear(4, 16), action=nn.Linear(2, 16), following=nn.Linear(32, 4)), ["following"]),
    ],
)
def test_first_layers_side_by_side_are_not_the_output(model, found):
    """As many outputs as inputs: where images are restored, or the next state is told."""
    assert outputs(model()) == found


def test_heads_that_are_registered_before_the_trunk_are_no_stems():
    """Their outputs add up to the trunk's inputs."""
    tasks = nn.ModuleDict({"a": nn.Linear(16, 2), "b": nn.Linear(16, 2)})
    assert outputs(Model(tasks=tasks, encoder=linear(4, 32, 16))) == ["tasks.a", "tasks.b"]


def test_a_head_before_body_and_tail_is_the_entrance():
    blocks = nn.Sequential(*(nn.Conv2d(16, 16, 3) for _ in range(2)))
    model = Model(head=nn.Conv2d(3, 16, 3), body=blocks, tail=nn.Sequential(nn.Conv2d(16, 64, 3), nn.Conv2d(16, 3, 3)))
    assert told(model)[0] == ["tail.1"]


def told(model):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = outputs(model)
    return found, " ".join(str(each.message) for each in caught)


@pytest.mark.parametrize(
    ("model", "found", "others"),
    [
        (lambda: Model(a=linear(9, 16), b=linear(16, 5), skip=linear(9, 5)), ["skip"], ["b"]),
        (lambda: Model(stem=linear(9, 16), exit1=linear(16, 5), c=linear(16, 12), exit2=linear(12, 5)), ["exit2"],
         ["exit1"]),
        # an encoder that is registered after what it feeds, and a network of one neuron
        (lambda: Model(a=linear(16, 32), b=linear(32, 5), positions=linear(8, 16)), ["b"], ["positions"]),
        (lambda: Model(a=linear(16, 32), b=linear(32, 5), level=linear(6, 16, 1)), ["b"], ["level.1"]),
        # as many classes as earlier convolutions have channels
        (lambda: Model(a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 4, 1), c=nn.Conv2d(4, 16, 1), top=linear(16, 10),
                       last=nn.Conv2d(16, 4, 3)), ["top"], ["last"]),
        (lambda: Model(a=nn.Conv2d(1, 10, 5), b=nn.Conv2d(10, 20, 5), fc1=linear(320, 50), fc2=linear(50, 10),
                       t=nn.Conv2d(1, 8, 7), turn=nn.Conv2d(8, 10, 5), fc_loc=linear(90, 32, 6)), ["fc_loc.1"],
         ["fc2"]),
        # a classifier of codes before the decoder, and two towers whose hidden layers divide each other's outputs
        (lambda: Model(encoder=linear(78, 12, 32), clf=linear(32, 10), decoder=linear(32, 12, 78)), ["decoder.1"],
         ["clf"]),
        (lambda: Model(user=linear(30, 64, 16), item=linear(40, 64, 16)), ["item.1"], ["user.1"]),
    ],
)  # fmt: skip
def test_other_ends_of_a_model_are_told(model, found, others):
    names, message = told(model())
    assert names == found
    assert all(f" {name}" in message for name in [*others, "Name it with output="])


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_other_ends_are_told_for_any_number_of_classes(classes):
    """Every even number of inputs is a multiple of two outputs."""
    models = [
        Model(a=linear(9, 16), b=linear(16, 64), last=linear(64, classes), early=linear(16, classes)),
        Model(deep=linear(20, 16, classes), wide=linear(30, classes)),
        Model(wide=linear(30, classes), deep=linear(20, 16, classes)),
        Model(a=nn.Conv2d(3, 16, 3), down=nn.Conv2d(16, 32, 3), up=nn.Conv2d(32, 16, 3), outc=nn.Conv2d(16, classes, 1),
              side=nn.Conv2d(32, classes, 1)),
        Model(a=nn.Conv2d(3, 16, 3), b=nn.Conv2d(16, 64, 3), last=linear(64, classes),
              turned=nn.Sequential(nn.Conv2d(16, 8, 3), nn.Flatten(), linear(128, 4))),
    ]  # fmt: skip
    for model, other in zip(models, ("last", "deep.1", "wide", "outc", "last"), strict=True):
        _, message = told(model)
        assert f" {other}," in message


@pytest.mark.parametrize(
    "name", ["region", "registry", "masked", "box", "wh_block", "reg_preds", "regression", "maskHead"]
)
def test_words_that_only_begin_as_those_of_regression_do_are_other_words(name):
    _, message = told(Model(trunk=linear(9, 16), country=linear(16, 6), **{name: linear(16, 5)}))
    assert (f"country, {name}" in message) == (name in ("region", "registry", "masked"))


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (lambda: Model(heads=nn.ModuleList(linear(16, 8) for _ in range(4)), lin=linear(32, 5)), ["lin"]),  # joined
        (lambda: Model(a=linear(16, 32), score=linear(32, 1), lin2=linear(32, 5)), ["lin2"]),
        (lambda: Model(fc=linear(10, 8), a=linear(24, 32), b=linear(32, 5)), ["b"]),  # of a part of the inputs
        (lambda: Model(a=linear(16, 32), b=linear(6, 24), aggregator=linear(32, 5)), ["aggregator"]),
        (lambda: Model(down=linear(9, 32), deep=linear(32, 64), up=linear(96, 16), top=linear(16, 3)), ["top"]),
        (lambda: Model(body=linear(9, 16), head=linear(16, 1)), []),
        (
            lambda: nn.ModuleList(Model(body=linear(9, 16), fc=linear(16, 5)) for _ in range(3)),
            ["0.fc", "1.fc", "2.fc"],
        ),
        (lambda: Model(models=nn.ModuleList(linear(9, 16, 5) for _ in range(2))), ["models.0.1", "models.1.1"]),
        # a variational autoencoder, whose decoder begins with maps of 2 x 2
        (
            lambda: Model(
                encoder=nn.Conv2d(3, 64, 3),
                mu=linear(256, 32),
                var=linear(256, 32),
                decoder_input=linear(32, 256),
                decoder=nn.ConvTranspose2d(64, 32, 3),
                final_layer=nn.ConvTranspose2d(32, 3, 3),
            ),
            ["final_layer"],
        ),
        (
            lambda: Model(
                a=nn.Conv2d(1, 8, 3), b=linear(32, 2), c=linear(2, 128), d=nn.Conv2d(8, 4, 3), last=nn.Conv2d(4, 1, 3)
            ),
            [],
        ),
        # one neuron beside the output, or no more than that
        (lambda: Model(body=linear(9, 16), actor=linear(16, 4), critic=linear(16, 1)), ["actor"]),
        (lambda: Model(actor=linear(4, 16, 2), critic=linear(4, 16, 1)), ["actor.1"]),
        (lambda: Model(critic=linear(4, 16, 1), actor=linear(4, 16, 2)), ["actor.1"]),
        (lambda: Model(q1=linear(6, 16, 1), q2=linear(6, 16, 1)), []),
        (lambda: Model(net=linear(8, 16), mean=linear(16, 1), logvar=linear(16, 1)), []),
        # super-resolution, whose maps are made pixels
        (
            lambda: Model(
                head=nn.Conv2d(3, 32, 3),
                body=nn.Conv2d(32, 32, 3),
                tail=nn.Sequential(nn.Sequential(nn.Conv2d(32, 128, 3), nn.PixelShuffle(2)), nn.Conv2d(32, 3, 3)),
            ),
            ["tail.1"],
        ),
        (
            lambda: Model(
                stem=nn.Conv2d(3, 32, 3),
                up1=nn.Conv2d(32, 288, 3),
                up2=nn.Conv2d(32, 288, 3),
                shuffle=nn.PixelShuffle(3),  # used twice
                last=nn.Conv2d(32, 3, 3),
            ),
            ["last"],
        ),
        (
            lambda: Model(a=nn.Conv2d(1, 32, 3), b=nn.Conv2d(32, 16, 3), c=nn.Conv2d(16, 9, 3), up=nn.PixelShuffle(3)),
            ["c"],
        ),
        (lambda: Model(body=nn.ModuleList(linear(16, 32, 16) for _ in range(3)), last=linear(16, 5)), ["last"]),
        (
            lambda: Model(fc1=linear(320, 50), fc2=linear(50, 7), fc_loc=linear(90, 32, 6)),
            ["fc2"],
        ),  # that turns the input
    ],
)
def test_ends_that_are_clear_are_not_told(model, found):
    assert told(model()) == (found, "")


class Block(nn.Module):
    """A block of a diffusion model, whose maps the time scales and shifts."""

    def __init__(self, a, b):
        super().__init__()
        self.time, self.maps, self.turn = linear(32, 2 * b), nn.Conv2d(a, b, 3), nn.Conv2d(b, b, 3)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (lambda: Model(gate=linear(16, 4), experts=experts(16), last=linear(16, 5)), ["last"]),
        (lambda: Model(experts=experts(5), router=linear(16, 4)), [f"experts.{i}.1" for i in range(4)]),
        (lambda: Model(experts=experts(8), gates=nn.ModuleList([linear(16, 4)] * 2), tower=linear(8, 1)), []),
        (lambda: Model(experts=experts(8), gate_dnn_final_layer=linear(16, 4), tower=linear(8, 1)), []),
        (lambda: Model(time=linear(9, 32), a=Block(3, 16), b=Block(16, 24), last=nn.Conv2d(24, 3, 1)), ["last"]),
        (
            lambda: Model(
                patches=linear(8, 16),
                blocks=nn.ModuleList(Model(mlp=linear(16, 32, 16), adaLN_modulation=linear(16, 96)) for _ in range(2)),
                final_layer=Model(linear=linear(16, 8), adaLN_modulation=linear(16, 32)),
            ),
            ["final_layer.linear"],
        ),
        (lambda: Model(gate=Model(body=linear(9, 16), top=linear(16, 5))), ["gate.top"]),  # a model of gates
    ],
)
def test_layers_that_choose_experts_or_scale_maps_are_no_outputs(model, found):
    assert told(model()) == (found, "")


def experts(n):
    return nn.ModuleList(linear(16, 32, n) for _ in range(4))


def test_norms_in_a_list_beside_the_layers_follow_no_last_layer():
    layers = nn.ModuleList(nn.Conv1d(7, 7, 1) for _ in range(2))
    norms = nn.ModuleList(nn.BatchNorm1d(7) for _ in range(2))
    assert outputs(Model(convs=layers, norms=norms)) == ["convs.1"]
    assert outputs(Model(conv=layers[0], norm=norms[0])) == []


def test_a_module_may_be_named_for_its_last_layer():
    def named(output):
        model = Model(body=linear(9, 16), top=linear(16, 8, 3), other=linear(16, 2))
        return [layer.name for layer in select(model, output=output).layers if layer.role == "output"]

    assert named("top") == ["top.1"]
    assert named("top,other") == ["top.1", "other"]
    assert named("top.0") == ["top.0"]


def test_heads_that_are_lazy_have_no_size_yet():
    heads = nn.ModuleDict({"a": nn.LazyLinear(3), "b": nn.LazyLinear(2)})
    model = Model(heads=heads, body=linear(4, 8, 6))
    assert {item.name for item in select(model).skipped} >= {"heads.a", "heads.b"}


def tower():
    return nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("head", "found"),
    [
        (lambda: Model(cls_tower=tower(), box_tower=tower(), cls_logits=nn.Conv2d(16, 9, 3), box=nn.Conv2d(16, 4, 3)),
         ["cls_logits"]),
        (lambda: nn.ModuleDict({"cls": linear(16, 32, 9), "box": linear(16, 32, 4)}), ["cls.1"]),
        (lambda: Model(cls_convs=nn.ModuleList(tower() for _ in range(2)),
                       cls_preds=nn.ModuleList(nn.Conv2d(16, 9, 1) for _ in range(2))),
         ["cls_preds.0", "cls_preds.1"]),
        (lambda: Model(class_a=linear(16, 16), class_b=linear(16, 16)), ["class_a", "class_b"]),
    ],
)  # fmt: skip
def test_of_a_branch_for_classes_the_last_layer_is_the_output(head, found):
    assert outputs(Model(body=nn.Conv2d(3, 16, 3), head=head())) == [f"head.{name}" for name in found]


def test_a_weak_name_before_transposed_convolutions_makes_their_maps():
    maps = nn.ConvTranspose2d(64, 32, 4), nn.ConvTranspose2d(32, 3, 4)
    decoder = Model(mu=linear(9, 8), fc=linear(8, 64 * 49), a=maps[0], b=maps[1])
    assert told(decoder) == (["b"], "")
    assert outputs(Model(a=nn.Conv2d(3, 64, 3), fc=linear(64, 1000))) == ["fc"]
