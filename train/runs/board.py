"""A run's figures for TensorBoard, next to its CSV files."""

import shutil
from pathlib import Path
from typing import Any

from comhe.errors import needs
from comhe.train.engine.log import Log

FOLDER = "tensorboard"
X = {"metrics": "epoch", "energies": "epoch", "steps": "step"}  # what the rows of a table are drawn over


class Board:
    """Event files in a run's folder; what earlier sessions of the run have written is written again, from its log.

    Tags are ``metrics/loss``, ``steps/penalty`` and, for each layer, ``energies/energy/LAYER``.

    Raises:
        MissingPackageError: tensorboard is not installed.
    """

    _writer: Any

    def __init__(self, folder: Path) -> None:
        with needs("tensorboard", "--tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self._folder, self._make = folder / FOLDER, SummaryWriter
        self._writer = None
        self._written = dict.fromkeys(X, 0)

    def write(self, log: Log) -> None:
        """Write the rows that are new; the first call, once this process owns the run's folder, begins the files."""
        if self._writer is None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._writer = self._make(str(self._folder))
        for table, rows in log.tables().items():
            for row in rows[self._written[table] :]:
                layer = f"/{row['layer']}" if "layer" in row else ""
                for name, value in row.items():
                    if name != X[table] and isinstance(value, int | float):
                        self._writer.add_scalar(f"{table}/{name}{layer}", value, row[X[table]])
            self._written[table] = len(rows)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
