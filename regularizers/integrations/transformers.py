"""A callback for Hugging Face's Trainer: ``Trainer(model, args, callbacks=[RegularizerCallback("hs-mhe")])``."""

from pathlib import Path
from typing import Any

import torch

from comhe.errors import RunError
from comhe.regularizers.registry import create_regularizer
from comhe.regularizers.regularizer import Regularizer

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise ImportError(f"{__name__} needs Transformers: pip install transformers") from error

FILE = "regularizer.pt"


class RegularizerCallback(TrainerCallback):
    """Adds a regularizer's gradient to the model's just before every optimizer step: once a step, however many batches
    are accumulated, and after gradients have been clipped, so that the penalty is not.

    The last penalty is logged as ``penalty``; the state is written into the Trainer's checkpoint folders and read from
    there when training is resumed. Arguments are those of :func:`create_regularizer`; the model is the Trainer's.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self.name, self.options = name, options
        self.regularizer: Regularizer | None = None
        self._penalty = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.regularizer = create_regularizer(self.name, model, **self.options)
        if state.global_step > 0:
            path = _folder(args, state) / FILE
            if not path.exists():
                raise RunError(f"{path} is missing: the run to be resumed did not use this callback")
            self.regularizer.load_state_dict(torch.load(path, weights_only=True))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.regularizer is not None  # since on_train_begin
        penalty = self.regularizer()
        if penalty.requires_grad:
            penalty.backward()
        self._penalty = penalty.detach()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is not None and "loss" in logs:
            logs["penalty"] = state.log_history[-1]["penalty"] = float(self._penalty)  # history is a copy made before

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.regularizer is not None:
            torch.save(self.regularizer.state_dict(), _folder(args, state) / FILE)


def _folder(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"
