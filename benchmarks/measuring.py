"""Processes, time and memory of a measurement."""

import os
import platform
import re
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, get_start_method, set_start_method
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

# Those that this process may use; only Linux tells.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
CPUINFO, STATUS = Path("/proc/cpuinfo"), Path("/proc/self/status")  # of Linux


def alone(call: Callable, *arguments):
    """Return what a call returns in a fresh process that computes on all cores."""
    with ProcessPoolExecutor(1, get_context("spawn"), _begin, (get_start_method(),)) as pool:
        return pool.submit(call, *arguments).result()


def _begin(start_method: str) -> None:
    """Set up a fresh process; the workers of its data loaders start as they would in a script of its own."""
    torch.set_num_threads(CORES)
    set_start_method(start_method, force=True)


def seconds(call: Callable) -> float:
    """Return the median time of a call."""
    return (
        Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
        .blocked_autorange(min_run_time=1)
        .median
    )


def machine() -> str:
    """Return what computes here, e.g. ``"AMD EPYC, 2 threads"``."""
    text = CPUINFO.read_text(encoding="utf-8") if CPUINFO.exists() else ""
    names = re.findall(r"^model name\s*: (.+)$", text, re.M)
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def memory(field: str) -> int:
    """Return bytes of this process as Linux counts them.

    ``VmHWM`` is the largest resident memory so far (``ru_maxrss`` would inherit that of the process this one was
    started from), ``RssAnon`` the part of it that no file backs, ``VmData`` what ``RLIMIT_DATA`` limits.
    """
    return 1024 * int(re.search(rf"^{field}:\s+(\d+)", STATUS.read_text(encoding="utf-8"), re.M)[1])


class AnonymousPeak:
    """Context in which ``bytes`` becomes the largest anonymous memory seen, looked at fifty times a second.

    Pages of mapped files don't count: the system takes them back when it needs them.
    """

    def __enter__(self) -> "AnonymousPeak":
        self.bytes, self._done = memory("RssAnon"), threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, memory("RssAnon"))

    def __exit__(self, *_) -> None:
        self._done.set()
        self._watcher.join()
        self.bytes = max(self.bytes, memory("RssAnon"))
