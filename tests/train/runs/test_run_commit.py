"""What says which code a run was made with: the checkout's commit, the one that was installed from, or the version."""

import re
import subprocess
from types import SimpleNamespace

import pytest

import comhe
from comhe.train.runs import run
from comhe.train.runs.run import commit, environment

VERSION = f"version {comhe.__version__}"


def test_an_environment_has_version_and_commit():
    assert environment()["comhe"] == comhe.__version__
    assert environment()["commit"] == commit()


def test_without_git_the_version_stands_for_the_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit() == VERSION


def test_the_repository_around_an_installed_package_is_not_its_own(monkeypatch, tmp_path):
    """A virtual environment lies in the checkout of the project that uses it."""
    for words in (["init", "-q"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", "--allow-empty"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(run, "__file__", str(tmp_path / "run.py"))
    assert commit() == VERSION
    (tmp_path / "run.py").write_text("")
    subprocess.run(["git", "add", "run.py"], cwd=tmp_path, check=True)
    assert re.fullmatch("[0-9a-f]{7,}-dirty", commit())


@pytest.mark.parametrize("text", ['{"vcs_info": {"commit_id": "8f6bf84"}}', '{"dir_info": {}}', "{", None])
def test_an_install_from_a_repository_knows_its_commit(monkeypatch, text):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(run, "distribution", lambda name: SimpleNamespace(read_text=lambda file: text))
    assert commit() == ("8f6bf84" if text and "commit_id" in text else VERSION)
