import pytest

from comhe.train.cli.main import COMMANDS
from comhe.train.cli.options import Command, ManyRuns


def test_every_command_is_one():
    assert all(issubclass(command, Command) for command in COMMANDS)
    assert ManyRuns().settings == ()
    with pytest.raises(NotImplementedError):
        Command().run()
