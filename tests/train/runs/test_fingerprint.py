"""Own data that have changed under the same name are noticed."""

import numpy as np
import pytest

from comhe.errors import RunError
from comhe.train import fit, get_recipe
from comhe.train.runs.fingerprint import data_digest


def test_the_digest_follows_names_and_contents(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.xyz").write_text("0 0 0")
    (tmp_path / "b" / "2.xyz").write_text("1 1 1")
    first = data_digest(f"folder:{tmp_path}")
    assert first
    assert first == data_digest(f"folder-up-y:{tmp_path}")
    (tmp_path / ".DS_Store").write_text("what file managers leave does not count")
    assert data_digest(f"folder:{tmp_path}") == first
    (tmp_path / "b" / "2.xyz").write_text("1 1 20")
    second = data_digest(f"folder:{tmp_path}")
    assert second != first
    (tmp_path / "b" / "2.xyz").rename(tmp_path / "b" / "3.xyz")
    assert data_digest(f"folder:{tmp_path}") not in (first, second)
    for name in ("cora", "cora-random3", f"graph:{tmp_path / 'none'}"):
        assert data_digest(name) == ""


def test_a_run_is_not_found_again_for_other_data(tmp_path):
    path = tmp_path / "a.npz"

    def write(features):
        y = np.arange(20) % 2
        np.savez(path, x=np.eye(20, features), edge_index=[[*range(20)], [*range(20)]], y=y)

    write(20)
    recipe = get_recipe("kipf", "gcn", f"graph:{path}", "none", epochs=1)
    run = fit(recipe, runs=tmp_path / "runs")
    assert fit(recipe, runs=tmp_path / "runs").folder == run.folder
    write(21)
    with pytest.raises(RunError, match=r"the files of graph:.*a\.npz have changed since .*seed0 was trained; choose"):
        fit(recipe, runs=tmp_path / "runs")
    path.unlink()  # a finished run stands on its own
    run.check(recipe)
