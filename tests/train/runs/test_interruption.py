"""What SIGINT and SIGTERM do to the process that gets them; tests/trust has what becomes of runs."""

import signal
import threading

import pytest

from comhe.train.cli.main import guarded
from comhe.train.runs.interruption import Interrupted, deferred
from comhe.train.runs.workers import run_all


@pytest.fixture(autouse=True)
def _as_in_a_terminal():
    """A process that was started in the background may ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_is_noted_and_the_second_does_not_wait():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="at once") as caught, deferred() as stop:  # noqa: PT012
        assert stop.signum == 0
        signal.raise_signal(signal.SIGINT)
        assert stop.signum == signal.SIGINT
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_nobody_had_use_for_is_not_lost():
    with pytest.raises(KeyboardInterrupt), deferred():
        signal.raise_signal(signal.SIGINT)


def test_an_error_comes_before_a_signal():
    with pytest.raises(ValueError, match="other"), deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        raise ValueError("other")


def test_outside_the_main_thread_nothing_is_noted():
    noted = []

    def work():
        with deferred() as stop:
            noted.append(stop.signum)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert noted == [0]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_any_command_ends_in_one_line(number, status, capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert guarded(lambda argv: signal.raise_signal(number), []) == status
    assert capsys.readouterr().err == "comhe: stopped\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_workers_do_not_see_what_a_terminal_sends_to_all():
    """Ctrl-C is for their parent, which ends them in order; a worker that got it too would print a traceback."""
    noted = []
    jobs = [signal.SIGINT, signal.SIGTERM]
    run_all(signal.raise_signal, jobs, 1, ended=lambda job, error: noted.append(error))
    assert noted == [None, f"its process ended with exit code {-signal.SIGTERM}"]
