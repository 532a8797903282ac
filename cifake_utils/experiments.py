"""Train an experiment or load its finished run, and ask finished runs about other images."""

import copy
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn import functional as F

from cifake_utils import (
    CifakeError,
    catalogue,
    data,
    evaluation,
    features,
    losses,
    models,
    profiles,
    records,
    rotation,
    training,
    weights,
)
from cifake_utils.batches import MEAN, STD, FeatureBatches, ImageBatches
from cifake_utils.catalogue import Experiment
from cifake_utils.support import memory, verified
from cifake_utils.support.files import agreed, can_be_removed, clear_leftovers, locked
from cifake_utils.support.fingerprint import differences, recipe_hash
from cifake_utils.weights import Weights


def build(
    name: str, profile: str | profiles.Profile | None = None, seed: int = 0, start: Weights | None = None
) -> models.Detector:
    """Return a freshly initialised model by its experiment's name.

    Parameters
    ----------
    name : str
        A key of `catalogue.EXPERIMENTS`.
    profile : str or Profile, optional
        It says which pre-trained weights are used. Default: the active profile.
    seed : int
        Fixes the random initial values.
    start : Weights, optional
        Weights of the backbone, used in place of the profile's. Rotation models need them: `rotation.pretrained` makes
        them.

    Raises
    ------
    CifakeError
        The experiment is unknown (the message lists the known ones); a rotation model gets no ``start``; the weights
        belong to another backbone.
    """
    experiment = catalogue.get(name)
    if start is None and experiment.start == "rotation":
        raise CifakeError(
            f"The backbone of {name} has to learn rotations first. Call experiments.train_or_load({name!r}), which "
            "trains it, or pass the weights that rotation.pretrained returns as `start`."
        )
    return experiment.build(start or starting_weights(experiment, profiles.resolve(profile)), seed)


def starting_weights(experiment: Experiment, profile: profiles.Profile) -> Weights:
    """Return the weights from which the training starts. For rotation models, this is the training of the pretext.

    Raises `CifakeError` if the experiment wants pre-trained weights for a backbone other than ResNet50.
    """
    if experiment.start != "random" and not experiment.layout.fits_resnet50:
        raise CifakeError(
            f"The experiment {experiment.about!r} starts from {experiment.start!r} weights, which are those of "
            'ResNet50, but it has another backbone. Declare start="random", or leave out the layout.'
        )
    if experiment.start == "random":
        return weights.NONE
    return weights.load_offline() if experiment.start == "embedded" else weights.load(profile)


def hyperparameters(name: str, profile: profiles.Profile) -> dict:
    """Return all settings of the training that a record of this experiment lists, as JSON types."""
    experiment = catalogue.get(name)
    preset = experiment.preset
    settings = {"preset": preset.name, "batch_size": preset.batch_size} | preset.options.recipe()
    if preset.epochs_share is not None:
        settings["epochs_share"] = preset.epochs_share
    if preset.mirror_average:
        settings["mirror_average"] = True
    if preset.shift:
        settings["shift"] = preset.shift
    if not experiment.frozen and profile.batch_size:
        settings["batch_size"] = profile.batch_size
    if experiment.frozen:
        epochs = profile.epochs
    elif experiment.start == "rotation":
        epochs = profile.epochs_full
    else:
        epochs = profile.epochs_full + profile.epochs_pretext
    settings["epochs"] = max(1, round(epochs * (1 if preset.epochs_share is None else preset.epochs_share)))
    if experiment.start == "rotation":
        settings["pretext"] = {"preset": experiment.pretext.name, "epochs": profile.epochs_pretext}
    if experiment.combined_loss is not None:
        settings["combined_loss"] = losses.CombinedLoss(**experiment.combined_loss).options()
    if experiment.broken:
        settings |= experiment.broken.recipe()
    return settings


