"""The floors of the combined loss's weights: what model 4 reaches with each of several, on validation images."""

from dataclasses import asdict

import numpy as np

from cifake_utils import catalogue, data, experiments, features, losses, profiles, records, training
from cifake_utils.batches import FeatureBatches
from cifake_utils.lessons import comparison
from cifake_utils.lessons.tables import Table

MODEL = "resnet50_fractal_loss"
CROSS_ENTROPY = "1, 0, 0"  # what is left of the loss then
# What floors leave over goes to the smallest term, which is the penalty. Floors whose sum is 1 leave nothing over.
FLOORS = {
    "0.5, 0.1, 0.05": (0.5, 0.1, 0.05),
    "0.5, 0.45, 0.05": (0.5, 0.45, 0.05),
    "0.8, 0.1, 0.05": (0.8, 0.1, 0.05),
    "0.9, 0.05, 0.025": (0.9, 0.05, 0.025),
    CROSS_ENTROPY: (1.0, 0.0, 0.0),
}


def facts(profile: str | profiles.Profile | None = None, seeds: int = 3) -> dict:
    """Train model 4 with each of `FLOORS`. Return what validation images tell of them, as JSON types.

    The trainings of a seed start from the same values and see the same batches, in which both labels have the shares
    of the whole set. P(FAKE) is the mean over an image and its mirror image. The test images play no part.

    Parameters
    ----------
    profile : str or Profile, optional
        Default: the active one.
    seeds : int
        Number of trainings with each choice of floors.

    Returns
    -------
    dict
        Among others, ``runs`` holds the accuracy of every training and its weights at the end, and ``tests`` the
        `comparison.PairedTest` of every two choices with the same seed. Holm's correction is for the tests of a seed.
    """
    profile = profiles.resolve(profile)
    accelerator, cifake = profile.accelerator(), data.load(profile)
    experiment, settings = catalogue.get(MODEL), experiments.hyperparameters(MODEL, profile)
    backbone = experiments.build(MODEL, profile).backbone
    cached = features.cached(backbone, cifake, experiment.statistics, accelerator)
    train, val = (
        FeatureBatches(cached[split], cifake.splits[split].labels, settings["batch_size"], accelerator.device)
        for split in ("train", "val")
    )
    train.stratified = True
    runs, tests = [], []
    for seed in range(seeds):
        right = {}
        for name, floors in FLOORS.items():
            head, loss = experiments.build(MODEL, profile, seed).head, losses.CombinedLoss(floors=floors)
            training.fit(
                head,
                train,
                val,
                epochs=settings["epochs"],
                accelerator=accelerator,
                options=experiment.preset.options,
                seed=seed,
                loss=loss,
            )
            sides = [training.predict(head, val, mirrored=mirrored) for mirrored in (False, True)]
            right[name] = comparison.correct(np.mean(sides, 0), cifake.val.labels.numpy())
            run = {"floors": name, "seed": seed, "accuracy": float(right[name].mean())}
            runs.append(run | {"weights": loss.weights().tolist()})
        tests += [{"seed": seed} | asdict(test) for test in comparison.paired_tests(right)]
    return {
        "data": cifake.source,
        "data_hash": cifake.hash,
        "images": len(cifake.val),
        "precision": accelerator.mixed_precision,
        "hardware": records.hardware(accelerator.device),
        "runs": runs,
        "tests": tests,
    }


def table(measured: dict) -> Table:
    """Return what `facts` returned, with a row for each choice of floors.

    The last column counts the seeds in which it can be told from cross-entropy alone (p < 0.05 after the correction).
    """
    rows = []
    for name in FLOORS:
        runs = [run for run in measured["runs"] if run["floors"] == name]
        tests = [test for test in measured["tests"] if {test["first"], test["second"]} == {name, CROSS_ENTROPY}]
        accuracies = [run["accuracy"] for run in runs]
        row = {"floors of α, β, γ": name}
        row["weights at the end"] = ", ".join(f"{w:.3f}" for w in np.mean([run["weights"] for run in runs], 0))
        row |= {"accuracy": np.mean(accuracies), "lowest": min(accuracies), "highest": max(accuracies)}
        told = sum(test["p_holm"] < 0.05 for test in tests)
        rows.append(row | {"told from 1, 0, 0": f"{told} of {len(tests)}" if tests else None})
    caption = f"Our model 4, {measured['data']}, {measured['images']:,} validation images, {len(runs)} seeds"
    return Table(rows, caption)
