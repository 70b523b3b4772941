"""Models by name, with pretrained weights on request."""

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from comhe.errors import UsageError, WeightsError

from .cards import Weights, find_weights, get_weights, has_card, is_path, is_shared, unknown_weights
from .catalog import build_model, model_domain
from .state import read_tensors, tensors_of
from .weights import Loaded, load_state

TORCHVISION = ("resnet18", "resnet34", "resnet50")  # models of which torchvision publishes weights


def create_model(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    swap_head: bool = False,
    *,
    adapt_input: bool = False,
    key: str | None = None,
    **options: Any,
) -> nn.Module:
    """Build the model with this name.

    ``hf-hub:OWNER/NAME`` and ``local-dir:PATH`` are the model and the weights of :func:`comhe.zoo.get_weights`.

    Args:
        weights: a name of ``list_weights()``, with or without the model's before it; the path of a state dict, also of
            other implementations (see :func:`load_weights`); or, for the ImageNet networks, a name of torchvision's.
            Named weights bring the options that the model is built with; ``options`` override them.
        swap_head: build the model for another number of classes than the weights', with an untrained last layer.
        adapt_input: build the model for another number of input channels than the weights'.
        key: which state dict to take of a checkpoint that has several.
        options: keywords of the model's builder function.

    Example:
        >>> create_model("cnn9", num_classes=10).fc2
        Conv2d(256, 10, kernel_size=(1, 1), stride=(1, 1), bias=False)
        >>> model = create_model("gcn", weights="cora-rp-comhe")
    """
    if is_shared(name):
        for flag, given in (("weights", weights is not None), ("key", key)):
            if given:
                raise UsageError(f"{name} is a model with its weights: leave {flag} out")
        return get_weights(name).build(swap_head, adapt_input, **options)
    if weights is None:
        for flag, given in (("swap_head=True", swap_head), ("adapt_input=True", adapt_input), ("key", key)):
            if given:
                raise UsageError(f"{flag} is for a model with weights, and {name!r} is built without any")
        return build_model(name, **options)
    model_domain(name)  # an unknown model is told before anything is read
    if not isinstance(weights, str | os.PathLike):
        raise UsageError(f"weights must be a name or a path, not {type(weights).__name__}; load_weights takes tensors")
    found: Any
    if is_path(weights):
        found = get_weights(weights) if has_card(weights) else read_tensors(weights)
    else:
        found = find_weights(name, str(weights)) or _published_weights(name, str(weights))
    if isinstance(found, dict):
        model = build_model(name, **options)
        load_state(model, found, swap_head, f"{weights}: ", adapt_input=adapt_input, key=key)
        return model
    if found.model != name:
        raise WeightsError(f"{found.name} holds weights of {found.model}, not of {name}")
    return found.build(swap_head, adapt_input, **options)


def load_weights(
    model: nn.Module,
    weights: Mapping[str, Any] | Weights | str | os.PathLike[str],
    swap_head: bool = False,
    *,
    adapt_input: bool = False,
    key: str | None = None,
) -> Loaded:
    """Load weights strictly. Only a head for another number of classes may be left out, and only on request.

    Checkpoints of others are read as well: nested dicts (``state_dict``, ``model``, ``net`` ...), prefixes before the
    names (``module.``, ``backbone.`` ...), other names of the head (``linear``, ``classifier`` ...), and the layouts
    that the model knows (its method ``adapt``). A head of any other name is known by its shape, if one layer has it.
    Weight norm, spectral norm and pruning are computed. Counters of batches or of operations may come or lack. What
    could mean two things is decided by the weights themselves, which :class:`Loaded` tells, or asked for in an error.
    Of a network and an average of it in one state dict (``ema_model.``), the network is taken, which is told as well.

    The head is the layer that the model names in its attribute ``output_layer`` (``"fc"``); each of its tensors has a
    dimension for ``num_classes``. A head that fits is loaded, with ``swap_head`` or without.

    Args:
        model: left unchanged if there is an error; may be wrapped by ``torch.compile`` or ``DataParallel``.
        weights: what :func:`get_weights` takes or returns, whose file is checked against its card; the path of a file
            of safetensors, ``torch.save``, ``torch.jit.save``, ``pickle.dump``, ``numpy.save`` or ``savez``, of which
            nothing is executed; or tensors or arrays by name, as of ``model.state_dict()``. What tensors do not
            tell (which aggregation, which pooling?) is said of all but the first.
        swap_head: leave the head as it is where the weights have none, or one for other classes.
        adapt_input: fit the first convolution to another number of input channels: summed into one, repeated to more;
            a first layer that is a matrix (of features) stays as it is.
        key: which state dict to take of a checkpoint that has several, such as ``"state_dict_ema"``.

    Raises:
        WeightsError: The name is unknown, the file is damaged, or tensors are missing, unexpected or of another shape.

    Example:
        >>> model = create_model("cnn6")
        >>> print(load_weights(model, model.state_dict()))
        38 tensors loaded
    """
    if isinstance(weights, Mapping):
        return load_state(model, tensors_of(weights), swap_head, adapt_input=adapt_input, key=key)
    if not isinstance(weights, Weights | str | os.PathLike):
        what = "tensors by name, as of a state_dict(), Weights, a path or a name of list_weights()"
        raise UsageError(f"weights must be {what}, not {type(weights).__name__}")
    source = weights.name if isinstance(weights, Weights) else weights
    if not isinstance(weights, Weights) and (not is_path(weights) or has_card(weights)):
        weights = get_weights(weights)
    known = isinstance(weights, Weights)
    state = weights.state_dict() if isinstance(weights, Weights) else read_tensors(weights)
    return load_state(model, state, swap_head, f"{source}: ", adapt_input=adapt_input, key=key, known=known)


def _published_weights(model: str, name: str) -> dict[str, Tensor]:
    """The weights that torchvision publishes."""
    if model in TORCHVISION:
        from .images.resnet import published_weights  # here, so that the other networks do without torchvision

        return published_weights(model, name)
    full = name if name.startswith(f"{model}.") else f"{model}.{name}"
    raise WeightsError(f"unknown weights {name!r} of {model}; {unknown_weights(name, full)}")