def recipe(
    name: str,
    seed: int,
    profile: profiles.Profile,
    data_hash: str,
    weights_hash: str,
    accelerator: Accelerator,
) -> dict:
    """Return everything on which the outcome of a run depends, as JSON types.

    A finished run is loaded only if its recipe is the same. The entry ``computation`` holds the precision. Where all
    layers learn, it also holds into how many parts a batch is divided for batch norm. Versions of packages are not part
    of the recipe: the record lists them.
    """
    experiment = catalogue.get(name)
    made_from = {
        "data": data_hash,
        "weights": weights_hash,
        "seed": seed,
        "architecture": experiment.recipe(),
        "normalisation": [MEAN, STD],
        "training": hyperparameters(name, profile) | {"version": training.VERSION},
        "computation": {"precision": accelerator.mixed_precision},
    }
    if experiment.frozen:
        made_from["threshold_images"] = features.THRESHOLD_IMAGES
    else:
        made_from["computation"] = training.computation(accelerator)
    if experiment.start == "rotation":
        seed = 0 if experiment.frozen else seed
        made_from["pretext"] = rotation.recipe(
            weights_hash, data_hash, profile, seed, *_pretext_settings(experiment, profile), accelerator
        )
    return json.loads(json.dumps(made_from))


def _pretext_settings(experiment: Experiment, profile: profiles.Profile) -> tuple[int, training.Options]:
    """Return the batch size and the options for training the pretext."""
    return profile.batch_size or experiment.pretext.batch_size, experiment.pretext.options


def train_or_load(
    name: str, seed: int = 0, profile: str | profiles.Profile | None = None
) -> tuple[models.Detector, records.Record]:
    """Return a trained model, on the CPU in eval mode, and the record of its run.

    If there is a finished run with the same `recipe` under ``CIFAKE_RUNS``, it is loaded. Loading needs no permission
    to write there. Otherwise the model is trained. A training that was stopped goes on where it stopped. The test set
    is scored once, after the training. The processes of one job (``accelerate launch``) share the work, and the main
    process writes the files.

    Parameters
    ----------
    name : str
        A key of `catalogue.EXPERIMENTS`.
    seed : int
        Fixes the initial values, the order of the images, flips and turns. A frozen rotation backbone is always the one
        of seed 0.
    profile : str or Profile, optional
        Default: the active one.

    Raises
    ------
    CifakeError
        The experiment is unknown (the message lists the known ones); the seed is negative or too large; the data or the
        weights are missing; the disk is full or a folder can't be written to; a finished run is damaged
        (`verified.DamagedFile`).
    """
    profile = profiles.resolve(profile)
    if not 0 <= seed < 2**32:
        raise CifakeError(f"The seed is {seed}. Expected a whole number from 0 to {2**32 - 1}.")
    experiment, accelerator = catalogue.get(name), profile.accelerator()
    with accelerator.main_process_first():  # the main process decodes and downloads, the others then find the files
        cifake = data.load(profile)
        start = starting_weights(experiment, profile)
    made_from = recipe(name, seed, profile, cifake.hash, start.hash, accelerator)
    path = profile.runs / f"{name}-seed{seed}.json"
    # The name depends on the recipe, so that a stopped training with other settings can still go on later.
    unfinished = profile.runs / "unfinished" / f"{path.stem}-{recipe_hash(made_from)}.safetensors"
    record, is_left = agreed(lambda: (_at_first(path, made_from), can_be_removed(unfinished)), accelerator)
    if record is None or is_left:
        lock = unfinished.with_name(f"{path.stem}.lock")
        with locked(lock, accelerator):  # a second job waits here and then finds the finished run
            record = agreed(lambda: _finished(path, made_from), accelerator)
            if record is None:
                return _train_and_keep(made_from, path, unfinished, name, seed, profile, cifake, start, accelerator)
            if accelerator.is_main_process:
                unfinished.unlink(missing_ok=True)  # left by a process that was killed after it had saved the run
    return _load(record, path, start), record


def _at_first(path: Path, made_from: dict) -> records.Record | None:
    """Return what `_finished` returns, and print why a run is not loaded.

    Another job may be replacing the run at this moment. So a run that looks damaged counts as missing here, and the
    caller reads it again under the lock. Without permission to write there is no lock, and the error is raised.
    """
    try:
        return _finished(path, made_from, say=True)
    except FileNotFoundError:
        return None
    except verified.DamagedFile:
        if os.access(path.parent, os.W_OK):
            return None
        raise


