"""Training all layers of ResNet50 at 32×32: the usual pipeline, ours, where the time goes, and what else might pay."""

import copy
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, default_collate
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models as torchvision_models
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, ToTensor

from benchmarks.measuring import CORES, alone, seconds
from benchmarks.sources import PROFILE, own_label, source, write_tree
from cifake_utils import data, experiments, training
from cifake_utils.batches import MEAN, STD, ImageBatches, mirror, normalise
from cifake_utils.catalogue import STRONG

RATE = STRONG.options.learning_rate
WARM_UP = 2  # steps that are not counted
AUGMENT = Compose([RandomHorizontalFlip(), ToTensor(), Normalize(MEAN, STD)])
# What our step is made of, one by one, and what might be added to it: precision, compiler.
CANDIDATES = {
    "default layout, AdamW": {"layout": torch.contiguous_format, "fused": False, "network": "torchvision"},
    "channels_last": {"fused": False, "network": "torchvision"},
    "… and fused AdamW": {"network": "torchvision"},
    "… and small maps as matrix products": {},
    "all of these, bf16 autocast": {"bf16": True},
    "all of these, torch.compile": {"compiled": True},
    "all of these, both": {"bf16": True, "compiled": True},
}


def plain_network() -> nn.Module:
    """Return torchvision's ResNet50 with the initial values of our `resnet50_scratch`."""
    start = experiments.build("resnet50_scratch", PROFILE)
    network = torchvision_models.resnet50()
    network.fc = copy.deepcopy(start.head)
    network.load_state_dict(start.backbone.state_dict(), strict=False)
    return network.to(memory_format=torch.contiguous_format)


def peak(dtype: torch.dtype = torch.float32, side: int = 4096) -> float:
    """Return the multiply-adds a second of a large matrix product."""
    left, right = torch.randn(2, side, side).to(dtype)
    return side**3 / seconds(lambda: left @ right)


def multiply_adds() -> dict[str, float]:
    """Return the multiply-adds of an image, forward and in a whole training step."""
    network, images, labels = plain_network(), torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    counted = {}
    for name, context in (("forward", torch.no_grad()), ("step", nullcontext())):
        with FlopCounterMode(display=False) as counter, context:
            loss = F.cross_entropy(network(images), labels)
            if name == "step":
                loss.backward()
        counted[name] = counter.get_total_flops() / 2 / len(images)  # a multiplication and an addition count as two
    return counted


