"""Tests and notebooks run in the strict environment, whatever the caller's own is."""

import atexit
import json
import os
import tempfile
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

from cifake_utils.support.strict import use_strict_environment

# The processes that pytest-xdist starts inherit this environment, and so share one folder: what one of them has
# computed or trained, the others find there.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _runs = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    atexit.register(_runs.cleanup)
    use_strict_environment(os.environ, Path(_runs.name))
    os.environ["ACCELERATE_USE_CPU"] = "true"  # tests go through all profiles, but a process keeps one device

# Tests that start processes of their own; with the lessons whose metadata say so they take most memory.
LARGE_TESTS = ("test_browser.py", "test_distributed.py", "test_training.py")
ORDER = ("large", "light", "usual")


@cache
def memory(path: Path) -> str:
    """Return how much memory a file of tests takes: ``"large"``, ``"light"`` or ``"usual"``.

    A lesson says it itself, in ``metadata.cifake.memory`` of its notebook.
    """
    if path.suffix == ".ipynb":
        return json.loads(path.read_bytes())["metadata"].get("cifake", {}).get("memory", "usual")
    return "large" if path.name in LARGE_TESTS else "usual"


def pytest_configure(config):
    """Compare printed numbers of notebooks as far as all machines agree."""
    if hasattr(config.option, "nbval_sanitize_with"):
        config.option.nbval_sanitize_with = str(config.rootpath / "tests" / "digits.cfg")


def pytest_collection_modifyitems(items):
    """Put large files first, with which one process starts, then light ones, with which the other process starts."""
    items.sort(key=lambda item: ORDER.index(memory(item.path)))


class WholeFiles(LoadFileScheduling):
    """Keeps every file in one process, and all large ones in the same, so that none runs beside another."""

    def _split_scope(self, nodeid: str) -> str:
        path = super()._split_scope(nodeid)
        return "large" if memory(self.config.rootpath / path) == "large" else path


def pytest_xdist_make_scheduler(config, log):
    return WholeFiles(config, log)
