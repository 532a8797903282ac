"""Tests and notebooks run in the strict environment, whatever the caller's own is."""

import atexit
import os
import tempfile
from pathlib import Path

from cifake_utils.strict import use_strict_environment

# The processes that pytest-xdist starts inherit this environment, and so share one folder: what one of them has
# computed or trained, the others find there.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _runs = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    atexit.register(_runs.cleanup)
    use_strict_environment(os.environ, Path(_runs.name))

FIRST, LAST = "test_browser.py", "test_distributed.py"


def pytest_collection_modifyitems(items):
    """Hand out those that start several processes where the largest notebook isn't running beside them."""
    items.sort(key=lambda item: (item.path.name == LAST) - (item.path.name == FIRST))
