import sys
from importlib.metadata import EntryPoint

import pytest

from comhe.errors import UsageError
from comhe.train import plugins
from comhe.train.plugins import load_plugins


def test_a_module_of_the_current_folder_is_imported(tmp_path, monkeypatch):
    (tmp_path / "my_comhe_plugin.py").write_text("imported = True\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    load_plugins(["my_comhe_plugin"])
    assert sys.modules.pop("my_comhe_plugin").imported
    assert sys.path == before


@pytest.mark.parametrize("name", ["no_such_module", "./my_module", "my_module.py", ""])
def test_a_module_that_does_not_exist(name):
    with pytest.raises(UsageError, match="module"):
        load_plugins([name])


def test_a_bug_in_a_module_keeps_its_traceback(tmp_path, monkeypatch):
    (tmp_path / "my_broken_plugin.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError):
        load_plugins(["my_broken_plugin"])


def test_installed_plugins_are_modules_or_functions(monkeypatch):
    called = []
    monkeypatch.setattr(sys.modules[__name__], "register", lambda: called.append(True), raising=False)
    monkeypatch.setitem(sys.modules, "my_installed_plugin", sys.modules[__name__])
    entries = [
        EntryPoint("module", "my_installed_plugin", plugins.GROUP),
        EntryPoint("function", "my_installed_plugin:register", plugins.GROUP),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    plugins._load_installed.cache_clear()
    try:
        load_plugins()
        load_plugins()
        assert called == [True]
        entries.append(EntryPoint("broken", "no_such_module", plugins.GROUP))
        plugins._load_installed.cache_clear()
        with pytest.raises(UsageError, match="plugin broken"):
            load_plugins()
    finally:
        plugins._load_installed.cache_clear()


def test_what_is_imported_is_known_by_its_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "sources", {})
    package = tmp_path / "my_noted_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "my_noted_module.py").write_text("")
    names, digests = ["my_noted_module", "my_noted_package"], []
    for text in ("a = 1\n", "a = 2\n"):
        for file in (tmp_path / "my_noted_module.py", package / "parts.py"):
            file.write_text(text)
        plugins.sources.clear()
        load_plugins(names)
        assert [*plugins.sources] == names
        digests += plugins.sources.values()
        for name in names:
            del sys.modules[name]
    assert digests[0] != digests[2]
    assert digests[1] != digests[3]
