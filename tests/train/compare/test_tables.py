import pytest

from comhe.train.compare.tables import FEW, few_seeds, markdown, signed, table, views


def record(regularizer: str, seed: int, test: float, variant: str = "", training: str = "") -> dict:
    cell = {"recipe": "kipf", "model": "gcn", "data": "cora", "regularizer": regularizer, "seed": seed, "seconds": 1.0}
    figures = {f"{epoch}_{key}": value for epoch in ("last", "best") for key, value in (("val", 80.0), ("test", test))}
    return {**cell, **figures, "variant": variant, "training": training}


def test_differences_are_taken_on_shared_seeds():
    records = [record("none", seed, 80.0 + seed) for seed in range(4)]
    records += [record("mhe", seed, 81.0 + seed + 0.1 * (seed == 2)) for seed in range(1, 4)]
    rows = {(row.regularizer, row.epoch): row for row in table(records)}
    assert rows["none", "last"].n == 4
    assert rows["none", "last"].difference is None
    mhe = rows["mhe", "last"]
    assert mhe.n == 3
    assert mhe.difference == pytest.approx(1.0 + 0.1 / 3)  # not the difference of the two means
    assert mhe.low < mhe.difference < mhe.high
    assert "+1.03" in markdown(table(records))


def test_one_seed_has_neither_deviation_nor_interval():
    rows = table([record("none", 0, 80.0), record("mhe", 0, 81.5)])
    assert "| mhe | 1 | 80.00 | 81.50 | +1.50 |  |  |" in markdown(rows)
    assert "nan" not in markdown(rows)


def test_corrections_cover_the_family():
    records = [record("none", s, 80.0 + s % 3) for s in range(6)]
    records += [record("mhe", s, 80.5 + s % 3 + 0.2 * (s % 2)) for s in range(6)]
    records += [record("so", s, 80.0 + s % 3 + 0.3 * (s % 2)) for s in range(6)]
    rows = {row.regularizer: row for row in table(records) if row.epoch == "last"}
    assert rows["mhe"].p_holm == pytest.approx(2 * rows["mhe"].p)
    assert rows["so"].p_holm == pytest.approx(rows["so"].p)


def test_variants_are_rows_and_differ_from_the_baseline_with_the_same_training():
    records = [record("none", s, 80.0 + s) for s in range(2)]
    records += [record("none", s, 70.0 + s, "epochs=5", "epochs=5") for s in range(2)]
    records += [record("mhe", s, 81.0 + s, "weight=3.0") for s in range(2)]
    records += [record("mhe", s, 72.0 + s, "epochs=5 weight=3.0", "epochs=5") for s in range(2)]
    records += [record("mhe", s, 60.0 + s, "epochs=9", "epochs=9") for s in range(2)]
    rows = {(row.regularizer, row.settings): row for row in table(records) if row.epoch == "last"}
    assert len(rows) == 5
    assert rows["mhe", "weight=3.0"].difference == pytest.approx(1.0)
    assert rows["mhe", "epochs=5 weight=3.0"].difference == pytest.approx(2.0)
    assert rows["mhe", "epochs=9"].difference is None
    assert rows["mhe", "weight=3.0"].method == "mhe weight=3.0"


def test_a_tag_is_compared_with_the_baseline_of_the_same_tag():
    records = [
        record("none", 0, 80.0),
        record("none", 0, 70.0, "mine", "lr=1.0"),
        record("mhe", 0, 73.0, "mine", "lr=1.0"),
    ]
    assert [row.difference for row in table(records)[:3]] == [None, None, pytest.approx(3.0)]


def test_settings_are_a_column_only_where_there_are_some():
    (accuracy, _) = views(table([record("none", 0, 80.0)]))
    assert accuracy.header[:4] == ["model", "data", "regularizer", "n"]
    (accuracy, _) = views(table([record("none", 0, 80.0, "epochs=5", "epochs=5")]))
    assert accuracy.header[:4] == ["model", "data", "regularizer", "settings"]
    assert accuracy.cells[0][3] == "epochs=5"


def test_costs_are_a_table_where_they_were_measured():
    costs = {"parameters": 1e6, "gflops": 0.5, "step_ms": 12.345, "penalty_ms": 1.0}
    *_, shown = views(table([record("none", 0, 80.0) | costs]))
    assert {"GFLOP", "ms/step", "penalty ms/step", "s/run"} <= set(shown.header)
    assert "1,000,000" in shown.cells[0]
    assert "12.3" in shown.cells[0]


def test_equal_differences_have_no_interval_and_no_p_value():
    rows = table([record(name, s, 80.0 + s + (name == "mhe")) for name in ("none", "mhe") for s in range(2)])
    assert "| mhe | 2 | 80.00 | 81.50 ± 0.71 | +1.00 |  |  |" in markdown(rows)


@pytest.mark.parametrize(
    ("value", "text"), [(0.004, "0.00"), (-0.004, "0.00"), (-0.0, "0.00"), (0.006, "+0.01"), (-1.005, "-1.00")]
)
def test_a_difference_that_rounds_to_nothing_has_no_sign(value, text):
    assert signed(value) == text


@pytest.mark.parametrize("seeds", range(1, FEW + 2))
def test_few_seeds_are_called_so(seeds):
    rows = table([record("none", s, 80.0 + s) for s in range(seeds)])
    assert few_seeds(rows).startswith(f"Few seeds ({seeds} a row)") is (seeds < FEW)
    assert ("Few seeds" in markdown(rows)) is (seeds < FEW)
