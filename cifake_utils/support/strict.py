"""The environment in which stored outputs are made.

This module imports nothing large, because the process that only hands out tests imports it too.
"""

from collections.abc import MutableMapping
from pathlib import Path


def use_strict_environment(environment: MutableMapping[str, str], runs: Path) -> None:
    """Change environment variables so that every machine produces the outputs that are stored in the notebooks.

    The profile is ``sample``; the caller's own data and runs are not used. Every maths library has one thread, and
    there are no progress bars. On Linux, tensors above 8 MiB go back to the system as soon as they are freed, so that
    tests need less memory.
    """
    for variable in ("CIFAKE_DATA", "CIFAKE_WEIGHTS", "ACCELERATE_MIXED_PRECISION"):
        environment.pop(variable, None)
    environment.update(
        CIFAKE_PROFILE="sample",
        CIFAKE_RUNS=str(runs),
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1",
        TQDM_DISABLE="1",
        PYTHONHASHSEED="0",
        MALLOC_MMAP_THRESHOLD_=str(2**23),  # read by glibc when a process starts
    )
