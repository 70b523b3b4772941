"""The GPU's benchmark runs, part by part, on whatever there is; its figures are not looked at."""

import pytest

gpu = pytest.importorskip("benchmarks.gpu", reason="benchmarks are not installed")
gpu_queue = pytest.importorskip("benchmarks.gpu_queue")


@pytest.mark.parametrize("part", ["ceilings", "energy", "training", "profile"])
def test_every_part_runs(part, device, capsys, tmp_path):
    gpu.main([part, "--tiny", "--device", device.type])
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith(f"{part}: ") for line in lines)
    assert "nan" not in " ".join(lines)
    with pytest.raises(SystemExit):
        gpu.main([part, "--tiny", "--out", str(tmp_path)])


def test_a_penalty_alone(device):
    (row,) = gpu.gpu_training.alone(device, 1, True, ["gcn512"], ["rp-comhe"])
    assert row["alone_ms"] > 0
    assert (row["launches"] > 0) == (device.type == "cuda")


def test_steps_of_a_network(device):
    task = gpu.gpu_training.NETWORKS["gcn512"]("rp-comhe", device, True)
    for options in ({}, {"beside": False}):
        step = gpu.gpu_training.steps(task, **options)
        for _ in range(2):
            loss = step()[0]
        assert loss.isfinite()


def test_kernels_are_as_exact_as_float32(device):
    rows = list(gpu.numerics(device, gpu.TINY))
    assert len(rows) > 8
    for row in rows:
        if not row["near"]:
            assert row["energy_error"] < 1e-4
            assert row["gradient_error"] < 1e-3


def test_the_queue_has_pairs_before_more_seeds():
    recipes = gpu_queue.recipes(2)
    assert len({recipe.digest for recipe in recipes}) == len(recipes)
    assert [recipe.seed for recipe in recipes] == sorted(recipe.seed for recipe in recipes)
    assert [recipe.regularizer for recipe in recipes[:2]] == ["none", "rp-comhe"]
    for model in {recipe.model for recipe in recipes}:
        assert {"none", "rp-comhe"} <= {recipe.regularizer for recipe in recipes if recipe.model == model}
