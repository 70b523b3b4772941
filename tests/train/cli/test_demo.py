from comhe.train.cli import demo
from comhe.train.cli.main import parse


def test_the_commands_of_the_demo_are_understood(monkeypatch):
    commands = []
    monkeypatch.setattr(demo, "comhe", lambda argv: commands.append(parse(argv)) or 0)
    assert demo.main() == 0
    assert [command.models for command in commands] == ["gcn", "pointnet", "resnet8"]
    monkeypatch.setattr(demo, "comhe", lambda argv: 3)
    assert demo.main() == 3
