"""Tests and notebooks run in the strict environment, whatever the caller's own is."""

import atexit
import os
import tempfile
from pathlib import Path

import pytest

from cifake_utils.strict import use_strict_environment

# The processes that pytest-xdist starts inherit this environment, and so share one folder: what one of them has
# computed or trained, the others find there.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _runs = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    atexit.register(_runs.cleanup)
    use_strict_environment(os.environ, Path(_runs.name))

# They take most memory, so none runs beside another: one process gets them all, in this order, and starts with them.
# The last two start processes of their own.
LARGE = (
    "test_browser.py",
    "03_resnet50_from_scratch.ipynb",
    "07_self_supervised_rotation.ipynb",
    "test_training.py",
    "test_distributed.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep every file whole in one process, and those in `LARGE` in the same."""
    place = {name: number for number, name in enumerate(LARGE)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))
    for item in items:
        item.add_marker(pytest.mark.xdist_group("large" if item.path.name in place else item.path.name))
