"""Writing files so that a reader never sees half of one."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from accelerate import Accelerator
from filelock import FileLock


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path``, on failure it goes.

    What the caller makes at the temporary path may be a file or a folder. A folder that another process put
    at ``path`` in the meantime is kept, and ours is dropped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True) as box:
        partial = Path(box) / path.name
        yield partial
        if partial.is_dir() and path.is_dir():
            shutil.rmtree(partial)
        else:
            os.replace(partial, path)


@contextmanager
def locked(path: Path, accelerator: Accelerator) -> Iterator[None]:
    """Hold the lock file ``path`` for all processes of one job; another job waits until this one lets go.

    The main process takes it, the others wait until it has; in the end all wait for the last one, so that what the
    main process wrote meanwhile is there for every one of them.
    """
    with FileLock(path) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()
        yield
        accelerator.wait_for_everyone()


def clear_leftovers(path: Path) -> None:
    """Remove what `replacing` left beside ``path`` in a process that was killed. No other may be writing ``path``."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
