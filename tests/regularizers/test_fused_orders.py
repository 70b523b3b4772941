"""What the attentions of timm and Transformers say of their fused projections, on the models themselves."""

import warnings

import pytest
import torch
from torch import nn

from comhe.regularizers.fused_orders import HEADS, KEY_VALUE_HEADS, block_sizes, told
from comhe.regularizers.selection import select


def sets(model, layer):
    """The sets of rows of a projection by their first entries, which number the rows."""
    module = model.get_submodule(layer)
    with torch.no_grad():
        rows = module.weight.mT if type(module).__name__ == "Conv1D" else module.weight.flatten(1)
        rows[:, 0] = torch.arange(len(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = [item for item in select(model).layers if item.module is module]
    return {
        tuple(sorted(int(row) for row in found[..., 0]))
        for item in layers
        for found in item.neurons().reshape(-1, *item.shape[-2:])
    }


def tiny(name, config, **options):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    sizes |= {"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 1, "intermediate_size": 24}
    return getattr(transformers, name)(getattr(transformers, config)(**sizes | options))


def contiguous(*sizes):
    return {tuple(rows.tolist()) for rows in torch.arange(sum(sizes)).split(sizes)}


def repeated(blocks, *sizes):
    rows = torch.arange(blocks * sum(sizes)).view(blocks, -1)
    return {tuple(part.flatten().tolist()) for part in rows.split(sizes, dim=1)}


MODELS = [
    ("Phi3Model", "Phi3Config", {"num_key_value_heads": 2}, "qkv_proj", contiguous(16, 8, 8)),
    ("Phi3Model", "Phi3Config", {"num_key_value_heads": 1}, "qkv_proj", contiguous(16, 4, 4)),
    ("Phi3Model", "Phi3Config", {"num_key_value_heads": 4}, "qkv_proj", contiguous(16, 16, 16)),
    ("GPTBigCodeModel", "GPTBigCodeConfig", {"multi_query": True}, "c_attn", contiguous(16, 4, 4)),
    ("GPTBigCodeModel", "GPTBigCodeConfig", {"multi_query": False}, "c_attn", repeated(4, 4, 4, 4)),
    ("GPT2Model", "GPT2Config", {}, "c_attn", contiguous(16, 16, 16)),
    ("BloomModel", "BloomConfig", {"n_head": 4}, "query_key_value", repeated(4, 4, 4, 4)),
    ("GPTNeoXModel", "GPTNeoXConfig", {}, "query_key_value", repeated(4, 4, 4, 4)),
    ("PersimmonModel", "PersimmonConfig", {}, "query_key_value", repeated(4, 4, 4, 4)),
    ("CodeGenModel", "CodeGenConfig", {"n_embd": 16, "n_head": 4, "rotary_dim": 2}, "qkv_proj", repeated(4, 4, 4, 4)),
    ("MptModel", "MptConfig", {"d_model": 16, "n_heads": 4, "n_layers": 1}, "Wqkv", contiguous(16, 16, 16)),
    ("DebertaModel", "DebertaConfig", {}, "in_proj", repeated(4, 4, 4, 4)),
]


@pytest.mark.parametrize(("name", "config", "options", "layer", "expected"), MODELS)
def test_transformers(name, config, options, layer, expected):
    model = tiny(name, config, **options)
    (full,) = [full for full, module in model.named_modules() if full.endswith(f".{layer}")]
    assert sets(model, full) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"new_decoder_architecture": True, "num_kv_heads": 2},
        {"new_decoder_architecture": True, "num_kv_heads": 1},
        {"new_decoder_architecture": False, "multi_query": True},
        {"new_decoder_architecture": False, "multi_query": False},
    ],
    ids=str,
)
def test_falcon_as_it_splits_its_heads(options):
    model = tiny("FalconModel", "FalconConfig", alibi=False, bias=False, **options)
    attention = model.h[0].self_attention
    rows = attention.query_key_value.weight.shape[0]
    parts = attention._split_heads(torch.arange(rows).view(1, 1, rows))
    expected = {tuple(sorted(set(part.flatten().tolist()))) for part in parts}
    assert sets(model, "h.0.self_attention.query_key_value") == expected


def test_linear_attention_beside_full_attention():
    """Its configuration tells of the other layers' grouped heads."""
    options = {"num_key_value_heads": 2, "layer_types": ["linear_attention"], "num_local_experts": 2, "head_dim": 4}
    model = tiny("MiniMaxModel", "MiniMaxConfig", **options)
    assert sets(model, "layers.0.self_attn.qkv_proj") == repeated(4, 4, 4, 4)


def by_head(parts):
    return lambda a: repeated(a.num_heads, *(a.val_dim if part == "v" else a.key_dim for part in parts))


TIMM = [
    ("levit_128s", "stages.0.blocks.0.attn.qkv.linear", by_head("qkv")),
    ("levit_128s", "stages.1.downsample.attn_downsample.kv.linear", by_head("kv")),
    ("tiny_vit_5m_224", "stages.1.blocks.0.attn.qkv", by_head("qkv")),
    ("efficientvit_b0", "stages.2.blocks.1.context_module.main.qkv.conv", lambda a: repeated(4, 16, 16, 16)),
    ("gcvit_xxtiny", "stages.0.blocks.1.attn.qkv", lambda a: contiguous(64, 64)),
    ("mobilevitv2_050", "stages.2.1.transformer.0.attn.qkv_proj", lambda a: contiguous(1, 64, 64) - contiguous(1)),
    ("vit_tiny_patch16_224", "blocks.0.attn.qkv", lambda a: contiguous(192, 192, 192)),
]


@pytest.mark.parametrize(("name", "layer", "expected"), TIMM)
def test_timm(name, layer, expected):
    timm = pytest.importorskip("timm")
    model = timm.create_model(name)
    attention = model.get_submodule(layer.partition(".qkv")[0].partition(".kv")[0])
    assert sets(model, layer) == expected(attention)


def test_ultralytics():
    block = pytest.importorskip("ultralytics.nn.modules.block")
    assert sets(block.Attention(64, num_heads=4), "qkv.conv") == repeated(4, 8, 8, 16)
    assert sets(block.AAttn(64, num_heads=4), "qkv.conv") == repeated(4, 16, 16, 16)


@pytest.mark.parametrize(("name", "values"), [("Attention", 6), ("AAttn", 4)])
def test_blocks_of_attentions_known_by_their_numbers(name, values):
    attention = type(name, (nn.Module,), {"num_heads": 2, "key_dim": 4, "head_dim": values})()
    assert block_sizes(attention, "qkv", rows=2 * (8 + values)) == (4, 4, values)


PROJECTED = [("to_added_qkv", 3), ("img_attn_qkv", 3), ("txt_attn_qkv", 3), ("img_qkv_proj", 3)]
PROJECTED += [("to_added_kv", 2), ("kv_linear", 2), ("txt_kv_proj", 2), ("emb_to_key_value", 2)]


@pytest.mark.parametrize(("name", "parts"), PROJECTED)
def test_parts_follow_each_other(name, parts):
    model = nn.ModuleDict({"attn": nn.ModuleDict({name: nn.Linear(8, parts * 8), "to_out": nn.Linear(8, 8)})})
    assert sets(model, f"attn.{name}") == contiguous(*[8] * parts)


def test_a_class_of_the_same_name_that_tells_nothing():
    class HaloAttn(nn.Module):
        pass

    assert block_sizes(HaloAttn(), "kv", 16) is None
    assert told(HaloAttn(), HEADS) is told(HaloAttn(), KEY_VALUE_HEADS) is None
