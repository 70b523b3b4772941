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
