import os
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata

import psutil
import pytest

from cifake_utils import check, profiles
from cifake_utils.__main__ import main
from cifake_utils.support import packages

PYPROJECT = tomllib.loads((profiles.PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def requirements(monkeypatch):
    """Function that sets what the installed package says it needs."""
    return lambda *found: monkeypatch.setattr(metadata, "requires", lambda name: list(found))


def found(findings, subject):
    (finding,) = (finding for finding in findings if finding.subject == subject)
    return finding


def test_sample_runs_here_and_the_command_says_so(runs, capsys):
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "warning") for line in lines)
    assert any(line.startswith("ok       CIFAKE") and str(runs / "cifake") in line for line in lines)
    assert (runs / "sample").is_dir() and not any((runs / "sample").iterdir())


def test_missing_images_stop_only_profiles_that_need_them(runs, monkeypatch, capsys):
    monkeypatch.delenv("CIFAKE_DATA", raising=False)
    assert main(["--profile", "lesson", "check"]) == 1
    assert f"problem  CIFAKE                 There are no images at {runs / 'cifake'}" in capsys.readouterr().out


def test_images_are_counted_where_they_are(tree):
    finding = found(check.examine(profiles.PROFILES["small"]), "small")
    assert finding.status == "ok" and finding.text.startswith(f"400 in train, 80 in test, at {tree}")


def test_weights_that_cannot_be_read_are_a_problem(tree, monkeypatch, tmp_path):
    monkeypatch.setenv("CIFAKE_WEIGHTS", str(tmp_path / "none.safetensors"))
    finding = found(check.examine(profiles.PROFILES["full"]), "weights")
    assert finding.status == "problem" and "none.safetensors" in finding.text


def test_weights_that_will_be_downloaded_are_a_warning(tree, monkeypatch, tmp_path):
    monkeypatch.delenv("CIFAKE_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert found(check.examine(profiles.PROFILES["full"]), "weights").status == "warning"
    path = check.weights.downloaded_file()
    path.parent.mkdir(parents=True)
    path.touch()
    finding = found(check.examine(profiles.PROFILES["full"]), "weights")
    assert finding.status == "ok" and str(path) in finding.text


def test_runs_that_cannot_be_written_are_a_problem(runs, capsys):
    runs.write_text("a file in the way")
    assert main(["check"]) == 1
    assert "problem  runs" in capsys.readouterr().out


def test_a_precision_that_the_device_lacks_is_a_problem(runs, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    finding = found(check.examine(profiles.active()), "device")
    assert finding.status == "problem" and "fp8" in finding.text


def test_a_runs_folder_that_cannot_be_entered_is_a_problem(runs, monkeypatch):
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    finding = found(check.examine(profiles.active()), "disk")
    assert finding.status == "problem" and str(profiles.active().runs) in finding.text


def test_a_gpu_that_reports_an_error_is_a_problem(runs, monkeypatch):
    def broken(self):
        raise RuntimeError("CUDA unknown error")

    monkeypatch.setattr(profiles.Profile, "accelerator", broken)
    finding = found(check.examine(profiles.active()), "device")
    assert finding.status == "problem" and "CUDA unknown error" in finding.text


def test_a_reader_of_the_output_that_stops_early_is_no_error(runs):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [sys.executable, "-m", "cifake_utils", "data", "info"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_little_memory_or_disk_is_a_warning(runs, monkeypatch):
    little = psutil.virtual_memory()._replace(available=10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    usage = shutil.disk_usage(runs.parent)._replace(free=10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    findings = check.examine(profiles.active())
    for subject, numbers in (("memory", "1.0 GB of"), ("disk", "0.1 GB")):
        finding = found(findings, subject)
        assert finding.status == "warning" and finding.text.startswith(numbers)


def test_without_a_clone_the_lessons_are_a_warning(runs, monkeypatch):
    monkeypatch.setattr(profiles, "PROJECT", None)
    finding = found(check.examine(profiles.active()), "lessons")
    assert finding.status == "warning" and "clone" in finding.text


def test_a_missing_browser_is_a_warning(runs, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert found(check.examine(profiles.active()), "browser").status == "warning"


def test_packages_too_old_or_missing_are_named_with_their_extra(requirements, runs):
    requirements("numpy>=1000", "no-such-package>=2", 'nothing>=3; extra == "lessons"', 'tests>=4; sys_platform == "?"')
    old, missing = packages.problems()
    assert old == f"numpy {metadata.version('numpy')} is installed; expected >=1000."
    assert missing == "no-such-package is not installed; expected >=2."
    assert packages.problems("lessons") == ["nothing is not installed; expected >=3."]
    finding = found(check.examine(profiles.active()), "packages of lessons")
    assert finding.status == "warning" and "cifake-utils[lessons]" in finding.text


def test_every_command_stops_where_a_needed_package_is_missing(requirements):
    assert packages.unusable() is None
    requirements("numpy>=1000")
    assert packages.unusable() is None  # too old may work; `check` says so
    requirements("numpy", "no-such-package>=2")
    assert packages.unusable().startswith("no-such-package is not installed; expected >=2. `python -m pip install")


def test_an_old_python_is_named(monkeypatch):
    assert PYPROJECT["requires-python"] == ">=" + ".".join(map(str, packages.OLDEST_PYTHON))
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert packages.unusable().endswith("Expected 3.11 or newer: make a new environment with it.")


def test_without_any_package_the_command_line_says_what_to_do():
    """``-S`` hides all that is installed."""
    run = subprocess.run(
        [sys.executable, "-S", "-m", "cifake_utils", "check"], cwd=profiles.PROJECT, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.startswith("The package packaging is not installed. `python -m pip install -r requirements.txt")
