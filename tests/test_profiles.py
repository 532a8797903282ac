import sys
from pathlib import Path

import pytest

from cifake_utils import CifakeError, profiles
from cifake_utils.__main__ import main


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """As if the package were installed from a wheel, and started in an empty folder."""
    monkeypatch.setattr(profiles, "PROJECT", None)
    monkeypatch.delenv("CIFAKE_RUNS")
    monkeypatch.chdir(tmp_path)


def test_a_clone_is_known_by_its_project_file(tmp_path):
    assert profiles._checkout(Path(__file__).parent.parent) == profiles.PROJECT
    project = tmp_path / "pyproject.toml"
    assert profiles._checkout(tmp_path) is None
    for text in ("[tool.ruff]", "[", '[project]\nname = "another"', "project = 1"):
        project.write_text(text, encoding="utf-8")
        assert profiles._checkout(tmp_path) is None
    project.write_bytes(b"\xff")
    assert profiles._checkout(tmp_path) is None


def test_in_a_clone_runs_and_relative_paths_stay_in_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIFAKE_RUNS", "elsewhere")
    assert profiles.runs_folder() == profiles.PROJECT / "elsewhere"
    monkeypatch.delenv("CIFAKE_RUNS")
    assert profiles.runs_folder() == profiles.PROJECT / "runs"


def test_without_a_clone_runs_go_to_the_users_cache(wheel, monkeypatch, tmp_path):
    monkeypatch.setattr(profiles.platformdirs, "user_cache_path", lambda name, appauthor: tmp_path / "caches" / name)
    assert profiles.runs_folder() == tmp_path / "caches" / "cifake"
    monkeypatch.setenv("CIFAKE_RUNS", "mine")
    assert profiles.runs_folder() == tmp_path / "mine"


def test_without_a_clone_there_are_no_notebooks_to_run(wheel, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "cifake_utils.lessons.series", raising=False)
    monkeypatch.delattr("cifake_utils.lessons.series", raising=False)
    assert main(["run"]) == 1
    assert "clone the repository" in capsys.readouterr().err


def test_a_folder_of_an_unknown_user_is_refused(monkeypatch):
    def unknown(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    monkeypatch.setenv("CIFAKE_DATA", "~nobody/cifake")
    with pytest.raises(CifakeError, match=r"CIFAKE_DATA is '~nobody/cifake'.*absolute path"):
        profiles.folder_from("CIFAKE_DATA")
