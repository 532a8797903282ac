"""Time and memory of loading, of the features of a frozen backbone, and of a head's epoch, as the images get more."""

import tempfile
import time
from pathlib import Path

from accelerate import Accelerator

from benchmarks.measuring import AnonymousPeak, alone, memory, seconds
from benchmarks.sources import PROFILE, source, write_tree
from cifake_utils import data, experiments, features, models, training
from cifake_utils.batches import FeatureBatches
from cifake_utils.support import verified

ROOM = 200_000_000  # bytes that a limited epoch may allocate beside what lies there before it


def decoded(tree: Path, runs: Path) -> float:
    start = time.perf_counter()
    with source(tree, runs):
        data.load(PROFILE)
    return time.perf_counter() - start


def epoch(model: models.Detector, batches: dict[str, FeatureBatches], accelerator: Accelerator) -> None:
    training.fit(model.head, batches["train"], batches["val"], epochs=1, accelerator=accelerator)


def checks(tree: Path, runs: Path) -> dict:
    """Return the seconds that it takes to compare cached images, and features, with their checksums, in memory."""
    with source(tree, runs):
        path = next((runs / "cache").glob("images-*.safetensors"))
        recipe = path.stem.partition("-")[2]
        checksums = {path: verified.file_checksum(path) for path in runs.glob("cache/features-*/*-pooled-*.npy")}
        return {
            "images": seconds(lambda: verified.load_tensors(path, recipe)),
            "features": seconds(lambda: [features.mapped(*item) for item in checksums.items()]),
        }


def grown(tree: Path, runs: Path) -> dict:
    """Return seconds of each stage, and bytes: largest anonymous memory beside what was there before loading."""
    with source(tree, runs):
        model, accelerator = experiments.build("resnet50_transfer", PROFILE), PROFILE.accelerator()
        before, ticks, peaks = memory("RssAnon"), [time.perf_counter()], []
        with AnonymousPeak() as peak:
            cifake = data.load(PROFILE)
        peaks.append(peak.bytes - before)
        ticks.append(time.perf_counter())
        with AnonymousPeak() as peak:
            cached = features.cached(model.backbone, cifake, ["pooled"], accelerator)
        peaks.append(peak.bytes - before)
        ticks.append(time.perf_counter())
        batches = {split: FeatureBatches(cached[split], images.labels, 64) for split, images in cifake.splits.items()}
        with AnonymousPeak() as peak:
            epoch(model, batches, accelerator)
        peaks.append(peak.bytes - before)
        ticks.append(time.perf_counter())
    stages = ("load", "features", "epoch")
    return {
        "seconds": {stage: stop - start for stage, start, stop in zip(stages, ticks, ticks[1:], strict=False)},
        "anonymous": dict(zip(stages, peaks, strict=True)),
        "resident": memory("VmHWM"),
        "images": sum(images.images.nbytes for images in cifake.splits.values()),
        "features": sum(values.nbytes for values in cached.values()),
    }


def limited(tree: Path, runs: Path, in_memory: bool) -> str:
    """Return what becomes of an epoch when the process may allocate no more than `ROOM` bytes (``RLIMIT_DATA``).

    The cached features are mapped before the limit falls; with ``in_memory`` they are to be copied below it.
    """
    import resource  # Windows has none

    with source(tree, runs):
        model, accelerator = experiments.build("resnet50_transfer", PROFILE), PROFILE.accelerator()
        cifake = data.load(PROFILE)
        cached = features.cached(model.backbone, cifake, ["pooled"], accelerator)
        resource.setrlimit(resource.RLIMIT_DATA, (memory("VmData") + ROOM, resource.RLIM_INFINITY))
        try:
            batches = {
                split: FeatureBatches(cached[split].clone() if in_memory else cached[split], images.labels, 64)
                for split, images in cifake.splits.items()
            }
            epoch(model, batches, accelerator)
        except (RuntimeError, MemoryError) as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return "finished"


def measure(sizes: tuple[int, ...] = (12_000, 30_000, 60_000, 120_000)) -> dict:
    rows, outcomes = [], {}
    for size in sizes:
        counts = {"train": size - size // 6, "test": size // 6}
        with tempfile.TemporaryDirectory() as box:
            arguments = Path(box) / "tree", Path(box) / "runs"
            write_tree(arguments[0], counts)
            first = alone(decoded, *arguments)
            row = alone(grown, *arguments)
            checked = alone(checks, *arguments)
            rows.append({"size": size, "seconds": {"decode": first} | row.pop("seconds"), "checks": checked} | row)
            if size == max(sizes):
                outcomes = {
                    name: alone(limited, *arguments, in_memory)
                    for name, in_memory in (("mapped", False), ("copied into memory", True))
                }
    return {"sizes": rows, "limit": ROOM, "limited": outcomes}