def _finished(path: Path, made_from: dict, say: bool = False) -> records.Record | None:
    """Return the record at ``path`` if its run has this recipe and all of its files, else None.

    With ``say``, the reason for None is printed.
    """
    if not path.exists():
        return None
    record, missing = _read_with_files(path)
    if record is None or missing:
        reason = f"{missing[0]}, which belongs to it, is missing"
    elif record.recipe != made_from:
        reason = f"its recipe differs in {_list(differences(record.recipe, made_from))}"
    else:
        return record
    if say:
        print(
            f"{path} is not loaded: {reason}. The model is trained again, and its files replace these. To keep them, "
            "stop now and copy them elsewhere."
        )
    return None


def _list(found: dict[str, tuple]) -> str:
    """Return as text what `differences` found: each name with both values."""
    return ", ".join(f"{name} (that run: {there!r}, a new run: {here!r})" for name, (there, here) in found.items())


def _read_with_files(path: Path) -> tuple[records.Record | None, list[Path]]:
    """Return the record at ``path``, and those files of its trained model that are missing.

    The record is None where one of its own files is missing.
    """
    missing = [file for ending in (".npz", ".safetensors") if not (file := path.with_suffix(ending)).exists()]
    if missing:
        return None, missing
    record = records.read(path)
    return record, [file for file in _frozen_part(record) if not file.exists()]


def _frozen_part(record: records.Record) -> list[Path]:
    """Return the file of the frozen rotation backbone, which several runs share; an empty list for other runs."""
    frozen = record.recipe.get("architecture", {}).get("frozen") and "pretext" in record.recipe
    return [rotation.kept_at(record.recipe["pretext"])] if frozen else []


def _load(record: records.Record, path: Path, start: Weights) -> models.Detector:
    """Return the trained model of a record at ``path``, in eval mode."""
    weights_file, frozen_part = path.with_suffix(".safetensors"), _frozen_part(record)
    backbone = rotation.load(record.recipe["pretext"])[0] if frozen_part else start
    if frozen_part and backbone.hash != record.checksums["backbone"]:
        raise verified.DamagedFile(path, f"its model was trained on a backbone other than the one in {frozen_part[0]}")
    model = catalogue.get(record.experiment).build(backbone, record.seed)
    learned, _ = verified.load_tensors(
        weights_file, recipe_hash(record.recipe), expected=record.checksums["safetensors"]
    )
    if learned.keys() != model.learned_state().keys():
        wrong = sorted(learned.keys() ^ model.learned_state().keys())
        raise verified.DamagedFile(weights_file, f"its tensors are not those of this model, such as {wrong[0]}")
    model.load_state_dict(model.state_dict() | learned)
    return model.eval()


def _train_and_keep(
    made_from: dict,
    path: Path,
    unfinished: Path,
    name: str,
    seed: int,
    profile: profiles.Profile,
    cifake: data.Cifake,
    start: Weights,
    accelerator: Accelerator,
) -> tuple[models.Detector, records.Record]:
    """Train a model and score it. Save the record at ``path`` and the weights beside it."""
    backbone, pretext = start, {}
    if "pretext" in made_from:
        seed_before, settings = made_from["pretext"]["seed"], _pretext_settings(catalogue.get(name), profile)
        backbone, pretext = rotation.pretrained(start, cifake, profile, seed_before, *settings)
    model = catalogue.get(name).build(backbone, seed)
    start, backbone = replace(start, state={}), replace(backbone, state={})  # the model has its own copy
    record = _train(name, seed, profile, cifake, start, model, accelerator, checkpoint=unfinished)
    record.recipe = made_from
    record.details["trained"], record.checksums["backbone"] = f"{backbone.name}, hash {backbone.hash}", backbone.hash
    if pretext:
        record.seconds["pretext"], record.details["pretext"] = pretext["curves"]["seconds"], pretext
    model.cpu().eval()
    if accelerator.is_main_process:
        clear_leftovers(path.parent, f"{path.stem}.*")
        # A record must never lie beside the weights or the predictions of another run, not even for a moment.
        for old in (path, path.with_name(f"{path.stem}-robustness.npz")):
            old.unlink(missing_ok=True)
        learned, weights_file = model.learned_state(), path.with_suffix(".safetensors")
        record.checksums["safetensors"] = verified.save_tensors(weights_file, learned, recipe=recipe_hash(made_from))
        records.save(record, path.parent)
        unfinished.unlink(missing_ok=True)
    accelerator.free_memory()  # accelerate keeps the optimiser until then
    memory.trim()
    return model, record


