"""Adapters of peft: the view is the matrix that the adapted layer multiplies its input with."""

import warnings

import pytest
import torch
from torch import nn

from comhe.regularizers import create_regularizer, neurons

peft = pytest.importorskip("peft")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 6, padding_idx=2)
        self.conv = nn.Conv2d(4, 6, 3, padding=1)
        self.grouped = nn.Conv2d(4, 6, 3, groups=2, bias=False)
        self.body = nn.Linear(6, 8, bias=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.body(x))


def adapted(kind="LoraConfig", targets=("body",), trained=True, **options):
    config = getattr(peft, kind)(target_modules=list(targets), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(Network().double(), config).double()
    if trained:  # an adapter starts as nothing
        for name, p in model.named_parameters():
            if p.requires_grad and "magnitude" not in name:
                p.data += 0.1 * torch.randn_like(p)
    return model


def layer_of(model, name):
    return dict(model.named_modules())[f"base_model.model.{name}"]


LINEAR = [
    ("LoraConfig", {"r": 2, "lora_alpha": 6}),
    ("LoraConfig", {"r": 2, "use_rslora": True}),
    ("LoraConfig", {"r": 2, "use_dora": True}),
    ("OFTConfig", {"oft_block_size": 3, "r": 0}),
    ("OFTConfig", {"oft_block_size": 3, "r": 0, "block_share": True}),
    ("LoHaConfig", {"r": 2}),
    ("LoKrConfig", {"r": 2}),
    ("AdaLoraConfig", {"init_r": 2, "total_step": 10}),
    ("VeraConfig", {"r": 2}),
    ("FourierFTConfig", {"n_frequency": 5}),
    ("RandLoraConfig", {"r": 2}),
    ("ShiraConfig", {"r": 2}),
]


@pytest.mark.parametrize(("kind", "options"), LINEAR, ids=str)
def test_the_view_multiplies_as_the_layer_does(normal, kind, options):
    model = adapted(kind, **options).eval()
    layer, x = layer_of(model, "body"), normal(5, 6)
    torch.testing.assert_close(x @ neurons(layer).mT, layer(x), rtol=1e-5, atol=1e-6)
    base = layer.get_base_layer().weight
    assert not torch.allclose(neurons(layer), base)
    regularizer = create_regularizer("mhe", model, output_weight=0)
    (found,) = [item for item in regularizer.layers if item.name.endswith("body")]
    regularizer().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved
    assert all("body" in name for name in moved)
    assert found.shape == (8, 6)
    names = [item.name for item in (*regularizer.layers, *regularizer.skipped)]
    assert not any("lora_" in name or "oft_" in name or "base_layer" in name for name in names)


@pytest.mark.parametrize("name", ["conv", "grouped"])
@pytest.mark.parametrize("dora", [False, True])
def test_convolutions(normal, name, dora):
    if dora and name == "grouped":
        pytest.skip("peft has no DoRA of grouped convolutions")
    model = adapted(targets=[name], r=2, lora_alpha=4, use_dora=dora).eval()
    layer, x = layer_of(model, name), normal(2, 4, 5, 5)
    base = layer.get_base_layer()
    plain = nn.Conv2d(4, 6, 3, padding=base.padding, bias=base.bias is not None).double()
    plain.load_state_dict({"weight": neurons(layer).reshape(plain.weight.shape)}, strict=False)
    plain.bias = base.bias
    torch.testing.assert_close(plain(x), layer(x))
    with model.disable_adapter():
        assert neurons(layer).shape == neurons(base).shape


@pytest.mark.parametrize("dora", [False, True])
def test_embeddings_leave_the_padding_out(dora):
    layer = layer_of(adapted(targets=["words"], r=2, use_dora=dora).eval(), "words")
    kept = torch.tensor([0, 1, 3, 4, 5, 6, 7, 8])
    torch.testing.assert_close(neurons(layer), layer(kept))


def test_merged_disabled_and_several_adapters(normal):
    model, x = adapted(r=2, lora_alpha=6).eval(), normal(5, 6)
    layer = layer_of(model, "body")
    active, base = neurons(layer).detach(), layer.get_base_layer().weight.detach().clone()
    with model.disable_adapter():
        assert neurons(layer).equal(base)
    model.merge_adapter()
    torch.testing.assert_close(neurons(layer), active)
    model.unmerge_adapter()
    model.add_adapter("second", peft.LoraConfig(target_modules=["body"], r=3, init_lora_weights=False))
    model.double()
    torch.testing.assert_close(neurons(layer), active)
    reasons = {item.name: item.reason for item in create_regularizer("mhe", model).skipped}
    assert "does not read it at present" in reasons["base_model.model.body.lora_A.second"]
    model.base_model.set_adapter(["default", "second"])
    assert not torch.allclose(neurons(layer), active)
    torch.testing.assert_close(x @ neurons(layer).mT, layer(x))


def test_transposed_and_attention_layers(normal):
    transformers = pytest.importorskip("transformers")
    layer = nn.ModuleDict({"c_fc": transformers.pytorch_utils.Conv1D(8, 6)}).double()
    config = peft.LoraConfig(target_modules=["c_fc"], r=2, fan_in_fan_out=True, init_lora_weights=False)
    model, x = peft.get_peft_model(layer, config).double().eval(), normal(5, 6)
    layer = layer_of(model, "c_fc")
    torch.testing.assert_close(x @ neurons(layer).mT + layer.get_base_layer().bias, layer(x))


def test_attention():
    """peft makes the base layer's parameters anew whenever somebody looks at them."""
    module = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2)})
    base = module["attn"].in_proj_weight.detach().clone()
    model = peft.get_peft_model(module, peft.LoraConfig(target_modules=["attn"], r=2, init_lora_weights=False))
    regularizer = create_regularizer("mhe", model)
    found = {item.name.removeprefix("base_model.model."): item.shape for item in regularizer.layers}
    assert found == {"attn": (3, 8, 8), "attn.base_layer.out_proj": (8, 8)}
    regularizer().backward()
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    a, b = (getattr(model.base_model.model["attn"], name).default.weight for name in ("lora_A", "lora_B"))
    expected = base + model.base_model.model["attn"].scaling["default"] * b @ a
    torch.testing.assert_close(regularizer.layers[0].neurons().flatten(0, 1), expected)
    assert a.grad.any()


def test_only_what_the_adapter_trains_trains_the_layer():
    model = adapted(r=2)
    regularizer = create_regularizer("mhe", model)
    assert [layer.name for layer in regularizer.layers] == ["base_model.model.body"]
    reasons = {item.name: item.reason for item in regularizer.skipped}
    assert reasons["base_model.model.head"] == "frozen (requires_grad is False)"
    (layer,) = regularizer.layers
    assert layer.trainable
    for p in layer.module.parameters():
        p.requires_grad_(False)
    assert not layer.trainable
