"""Check everything that can keep the lessons from running, and say what to do about it."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import psutil

from cifake_utils import CifakeError, data_sets, profiles, records, sources, weights
from cifake_utils.support import packages
from cifake_utils.support.files import writable

BROWSERS = ("chromium", "chromium-browser", "google-chrome")  # for the tests that use a lesson in a browser
GIGABYTE = 10**9
Status = Literal["ok", "warning", "problem"]
# Decoding all of CIFAKE took up to 2.1 GB (benchmarks/loading.json).
MEMORY = 2.1 * GIGABYTE
# The images of all of CIFAKE take 0.4 GB, and their features 1 GB for each frozen backbone (benchmarks/growth.json).
# The rest is for downloads and checkpoints, which have not been measured.
DISK = {"sample": 1 * GIGABYTE, "lesson": 2 * GIGABYTE, "full": 8 * GIGABYTE}


@dataclass(frozen=True)
class Finding:
    """What was found about one part of the environment.

    Attributes
    ----------
    status : {"ok", "warning", "problem"}
        A problem stops the active profile. A warning may stop something else, or slow it down.
    subject : str
    text : str
        What was found and, unless it is ok, what to do.
    """

    status: Status
    subject: str
    text: str


def examine(profile: profiles.Profile) -> list[Finding]:
    """Return what was found about every part of the environment that a profile depends on. Downloads nothing."""
    return [
        Finding("ok", "Python", f"{platform.python_version()} on {platform.system()}, {sys.executable}"),
        *_packages(),
        _memory(),
        _attempt("runs", lambda: f"{writable(profile.runs)} can be written to"),
        _disk(profile),
        _attempt("device", lambda: _device(profile)),
        _images(profile),
        _weights(profile),
        _notebooks(),
        *_browser(),
    ]


def report(findings: list[Finding]) -> str:
    """Return findings as text, one line for each."""
    return "\n".join(f"{found.status:<8} {found.subject:<22} {found.text}" for found in findings)


def _attempt(subject: str, look: Callable[[], str], otherwise: Status = "problem") -> Finding:
    """Return the text of ``look`` as ok. If it raises a `CifakeError`, return that with the status ``otherwise``."""
    try:
        return Finding("ok", subject, look())
    except CifakeError as error:
        return Finding(otherwise, subject, str(error))


def _packages() -> list[Finding]:
    findings = []
    for extra in (None, *packages.extras()):
        subject = f"packages of {extra}" if extra else "packages"
        problems = packages.problems(extra)
        needed = f"Only the {extra} need them: " if extra else ""
        install = f'`python -m pip install "{packages.PROJECT}[{extra}]"`' if extra else packages.INSTALL
        # Missing packages need no line here, since the command line stops before this.
        text = f"{' '.join(problems)} {needed}{install}." if problems else "all installed, none too old"
        findings.append(Finding("warning" if problems else "ok", subject, text))
    return findings


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    text = f"{memory.available / GIGABYTE:.1f} GB of {memory.total / GIGABYTE:.1f} GB are free"
    if memory.available < MEMORY:
        text += f"; decoding all of CIFAKE took {MEMORY / GIGABYTE:.1f} GB. Close other programs."
        return Finding("warning", "memory", text)
    return Finding("ok", "memory", text)


def _disk(profile: profiles.Profile) -> Finding:
    existing = next((folder for folder in (profile.runs, *profile.runs.parents) if os.path.isdir(folder)), None)
    if existing is None:
        return Finding("problem", "disk", f"{profile.runs} can't be reached. Set CIFAKE_RUNS to another folder.")
    free, wanted = shutil.disk_usage(existing).free, DISK.get(profile.name, max(DISK.values()))
    text = f"{free / GIGABYTE:.1f} GB are free at {existing}"
    if free < wanted:
        text += f"; the profile {profile.name} should have {wanted / GIGABYTE:.0f} GB. "
        text += "Free some space, or set CIFAKE_RUNS to a folder on another disk."
        return Finding("warning", "disk", text)
    return Finding("ok", "disk", text)


def _device(profile: profiles.Profile) -> str:
    try:
        accelerator = profile.accelerator()
        name = records.hardware(accelerator.device)
    except RuntimeError as error:  # of a driver
        raise CifakeError(f"The GPU can't be used: {error}") from error
    device, precision = accelerator.device, accelerator.mixed_precision
    return f"{device.type} ({name}), {'float32' if precision == 'no' else f'{precision} autocast'}"


def _images(profile: profiles.Profile) -> Finding:
    declared = data_sets.get(profile.data)

    def look() -> str:
        folder = declared.folder()
        counts = ", ".join(f"{len(found):,} in {part}" for part, found in sources.entries(folder).items())
        return f"{counts}, at {folder}. `python -m cifake_utils data verify` checks every image"

    if declared is not data_sets.SAMPLE:
        return _attempt(declared.name, look)
    looked = profiles.folder_from("CIFAKE_DATA") or data_sets.download_folder()
    where = "found at" if os.path.isdir(looked) else "not found at"
    return Finding("ok", "CIFAKE", f"not needed: the profile sample has its own images ({where} {looked})")


def _weights(profile: profiles.Profile) -> Finding:
    local, downloaded = profiles.folder_from("CIFAKE_WEIGHTS"), weights.downloaded_file()
    if profile.pretrained == "offline":
        return _attempt("weights", lambda: weights.load_offline().name)
    if local:
        return _attempt("weights", lambda: f"{len(weights.read_file(local))} tensors in {local}")
    if downloaded.exists():
        return Finding("ok", "weights", f"ResNet50 of torchvision, at {downloaded}")
    text = "ResNet50 of torchvision is downloaded when a lesson needs it first. Where there is no network then, set"
    return Finding("warning", "weights", f"{text} CIFAKE_WEIGHTS to a file.")


def _notebooks() -> Finding:
    return _attempt(
        "lessons",
        lambda: f"{len(list(profiles.notebooks().glob('*.ipynb')))} notebooks in {profiles.notebooks()}",
        otherwise="warning",
    )


def _browser() -> list[Finding]:
    """Return whether the tests in a browser can run; no finding if packages of the tests are missing."""
    if packages.problems("tests"):
        return []
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return [Finding("ok", "browser", f"{found}, for the tests in a browser")]
    text = (
        f"none of {', '.join(BROWSERS)} is on the PATH. The tests in a browser are skipped without it; see "
        "CONTRIBUTING.md. (Chromium of Playwright's own is used too, but not looked for here.)"
    )
    return [Finding("warning", "browser", text)]
