from pathlib import Path

import pytest

from comhe.errors import UsageError
from comhe.train.cli.arguments import flags_of, normalize
from comhe.train.cli.compare import Compare
from comhe.train.cli.main import COMMANDS, main, parse
from comhe.train.cli.train import train_command


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--settings", "a=1", "--seeds", "3", "--settings=b=2"], ["--settings", "a=1", "b=2", "--seeds", "3"]),
        (["--settings", "a=1", "b=2", "--settings", "c=3"], ["--settings", "a=1", "b=2", "c=3"]),
        (["--print_commands", "true"], ["--print-commands"]),
        (["--cluster_options", "x=1", "--settings", "a=1", "--cluster-options", "y=2"],
         ["--cluster-options", "x=1", "y=2", "--settings", "a=1"]),
        (["--seeds=3", "--json"], ["--seeds=3", "--json"]),
    ],
)  # fmt: skip
def test_all_ways_of_writing_become_one(words, expected):
    assert normalize(words, Compare) == expected


@pytest.mark.parametrize(
    ("argv", "suggestion"),
    [
        (["compare", "--modles", "gcn"], "did you mean --models?"),
        (["train", "graphs", "--epoch", "3"], "did you mean --epochs?"),
        (["list", "models", "--jsn"], "did you mean --json?"),
        (["report", "--qqqqqqqq"], "--help lists those that there are"),
    ],
)
def test_a_mistyped_option_is_suggested_in_one_line(argv, suggestion, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert suggestion in error


@pytest.mark.parametrize(
    "words", [["dim=30", "count=5"], ["dim=30,count=5"], ["dim=30", "--regularizer-options=count=5"]]
)
def test_options_have_one_syntax(words):
    command = parse(["train", "graphs", "--regularizer", "rp-comhe", "--regularizer-options", *words])
    options = command.named_recipe().regularizer_options
    assert (options["dim"], options["count"]) == (30, 5)


def test_options_of_a_model_have_the_same_syntax():
    words = [["num_layers=3", "dropout=0.1"], ["num_layers=3,dropout=0.1"], ["num-layers=3", "dropout=0.1"]]
    found = [parse(["train", "graphs", "--model-options", *each]).named_recipe().model_options for each in words]
    assert found == [{"num_layers": 3, "dropout": 0.1}] * 3


def test_an_option_takes_one_value_in_a_training():
    with pytest.raises(UsageError, match="dim takes one value here"):
        parse(["train", "graphs", "--regularizer", "rp-comhe", "--regularizer-options", "dim=30,40"]).named_recipe()


@pytest.mark.parametrize("words", ["kinds=conv,linear", "exclude=fc,stem.*", "include=a,b dim=8", "output=fc,head"])
def test_options_that_take_several_names(words):
    recipe = parse(["train", "images", "--regularizer", "rp-comhe", "--regularizer-options", words]).named_recipe()
    name, _, value = words.split()[0].partition("=")
    assert recipe.regularizer_options[name] == value


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "graphs", "--epochs", "three"], "--epochs must be a whole number, not 'three'"),
        (["train", "graphs", "--energies=1.5"], "--energies must be a whole number, not '1.5'"),
        (["train", "graphs", "--lr=fast"], "--lr must be a number, not 'fast'"),
        (["compare", "--jobs", "many"], "--jobs must be a whole number, not 'many'"),
        (["compare", "--cluster", "slum"], "--cluster must be slurm, local or debug, not 'slum'"),
        (["evaluate", "gcn", "--weights", "a.pth"], "--weights must be last or best, not 'a.pth'; a file"),
        (["train", "graphs", "--epochs"], "--epochs needs a value"),
        (["train", "graphs", "cora"], "cora: a word too many"),
        (["show", "recipe", "kipf", "more", "words"], "more words: words too many"),
        (["energy"], "WEIGHTS is missing: a run folder"),
        (["list"], "WHAT is missing: models, datasets, regularizers, recipes or weights"),
        (["list", "modls"], "WHAT must be models, datasets, regularizers, recipes or weights, not 'modls'"),
        (["reproduce"], "TABLE is missing: gcn"),
        (["reproduce", "gcn", "--results"], "--results needs a value"),
        (["train", "graphs", "--tag", "-x"], "--tag needs a value; one that begins with a dash is written --tag=-x"),
        (["publish", "a"], "--output is missing: folder"),
        (["report", "-a"], "unknown option -a"),
        (["train", "images", "--no-nesterov=True"], "--no-nesterov is given alone"),
        (["reproduce", "-1"], "unknown table '-1'"),
    ],
)
def test_what_a_command_does_not_take_is_one_line(argv, message, capsys):
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"comhe: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["reproduce", "--settings", "weight=1", "gcn"], "table", "gcn"),
        (["reproduce", "--results", "a.csv", "b.csv", "gcn"], "table", "gcn"),
        (["reproduce", "--results", "a.csv", "--", "gcn"], "table", "gcn"),
        (["evaluate", "--model-options", "num_layers=3", "run"], "source", "run"),
        (["evaluate", "--", "-a"], "source", "-a"),
        (["predict", "a", "--", "-b", "--top"], "files", ("-b", "--top")),
        (["report", "a", "--overwrite", "b"], "sources", (Path("a"), Path("b"))),
        (["report", "-opage.html", "a"], "output", Path("page.html")),
    ],
)
def test_words_stand_anywhere(argv, field, value):
    assert getattr(parse(argv), field) == value


def test_values_that_look_odd_are_taken():
    command = parse(["compare", "--jobs", "None", "--cluster", "None", "--settings", "weight=1", "--seeds", "3"])
    assert (command.jobs, command.cluster, command.seeds) == (None, None, 3)
    assert parse(["train", "graphs", "--weight", "1e-3", "--lr", "1"]).named_recipe().weight == 1e-3


@pytest.mark.parametrize("command", [*COMMANDS, train_command("images")], ids=lambda command: command.__name__)
def test_every_option_has_help(command):
    flags = flags_of(command)
    assert all(flag.about is not None and flag.about.help for flag in flags), [f.field for f in flags if not f.about]
    names = [name for flag in flags for name in flag.names]
    assert len(names) == len(set(names))
