from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg
from tyro.extras import SubcommandApp

from comhe.train.docstrings import first_sentence

from .options import Command
from .train import Train, train_command, training_domains


@dataclass(frozen=True, kw_only=True)
class Completion(Command):
    """Print a script with which a shell completes commands, options and names.

    Source it in the shell, or where your shell begins. Names of your own modules are not in it.
    """

    examples = (
        "source <(comhe completion bash)",
        "comhe completion bash >> ~/.bashrc",
        "comhe completion zsh > ~/.zfunc/_comhe",
        "comhe completion fish > ~/.config/fish/completions/comhe.fish",
    )
    commands: ClassVar[tuple[type[Command], ...]] = ()  # all others

    shell: Annotated[Positional[Literal["bash", "zsh", "fish", "tcsh"]], arg(help="which shell the script is for")]

    def run(self) -> None:
        app, training = SubcommandApp(), SubcommandApp()
        for domain in training_domains():
            training.command(name=domain)(train_command(domain, completed=True))
        app.command(training, name="train", help=first_sentence(Train.__doc__))
        for command in self.commands:
            app.command(name=command.__name__.lower(), help=first_sentence(command.__doc__))(command)
        config = (OmitArgPrefixes, OmitSubcommandPrefixes)
        app.cli(prog="comhe", args=["--tyro-print-completion", self.shell], config=config)
