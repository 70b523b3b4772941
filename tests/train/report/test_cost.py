import pytest

from comhe.train.report.cost import doubt

RUN = {"recipe": "r", "model": "m", "data": "d", "regularizer": "none", "device": "a GPU", "other_cores": 0.1}


def runs(*changes):
    return [RUN | {"seed": seed, "seconds": 9.0, "step_ms": 2.0} | change for seed, change in enumerate(changes)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (({}, {"step_ms": 2.5}), ""),
        (({}, {"device": "a CPU"}), r"several devices \(a GPU, a CPU\)"),
        (({}, {"other_cores": 1.5}), "1.5 processor cores"),
        (({}, {"step_ms": 4.0}), "1.5 times as long"),
        (({"step_ms": None}, {"step_ms": None, "seconds": 90.0}), "1.5 times as long"),
        (({}, {"other_cores": None}), "not noted"),
        (({"device": None, "other_cores": None},) * 2, "not noted"),
    ],
)
def test_times_are_a_cost_only_on_one_idle_machine(changes, reason):
    import re

    found = doubt(runs(*changes))
    assert re.search(reason, found) if reason else found == ""


def test_methods_may_differ_in_time():
    assert doubt(runs({}, {"regularizer": "mhe", "step_ms": 200.0})) == ""
