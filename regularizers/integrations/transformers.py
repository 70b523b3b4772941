"""A callback for Hugging Face's Trainer: ``Trainer(model, args, callbacks=[RegularizerCallback("hs-mhe")])``."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from comhe.errors import RunError, needs, warn

from .blueprint import AnyRegularizer, Blueprint

with needs("transformers", __name__):
    from transformers import TrainerCallback


class RegularizerCallback(TrainerCallback):
    """Adds a regularizer's gradient to the model's once an optimizer step, however many batches are accumulated, and
    before gradients are clipped.

    The Trainer offers its callbacks no moment between the last batch and the clipping. So the gradient is the first of
    those that a step accumulates: it is there before the first batch, scaled as theirs are (fp16), and neither the
    weights nor the sum change until the optimizer's step. Loops that zero the gradients of each batch are not for it.

    The last penalty is logged as ``penalty``, or ``penalty/<name>`` if there are several of these callbacks, with the
    options of those that have one name. The state is written into the Trainer's checkpoint folders, and read from the
    folder that training is resumed from.

    Args:
        source: a regularizer's name, with the options of :func:`create_regularizer`; or a function of the Trainer's
            model that returns a regularizer, such as one of :func:`combine`.
    """

    def __init__(self, source: str | Callable[[Any], AnyRegularizer], **options: Any) -> None:
        self.blueprint = Blueprint(source, options)
        self.regularizer: AnyRegularizer | None = None
        self._penalty: Any = 0.0

    @property
    def file(self) -> str:
        """The name of the file with the state in a checkpoint folder."""
        key, full = self.blueprint.key, self.blueprint.full_key
        return f"{self._stem}{'' if full == key else f'-{_digest(full)}'}.pt"

    @property
    def _stem(self) -> str:
        name = "".join(c if c.isalnum() else "-" for c in self.blueprint.name)
        return f"regularizer-{name}-{_digest(self.blueprint.key)}"

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.blueprint.check_alone(other.blueprint for other in _alike(self))
        self.regularizer = self.blueprint.build(model)
        if state.global_step > 0:
            path = self._saved(_resumed_folder(args, state))
            self.regularizer.load_state_dict(torch.load(path, weights_only=True))

    def _saved(self, folder: Path) -> Path:
        """The file with the state, which may have been saved with other weights and another seed."""
        exact = folder / self.file
        found = [exact] if exact.exists() else sorted(folder.glob(f"{self._stem}*.pt"))
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise RunError(f"{folder} has {names} for {self.blueprint.key}: resume with the weights that were saved")
        if not found:
            fix = "to go on with it, load its weights into the model and train without resume_from_checkpoint"
            raise RunError(f"{exact} is missing: that run did not use this callback, {self.blueprint.key}; {fix}")
        return found[0]

    def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        assert self.regularizer is not None  # since on_train_begin
        penalty = self.regularizer()
        if penalty.requires_grad:
            scaler = getattr(optimizer, "scaler", None)
            (penalty if scaler is None else scaler.scale(penalty)).backward()
        self._penalty = penalty.detach()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is not None and "loss" in logs:
            name = self.blueprint.log_name(each.blueprint for each in _alike(self) if each is not self)
            logs[name] = state.log_history[-1][name] = float(self._penalty)  # history is a copy made before

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        folder = _folder(args, state)
        if state.is_world_process_zero and self.regularizer is not None:
            if folder.is_dir():
                torch.save(self.regularizer.state_dict(), folder / self.file)
            else:
                warn(f"{folder}: no such folder, so what {self.blueprint.key} has learned is not saved")


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=4).hexdigest()


def _callers() -> Iterator[dict[str, Any]]:
    """The local variables of the functions that have called the one that asks, the nearest first."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_locals
        frame = frame.f_back  # type: ignore[assignment]


def _alike(callback: RegularizerCallback) -> list[RegularizerCallback]:
    """The Trainer's callbacks of this kind, which its handler has; it does not tell them."""
    for found in _callers():
        known = getattr(found.get("self"), "callbacks", None)
        if isinstance(known, list) and any(each is callback for each in known):
            return [each for each in known if isinstance(each, RegularizerCallback)]
    return [callback]


def _folder(args: Any, state: Any) -> Path:
    """The folder of the present step, which a trial of ``hyperparameter_search`` has in a folder of its own."""
    root = args.output_dir
    for found in _callers():
        trainer, trial = found.get("self"), found.get("trial")
        if trainer is not None and trial is not None and hasattr(trainer, "_get_output_dir"):
            root = trainer._get_output_dir(trial)
            break
    return Path(root) / f"checkpoint-{state.global_step}"


def _resumed_folder(args: Any, state: Any) -> Path:
    """The folder that ``trainer.train(resume_from_checkpoint=...)`` was given, however it is called.

    The Trainer does not tell its callbacks, but its loop, which has called this one, has the folder as an argument.
    """
    for found in _callers():
        folder = found.get("resume_from_checkpoint")
        if isinstance(folder, str | Path):
            return Path(folder)
    return Path(args.resume_from_checkpoint) if getattr(args, "resume_from_checkpoint", None) else _folder(args, state)
