import math

import pytest

from comhe.train.engine.schedule import factor


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("cosine", [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]),
        ("one-cycle", [1, 0.75, 0.5, 0.25, 0]),
        ("step:0.25,0.75", [1, 0.1, 0.1, 0.01, 0.01]),
        ("decay:0.5,0.25", [1, 0.5, 0.25, 0.125, 0.0625]),
    ],
)
def test_values(schedule, values):
    assert [factor(schedule, i / 4) for i in range(5)] == pytest.approx(values)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_warmup_is_a_line_and_the_rest_follows(schedule):
    assert [factor(schedule, p, 0.2) for p in (0, 0.05, 0.1)] == pytest.approx([0, 0.25, 0.5])
    assert [factor(schedule, 0.2 + 0.8 * p, 0.2) for p in (0, 0.3, 0.9)] == pytest.approx(
        [factor(schedule, p) for p in (0, 0.3, 0.9)]
    )


def test_steps_are_shares_of_the_whole_run():
    assert factor("step:0.5", 0.49, 0.2) == 1
    assert factor("step:0.5", 0.5, 0.2) == 0.1


@pytest.mark.parametrize(
    "schedule", ["cosin", "step", "decay:", "decay:0.5", "decay:0.5,0", "step:", "step:a", "constant:1", ""]
)
def test_unknown(schedule):
    with pytest.raises(ValueError, match="schedule"):
        factor(schedule, 0.5)
