"""Layers of Transformers: transposed ones, experts and routers, fused projections, adapters apart."""

import pytest
import torch
from torch import nn

from comhe.regularizers import NoNeuronsError, create_regularizer, neurons, register_neurons
from comhe.regularizers.selection import select

transformers = pytest.importorskip("transformers")


def tiny(name, **options):
    """A model with one layer, of the size of nothing."""
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 24}
    config = getattr(transformers, name.split("For")[0].split("LMHead")[0] + "Config")
    kwargs = sizes | {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2} | options
    return getattr(transformers, name)(config(**kwargs)).eval()


def shapes(model, **options):
    return {layer.name: layer.shape for layer in create_regularizer("hs-mhe", model, **options).layers}


def test_transposed_linear_layers(normal):
    layer = transformers.pytorch_utils.Conv1D(5, 8).double()
    x = normal(3, 8)
    torch.testing.assert_close(x @ neurons(layer).mT + layer.bias, layer(x))
    assert shapes(nn.Sequential(layer, nn.Linear(5, 3)), kinds="linear") == {"0": (5, 8), "1": (3, 5)}


def test_gpt2():
    model = tiny("GPT2LMHeadModel", n_embd=16, n_layer=1, n_head=2)
    found = create_regularizer("hs-mhe", model)
    assert {layer.name.removeprefix("transformer.h.0."): layer.shape for layer in found.layers} == {
        "attn.c_attn": (3, 16, 16),
        "attn.c_proj": (16, 16),
        "mlp.c_fc": (64, 16),
        "mlp.c_proj": (16, 64),
        "lm_head": (50, 16),
    }
    queries = found.layers[0].neurons()[0]
    assert queries.equal(model.transformer.h[0].attn.c_attn.weight[:, :16].mT)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("BloomForCausalLM", "transformer.h.0.self_attention.query_key_value"),
        ("GPTNeoXForCausalLM", "gpt_neox.layers.0.attention.query_key_value"),
    ],
)
def test_sets_that_alternate_within_the_heads(normal, name, layer):
    model = tiny(name, n_layer=1, n_head=2)
    found = next(item for item in select(model).layers if item.name == layer)
    assert found.shape == (3, 16, 16)
    x = normal(5, 16, dtype=torch.float32)
    parts = (x @ found.module.weight.mT).view(5, 2, 3, 8).unbind(2)
    for set_, part in zip(found.neurons(), parts, strict=True):
        torch.testing.assert_close(x @ set_.mT, part.flatten(1))


EXPERTS = [("MixtralForCausalLM", "num_local_experts", "mlp"), ("Qwen3MoeForCausalLM", "num_experts", "mlp")]
EXPERTS += [("GptOssForCausalLM", "num_local_experts", "mlp")]  # whose weights are [experts, in, out]


@pytest.mark.parametrize(("name", "count", "block"), EXPERTS)
def test_experts_are_sets(name, count, block):
    options = {count: 4, "moe_intermediate_size": 24, "num_key_value_heads": 2, "num_experts_per_tok": 2}
    model = tiny(name, **options, head_dim=8)
    found = {key.partition(f"layers.0.{block}.")[2]: shape for key, shape in shapes(model).items()}
    assert found["experts.gate_up_proj"] == (4, 48, 16)
    assert found["experts.down_proj"] == (4, 16, 24)
    assert (4, 16) in (found.get("gate"), found.get("router"))
    names = [item.reason for item in create_regularizer("hs-mhe", model).skipped if "embed" not in item.name]
    assert all("bias" in reason for reason in names)


def experts(**shapes):
    """A class with the name of one of Transformers'."""
    cls = type("OwnExperts", (nn.Module,), {"__module__": "transformers.models.own.modeling_own"})
    module = cls()
    for name, shape in shapes.items():
        setattr(module, name, nn.Parameter(torch.randn(shape)))
    return module


def test_orientation_of_experts():
    def found(module):
        return {name: tuple(neurons(module, part=name).shape) for name in ("up_proj", "down_proj")}

    plain = experts(up_proj=(4, 24, 16), down_proj=(4, 16, 24))
    with pytest.raises(NoNeuronsError, match="do not tell inputs from outputs"):
        neurons(plain, part="up_proj")
    plain.is_transposed = False
    assert found(plain) == {"up_proj": (4, 24, 16), "down_proj": (4, 16, 24)}
    plain.is_transposed = True
    assert found(plain) == {"up_proj": (4, 16, 24), "down_proj": (4, 24, 16)}
    with pytest.raises(NoNeuronsError, match="do not tell"):
        neurons(experts(gate_up_proj=(4, 7, 5), down_proj=(4, 3, 2)), part="down_proj")
    skipped = select(nn.Sequential(experts(w1=(4, 24, 16)), nn.Linear(4, 3))).skipped
    assert [(item.name, "OwnExperts.w1 [4, 24, 16]" in item.reason) for item in skipped] == [("0", True)]


def test_a_class_of_ones_own_comes_before_the_glob():
    @register_neurons("transformers.models.mine.MyExperts")
    def rule(module):
        return module.w1

    cls = type("MyExperts", (nn.Module,), {"__module__": "transformers.models.mine"})
    module = cls()
    module.w1 = nn.Parameter(torch.randn(4, 24, 16))
    assert neurons(module) is module.w1
