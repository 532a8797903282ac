"""Tests and notebooks run in the strict environment, whatever the caller's own is."""

import atexit
import os
import tempfile
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

# They take most memory, so none runs beside another: one process gets them all, in this order, and starts with them.
# The last three start processes of their own.
LARGE = (
    "03_resnet50_from_scratch.ipynb",
    "07_self_supervised_rotation.ipynb",
    "test_browser.py",
    "test_distributed.py",
    "test_training.py",
)
LIGHT = ("01_explore_cifake.ipynb", "08_comparison.ipynb")  # the other process starts with them, beside lesson 03


def pytest_collection_modifyitems(items):
    """Put the files in `LARGE` first, then those in `LIGHT`, in their order."""
    place = {name: number for number, name in enumerate(LARGE + LIGHT)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


class WholeFiles(LoadFileScheduling):
    """Keeps every file in one process, and those in `LARGE` in the same."""

    def _split_scope(self, nodeid: str) -> str:
        path = super()._split_scope(nodeid)
        return "large" if path.rsplit("/", 1)[-1] in LARGE else path


def pytest_xdist_make_scheduler(config, log):
    return WholeFiles(config, log)
