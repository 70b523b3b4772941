import subprocess
import sys

import pytest

import comhe
from comhe.errors import UsageError
from comhe.train.cli.main import guarded, main, parse

SHORT = ["--data", "citations", "--epochs", "3"]
GRAPHS = ["train", "graphs", *SHORT]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian", "graphs"], "did you mean train?"),
        (["train", "grahps"], "did you mean graphs?"),
        (["train", "graphs", "--data", "coar"], "did you mean cora"),
        (["train", "graphs", "--model", "gnc"], "gcn"),
        ([*GRAPHS, "--regularizer", "hs-mh"], "did you mean hs-mhe"),
        ([*GRAPHS, "--regularizer", "mhe", "--regularizer-options", "dmi=4"], "dmi"),
        ([*GRAPHS, "--regularizer", "rp-comhe", "--regularizer-options", "dim=1"], "at least 2"),
        ([*GRAPHS, "--regularizer", "mhe", "--regularizer-options", "dim", "4"], "name=value"),
        ([*GRAPHS, "--weight", "-1"], "must not be negative"),
        (["train", "graphs", "--data", "citations", "--epochs", "0"], "epochs must be positive"),
        ([*GRAPHS, "--compile", "--swap-head=maybe"], "--swap-head is given alone, or with True or False"),
        (
            [*GRAPHS, "--regularizer", "rp-comhe", "--regularizer-options", "dim=wide"],
            "dim must be a number, not 'wide'",
        ),
        ([*GRAPHS, "--model-options", "num_layers=many"], "num_layers must be an integer"),
        ([*GRAPHS, "--hidden-channels", "0"], "hidden_channels must be at least 1"),
        ([*GRAPHS, "--weights", "/dev/null"], "/dev/null"),
        ([*GRAPHS, "--device", "meta"], "meta"),
        ([*GRAPHS, "--model", "cnn9"], "comhe train images"),
        ([*GRAPHS, "--recipe", "kip"], "did you mean kipf"),
        ([*GRAPHS, "--device", "cuda:77"], "cuda:77"),
        (["train", "images", "--regularizer", "rp-comhee"], "did you mean rp-comhe"),
        (["compare", "--regularizers", "none,rp-comhee"], "did you mean rp-comhe"),
        (["compare", "--data", "cora,coro"], "did you mean cora"),
        (["compare", "--recipe", "kip"], "did you mean kipf"),
        (["compare", "--seeds", "0"], "at least one"),
        (["compare", "--jobs", "0"], "at least 1"),
        (["compare", "--device", "cuda:77"], "cuda:77"),
        (["compare", "--settings", "epochs"], "name=value"),
        (["compare", "--settings", "epochs=0"], "epochs must be positive"),
        (["compare", "--settings", "wieght=0.1,1"], "did you mean weight"),
        (["compare", "--output", "/dev/null/out"], "/dev/null/out cannot be"),
        (["reproduce", "gnc"], "did you mean gcn"),
        (["reproduce", "gcn", "--budget", "soon"], "20m"),
        (["reproduce", "gcn", "--seeds", "0"], "at least one"),
        (["evaluate", "no-such-run"], "not a run folder, and unknown weights"),
        (["evaluate", "gcn.citations-rp-comhe", "--data", "coro"], "did you mean cora"),
        (["evaluate", "gcn.citations-rp-comhe", "--device", "cuda:77"], "cuda:77"),
        (["energy", "no-such-thing"], "neither a folder"),
        (["data", "cora", "--data-root", "no-such-folder"], "no-such-folder"),
        (["report"], "SOURCES is missing: folders of runs"),
        (["report", "no-such-folder"], "neither a folder"),
        (["predict", "local-dir:nowhere", "a.png"], "local-dir:nowhere: there is no such folder"),
        (["predict", "nowhere.png", "a.png"], "there is no such file either, and `comhe list weights` shows the names"),
        (["train", "graphs", "--data", "citations", "--model", "no-such"], "needs its module: --import MODULE"),
        (["publish", "no-such-run", "--output", "out"], "not a finished run"),
        (["list", "models", "--import", "no_such_module"], "no_such_module"),
    ],
)
def test_a_mistake_is_one_line_exit_status_2_and_no_file(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("urllib.request.urlopen", _offline)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("comhe: ")
    assert error.count("\n") == 1
    assert message in error
    assert argv[0] == "data" or list(tmp_path.iterdir()) == []


def _offline(*args, **options):
    raise OSError("no network in tests")


def test_only_our_own_errors_become_a_line(monkeypatch):
    def fail(error):
        def function(argv):
            raise error

        return function

    assert guarded(fail(UsageError("what")), []) == 2
    with pytest.raises(ValueError, match="a bug"):
        guarded(fail(ValueError("a bug")), [])
    monkeypatch.setenv("COMHE_TRACEBACK", "1")
    with pytest.raises(UsageError):
        guarded(fail(UsageError("what")), [])
    assert guarded(fail(KeyboardInterrupt()), []) == 130


def test_help_names_every_command(capsys):
    assert main([]) == main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in ("train", "compare", "reproduce", "report", "evaluate", "publish", "energy", "data", "list"):
        assert f"\n  {command} " in shown
    assert main(["compare", "--help"]) == 0
    assert "--import" in capsys.readouterr().out
    assert main(["compare", "--no-such-flag"]) == 2


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"comhe {comhe.__version__}\n"


def test_torchrun_is_for_training(monkeypatch, capsys):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main(["list", "models"]) == 2
    assert capsys.readouterr().err.startswith("comhe: rank 1 of 2: torchrun is for comhe train, not for comhe list")


def test_every_command_is_parsed_to_its_class():
    assert parse(["compare", "--seeds", "3"]).seeds == 3
    assert parse(["list", "models", "res*"]).pattern == "res*"
    assert parse(["data", "cora", "--import", "json", "--import", "csv"]).modules == ("json", "csv")


def test_the_module_is_the_command():
    shown = subprocess.run([sys.executable, "-P", "-m", "comhe", "trian"], capture_output=True, text=True)
    assert shown.returncode == 2
    assert shown.stderr == "comhe: unknown command 'trian'; did you mean train?\n"


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--compile"], True), (["--compile", "True"], True), (["--compile=true"], True), (["--no-compile"], False),
        (["--compile", "False"], False), (["--compile=FALSE"], False), ([], False),
    ],
)  # fmt: skip
def test_switches_are_written_in_any_way(words, value):
    command = parse([*GRAPHS, *words, "--swap_head", "true"])
    assert command.compile is value
    assert command.swap_head
    assert parse(["train", "images", "--no-nesterov", "--channels-last", "False"]).nesterov is False


def test_a_weight_without_a_regularizer_is_told(tmp_path, capsys):
    argv = [*GRAPHS, "--epochs", "1", "--weight", "3", "--runs", str(tmp_path)]
    assert main(argv) == 0
    assert capsys.readouterr().err.startswith("comhe: warning: weight has no effect without a regularizer")
    assert main([*argv, "--regularizer", "hs-mhe"]) == 0
    assert "no effect" not in capsys.readouterr().err


def test_our_warnings_are_one_line(tmp_path, capsys):
    folder = tmp_path / "g"
    folder.mkdir()
    files = {"edges.csv": "0,1\n1,0\n", "features.csv": "1,2\n" * 9, "labels.csv": "0\n1\n0\n" * 3, "more.txt": ""}
    for name, text in files.items():
        (folder / name).write_text(text)
    assert main(["data", f"graph:{folder}"]) == 0
    assert capsys.readouterr().err == f"comhe: warning: {folder}: not used: more.txt\n"
