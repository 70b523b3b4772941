import math

import pytest

from comhe.train.compare.statistics import holm, mean_std, paired


def test_mean_and_sample_deviation():
    assert mean_std([2.0, 4.0, 9.0]) == (5.0, pytest.approx(math.sqrt((9 + 1 + 16) / 2)))
    mean, std = mean_std([3.0])
    assert mean == 3.0
    assert math.isnan(std)
    with pytest.raises(ValueError, match="no values"):
        mean_std([])


SEEDS = [81.0, 80.2, 82.3, 81.9, 80.8], [81.4, 80.9, 82.1, 82.8, 81.0]


@pytest.mark.parametrize(("a", "b"), [SEEDS, SEEDS[::-1], ([1.0, 2.0], [1.0, 2.5]), ([0.0] * 40, [9.0, 9.1] * 20)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_paired_agrees_with_scipy(a, b, confidence):
    from scipy import stats  # takes two seconds to import

    ours, theirs = paired(a, b, confidence), stats.ttest_rel(b, a)
    interval = theirs.confidence_interval(confidence)
    assert ours.n == len(a)
    assert ours.difference == pytest.approx(sum(b) / len(b) - sum(a) / len(a))
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9, abs=0)
    assert (ours.low, ours.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_pairing_removes_what_the_seeds_share():
    seeds = [70.0, 75.0, 80.0, 85.0]  # a spread of seeds far larger than the effect
    result = paired(seeds, [s + d for s, d in zip(seeds, (0.5, 0.6, 0.4, 0.5), strict=True)])
    assert result.low > 0.3
    assert result.high < 0.7


def test_paired_edge_cases():
    for a, b in (([1.0, 2.0], [1.0, 2.0]), ([1.0, 2.0], [2.0, 3.0]), ([0.1] * 9, [0.1 + 0.2] * 9), ([1.0], [2.0])):
        found = paired(a, b)
        assert found.difference == pytest.approx(b[0] - a[0])
        assert all(map(math.isnan, (found.low, found.high, found.p))), "no variance, so neither interval nor p-value"
    with pytest.raises(ValueError, match="same seeds"):
        paired([1.0], [1.0, 2.0])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    corrected = holm([math.nan, 0.02])
    assert math.isnan(corrected[0])
    assert corrected[1] == pytest.approx(0.02)