def finished(profile: str | profiles.Profile | None = None) -> list[records.Record]:
    """Return the reader's finished runs in a profile (default: the active one), sorted by name and seed.

    These are the runs that `train_or_load` would make today on the same data, from the same weights: their `recipe` is
    the same, except that ``computation`` may differ, for example in the precision.
    """
    runs, _ = _runs(profiles.resolve(profile))
    return [record for record, others in runs if not others]


def _runs(
    profile: profiles.Profile, name: str | None = None
) -> tuple[list[tuple[records.Record, dict]], dict[str, Weights]]:
    """Return the complete runs of a profile, and the weights from which their models start.

    The runs are those of one experiment or, without a name, of all. Each comes with the entries in which its recipe
    differs from that of a new run. The weights come by the experiment's name.
    """
    found: dict[Path, tuple[records.Record | None, list[Path]]] = {}
    for path in sorted(profile.runs.glob(f"{name or '*'}-seed*.json")):
        with suppress(FileNotFoundError):  # another job is replacing the run
            found[path] = _read_with_files(path)
    # A file with another name is somebody's copy.
    whole = [record for path, (record, missing) in found.items() if record and not missing and record.name == path.stem]
    runs = [record for record in whole if record.experiment in catalogue.EXPERIMENTS]
    if not runs:
        return [], {}
    data_hash, accelerator = data.load_hash(profile), profile.accelerator()
    declared = {record.experiment: catalogue.EXPERIMENTS[record.experiment] for record in runs}
    one_of_each = {experiment.start: experiment for experiment in declared.values()}
    loaded = {start: starting_weights(experiment, profile) for start, experiment in one_of_each.items()}
    starts = {name: loaded[experiment.start] for name, experiment in declared.items()}
    compared = []
    for record in runs:
        name = record.experiment
        wanted = recipe(name, record.seed, profile, data_hash, starts[name].hash, accelerator)
        others = differences(record.recipe, wanted).items()
        compared.append((record, {key: values for key, values in others if "computation." not in key}))
    return compared, starts


def trained(name: str, profile: str | profiles.Profile | None = None) -> tuple[models.Detector, records.Record]:
    """Return the model and the record of the reader's best finished run of an experiment, without training anything.

    The best run is the one with the highest validation accuracy.

    Raises
    ------
    CifakeError
        The experiment is unknown; there is no finished run; the experiment is a control with broken statistics, whose
        P(FAKE) depends on other images too.
    """
    profile = profiles.resolve(profile)
    catalogue.require_own_statistics(name)
    found, starts = _runs(profile, name)
    runs = [record for record, others in found if not others]
    if not runs:
        raise CifakeError(_no_run(name, profile, found))
    best = max(runs, key=lambda record: record.metrics["val"]["accuracy"])
    return _load(best, profile.runs / f"{best.name}.json", starts[best.experiment]), best


def _no_run(name: str, profile: profiles.Profile, found: list[tuple[records.Record, dict]]) -> str:
    """Return a message that says why there is no finished run, and how to get one."""
    command = f"`python -m cifake_utils --profile {profile.name} train {name}`"
    where = f"There is no finished run of {name} in the profile {profile.name} (looked in {profile.runs})."
    stopped = sorted((profile.runs / "unfinished").glob(f"{name}-seed[0-9]*.safetensors"))
    if stopped:
        seed = re.findall(r"\d+", stopped[0].name.removeprefix(f"{name}-seed"))[0]
        option = f" --seed {seed}" if seed != "0" else ""
        return (
            f"{where} A training was stopped before its end; it goes on with {command[:-1]}{option}`, unless its "
            "settings have changed."
        )
    others = [(record, names) for record, names in found if names]
    if others:
        record, names = others[0]
        return (
            f"{where} There is a run with other data, other weights or other settings than the profile's: "
            f"{record.name} differs in {_list(names)}. Train one with {command}."
        )
    if any(profile.runs.glob(f"{name}-seed*.json")):
        return f"{where} There are records, but without the trained weights beside them. Train one with {command}."
    return f"{where} Train one with {command}."


