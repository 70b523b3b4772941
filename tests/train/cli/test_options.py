import pytest

from comhe.errors import UsageError
from comhe.train import Cluster
from comhe.train.cli.main import COMMANDS
from comhe.train.cli.options import Command, ManyRuns


def test_every_command_is_one():
    assert all(issubclass(command, Command) for command in COMMANDS)
    assert ManyRuns().settings == ()
    with pytest.raises(NotImplementedError):
        Command().run()


def test_options_about_jobs_become_a_cluster():
    assert ManyRuns().jobs_of_cluster() is None
    options = ("partition=gpu", "time=30", "setup=module load cuda")
    command = ManyRuns(cluster="slurm", cluster_options=options, per_job=4, submit_only=True)
    chosen = {"partition": "gpu", "time": 30, "setup": "module load cuda"}
    assert command.jobs_of_cluster() == Cluster("slurm", chosen, per_job=4, wait=False)


@pytest.mark.parametrize("options", [{"per_job": 2}, {"submit_only": True}, {"cluster_options": ("time=3",)}])
def test_options_about_jobs_need_a_cluster(options):
    with pytest.raises(UsageError, match="name a --cluster as well"):
        ManyRuns(**options).jobs_of_cluster()
