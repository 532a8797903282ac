"""Seconds of every notebook in the `sample` profile, in the strict environment of the tests: one thread, no caches."""

import os
import tempfile
from pathlib import Path

from cifake_utils import series


def measure() -> dict:
    with tempfile.TemporaryDirectory() as box:
        series.use_strict_environment(os.environ, Path(box) / "runs")
        return {"notebooks": series.run(Path(box) / "notebooks")}
