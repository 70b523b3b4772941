"""Tables that are made on the host and kept on the device, where a CUDA graph may read them."""

from collections.abc import Callable
from threading import Lock
from typing import Any

import torch

from comhe.errors import UsageError

SIZE = 256  # tables of each kind that are kept, those used last


class device_table:
    """Keeps what ``make(..., device)`` returns for the arguments used last, and for good what a CUDA graph has read.

    A graph knows a table by its address: were the table dropped, the graph would read whatever comes to lie there. Nor
    can a table be made while one is recorded, since that takes a copy from the host.

    Raises:
        UsageError: a table is first asked for while a CUDA graph is recorded.

    Example:
        >>> @device_table
        ... def powers(count, device):
        ...     return torch.tensor([2**i for i in range(count)], device=device)
        >>> powers(3, torch.device("cpu")) is powers(3, torch.device("cpu"))
        True
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        self.recent: dict[tuple, Any] = {}  # in the order of use
        self.recorded: dict[tuple, Any] = {}
        self._lock = Lock()

    def __call__(self, *key: Any) -> Any:
        with self._lock:
            table = self.recorded[key] if key in self.recorded else self.recent.pop(key, None)
            if is_recording(key[-1]):
                if table is None:
                    raise UsageError(
                        "a CUDA graph is being recorded, and neurons of these shapes have not been computed with "
                        "before: call the same function once before the recording, as a warm-up"
                    )
                self.recorded[key] = table
            elif table is None:
                with torch.inference_mode(False):  # a step that is trained may read it next
                    table = self.make(*key)
            if key not in self.recorded:
                self.recent[key] = table
                while len(self.recent) > SIZE:
                    del self.recent[next(iter(self.recent))]
        return table


def is_recording(device: torch.device) -> bool:
    """Whether a CUDA graph is being recorded on the device's current stream.

    Example:
        >>> is_recording(torch.device("cpu"))
        False
    """
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_current_stream_capturing()
