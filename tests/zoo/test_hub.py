"""Weights in repositories, from and to a server on this machine that answers as the Hugging Face Hub does."""

import json
import os
import subprocess
import sys

import pytest

from comhe.errors import MissingPackageError, UsageError, WeightsError
from comhe.train.cli import main as cli
from comhe.zoo import create_model, get_weights, hub, load_weights, push_to_hub, save_pretrained

from .conftest import message_of, same
from .loopback import loopback

constants = pytest.importorskip("huggingface_hub.constants")
file_download = pytest.importorskip("huggingface_hub.file_download")
NAME = "gcn.citations-none"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What a repository contains."""
    folder = tmp_path_factory.mktemp("saved")
    save_pretrained(NAME, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def server(monkeypatch, tmp_path):
    with loopback() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        template = found.address + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # older versions have a copy in the second one
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield found


def test_a_repository_is_loaded_by_its_name(server, files):
    commit = server.commit("me/net", files)
    expected = get_weights(NAME).state_dict()
    weights = get_weights("hf-hub:me/net")
    assert repr(weights) == f"get_weights('hf-hub:me/net@{commit}')"
    assert not any(path.endswith(".safetensors") for _, path in server.requests), "a card is enough to look at"
    assert same(weights.state_dict(), expected)
    model = create_model("hf-hub:me/net")
    assert same(model, expected)
    assert same(create_model("gcn", weights="hf-hub:me/net"), expected)
    load_weights(model, "hf-hub:me/net")
    assert create_model("hf-hub:me/net", num_classes=2, swap_head=True).num_classes == 2
    assert "gat" in message_of(create_model, "gat", weights="hf-hub:me/net")


def test_a_revision_is_a_branch_or_a_commit(server, files, tmp_path):
    old = server.commit("me/net", files)
    save_pretrained("gcn.citations-rp-comhe", tmp_path / "new")
    server.commit("me/net", {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}, "refs-pr-1")
    assert get_weights("hf-hub:me/net@refs-pr-1").name == "gcn.citations-rp-comhe"
    assert get_weights("hf-hub:me/net").name == get_weights(f"hf-hub:me/net@{old}").name == NAME


def test_card_and_weights_are_of_one_commit(server, files):
    """A commit between the two downloads changes nothing."""
    server.commit("me/net", files)
    weights = get_weights("hf-hub:me/net")
    server.commit("me/net", {"model.safetensors": b"newer"})
    assert same(weights.state_dict(), get_weights(NAME).state_dict())
    assert "truncated or altered" in message_of(create_model, "hf-hub:me/net")


def test_what_was_loaded_once_needs_no_network(server, files, monkeypatch):
    server.commit("me/net", files)
    expected = create_model("hf-hub:me/net").state_dict()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(create_model("hf-hub:me/net"), expected)
    text = message_of(create_model, "hf-hub:me/other")
    assert text.startswith(f"hf-hub:me/other: model.json is not in the cache, and {server.address} cannot be reached (")
    assert "HF_HUB_OFFLINE" in text
    assert text.endswith("or give a folder: local-dir:PATH")


def test_a_damaged_file_in_the_cache_is_named_and_replaced(server, files):
    server.commit("me/net", files)
    path = get_weights("hf-hub:me/net")._file().resolve()
    path.write_bytes(path.read_bytes()[:-1])
    text = message_of(create_model, "hf-hub:me/net")
    assert text.startswith(f"{path}: truncated or altered")
    path.unlink()
    create_model("hf-hub:me/net")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (
            "hf-hub:me/absent",
            "has no such repository, or no access to it for you; check the name; if it is private, log in",
        ),
        ("hf-hub:me/gated", "its owner gives access on request; ask for it at http"),
        ("hf-hub:me/net@absent", "there is no branch, tag or commit absent; http"),
        ("hf-hub:me/timm", "the repository has no model.json; only repositories that push_to_hub wrote"),
        ("hf-hub:me/half", "the repository has no model.safetensors"),
        ("hf-hub:me/nocard", "model.json: not a card: it lacks"),
    ],
)
def test_an_error_says_what_to_do(server, files, name, part):
    server.commit("me/net", files)
    server.commit("me/timm", {"config.json": b"{}", "model.safetensors": b""})
    server.commit("me/half", {"model.json": files["model.json"]})
    server.commit("me/nocard", files | {"model.json": b"{}"})
    server.gated.add("me/gated")
    with pytest.raises(WeightsError) as error:
        create_model(name)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:a b/c", "hf-hub:a/b/c", "hf-hub:../x/y", "hf-hub:a/b@"])
def test_what_cannot_be_a_repository_is_not_asked_for(server, name):
    with pytest.raises(UsageError, match="write hf-hub:OWNER/NAME"):
        create_model(name)
    assert server.requests == []


def test_other_arguments_do_not_go_with_a_repository(server):
    for options in ({"weights": "gcn.cora-none"}, {"key": "ema"}):
        with pytest.raises(UsageError, match=f"leave {next(iter(options))} out"):
            create_model("hf-hub:me/net", **options)


def test_what_is_pushed_is_loaded_by_the_name_that_is_returned(server):
    name = push_to_hub(NAME, "me/new", token="secret", private=True)
    assert name == f"hf-hub:me/new@{server.branches['me/new', 'main']}"
    assert same(create_model(name), get_weights(NAME).state_dict())
    first = name
    push_to_hub("gcn.citations-rp-comhe", "me/new", token="secret")
    assert get_weights("hf-hub:me/new").name == "gcn.citations-rp-comhe"
    assert get_weights(first).name == NAME
    push_to_hub(NAME, "hf-hub:me/new@trial", token="secret")
    assert get_weights("hf-hub:me/new@trial").name == NAME
    assert get_weights("hf-hub:me/new").name == "gcn.citations-rp-comhe"
    pushed = server.commits[server.branches["me/new", "main"]]
    assert set(pushed) == {".gitattributes", "README.md", "config.json", "model.json", "model.safetensors"}
    assert b'create_model("hf-hub:me/new")' in pushed["README.md"]
    assert json.loads(pushed["config.json"])["architecture"] == "gcn"


def test_pushing_without_an_account_says_how_to_log_in(server):
    text = message_of(push_to_hub, NAME, "me/new")
    assert text.startswith("hf-hub:me/new: ")
    assert "log in with `hf auth login`" in text
    assert "hf auth login" in message_of(push_to_hub, NAME, "me/new", token="wrong")


def test_without_huggingface_hub_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: create_model("hf-hub:me/net"), lambda: push_to_hub(NAME, "me/net")):
        with pytest.raises(MissingPackageError, match=r"needs huggingface_hub, .* pip install 'comhe\[hub\]'"):
            call()
    assert hub.split_name("hf-hub:gpt2") == ("gpt2", None)


def test_commands_take_the_same_names(server, files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server.commit("me/net", files)
    for path, data in files.items():
        (tmp_path / path).write_bytes(data)
    for name in ("hf-hub:me/net", f"local-dir:{tmp_path}"):
        for words in (["evaluate", name], ["predict", name, "citations"], ["energy", name]):
            assert cli.main(words) == 0, capsys.readouterr().err
        shown = capsys.readouterr().out
        assert "as its card says" in shown
        assert "convs.0.lin" in shown
    train = ["train", "graphs", "--model", "gcn", "--data", "citations", "--regularizer", "none", "--epochs", "1"]
    train += ["--weights", "hf-hub:me/net"]
    assert cli.main(train) == 0, capsys.readouterr().err
    (recipe,) = tmp_path.glob("runs/**/recipe.json")
    assert json.loads(recipe.read_text())["weights_digest"] == get_weights(NAME).card["sha256"][:12]


@pytest.mark.long
def test_the_variables_of_huggingface_hub_are_heeded(server, files, tmp_path):
    server.commit("me/net", files)
    code = "from comhe.zoo import get_weights; print(len(get_weights('hf-hub:me/net').state_dict()))"
    variables = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables)
    assert done.stdout == "4\n", done.stderr
    assert list((tmp_path / "home").rglob("model.safetensors"))
