import json

import pytest
import torch

from comhe.errors import RunError
from comhe.train.report.angles import angles, angles_before_and_after, histogram
from comhe.train.runs.launch import fit


def test_angles_and_their_histogram():
    found = angles(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]]))
    assert sorted(found.tolist()) == pytest.approx([90, 90, 180])
    shares = histogram(torch.tensor([91.0, 91.5, 100.5, 10.0]), 2.0)
    assert shares[0] == (10.0, 0.0)
    assert shares[-1] == (102.0, 0.0)
    assert max(share for _, share in shares) == 50.0


def test_initial_weights_are_computed_again_or_not_shown(recipe, tmp_path):
    run = fit(recipe.replace(regularizer="hs-mhe", regularizer_options={}, epochs=3), runs=tmp_path)
    result = json.loads((run.folder / "result.json").read_text())
    name, before, after = angles_before_and_after(run)
    assert name == "convs.0.lin"
    assert before.shape == after.shape == (16 * 15 / 2,)
    assert not torch.equal(before, after)
    result["start"]["energy"][name]["half"] *= 1.1  # as if this version drew other numbers
    (run.folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match="initializes the network differently"):
        angles_before_and_after(run)
    del result["options"]
    (run.folder / "result.json").write_text(json.dumps(result))
    with pytest.raises(RunError, match="older version"):
        angles_before_and_after(run)
