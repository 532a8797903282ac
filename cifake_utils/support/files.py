"""Write files so that no reader ever sees half of one, and lock them so that two writers never meet."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar, cast

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock
from safetensors import SafetensorError

from cifake_utils import CifakeError

Found = TypeVar("Found")

# Error numbers for a full disk, a path that is in the way, and a missing right: the reader can put these right.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
IN_THE_WAY = {
    errno.EEXIST: "a file lies where a folder is needed",
    errno.ENOTDIR: "a file lies where a folder is needed",
    errno.EISDIR: "a folder lies where a file is needed",
}
NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS, *IN_THE_WAY}


def writable(folder: Path) -> Path:
    """Return a folder after making sure that it exists and that this user may write to it.

    Raises
    ------
    CifakeError
        The folder can't be made, or this user may not write to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # On Windows only a trial shows whether a folder may be written to; a lock in one that may not waits for ever.
        trial = folder / f".trial-{os.getpid()}"
        trial.touch()
        trial.unlink(missing_ok=True)  # another thread may have removed it
    except OSError as error:
        raise cannot_write(folder, error) or _refused(folder, error.strerror or str(error)) from error
    return folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` for the caller to write to.

    On success, what was written there replaces ``path``. On failure it is removed. It may be a file or a folder. If
    another process has put a folder at ``path`` in the meantime, that folder is kept and ours is removed. A file is
    flushed to the disk before it replaces ``path``, and gets the permissions that the user's umask grants.

    Raises
    ------
    CifakeError
        The disk is full, or this user may not write to the folder.
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
    """Return the message for an error met while writing, or None if the error has nothing to do with disks."""
    full = is_full(error)
    if isinstance(error, SafetensorError):
        reason = str(error)
    elif not full and error.errno not in NO_RIGHT:
        return None
    else:
        reason = IN_THE_WAY.get(error.errno or 0, error.strerror)
    return _refused(path, str(reason), "Free some space on that disk, or choose" if full else "Choose")


def is_full(error: OSError | SafetensorError) -> bool:
    """Return whether an error met while writing says that the disk is full.

    safetensors gives no details, so that every error of it counts.
    """
    return isinstance(error, SafetensorError) or error.errno in NO_ROOM


def _refused(path: Path | str, reason: str, remedy: str = "Choose") -> CifakeError:
    return CifakeError(
        f"{path} can't be written: {reason}. {remedy} a folder that you may write to. CIFAKE_RUNS sets the one for "
        "caches and runs, and `predict --output` the one for pictures. Finished files are kept."
    )


def _finish(file: Path) -> None:
    """Flush a file to the disk and give it the usual permissions; safetensors would leave 0600."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
    umask = os.umask(0)
    os.umask(umask)
    file.chmod(0o666 & ~umask)


@contextmanager
def locked(path: Path, accelerator: Accelerator | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` for all processes of one job, while other jobs wait for it.

    The main process takes the lock, and the other processes of the job wait until it has it. At the end all of them
    wait for each other, so that every process finds what the main process has written. Everybody who may write to the
    folder may take the lock, whoever made the file.

    Parameters
    ----------
    path : Path
    accelerator : accelerate.Accelerator, optional
        The job's processes; default: this process alone.

    Raises
    ------
    CifakeError
        This user may not write to the folder.
    """
    main = accelerator is None or accelerator.is_main_process
    with _lock(path) if main else nullcontext():
        if accelerator:
            accelerator.wait_for_everyone()
        yield
        if accelerator:
            accelerator.wait_for_everyone()


def agreed(find: Callable[[], Found], accelerator: Accelerator) -> Found:
    """Call ``find`` in the main process of a job and return its result in every process.

    A `CifakeError` that it raises is raised in every process too. Processes that looked at files for themselves, each
    at another moment, could decide differently about what to do next.
    """
    if accelerator.num_processes == 1:
        return find()
    found: object = None
    if accelerator.is_main_process:
        try:
            found = find()
        except CifakeError as error:
            found = error
    (found,) = broadcast_object_list([found])
    if isinstance(found, CifakeError):
        raise found
    return cast(Found, found)


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
    """Remove the temporary files that a killed process left behind while `replacing` wrote files called ``name``.

    ``name`` may be a pattern. The caller must hold the lock of these files, so that no other process is writing them.
    """
    for leftover in folder.glob(f".{name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)


def can_be_removed(path: Path) -> bool:
    """Return whether a file exists in a folder that this user may write to."""
    return path.exists() and os.access(path.parent, os.W_OK)
