"""The output layer of a model from timm, Transformers or torchvision, or of PyTorch's own softmax of many classes."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from .branches import Matrix, below, join
from .computed import attribute, walk
from .guesses import OUTSIDE, Answer, by_name, by_shape, is_named, last_in


def by_library(core: nn.Module, prefix: str, possible: Sequence[Matrix], _: object) -> Answer:
    """What the library of a model says about its output layers; None if it is from no library, or that says nothing."""
    ask = asked(core)
    return _adaptive_softmax(core, prefix, possible) if ask is None else ask(core, prefix, possible)


def _adaptive_softmax(core: nn.Module, prefix: str, possible: Sequence[Matrix]) -> Answer:
    """The frequent classes, and the last matrix of each cluster of rare ones; None where there is a head by name."""
    names = set()
    if is_named(core) and not isinstance(core, nn.AdaptiveLogSoftmaxWithLoss):
        return None
    for path, module in walk(core, prefix):
        if isinstance(module, nn.AdaptiveLogSoftmaxWithLoss):
            names |= {join(path, "head"), *(join(path, f"tail.{i}.1") for i in range(module.n_clusters))}
    return dict.fromkeys((m.name for m in possible if m.name in names), "AdaptiveLogSoftmaxWithLoss") or None


def asked(core: nn.Module) -> Callable[[Any, str, Sequence[Matrix]], Answer] | None:
    """The question that fits the library that a model is from."""
    origins = [f"{base.__module__}.{base.__qualname__}" for base in type(core).__mro__]
    if callable(attribute(core, "get_classifier")):
        return _timm
    if "transformers.modeling_utils.PreTrainedModel" in origins:
        return _transformers
    return _detector if any(name.startswith("torchvision.models.detection.") for name in origins) else None


def _timm(core: Any, prefix: str, possible: Sequence[Matrix]) -> Answer:
    config = getattr(core, "pretrained_cfg", None) or getattr(core, "default_cfg", None)
    keys: Any = config.get("classifier") if isinstance(config, Mapping) else getattr(config, "classifier", None)
    if attribute(core, "num_classes") == 0:
        return {}  # a feature extractor
    keys = (keys,) if isinstance(keys, str) else keys or ()
    try:
        heads = core.get_classifier()
    except (AttributeError, NotImplementedError, TypeError):
        heads = ()
    heads = heads if isinstance(heads, (tuple, list)) else (heads,)
    names = {name for name, module in walk(core) if any(module is head for head in heads)} | set(keys)
    lasts = {name for key in names for name in last_in(core, prefix, possible, join(prefix, key))}
    found = [m.name for m in possible if m.name in lasts]
    if not found and not any(isinstance(head, nn.Identity) for head in heads):
        return None
    return dict.fromkeys(found, "from get_classifier()")


def _transformers(core: Any, prefix: str, possible: Sequence[Matrix]) -> Answer:
    try:
        head = core.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        head = None
    if isinstance(head, nn.Module):
        names = [name for name, module in walk(core) if module is head]
        found = [last for name in names for last in last_in(core, prefix, possible, join(prefix, name))]
        if found:
            return dict.fromkeys(found, "from get_output_embeddings()")
    base = getattr(core, "base_model_prefix", "")
    if not base or not isinstance(getattr(core, base, None), nn.Module):
        return None if is_named(core) or "For" in type(core).__name__ else {}  # a base model has no classifier
    outside = [m for m in possible if not below(m.name, join(prefix, base))]
    if not outside:
        return None
    answer = by_name(core, prefix, outside, outside)
    if answer is None:
        answer = dict.fromkeys(by_shape(core, prefix, outside, outside) or (), OUTSIDE)
    return answer


def _detector(core: object, prefix: str, possible: Sequence[Matrix]) -> Answer:
    """``cls_score`` of the R-CNNs, ``cls_logits`` of RetinaNet and FCOS, one layer a scale of SSD."""
    names = [m.name for m in possible]
    heads: tuple[str, ...] = (r"roi_heads\.box_predictor\.cls_score", r"head\.classification_head\.cls_logits")
    heads += (r"head\.classification_head\.module_list\.\d+",)
    for head in heads:
        found = [name for name in names if re.match(re.escape(join(prefix, "")) + head, name)]
        groups = {re.match(re.escape(join(prefix, "")) + head, name)[0]: name for name in found}  # type: ignore[index]
        if groups:
            return dict.fromkeys(groups.values(), "torchvision's classification head")
    return None
