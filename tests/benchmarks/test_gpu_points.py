"""The GPU's benchmark of points runs, on a GPU or without one on the CPU; its figures are not looked at."""

import pytest

gpu_points = pytest.importorskip("benchmarks.gpu_points", reason="benchmarks are not installed")


def test_every_row_of_the_table(device):
    rows = list(gpu_points.rows(device, batch=2, points=40, rounds=1))
    codes = ["comhe", "port"] + ["comhe captured"] * (device.type == "cuda")
    assert [row["code"] for row in rows] == codes * 5
    assert len({(row["what"], row["precision"]) for row in rows}) == 5
    for row in rows:
        assert row.keys() == rows[0].keys()
        assert row["median_ms"] > 0
        if row["code"] == "port" or "step" in row["what"]:
            assert row["same_as_cpu"] == "-"
        else:
            assert row["same_as_cpu"] > 0.9  # rounding may decide between points that are equally far
