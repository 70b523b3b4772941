from comhe.train.cli.console import epoch_progress, metrics_text, print_table, run_progress

ROW = {"epoch": 0, "loss": 1.5, "penalty": 0.25, "val_accuracy": 0.5}


def test_progress_in_a_pipe_is_lines(capsys):
    with run_progress("many") as report:
        report(1, 2, "gcn.cora-none seed 0")
        report(2, 2, "failed: gcn.cora-none seed 1: why")
    with epoch_progress("one") as report:
        report(ROW, 1)
    with epoch_progress("silent", shown=False) as report:
        report(ROW, 1)
    shown = capsys.readouterr().out
    assert "many  1/2 runs, latest gcn.cora-none seed 0" in shown
    assert "failed: gcn.cora-none seed 1: why" in shown
    assert f"one  epoch 1/1  {metrics_text(ROW)}" in shown
    assert "silent" not in shown


def test_a_table_in_a_pipe_is_as_wide_as_it_needs(capsys):
    print_table("title", ["model", "figure"], [["m" * 120, "x" * 60]])
    shown = capsys.readouterr().out
    assert "m" * 120 in shown
    assert "x" * 60 in shown
