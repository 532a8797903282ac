"""Processes that tests start, and kill, on every system."""

import multiprocessing
import os
import signal
import sys

KILL = getattr(signal, "SIGKILL", 9)  # Windows ends a process with any number as its status


def context(preload: str) -> multiprocessing.context.BaseContext:
    """Return what starts processes: where there is a fork server, which imports ``preload`` once for all of them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([preload])
    return server


def end_server() -> None:
    """End the fork server, which holds half a gigabyte. The next process that is started makes another."""
    if (server := sys.modules.get("multiprocessing.forkserver")) is not None:
        server._forkserver._stop()  # there is no public way before the end of this process


def die() -> None:
    """End this process at once: nothing is cleaned up, nothing more is written."""
    os.kill(os.getpid(), KILL)


def was_killed(process: multiprocessing.process.BaseProcess) -> bool:
    """Whether a process ended as `die` ends it."""
    return abs(process.exitcode) == KILL
