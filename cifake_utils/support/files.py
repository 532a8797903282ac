"""Writing files so that a reader never sees half of one, and locks that keep writers apart."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock
from safetensors import SafetensorError

from cifake_utils import CifakeError

Found = TypeVar("Found")

# What a system says when the disk is full, read-only, or not this user's: the reader can put that right.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR}
NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS} | IN_THE_WAY


def writable(folder: Path) -> Path:
    """Return a folder that new files can be put into, made first where it is missing.

    Raises
    ------
    CifakeError
        It can't be made, or this user may not write to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Windows shows the rights to a folder only to who tries: locks and temporary files would wait there forever.
        trial = folder / f".trial-{os.getpid()}"
        trial.touch()
        trial.unlink(missing_ok=True)  # another thread's was the same
    except OSError as error:
        raise cannot_write(folder, error) or _refused(folder, error.strerror or str(error)) from error
    return folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes the place of ``path``, on failure it goes.

    What the caller makes at the temporary path may be a file or a folder. A folder that another process put
    at ``path`` in the meantime is kept, and ours is dropped. A file has reached the disk before it takes its place,
    and gets the permissions that the user's umask grants.

    Raises
    ------
    CifakeError
        The disk is full, or the folder is not one that this user may write to.
    """
    try:
        writable(path.parent)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True) as box:
            partial = Path(box) / path.name
            yield partial
            if partial.is_dir() and path.is_dir():
                shutil.rmtree(partial)
                return
            if partial.is_file():
                _finish(partial)
            os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        if (explained := cannot_write(path, error)) is None:
            raise
        raise explained from error


def cannot_write(path: Path | str, error: OSError | SafetensorError) -> CifakeError | None:
    """Return what to tell the reader of an error met while writing, None for one that is no matter of disks."""
    full = is_full(error)
    if not full and error.errno not in NO_RIGHT:
        return None
    if isinstance(error, SafetensorError):
        reason = str(error)
    else:
        reason = "a file lies where a folder is needed" if error.errno in IN_THE_WAY else error.strerror
    return _refused(path, reason, "Free some space on that disk, or choose" if full else "Choose")


def is_full(error: OSError | SafetensorError) -> bool:
    """Whether an error met while writing says that there is no room. (Of safetensors, which says no more: any.)"""
    return isinstance(error, SafetensorError) or error.errno in NO_ROOM


def _refused(path: Path | str, reason: str, remedy: str = "Choose") -> CifakeError:
    return CifakeError(
        f"{path} can't be written: {reason}. {remedy} a folder that you may write to. CIFAKE_RUNS sets the one for "
        "caches and runs, and `predict --output` the one for pictures. Finished files are kept."
    )


def _finish(file: Path) -> None:
    """Bring a file to the disk, with the permissions of any other new file (safetensors writes its own as 0600)."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
    umask = os.umask(0)
    os.umask(umask)
    file.chmod(0o666 & ~umask)


@contextmanager
def locked(path: Path, accelerator: Accelerator | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` for all processes of one job; another job waits until this one lets go.

    The main process takes it, the others wait until it has; in the end all wait for the last one, so that what the
    main process wrote meanwhile is there for every one of them. Whoever may write to the folder may take the lock,
    whoever made its file.

    Parameters
    ----------
    path : Path
    accelerator : accelerate.Accelerator, optional
        The job's processes; default: this process alone.

    Raises
    ------
    CifakeError
        The folder is not one that this user may write to.
    """
    main = accelerator is None or accelerator.is_main_process
    with _lock(path) if main else nullcontext():
        if accelerator:
            accelerator.wait_for_everyone()
        yield
        if accelerator:
            accelerator.wait_for_everyone()


def agreed(find: Callable[[], Found], accelerator: Accelerator) -> Found:
    """Return what ``find`` finds in the main process, in every process of a job; an error of it is raised in all.

    What one of them does next, all have to do; each would see other files, a moment earlier or later.
    """
    if accelerator.num_processes == 1:
        return find()
    found = None
    if accelerator.is_main_process:
        try:
            found = find()
        except CifakeError as error:
            found = error
    (found,) = broadcast_object_list([found])
    if isinstance(found, CifakeError):
        raise found
    return found


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    lock = FileLock(path, mode=0o666)
    try:
        writable(path.parent)
        lock.acquire()
    except OSError as error:
        raise cannot_write(path, error) or error from error
    try:
        yield
    finally:
        lock.release()


def clear_leftovers(folder: Path, name: str = "*") -> None:
    """Remove what `replacing` left in a folder, of files called ``name``, in processes that were killed.

    ``name`` may be a pattern. No other process may be writing such a file: hold its lock.
    """
    for leftover in folder.glob(f".{name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def can_be_removed(path: Path) -> bool:
    """Whether there is such a file, in a folder that this user may write to."""
    return path.exists() and os.access(path.parent, os.W_OK)
