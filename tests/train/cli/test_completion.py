import shutil
import subprocess

import pytest

from comhe.train.cli.main import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_knows_commands_options_and_names(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("compare", "reproduce", "show", "--regularizers", "print-commands", "rp-comhe", "resnet20", "cora"):
        assert word in script
    if shell == "bash" and shutil.which("bash"):
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