def gradients(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    """Return loss and gradient by torchvision's names, in float64: fifty layers of batch norm amplify rounding."""
    loss = F.cross_entropy(network.double()(images.double()), labels)
    loss.backward()
    named = {name.removeprefix("backbone."): value.grad for name, value in network.named_parameters()}
    return loss.item(), {name.replace("head.", "fc."): value for name, value in named.items()}


def compared(tree: Path, runs: Path, count: int = 64) -> dict[str, float]:
    """Return how far loss and gradient of the same images are apart in both ways; too far is an error."""
    folder = ImageFolder(tree / "train", Compose([ToTensor(), Normalize(MEAN, STD)]), own_label)
    rows = np.linspace(0, len(folder) - 1, count).round().astype(int)
    images, labels = default_collate([folder[row] for row in rows])
    usual_loss, usual_gradient = gradients(plain_network(), images, labels)
    with source(tree, runs):
        train = data.load(PROFILE).train.subset(rows)
    inputs, own_labels = next(ImageBatches(train.images, train.labels, count).in_order())
    our_loss, our_gradient = gradients(experiments.build("resnet50_scratch", PROFILE), inputs, own_labels)
    flat = [
        torch.cat([gradient[name].flatten() for name in usual_gradient]) for gradient in (usual_gradient, our_gradient)
    ]
    distances = {"loss": abs(usual_loss - our_loss), "gradient": float((flat[0] - flat[1]).norm() / flat[0].norm())}
    assert distances["loss"] < 1e-5 and distances["gradient"] < 1e-3, distances
    return distances


def ticking(batches: Iterable, ticks: list[float]) -> Iterator:
    """Yield the batches and note when the work on each has ended."""
    for batch in batches:
        yield batch
        ticks.append(time.perf_counter())


class TickingBatches(ImageBatches):
    """ImageBatches that note when each step of a training has ended, in one list for all their copies."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.ticks: list[float] = []

    def shuffled(self, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        yield from ticking(super().shuffled(seed, epoch), self.ticks)


def step_seconds(ticks: list[float]) -> float:
    return median(np.diff(ticks)[WARM_UP - 1 :].tolist())


def usual(tree: Path, batch_size: int) -> float:
    """Return the seconds of a step of the usual pipeline."""
    network, ticks = plain_network(), []
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    folder = ImageFolder(tree / "train", AUGMENT, own_label)
    for images, labels in ticking(DataLoader(folder, batch_size, shuffle=True, num_workers=CORES), ticks):
        loss = F.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step_seconds(ticks)


def ours(tree: Path, runs: Path, batch_size: int) -> float:
    """Return the seconds of a step of `training.fit`, all that it does beside included."""
    with source(tree, runs):
        train = data.load(PROFILE).train
    batches, few = TickingBatches(train.images, train.labels, batch_size), train.subset(np.arange(2))
    training.fit(
        experiments.build("resnet50_scratch", PROFILE),
        batches,
        ImageBatches(few.images, few.labels, batch_size),
        epochs=1,
        accelerator=PROFILE.accelerator(),
        options=STRONG.options,
    )
    return step_seconds(batches.ticks)


def candidate(
    batch_size: int,
    steps: int,
    network: str = "ours",
    layout=torch.channels_last,
    fused: bool = True,
    bf16: bool = False,
    compiled: bool = False,
) -> dict[str, float]:
    """Return the seconds of the first step and of the later ones, on one batch that lies ready."""
    start = plain_network() if network == "torchvision" else experiments.build("resnet50_scratch", PROFILE)
    module = start.to(memory_format=layout)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, fused=fused)
    forward = torch.compile(module) if compiled else module
    images = torch.randn(batch_size, 3, 32, 32).contiguous(memory_format=layout)
    labels, ticks = torch.arange(batch_size) % 2, [time.perf_counter()]
    for _ in range(WARM_UP + steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(forward(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ticks.append(time.perf_counter())
    return {"first step": ticks[1] - ticks[0], "step": step_seconds(ticks)}


def stages(
    network: nn.Module, fused: bool, make: dict[str, Callable], labels: torch.Tensor, steps: int
) -> dict[str, float]:
    """Return median seconds an image of each stage of a step; ``make`` turns what the stage before gave into more."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, fused=fused)
    work = {
        **make,
        "forward": lambda images: F.cross_entropy(network(images), labels),
        "backward": lambda loss: loss.backward(),
        "optimiser": lambda _: optimizer.step(),
    }
    times = {name: [] for name in work}
    for _ in range(WARM_UP + steps):
        optimizer.zero_grad()
        result = None
        for name, call in work.items():
            start = time.perf_counter()
            result = call(result)
            times[name].append(time.perf_counter() - start)
    return {name: median(values[WARM_UP:]) / len(labels) for name, values in times.items()}


def where_time_goes(tree: Path, runs: Path, batch_size: int, steps: int) -> dict[str, dict]:
    """Return the stages of both ways, one after the other in one process: workers would hide what decoding costs."""
    folder = ImageFolder(tree / "train", None, own_label)
    with source(tree, runs):
        train = data.load(PROFILE).train
    rows = np.linspace(0, len(folder) - 1, batch_size).round().astype(int)
    flips, labels = torch.rand(batch_size) < 0.5, train.labels[rows]
    usual_make = {
        "decode": lambda _: [folder[row][0] for row in rows],
        "augment": lambda images: torch.stack([AUGMENT(image) for image in images]),
    }
    our_make = {"augment": lambda _: normalise(mirror(train.images[rows], flips))}
    return {
        "usual": stages(plain_network(), False, usual_make, labels, steps),
        "ours": stages(experiments.build("resnet50_scratch", PROFILE), True, our_make, labels, steps),
    }


def attempt(*arguments) -> dict:
    """Return what `alone` returns, or the error: not every candidate runs on every machine."""
    try:
        return alone(*arguments)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def configured(name: str, batch_size: int, steps: int) -> dict[str, float]:
    return candidate(batch_size, steps, **CANDIDATES[name])


def measure(batch_size: int = 128, larger: int = 256, steps: int = 20, side: int = 4096) -> dict:
    counts = {"train": (WARM_UP + steps) * batch_size, "val": 20, "test": 20}
    results = {"batch": batch_size, "multiply_adds": multiply_adds()}
    with tempfile.TemporaryDirectory() as box:
        tree, runs = Path(box) / "tree", Path(box) / "runs"
        write_tree(tree, counts)
        results["differences"] = alone(compared, tree, runs)
        results["peak"] = {name: alone(peak, getattr(torch, name), side) for name in ("float32", "bfloat16")}
        results["usual"] = batch_size / alone(usual, tree, batch_size)
        results["ours"] = batch_size / alone(ours, tree, runs, batch_size)
        results["stages"] = alone(where_time_goes, tree, runs, batch_size, steps // 2)
    results["candidates"] = [
        {"what": name, "batch": size} | attempt(configured, name, size, steps // 2)
        for size in (batch_size, larger)
        for name, options in CANDIDATES.items()
        if size == batch_size or not options.get("compiled")  # compiling takes minutes
    ]
    return results
