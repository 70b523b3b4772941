"""Whether the times of some runs tell what a regularizer costs."""

from collections.abc import Sequence

from comhe.train.compare.records import Record, cell_of

BUSY = 0.5  # processor cores kept busy by others, on average over a run, above which its times are not its own
FACTOR = 1.5  # between the times of the same work, above which it was not done under the same conditions


def doubt(records: Sequence[Record]) -> str:
    """Return why times of these runs are not their cost; nothing if one idle machine measured all of them.

    Example:
        >>> run = {"recipe": "r", "model": "m", "data": "d", "regularizer": "none", "seconds": 9.0}
        >>> doubt([run | {"device": "CPU", "other_cores": 0.1}])
        ''
        >>> doubt([run | {"device": "CPU", "other_cores": 3.2}])
        'other programs kept up to 3.2 processor cores busy'
    """
    devices = dict.fromkeys(str(record["device"]) for record in records if record.get("device"))
    if len(devices) > 1:
        return f"they ran on several devices ({', '.join(devices)})"
    others = [record.get("other_cores") for record in records]
    if (most := max((cores for cores in others if cores is not None), default=0.0)) > BUSY:
        return f"other programs kept up to {most:.1f} processor cores busy"
    if _factor(records) > FACTOR:
        return f"some runs took {FACTOR} times as long as others of the same row, or longer: not one idle machine"
    if None in others or not devices:
        return "it was not noted whether other programs ran"
    return ""


def _factor(records: Sequence[Record]) -> float:
    """The largest ratio of the times of two runs of one cell."""
    times: dict[tuple[str, ...], list[float]] = {}
    for record in records:
        if seconds := record.get("step_ms") or record.get("seconds"):
            times.setdefault(cell_of(record), []).append(seconds)
    return max((max(values) / min(values) for values in times.values()), default=1.0)
