"""Training the last layer of a frozen ResNet50: through the backbone in every epoch, or on cached features.

Both see the same images in the same order with the same flips, start from the same weights and take the same steps.
"""

import copy
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import models as torchvision_models
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, ToTensor

from benchmarks.measuring import CORES, alone
from benchmarks.sources import PROFILE, Counts, MirroredFolder, drawn, own_label, source, write_tree
from cifake_utils import data, experiments, features, training
from cifake_utils.batches import MEAN, STD, FeatureBatches

BATCH_SIZE, LEARNING_RATE = 64, 1e-4
TOLERANCE = 1e-4  # of the losses: cached features are kept in float16
TRANSFORM = Compose([ToTensor(), Normalize(MEAN, STD)])


def usual(tree: Path, epochs: int) -> dict:
    """Train as most do: every epoch decodes every image and sends it through the backbone."""
    start = experiments.build("resnet50_transfer", PROFILE)
    network = torchvision_models.resnet50()
    network.fc = copy.deepcopy(start.head)
    network.load_state_dict(start.backbone.state_dict(), strict=False)
    network.requires_grad_(False).fc.requires_grad_(True)
    network.eval()

    clock = time.perf_counter()
    train = MirroredFolder(tree / "train", TRANSFORM, own_label)
    val, test = (
        DataLoader(ImageFolder(tree / part, TRANSFORM, own_label), BATCH_SIZE, num_workers=CORES)
        for part in ("val", "test")
    )
    optimizer = torch.optim.Adam(network.fc.parameters(), lr=LEARNING_RATE)
    steps = epochs * -(-len(train) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    losses = {"train_loss": [], "val_loss": []}
    for epoch in range(epochs):
        order, train.flips = drawn(len(train), 0, epoch)
        total = 0.0
        for images, labels in DataLoader(train, BATCH_SIZE, sampler=order, num_workers=CORES):
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(labels)
        losses["train_loss"].append(total / len(train))
        losses["val_loss"].append(mean_loss(network, val))
    losses["test_loss"] = mean_loss(network, test)
    return losses | {"seconds": {"all": time.perf_counter() - clock}}


@torch.no_grad()
def mean_loss(network: nn.Module, loader: DataLoader) -> float:
    total = sum(F.cross_entropy(network(images), labels, reduction="sum").item() for images, labels in loader)
    return total / len(loader.dataset)


def ours(tree: Path, runs: Path, epochs: int, name: str = "resnet50_transfer", seed: int = 0) -> dict:
    """Train on features that are computed where they are not kept yet."""
    with source(tree, runs):
        model, accelerator = experiments.build(name, PROFILE, seed), PROFILE.accelerator()
        ticks = [time.perf_counter()]
        cifake = data.load(PROFILE)
        ticks.append(time.perf_counter())
        cached = features.cached(model.backbone, cifake, list(model.statistics), accelerator)
        ticks.append(time.perf_counter())
        batches = {
            split: FeatureBatches(cached[split], images.labels, BATCH_SIZE) for split, images in cifake.splits.items()
        }
        history = training.fit(
            model.head,
            batches["train"],
            batches["val"],
            epochs=epochs,
            accelerator=accelerator,
            options=training.Options(learning_rate=LEARNING_RATE, patience=None),
            seed=seed,
        )
        test_loss = F.cross_entropy(training.predict_logits(model.head, batches["test"]), cifake.test.labels).item()
        ticks.append(time.perf_counter())
    stages = zip(("images", "features", "training"), ticks, ticks[1:], strict=False)
    return {
        "train_loss": history.train_loss,
        "val_loss": history.val_loss,
        "test_loss": test_loss,
        "seconds": {stage: stop - begin for stage, begin, stop in stages},
    }


def difference(one: dict, other: dict) -> float:
    """Return the largest difference between two runs' losses of training and validation images in any epoch."""
    pairs = [zip(one[key], other[key], strict=True) for key in ("train_loss", "val_loss")]
    return max(abs(left - right) for pair in pairs for left, right in pair)


def compared(counts: Counts, epochs: int, seeds: int = 0) -> dict:
    """Return both ways, measured one after the other, and what further runs cost; other losses are an error."""
    with tempfile.TemporaryDirectory() as box:
        tree, runs = Path(box) / "tree", Path(box) / "runs"
        write_tree(tree, counts)
        results = {"usual": alone(usual, tree, epochs), "ours": alone(ours, tree, runs, epochs)}
        results["largest_difference"] = difference(results["usual"], results["ours"])
        assert results["largest_difference"] < TOLERANCE, results
        further = {f"seed {seed}": ("resnet50_transfer", seed) for seed in range(1, seeds + 1)}
        further |= {"head of model 3": ("resnet50_fractal", 0), "control: means": ("resnet50_means", 0)}
        results["further"] = {
            title: alone(ours, tree, runs, epochs, *which)["seconds"]
            for title, which in (further.items() if seeds else ())
        }
    return results


def measure(train: int = 8_000, val: int = 2_000, test: int = 2_000, epochs: int = 10, seeds: int = 3) -> dict:
    compared({"train": 512, "val": 128, "test": 128}, 2)
    counts = {"train": train, "val": val, "test": test}
    results = compared(counts, epochs, seeds)
    usual_seconds, our_seconds = results["usual"]["seconds"]["all"], sum(results["ours"]["seconds"].values())
    again = median(run["features"] + run["training"] for run in results["further"].values())
    gains = {"end to end": usual_seconds / our_seconds, "further run": usual_seconds / again}
    return {"images": counts, "epochs": epochs, "further_run": again, "gains": gains} | results
