"""The environment of stored outputs. Imports nothing, so that the process which only hands out tests stays small."""

from collections.abc import MutableMapping
from pathlib import Path


def use_strict_environment(environment: MutableMapping[str, str], runs: Path) -> None:
    """Change an environment so that every machine gives the outputs that are stored in the notebooks.

    The sample profile, nothing from the caller's own data or runs, one thread a maths library, no progress bars. And
    on Linux tensors above 8 MiB go back to the system as soon as they are freed, so that tests need less memory.
    """
    for variable in ("CIFAKE_DATA", "CIFAKE_WEIGHTS", "ACCELERATE_MIXED_PRECISION"):
        environment.pop(variable, None)
    environment |= {
        "CIFAKE_PROFILE": "sample",
        "CIFAKE_RUNS": str(runs),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        "PYTHONHASHSEED": "0",
        "MALLOC_MMAP_THRESHOLD_": str(2**23),  # read by glibc when a process starts
    }
