from comhe.train.cli.main import main


def test_a_data_set_is_described(capsys):
    assert main(["data", "citations"]) == 0
    assert "2500" in capsys.readouterr().out
