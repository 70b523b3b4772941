"""Adapters of peft: the view is the matrix that the adapted layer multiplies its input with."""

import warnings

import pytest
import torch
from torch import nn

from comhe.regularizers import RegularizerWarning, create_regularizer, neurons

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
    ("BOFTConfig", {"boft_block_size": 3}),
    ("HRAConfig", {"r": 2}),
    ("IA3Config", {"feedforward_modules": []}),
    ("IA3Config", {"feedforward_modules": ["body"]}),
    ("C3AConfig", {"block_size": 2}),
    ("DeloraConfig", {"r": 2}),
    ("GraloraConfig", {"r": 2}),
    ("VBLoRAConfig", {"num_vectors": 4, "vector_length": 2}),
    ("WaveFTConfig", {"n_frequency": 5}),
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
    assert sum("body" in name for name in names) == 1  # no part of the adapter is a layer


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


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("IA3Config", "conv", {"feedforward_modules": []}),
        ("IA3Config", "conv", {"feedforward_modules": ["conv"]}),
        ("IA3Config", "grouped", {"feedforward_modules": []}),
        ("IA3Config", "grouped", {"feedforward_modules": ["grouped"]}),
        ("BOFTConfig", "conv", {"boft_block_size": 2}),
    ],
)
def test_scaled_and_rotated_convolutions(kind, name, options):
    model = adapted(kind, targets=[name], **options).eval()
    layer = layer_of(model, name)
    active = neurons(layer).detach().clone()
    model.merge_adapter()
    torch.testing.assert_close(neurons(layer.get_base_layer()), active)


UNKNOWN = [("MissConfig", {"r": 2}), ("RoadConfig", {"group_size": 2}), ("HiraConfig", {"r": 2})]


@pytest.mark.parametrize(("kind", "options"), UNKNOWN, ids=str)
def test_other_adapters_are_said_in_one_line(kind, options):
    model = adapted(kind, **options)
    regularizer = create_regularizer("mhe", nn.ModuleList([model, nn.Linear(4, 3)]), output=None)
    assert [layer.name for layer in regularizer.layers] == ["1"]
    (reason,) = [item.reason for item in regularizer.skipped if "body" in item.name]
    assert "the matrix of the adapter" in reason
    assert "is not known" in reason
    model.merge_adapter()
    assert neurons(layer_of(model, "body")).shape == (8, 6)


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


def test_merging_makes_a_layer_constant_and_says_so():
    model = adapted(r=2, lora_alpha=6)
    model.base_model.model.head.requires_grad_(True)
    regularizer = create_regularizer("mhe", model)
    both = regularizer().item()
    model.merge_adapter()
    with pytest.warns(RegularizerWarning, match="constant: base_model.model.body .its adapters are merged"):
        head = regularizer().item()
    assert [layer.name for layer in regularizer.layers] == ["base_model.model.head"]
    assert "adapters are merged" in {x.name: x.reason for x in regularizer.skipped}["base_model.model.body"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert regularizer().item() == head
        model.unmerge_adapter()
        assert regularizer().item() == pytest.approx(both)
    assert head < both
    model.merge_adapter()
    model.base_model.model.body.base_layer.weight.requires_grad_(True)
    assert len(regularizer.layers) == 2


def test_no_part_of_an_adapter_is_taken_for_the_output_layer():
    model = adapted(targets=["body", "head"], r=2)
    model.base_model.disable_adapter_layers()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regularizer = create_regularizer("mhe", model)
        model.base_model.enable_adapter_layers()
        roles = {layer.name.rpartition(".")[2]: layer.role for layer in regularizer.layers}
    assert roles == {"body": "hidden", "head": "output"}


@pytest.mark.parametrize("targets", [["gate_up_proj", "down_proj"], ["down_proj"]])
def test_adapted_parameters_of_experts(targets):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 1}
    sizes |= {"intermediate_size": 24, "num_local_experts": 4, "vocab_size": 50, "head_dim": 8}
    model = transformers.MixtralForCausalLM(transformers.MixtralConfig(**sizes))
    parameters = [f"mlp.experts.{name}" for name in targets]
    config = peft.LoraConfig(r=2, target_modules=[], target_parameters=parameters, init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(model, config)
    regularizer = create_regularizer("mhe", model)
    experts = "base_model.model.model.layers.0.mlp.experts"
    assert {layer.name for layer in regularizer.layers} == {f"{experts}.{name}" for name in targets}
    assert not any("lora" in item.name for item in regularizer.skipped)
    regularizer().backward()
    adapters = [p for name, p in model.named_parameters() if "lora" in name]
    assert len(adapters) == 2 * len(targets)
    assert all(p.grad.any() for p in adapters)
    active = {layer.part: layer.neurons().detach() for layer in regularizer.layers}
    model.merge_adapter()
    for name, w in active.items():
        torch.testing.assert_close(getattr(model.get_submodule(experts).get_base_layer(), name), w)


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
