"""Seconds of every notebook: in the `sample` profile as the tests run it, on one thread, and in `lesson` on all cores.

Nothing is kept from an earlier run: all that is decoded, computed and trained counts. `full` takes hours on a CPU;
`python -m cifake_utils --profile full run` prints and keeps its times.
"""

import os
import tempfile
from pathlib import Path
from unittest.mock import patch

from cifake_utils import data_sets
from cifake_utils.lessons import series
from cifake_utils.support.strict import use_strict_environment


def measure() -> dict:
    with tempfile.TemporaryDirectory() as box:
        runs, notebooks = Path(box) / "runs", Path(box) / "notebooks"
        with patch.dict(
            os.environ, CIFAKE_DATA=str(data_sets.CIFAKE.folder()), CIFAKE_RUNS=str(runs), CIFAKE_PROFILE="lesson"
        ):
            lesson = series.run(notebooks)
        with patch.dict(os.environ):
            use_strict_environment(os.environ, runs)
            sample = series.run(notebooks)
    return {"profiles": {"sample": sample, "lesson": lesson}}