def predict_images(
    detectors: dict[str, tuple[models.Detector, records.Record]], images: torch.Tensor, accelerator: Accelerator
) -> dict[str, np.ndarray]:
    """Return P(FAKE) of any images from trained detectors, computed as the probabilities in their records are.

    Where the preset says so, P(FAKE) is the mean over an image and its mirror image. A control gets the kind of
    statistics it was trained with: those of another of these images, or noise. Frozen detectors that share a backbone
    share one pass through it. During that pass about 12 kB are held for each image.

    Parameters
    ----------
    detectors : dict of str to (Detector, Record)
        What `train_or_load` returned, under any names. Afterwards the models are on the CPU in eval mode.
    images : torch.Tensor
        uint8 (N, 3, 32, 32), RGB.
    accelerator : accelerate.Accelerator
        Device, and precision of the features of frozen models. Models whose layers all learned compute in float32.

    Returns
    -------
    dict of str to np.ndarray
        float32 (N,) for each name, in the order of ``detectors``.
    """
    if not len(images):
        return {name: np.empty(0, np.float32) for name in detectors}
    groups: dict[object, list[str]] = {}
    for name, (model, _) in detectors.items():  # frozen models that start from the same weights have one backbone
        backbone = (model.weights_hash, model.backbone.layout)
        groups.setdefault(backbone if model.frozen else name, []).append(name)
    probabilities = {}
    for names in groups.values():
        group = {name: detectors[name] for name in names}
        frozen = group[names[0]][0].frozen
        for name, inputs in _seen_by_heads(group, images, accelerator) if frozen else [(names[0], images)]:
            model, record = group[name]
            learned, kind = (model.head, FeatureBatches) if frozen else (model, ImageBatches)
            learned.to(accelerator.device)
            batches = kind(inputs, torch.zeros(len(images)), features.BATCH_SIZE, accelerator.device)
            sides = (False, True) if record.hyperparameters.get("mirror_average") else (False,)
            probabilities[name] = sum(training.predict(learned, batches, mirrored=side) for side in sides) / len(sides)
            learned.cpu()
    return {name: probabilities[name] for name in detectors}


