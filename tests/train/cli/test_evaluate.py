import json

from comhe.train.cli.main import main
from comhe.train.runs.run import Run, run_folder


def test_a_run_is_evaluated_again(finished, capsys):
    recipes, folder, _ = finished
    run = Run(run_folder(folder, recipes[2]))
    for which in ("best", "last"):
        assert main(["evaluate", str(run.folder), "--weights", which]) == 0
        accuracy = 100 * run.result()[which]["test_accuracy"]
        assert f"citations test: accuracy {accuracy:.2f} %" in capsys.readouterr().out


def test_pretrained_weights_have_the_metrics_of_their_card(capsys):
    assert main(["evaluate", "gcn.citations-rp-comhe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.endswith(", as its card says") for line in lines)


def test_figures_for_a_script(capsys):
    assert main(["evaluate", "gcn.citations-rp-comhe", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"] == "citations"
    assert all(found["metrics"][split]["accuracy"] == found["card"][split]["accuracy"] for split in ("val", "test"))
