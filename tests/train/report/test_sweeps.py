"""Figures of differences against a setting: which there are, and what they show."""

import pytest

from comhe.train.compare.tables import table
from comhe.train.report.sweeps import sweeps


def record(regularizer, seed, settings, accuracy, training=""):
    cell = {"recipe": "kipf", "model": "gcn", "data": "cora", "regularizer": regularizer, "seed": seed}
    figures = {f"{epoch}_{split}": accuracy for epoch in ("last", "best") for split in ("val", "test")}
    return cell | figures | {"variant": settings, "training": training, "seconds": 1.0}


def labels(values=(0, 1, 2, 5, 20)):
    """Gains of 5 / n at n labels of a class, and of 0.5 with all of them, which is the recipe's own setting."""
    records = []
    for n in values:
        text = f"labels_per_class={n}" if n else ""
        for seed in range(3):
            base = 70 + seed + n
            records.append(record("none", seed, text, base, text))
            records.append(record("hs-mhe", seed, text, base + (5 / n if n else 0.5) + 0.1 * seed, text))
    return records


def test_differences_against_the_number_of_labels():
    last, best = sweeps(table(labels())).figures
    assert last.heading == "kipf gcn cora: difference to none against labels_per_class, last epoch"
    assert best[2:] == ("kipf", "gcn", "cora")
    curve, zero = last.drawing.figure.axes[0].lines
    assert list(curve.get_xdata()) == [1, 2, 5, 20]  # 0 is no number of labels, but all of them
    assert list(curve.get_ydata()) == pytest.approx([5.1, 2.6, 1.1, 0.35])
    assert curve.get_label() == "hs-mhe"
    assert list(zero.get_ydata()) == [0, 0]
    assert len(last.drawing.figure.axes[0].collections) == 1  # the band


def test_an_axis_over_a_wide_range_is_logarithmic():
    for values, scale in (((1, 2, 20), "log"), ((5, 10, 20), "linear")):
        figure, _ = sweeps(table(labels(values))).figures
        axes = figure.drawing.figure.axes[0]
        assert axes.get_xscale() == scale
        assert [tick.get_text() for tick in axes.get_xticklabels()] == [str(value) for value in values]


def test_a_weight_is_compared_with_the_one_run_without_it():
    records = [record("none", seed, "", 80 + seed) for seed in range(2)]
    for weight in (0.1, 3, 10):  # the recipe's own weight is 1
        records += [record("hs-mhe", seed, f"weight={weight}", 80 + weight + seed / 2) for seed in range(2)]
    figure, _ = sweeps(table(records)).figures
    curve = figure.drawing.figure.axes[0].lines[0]
    assert list(curve.get_xdata()) == [0.1, 3, 10]
    assert list(curve.get_ydata()) == pytest.approx([-0.15, 2.75, 9.75])


def test_from_a_weight_of_0_the_axis_is_linear():
    records = [record("none", seed, "", 80 + seed) for seed in range(2)]
    for weight in (0, 1, 100):
        records += [record("hs-mhe", seed, f"weight={weight}", 80 + weight) for seed in range(2)]
    figure, _ = sweeps(table(records)).figures
    assert figure.drawing.figure.axes[0].get_xscale() == "linear"


def test_other_settings_make_other_curves():
    records = [record("none", seed, "", 80 + seed) for seed in range(2)]
    for weight in (0.1, 3, 10):
        for dim in (20, 30):
            records += [record("rp-comhe", seed, f"dim={dim} weight={weight}", 80 + weight) for seed in range(2)]
    weight, _ = sweeps(table(records)).figures  # two values of dim are no sweep
    assert [line.get_label() for line in weight.drawing.figure.axes[0].lines[:2]] == [
        "rp-comhe dim=20",
        "rp-comhe dim=30",
    ]


@pytest.mark.parametrize("values", [(), (1,), (1, 5)])
def test_few_values_and_words_are_not_swept(values):
    records = labels(values)
    for name in ("slow", "fast", "mode=both", "mode=alternating", "mode=fixed", "span=True", "span=False"):
        records += [record("none", 0, "", 80), record("ap-comhe", 0, name, 81)]
    assert sweeps(table(records)).figures == []
