"""Where the store is looked for."""

import os

import pytest

from kvengine.cli.arguments import default_data_folder


def test_the_default_folder_follows_the_xdg_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_DATA_HOME", "/var/data")
    assert default_data_folder() == "/var/data/kvengine"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_DATA_HOME", ignored)
        assert default_data_folder() == "/home/someone/.local/share/kvengine"


def test_the_option_wins_over_the_environment(run, data: str) -> None:
    run("put", "key", "of the environment")
    run("put", "--data", data + "2", "key", "of the option")
    assert run("get", "key").stdout == "of the environment"
    assert run("get", "key", "--data", data + "2").stdout == "of the option"


def test_without_either_the_default_is_used(
    run, environment: dict[str, str], tmp_path: os.PathLike[str]
) -> None:
    environment["KVENGINE_DATA_DIR"] = ""
    environment["XDG_DATA_HOME"] = str(tmp_path)
    assert run("put", "key", "value").exit_code == 0
    assert run("get", "key", "--data", os.path.join(tmp_path, "kvengine")).stdout == "value"
