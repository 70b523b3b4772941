"""What a penalty learns for each layer: initialized, kept while the model changes, saved and restored."""

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from comhe.errors import UsageError, few

from .attachment import Attachment
from .energies.checks import upcast
from .energies.transforms import untransformed, unwrapped
from .penalties.penalty import Penalty
from .selection import Layer

_EXTRA = "_extra_state"
_SIZE = 256  # of the extra state is a multiple of this, whatever the step


class States(nn.Module):
    """The state of a regularizer: its step and seed, and for each layer a buffer, if its penalty learns anything.

    Example:
        >>> from comhe.regularizers import create_regularizer
        >>> regularizer = create_regularizer("ap-comhe", nn.Linear(50, 8), output=None)
        >>> list(regularizer.state_dict()), regularizer.state_of(regularizer.layers[0]).shape
        (['projection:', '_extra_state'], torch.Size([30, 50]))
    """

    penalty: Penalty
    seed: int
    step: int
    capturable: bool
    _attached: Attachment

    def __init__(self) -> None:
        super().__init__()
        self._shapes: dict[str, tuple] = {}  # of the layers whose states these are

    @property
    def name(self) -> str:
        """The penalty's name in the registry, or its class."""
        return self.penalty.name or type(self.penalty).__name__

    def state_of(self, layer: Layer) -> Tensor | None:
        """What the penalty has learned for the layer, such as a projection; None if it learns nothing for it."""
        return self._buffers.get(self.state_name(layer))

    def state_name(self, layer: Layer) -> str:
        """The layer's key in ``state_dict()``."""
        return f"{self.penalty.state_name}:{layer.name.replace('/', '//').replace('.', '/')}"

    def initial_state(self, layer: Layer) -> Tensor | None:
        """What the penalty starts with for a layer."""
        if type(self.penalty).init is Penalty.init:
            return None
        with torch.no_grad():
            state = self.penalty.init(upcast(layer.neurons().detach()), layer, self.seed)
        if not isinstance(state, Tensor | None):
            raise TypeError(f"{self.name}: init must return one tensor or None, not a {type(state).__name__}")
        return state

    def renew_states(self) -> None:
        """Keep the states of layers of the same name, shape and role as before; initialize those of others."""
        before, kept = self._shapes, dict(self._buffers)
        self._shapes = {layer.name: (layer.shape, layer.role) for layer in self._attached.layers}
        self._buffers.clear()
        for layer in self._attached.layers:
            name = self.state_name(layer)
            known = before.get(layer.name) == self._shapes[layer.name]
            state = kept.get(name) if known else self.initial_state(layer)
            if state is not None:
                self.register_buffer(name, state)
        self._attached.share(self.penalty)

    def update_state(self, layer: Layer, state: Tensor | None) -> None:
        """Keep a state for the next step, in the memory that a captured graph reads if need be.

        Within vmap there is one for each of the batch, and none is kept. Nor is one with infinite or NaN entries, as a
        step with such weights makes: the layer keeps what it has learned before.
        """
        before = self.state_of(layer)
        state = None if state is None else unwrapped(state)
        if state is not None and before is not None and state.shape != before.shape:
            shapes = f"{list(before.shape)} -> {list(state.shape)}"
            raise UsageError(f"{self.name}: update must return a state of the same shape, not {shapes}")
        if state is not None and before is not None:
            state = _if_finite(state, before)
        if state is not None and before is not None and self.capturable and before.device == state.device:
            before.copy_(state)
        elif state is not None:
            self._buffers[self.state_name(layer)] = state

    def get_extra_state(self) -> Tensor:
        """Step, seed and the penalty's name, as the bytes of JSON: some formats of files have tensors only."""
        text = json.dumps({"step": int(self.step), "seed": self.seed, "penalty": self.name}).encode()
        return torch.tensor(list(text.ljust(-(-len(text) // _SIZE) * _SIZE)), dtype=torch.uint8, device="cpu")

    def set_extra_state(self, state: Tensor | Mapping[str, Any]) -> None:
        found = _decoded(state)
        if found is None:
            raise UsageError("the state of a regularizer has its step and seed in _extra_state; this one has not")
        self.step, self.seed = found["step"], found["seed"]

    def check_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Raise UsageError unless the state is of this penalty and of these layers."""
        known, extra = self._known(), _decoded(state_dict.get(_EXTRA))
        if extra is None:
            hint = "; it is that of combined regularizers, see combine" if _is_combined(state_dict) else ""
            found = f"it has {few(sorted(state_dict))}" if state_dict else "it is empty"
            raise UsageError(f"not the state of a regularizer, which has its step and seed: {found}{hint}")
        penalty = extra.get("penalty", self.name)
        saved = state_dict.keys() - {_EXTRA}
        misfits = {name for name in saved & known.keys() if not _fits(state_dict[name], known[name])}
        said = {
            f"is the penalty, not {self.name}": {penalty} - {self.name},
            "have no layer here": saved - known.keys(),
            "have another shape here": misfits,
            "are missing": known.keys() - saved,
        }
        if any(said.values()):
            told = "; ".join(f"{few(sorted(names))} {what}" for what, names in said.items() if names)
            raise UsageError(
                f"the state was saved by another regularizer or of another model: {told}. Attach the regularizer that "
                "was saved to the model that it was saved with, or load what fits with strict=False"
            )

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Restore step, seed and learned state, that of frozen layers too.

        Raises:
            UsageError: the state is of another penalty or of other layers. With ``strict=False`` what fits is loaded.
        """
        known = self._known()
        if strict:
            self.check_state_dict(state_dict)
        fits = {key: value for key, value in state_dict.items() if key not in known or _fits(value, known[key])}
        return super().load_state_dict(fits, strict, assign)

    def _known(self) -> dict[str, Tensor]:
        self._look()  # the state is of the model as it is now
        return dict(self.named_buffers())

    def _save_to_state_dict(self, *args: Any) -> None:
        self._look()
        super()._save_to_state_dict(*args)

    def _look(self) -> Attachment:
        raise NotImplementedError


def _if_finite(state: Tensor, before: Tensor) -> Tensor:
    """The new state, or the one before if the new one has an entry that is not finite; the host does not wait."""
    if state.is_meta or before.is_meta or not state.is_floating_point() or not state.numel():
        return state
    with torch.no_grad(), untransformed():
        finite = state.abs().amax() < math.inf
        return torch.where(finite, state, before.to(state))


def _decoded(extra: Any) -> Mapping[str, Any] | None:
    """The step, the seed and what else there is, a mapping in earlier versions; None if it is something else."""
    if isinstance(extra, Tensor) and not extra.is_meta:
        try:
            extra = json.loads(bytes(map(int, extra.flatten().tolist())))
        except (ValueError, OverflowError):
            return None
    return extra if isinstance(extra, Mapping) and {"step", "seed"} <= extra.keys() else None


def _fits(value: Any, buffer: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == buffer.shape


def _is_combined(state_dict: Mapping[str, Any]) -> bool:
    return any(key.startswith("parts.") for key in state_dict)
