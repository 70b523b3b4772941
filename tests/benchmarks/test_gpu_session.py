"""The session on a GPU: limits, logs, the archive, and that what is wrong is not timed. Its steps here take no time."""

import tarfile

import pytest

gpu_session = pytest.importorskip("benchmarks.gpu_session", reason="benchmarks are not installed")
Step = gpu_session.Step

SLEEPS = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"


def python(code):
    return "-c", code


def test_every_step_has_a_log_and_a_limit(tmp_path, capsys):
    steps = [
        Step("first", 60, python("open('{out}/table.csv', 'w').write('1'); print('seen')")),
        Step("endless", 1, python(SLEEPS)),
        Step("wrong", 60, python("raise SystemExit('what went wrong')")),
        Step("last", 60, python("import comhe, benchmarks; print(comhe.__file__)")),
    ]
    out = tmp_path / "out"
    assert gpu_session.main(["--out", str(out)], steps) == 2
    said = capsys.readouterr().out
    for expected in ("first: done", "endless: cut off after 1 s", "what went wrong", "wrong: failed", "last: done"):
        assert expected in said
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        names = archive.getnames()
    assert sorted(names) == sorted(f"out/{n}" for n in ("table.csv", *(f"{step.name}.log" for step in steps)))
    assert (out / "last.log").read_text().startswith(str(out / "package"))


@pytest.mark.parametrize("arguments", [[], ["--go-on"]])
def test_nothing_is_timed_after_a_proof_that_fails(arguments, tmp_path, capsys):
    steps = [Step("proof", 60, python("1 / 0"), proves=True), Step("timing", 60, python("pass"))]
    assert gpu_session.main(["--out", str(tmp_path / "out"), *arguments], steps) == 1
    assert ("timing: done" in capsys.readouterr().out) == bool(arguments)


def test_steps_that_no_time_is_left_for_are_named(tmp_path, capsys):
    assert gpu_session.main(["--out", str(tmp_path), "--minutes", "0.4"], [Step("late", 60, python("pass"))]) == 1
    assert "late: no time is left" in capsys.readouterr().out


def test_commands_are_those_there_are():
    """Every step has a rehearsal, what it tests is there, and correctness comes first."""
    for step in gpu_session.STEPS:
        assert step.rehearsal
        for part in step.command:
            assert not part.startswith("tests/") or (gpu_session.ROOT / part).exists(), part
    assert gpu_session.STEPS[-1].name == "queue"
    assert sum(step.proves for step in gpu_session.STEPS[:3]) == 3
