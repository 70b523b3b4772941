"""The type checker has nothing to say about the package."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("datasets", "regularizers", "train", "zoo")


def test_the_types_agree(request):
    """A type checker follows no mapping of folders, so it gets the package as a folder of links."""
    folder = request.config.cache.mkdir("types")  # where it finds, the next time, what it has checked
    (folder / "comhe").mkdir(exist_ok=True)
    for link in (folder / "comhe").iterdir():
        link.unlink()
    for path in (*(ROOT / "comhe").glob("*.*"), ROOT / "comhe" / "inputs", *map(ROOT.joinpath, FOLDERS)):
        (folder / "comhe" / path.name).symlink_to(path)
    options = ["--config-file", ROOT / "pyproject.toml", "-p", "comhe"]
    done = subprocess.run([sys.executable, "-P", "-m", "mypy", *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
