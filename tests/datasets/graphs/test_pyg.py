"""Files of PyTorch Geometric's ``Data``, in a process with and without PyTorch Geometric."""

import os
import subprocess
import sys

import pytest
import torch
from torch_geometric.data import Data, HeteroData, InMemoryDataset

from comhe.datasets.graphs.pyg import read_pt
from comhe.errors import DataError


@pytest.fixture
def data():
    return Data(x=torch.eye(4), edge_index=torch.tensor([[0, 1, 2], [1, 2, 3]]), y=torch.tensor([0, 1, 0, 1]))


def test_a_data_in_every_form(tmp_path, data):
    torch.save(data, tmp_path / "plain.pt")
    data.node_attrs(), data.edge_attrs()  # they leave caches, which torch's own reader refuses
    torch.save(data, tmp_path / "cached.pt")
    torch.save(data.to_dict(), tmp_path / "dict.pt")
    InMemoryDataset.save([data], tmp_path / "processed.pt")
    files = sorted(tmp_path.iterdir())
    for file in files:
        found = read_pt(file)
        assert found["x"].equal(data.x), file
        assert found["edge_index"].equal(data.edge_index), file
    code = """if True:
        import sys
        from pathlib import Path
        from comhe.datasets.graphs.pyg import read_pt
        print([sorted(read_pt(Path(file))) for file in sys.argv[1:]], "torch_geometric" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-P", "-c", code, *files], capture_output=True, text=True)
    assert done.stdout == f"{[['edge_index', 'x', 'y']] * 4} False\n", done.stderr


class Runs:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_nothing_in_a_file_runs_and_the_fault_is_one_line(tmp_path, data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hetero = HeteroData()
    hetero["a"].x = data.x
    InMemoryDataset.save([data, data], tmp_path / "several.pt")
    for name, content, fault in (
        ("runs.pt", {"x": data.x, "y": Runs()}, r"asks for \w+\.mkdir"),
        ("hetero.pt", hetero, "its nodes are of several kinds; save HeteroData.to_homogeneous"),
        ("list.pt", [1, 2], "has a int, not a Data"),
        ("empty.pt", {}, "has no tensors, but nothing"),
        ("views.pt", {"x": torch.zeros(1).expand(1 << 40)}, "'x' is not a tensor that is stored in full"),
        ("several.pt", None, "a data set of several graphs"),
    ):
        if content is not None:
            torch.save(content, name)
        with pytest.raises(DataError, match=f"^{name}: .*{fault}") as error:
            read_pt(tmp_path.joinpath(name).relative_to(tmp_path))
        assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    torch.save({"x": data.x}, "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(DataError, match=r"old\.pt: .*not an archive, as torch has written since 1\.6"):
        read_pt(tmp_path / "old.pt")
    with pytest.raises(DataError, match="no such file"):
        read_pt(tmp_path / "none.pt")