def _seen_by_heads(
    detectors: dict[str, tuple[models.Detector, records.Record]], images: torch.Tensor, accelerator: Accelerator
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the features that the head of each detector sees: float16 (N, 1 or 2, D).

    The detectors are frozen and share a backbone. The second axis has the image and its mirror image, or the image
    alone if none of the detectors uses mirror images.
    """
    keys = {
        name: {key: f"{key}, {tap.fingerprint()}" for key, tap in models.by_name(model.statistics).items()}
        for name, (model, _) in detectors.items()
    }
    taps = {keys[name][key]: tap for name, (model, _) in detectors.items() for key, tap in model.statistics.items()}
    taps = {key: copy.deepcopy(tap).to(accelerator.device) for key, tap in taps.items()}
    mirrored = any(record.hyperparameters.get("mirror_average") for _, record in detectors.values())
    backbone = next(iter(detectors.values()))[0].backbone.eval().folded().to(accelerator.device)
    values: dict[str, torch.Tensor] = {}
    for start, side, batch in features.computed(backbone, taps, images, accelerator, mirrored):
        for key, part in batch.items():
            if key not in values:
                values[key] = part.new_empty(len(images), 1 + mirrored, part.shape[1])
            values[key][start : start + len(part), side] = part
    for name, (_, record) in detectors.items():
        parts = {statistic: values[key] for statistic, key in keys[name].items()}
        yield name, _side_by_side(parts, catalogue.get(record.experiment), record.seed, "test")


def _train(
    name: str,
    seed: int,
    profile: profiles.Profile,
    cifake: data.Cifake,
    start: Weights,
    model: models.Detector,
    accelerator: Accelerator,
    checkpoint: Path,
) -> records.Record:
    """Train a model in place, score it and return the record."""
    settings, experiment = hyperparameters(name, profile), catalogue.get(name)
    combined = experiment.combined_loss
    learned = model.head if model.frozen else model
    splits, seconds = _batches(model, cifake, settings["batch_size"], accelerator, experiment, seed)
    splits["train"].stratified = combined is not None
    splits["train"].shift = 0 if model.frozen else experiment.preset.shift
    history = training.fit(
        learned,
        splits["train"],
        splits["val"],
        epochs=settings["epochs"],
        seed=seed,
        accelerator=accelerator,
        options=experiment.preset.options,
        loss=F.cross_entropy if combined is None else losses.CombinedLoss(**combined),
        checkpoint=checkpoint,
    )
    details: dict = {"precision": accelerator.mixed_precision}
    if accelerator.num_processes > 1:
        details["processes"] = accelerator.num_processes
    splits = {split: splits[split].shared(accelerator) for split in ("val", "test")}
    probabilities = {split: training.predict(learned, batches) for split, batches in splits.items()}
    labels = {split: cifake.splits[split].labels.numpy().astype(np.uint8) for split in probabilities}
    if experiment.preset.mirror_average:
        details["val_without_mirror_average"] = evaluation.score(probabilities["val"], labels["val"])
        for split, one_sided in probabilities.items():
            probabilities[split] = (one_sided + training.predict(learned, splits[split], mirrored=True)) / 2
    probabilities = {split: values.astype(np.float16) for split, values in probabilities.items()}
    return records.Record(
        experiment=name,
        profile=profile.name,
        seed=seed,
        data=cifake.source,
        data_hash=cifake.hash,
        weights=start.name,
        weights_hash=start.hash,
        hyperparameters=settings,
        seconds=seconds | {"training": history.seconds},
        curves=asdict(history),
        metrics={split: evaluation.score(probabilities[split], labels[split]) for split in probabilities},
        probabilities=probabilities,
        labels=labels,
        details=details,
        hardware=records.hardware(accelerator.device),
    )


def _batches(
    model: models.Detector,
    cifake: data.Cifake,
    batch_size: int,
    accelerator: Accelerator,
    experiment: Experiment,
    seed: int,
) -> tuple[dict[str, ImageBatches], dict[str, float]]:
    """Return, for each split, the batches for the part of a model that learns, and the seconds for computing features.

    A frozen model gets the thresholds of its statistics here, which are taken from training images.
    """
    if not model.frozen:
        return {
            split: ImageBatches(images.images, images.labels, batch_size, accelerator.device)
            for split, images in cifake.splits.items()
        }, {}
    start = time.perf_counter()
    fitted = features.fitted_statistics(model.backbone, cifake, accelerator)
    for name, statistic in model.statistics.items():
        statistic.load_state_dict(fitted[name].state_dict())
    cached = features.cached(model.backbone, cifake, experiment.statistics, accelerator)
    if experiment.broken:
        widths = list(experiment.widths().values())
        for split, values in cached.items():
            parts = dict(zip(experiment.statistics, values.split(widths, 2), strict=True))
            cached[split] = _side_by_side(parts, experiment, seed, split)
    return {
        split: FeatureBatches(cached[split], images.labels, batch_size, accelerator.device)
        for split, images in cifake.splits.items()
    }, {"features": time.perf_counter() - start}


def _side_by_side(values: dict[str, torch.Tensor], experiment: Experiment, seed: int, split: str) -> torch.Tensor:
    """Return statistics (N, …, D) of a split's images as the head sees them: concatenated, and broken in a control."""
    if broken := experiment.broken:
        splits = ("train", "val", "test")
        values = features.break_some(values, broken.statistics, broken.way, len(splits) * seed + splits.index(split))
    return torch.cat(list(values.values()), 2)
