"""Models without a classifier: feature extractors, and networks whose head has been taken away."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .branches import FEW, below, children, join
from .computed import attribute, walk

HEADS: tuple[str, ...] = ("classifier", "head", "heads", "lm_head", "logits", "score", "cls_head", "to_logits")
HEADS += ("qa_outputs", "class_head", "cls_score", "fc_out", "output_layer", "mlp_head", "class_embed", "embed_out")
HEADS += ("class_labels_classifier", "classification_head", "logits_proj", "generator_lm_head", "last_linear")
HEADS += ("segmentation_head",)
_ALL_HEADS = (*HEADS, "fc", "cls")
_EXTRACTORS: tuple[str, ...] = ("timm.models._features", "torchvision.models._utils.IntermediateLayerGetter")
_EXTRACTORS += ("torchvision.models.detection.backbone_utils.", "torchvision.models.feature_extraction.")
_OUTPUT_ACTIVATIONS = (nn.Sigmoid, nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Tanh)
_HIDDEN_ACTIVATIONS: tuple[type[nn.Module], ...] = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU)
_HIDDEN_ACTIVATIONS += (nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish)
_NOTHING = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)  # of neighbors; global ones may follow the maps of classes
# The widths of hidden layers in the classifiers of torchvision's networks.
_HIDDEN = {
    "vgg.VGG": {4096},
    "alexnet.AlexNet": {4096},
    "maxvit.MaxVit": {512},
    "mobilenetv3.MobileNetV3": {1024, 1280},
}


class Headless(NamedTuple):
    """A part of a model that has no classifier, and what there is to say of which module."""

    owner: str
    name: str
    reason: str


def headless(model: nn.Module, name: str, beside: Sequence[str] = ()) -> Headless | None:
    """Why a layer that looks like a model's last one is not its classifier; None if it may well be.

    Args:
        beside: names of networks that do not follow the layer (:mod:`.copies`).

    Example:
        >>> model = nn.ModuleDict({"body": nn.Linear(4, 3), "fc": nn.Identity()})
        >>> headless(model, "body")
        Headless(owner='', name='fc', reason='no weight matrix, so there is no output layer')
        >>> headless(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), "0").reason
        'the last layer, 0, is followed by a normalization, so there is no output layer'
    """
    parts = name.split(".") if name else []
    modules = dict(walk(model))
    for end, key in enumerate([*parts, ""]):
        path = ".".join(parts[:end])
        owner = modules.get(path)
        if owner is None:
            continue
        classes = [f"{base.__module__}.{base.__qualname__}" for base in type(owner).__mro__]
        if any(known.startswith(_EXTRACTORS) or re.match(r"timm\..*Features$", known) for known in classes):
            return Headless(path, path, f"{type(owner).__name__} returns features, so there is no output layer")
        if callable(attribute(owner, "get_classifier")) and attribute(owner, "num_classes") == 0:
            return Headless(path, path, "num_classes=0, so there is no output layer")
        if not path and _ends_cut(owner):
            return Headless(path, [*owner._modules][-1], "no weight matrix, so there is no output layer")
        for head in removed_heads(owner):
            order = [*owner._modules]
            before = key in order and order.index(head) < order.index(key)
            if not (before and _has_norm(owner._modules[head])):  # a normalization before the layer
                return Headless(path, join(path, head), "no weight matrix, so there is no output layer")
        if key in _ALL_HEADS and is_cut(modules.get(join(path, key), owner), key, owner):
            reason = "its last layer has been taken away, so there is no output layer"
            return Headless(path, join(path, key), reason)
    layer = modules.get(name)
    sizes = [attribute(layer, key) for key in ("out_channels", "out_features")] if layer is not None else []
    features = next((size for size in sizes if isinstance(size, int)), None)
    is_linear = bool(sizes) and not isinstance(sizes[0], int)
    beside = [*beside, *_lists_beside(modules, name)]
    after, then = _after(model, layer, beside), list(_called_after(modules, name))
    if is_linear:  # batch norms are often registered after all layers
        after = (module for module in after if attribute(module, "normalized_shape") is not None)
    norm = any(isinstance(module, _NORMS) for module in then)
    if norm or (features is not None and any(_normalizes(module, features) for module in after)):
        reason = f"the last layer, {name}, is followed by a normalization, so there is no output layer"
        return Headless("", "", reason)
    if (features or FEW) >= FEW and any(isinstance(module, _POOLS) for module in then):
        return Headless("", "", f"the last layer, {name}, is followed by a max-pooling, so there is no output layer")
    return None


def removed_heads(owner: nn.Module) -> Iterator[str]:
    """The names of classifiers that a module should have, where it has nothing.

    Example:
        >>> list(removed_heads(nn.ModuleDict({"head": nn.Identity(), "fc": nn.Softmax(1)})))
        ['head']
    """
    for name in _ALL_HEADS:
        if name in owner._modules and ((head := owner._modules[name]) is None or _is_nothing(head)):
            yield name


def is_cut(head: nn.Module, name: str = "head", owner: nn.Module | None = None) -> bool:
    """Whether the last layer of a head has been taken away: it ends with a hidden activation, or one and an Identity.

    An activation before a dropout is hidden. Outputs may be rectified, too: a few numbers, the maps of a convolution,
    and those of modules that are called decoder or output.

    Args:
        name: the head's own name.
        owner: the network that it belongs to, one of torchvision's perhaps, whose hidden layers are known.

    Example:
        >>> is_cut(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Identity()))
        True
        >>> is_cut(nn.Sequential(nn.Linear(4, 8), nn.Identity()))
        False
        >>> [is_cut(nn.Sequential(nn.Linear(4, n), nn.ReLU())) for n in (64, 2)]
        [True, False]
    """
    if _before_identity([module for _, module in walk(head) if not module._modules]) is not None:
        return True
    layers = list(_in_order(head))
    kept = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
    sized = [layer for layer in kept if {"out_features", "out_channels"} & {*vars(layer)}]
    sizes = [attribute(layer, "out_features") or 0 for layer in sized]
    width = max(sizes[-1:], default=0)
    classes = [f"{base.__module__}.{base.__qualname__}" for base in type(owner).__mro__]
    if any(width in _HIDDEN.get(known.removeprefix("torchvision.models."), ()) for known in classes):
        return True
    if name not in _ALL_HEADS or not kept or not isinstance(kept[-1], _HIDDEN_ACTIVATIONS):
        return False
    return kept[-1] is not layers[-1] or width >= FEW


def _in_order(module: nn.Module) -> Iterator[nn.Module]:
    """What a Sequential calls, one after another; of other modules nobody knows the order."""
    if not isinstance(module, nn.Sequential):
        yield module
        return
    for child in module:
        yield from _in_order(child)


def _ends_cut(model: nn.Module) -> bool:
    """Whether a model is a Sequential that ends with an activation of hidden layers and an Identity."""
    activation = _before_identity(model) if isinstance(model, nn.Sequential) else None
    return activation is not None and not isinstance(activation, _OUTPUT_ACTIVATIONS)


def _before_identity(modules: Iterable[nn.Module]) -> nn.Module | None:
    """The activation before an Identity at the end, dropouts aside; None if they end otherwise."""
    *_, before, last = None, None, *(module for module in modules if not isinstance(module, nn.Dropout))
    activation = type(before).__module__ == "torch.nn.modules.activation"
    return before if isinstance(last, nn.Identity) and activation else None


def _is_nothing(head: nn.Module) -> bool:
    leaves = [module for _, module in walk(head) if not module._modules]
    if any(p is not None and p.dim() != 1 for leaf in leaves for p in leaf._parameters.values()):
        return False
    return any(isinstance(leaf, (nn.Identity, *_NORMS)) for leaf in leaves) or all(
        isinstance(leaf, (*_NOTHING, nn.Sequential)) for leaf in leaves
    )


def _has_norm(module: nn.Module | None) -> bool:
    return module is not None and any(isinstance(each, _NORMS) for _, each in walk(module))


def _lists_beside(modules: Mapping[str, nn.Module], name: str) -> list[str]:
    """The ModuleLists next to one that the layer is in, which the model goes through together with it."""
    lists = {path.rpartition(".")[0]: path for path, m in modules.items() if _is_list(m) and below(name, path)}
    return [p for p, m in modules.items() if _is_list(m) and lists.get(p.rpartition(".")[0], p) != p]


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList) and len(module) > 1


def _after(model: nn.Module, layer: nn.Module | None, beside: Sequence[str]) -> Iterator[nn.Module]:
    seen = False
    for name, module in walk(model):
        if seen and not any(below(name, path) for path in beside):
            yield module
        seen = seen or module is layer


def _called_after(modules: Mapping[str, nn.Module], name: str) -> Iterator[nn.Module]:
    """What the Sequentials that a layer is in call after it."""
    for path, module in modules.items():
        if isinstance(module, nn.Sequential) and below(name, path):
            after = itertools.dropwhile(lambda child: not below(name, child[0]), children(module, path))
            yield from (each for _, child in itertools.islice(after, 1, None) for _, each in walk(child))


def _normalizes(module: nn.Module, features: int) -> bool:
    """Whether a module is a normalization of so many features; one without a weight says how many in an attribute."""
    sizes = [attribute(module, name) for name in ("num_features", "num_channels", "normalized_shape")]
    if isinstance(variance := attribute(module, "running_var"), Tensor):
        sizes.append(tuple(variance.shape) if not is_lazy(variance) else None)
    if isinstance(weight := attribute(module, "weight"), Tensor):
        return any(size is not None for size in sizes) and weight.shape == (features,)
    return any(features in size if isinstance(size, tuple) else size == features for size in sizes)
