"""One call that trains a named model, or loads what an earlier run left."""

import time
from dataclasses import asdict

import numpy as np
from safetensors.torch import load_file, save_file

from cifake_utils import data, evaluation, features, models, profiles, records, training
from cifake_utils.batches import FeatureBatches
from cifake_utils.files import replacing

# The paper gives Adam at 1e-4, a learning-rate schedule and early stopping; batch size 64, the cosine and the
# patience are our assumptions.
PAPER = {"batch_size": 64, "learning_rate": 1e-4, "patience": 5}


def train_or_load(
    name: str, seed: int = 0, profile: str | profiles.Profile | None = None
) -> tuple[models.Detector, records.Record]:
    """Return a trained model, on the CPU in eval mode, and the record of its run.

    Trains where there is no finished run of this model and seed, on the same data and weights and with the same
    hyper-parameters, under ``CIFAKE_RUNS``; loads it otherwise. The test set is scored once, after training.

    Parameters
    ----------
    name : str
        A key of `models.BUILDERS`.
    seed : int
        Fixes initial values, order and flips.
    profile : str or Profile, optional
        Default: the active one.
    """
    profile = profiles.resolve(profile)
    model = models.build(name, profile, seed)
    cifake = data.load(profile)
    hyperparameters = PAPER | {"preset": "paper", "epochs": profile.epochs}
    path = profile.runs / f"{name}-seed{seed}.json"
    if path.exists():
        record = records.read(path)
        made_from = (record.data_hash, record.weights_hash, record.hyperparameters)
        if made_from == (cifake.hash, model.weights_hash, hyperparameters):
            model.head.load_state_dict(load_file(path.with_suffix(".safetensors")))
            return model.eval(), record
    record = _train(model, cifake, name, seed, profile, hyperparameters)
    with replacing(path.with_suffix(".safetensors")) as partial:
        save_file(model.head.state_dict(), partial)
    records.save(record, profile.runs)
    return model.cpu().eval(), record


def _train(model, cifake, name, seed, profile, hyperparameters) -> records.Record:
    accelerator = profile.accelerator()
    start = time.perf_counter()
    cached = features.cached(model.backbone, cifake, model.statistics, accelerator)
    feature_seconds = time.perf_counter() - start
    splits = {
        split: FeatureBatches(cached[split], images.labels, hyperparameters["batch_size"], accelerator.device)
        for split, images in cifake.splits.items()
    }
    history = training.fit(
        model.head,
        splits["train"],
        splits["val"],
        epochs=hyperparameters["epochs"],
        learning_rate=hyperparameters["learning_rate"],
        patience=hyperparameters["patience"],
        seed=seed,
        accelerator=accelerator,
    )
    probabilities = {split: training.predict(model.head, splits[split]).astype(np.float16) for split in ("val", "test")}
    labels = {split: cifake.splits[split].labels.numpy() for split in probabilities}
    return records.Record(
        model=name,
        profile=profile.name,
        seed=seed,
        data=cifake.source,
        data_hash=cifake.hash,
        weights=model.weights_name,
        weights_hash=model.weights_hash,
        hyperparameters=hyperparameters,
        seconds={"features": feature_seconds, "training": history.seconds},
        curves=asdict(history),
        metrics={split: evaluation.score(probabilities[split], labels[split]) for split in probabilities},
        probabilities=probabilities,
        labels=labels,
    )
