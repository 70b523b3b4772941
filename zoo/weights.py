"""State dicts into models, all of it or an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from torch import Tensor, nn

_NAMED = 4  # keys of each kind that an error spells out


def load_weights(model: nn.Module, state: Mapping[str, Tensor], swap_head: bool = False) -> list[str]:
    """Load a state dict strictly. Only a head for another number of classes may stay out, and only when asked.

    The head is the layer that the model names in its attribute ``head`` (``"fc"``), the one whose tensors have a
    dimension for ``num_classes``. A head that fits is loaded, ``swap_head`` or not.

    Args:
        model: left as it is if there is an error.
        state: tensors by name, as of ``model.state_dict()``.
        swap_head: let a head for another number of classes keep the weights that it has.

    Returns:
        The names of the model's tensors that were not loaded, in the model's order: those of a swapped head, else none.
    Errors: ValueError naming what is missing, unexpected or of another shape, or both numbers of classes.
    """
    own = model.state_dict()
    # Counters of batches are absent from state dicts older than torch 0.4.1, and no forward needs them.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    misfits = [name for name in own if name in state and own[name].shape != state[name].shape]

    head = [name for name in own if hasattr(model, "head") and name.startswith(f"{model.head}.")]
    classes = _classes([(state[name].shape, own[name].shape) for name in head if name in state])
    if classes and not missing and not unexpected and set(misfits) <= set(head):
        if not swap_head:
            raise ValueError(
                f"the weights are for {classes[0]} classes, this {type(model).__name__} has {classes[1]}: build it "
                f"with num_classes={classes[0]}, or pass swap_head=True to leave {', '.join(head)} as initialised"
            )
        skipped = head
    elif missing or unexpected or misfits:
        shapes = [f"{name} {list(state[name].shape)}, not {list(own[name].shape)}" for name in misfits]
        kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        faults = "; ".join(f"{kind}: {_some(names)}" for kind, names in kinds if names)
        raise ValueError(
            f"the weights do not fit this {type(model).__name__} ({faults}); build the model with the options that "
            "they were saved with"
        )
    else:
        skipped = []
    model.load_state_dict({name: tensor for name, tensor in state.items() if name not in skipped}, strict=False)
    return skipped


def _classes(shapes: Iterable[tuple[tuple[int, ...], tuple[int, ...]]]) -> tuple[int, int] | None:
    """The numbers of classes in two heads, if that is all they differ in: in one dimension of every tensor.

    Several output heads beside each other (GAT) make it a multiple in some tensors: all differ by one ratio, and the
    smallest are the classes.
    """
    pairs = []
    for theirs, ours in shapes:
        differing = [pair for pair in zip(theirs, ours, strict=False) if pair[0] != pair[1]]
        if len(theirs) != len(ours) or len(differing) != 1:
            return None
        pairs += differing
    ratios = {Fraction(*pair) for pair in pairs}
    return min(pairs) if len(ratios) == 1 else None


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
