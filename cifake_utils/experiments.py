"""The named runs of the series, and one call that trains such a run or loads what an earlier one left."""

import copy
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from cifake_utils import (
    CifakeError,
    data,
    evaluation,
    features,
    losses,
    memory,
    models,
    profiles,
    records,
    rotation,
    training,
)
from cifake_utils.batches import FeatureBatches, ImageBatches
from cifake_utils.files import locked, replacing
from cifake_utils.weights import Weights, state_hash

# How to train. `paper`: it gives Adam at 1e-4, a learning-rate schedule and early stopping; batch size 64, the cosine
# and the patience are our assumptions. `strong`: AdamW, one cycle that runs to its end. `strong_head`: for heads on a
# frozen backbone, fewer and larger steps. On 16,000 images held out of the training split, model 3 got 0.933 with
# `paper`, and with `strong_head` in under half the time; 0.943 with mirror images. A weight decay of 0.3 changed
# nothing (model 4 with cross-entropy, validation images: 0.9623 without, 0.9627 with). `max_norm` helps from
# scratch and does nothing to fine-tuning (`benchmarks/choices.py`).
PRESETS = {
    "paper": {"batch_size": 64, "learning_rate": 1e-4, "patience": 5},
    "strong": {
        "batch_size": 128,
        "learning_rate": 5e-4,
        "weight_decay": 0.01,
        "schedule": "one_cycle",
        "max_norm": 5.0,
        "patience": None,
        "mirror_average": True,  # P(FAKE) is the mean over an image and its mirror image, in val and test alike
    },
    "strong_head": {
        "batch_size": 256,
        "learning_rate": 1e-3,
        "patience": 5,
        "epochs_share": 0.4,  # of the profile's
        "mirror_average": True,
    },
}
PRETEXT_PRESET = "strong"


@dataclass(frozen=True)
class Experiment:
    """What is trained, and how.

    Attributes
    ----------
    about : str
        One line.
    preset : str
        Key of `PRESETS`.
    model : str, optional
        Key of `models.MODELS`; default: the experiment's own name.
    combined_loss : dict, optional
        Options of `losses.CombinedLoss`, which takes the place of plain cross-entropy; batches are stratified then.
    dimensions : str
        What stands where the dimensions of the maps belong, in training and test alike: the ``"measured"`` ones, or
        a key of `features.BREAKS`.
    """

    about: str
    preset: str = "paper"
    model: str | None = None
    combined_loss: dict | None = None
    dimensions: str = "measured"


EXPERIMENTS = {
    "resnet50_scratch": Experiment("model 1 of the paper", "strong"),
    "resnet50_transfer": Experiment("model 2 of the paper"),
    "resnet50_fractal": Experiment("model 3 of the paper", "strong_head"),
    "resnet50_fractal_loss": Experiment("model 4 of the paper", "strong_head", combined_loss={}),
    "resnet50_rotation": Experiment("model 5 of the paper: pretext and fine-tuning", "strong"),
    "resnet50_rotation_fractal_loss": Experiment(
        "the paper's future work: model 4 on the frozen rotation backbone (of seed 0)", "strong_head", combined_loss={}
    ),
    "resnet50_finetuned": Experiment("control: ImageNet weights fine-tuned as long as model 5 in all", "strong"),
    "resnet50_rotation_frozen": Experiment("control: what the rotation backbone (of seed 0) knows by itself"),
    # What of model 3's gain is the dimension's? Its head, means of the same maps, other images' dimensions, noise.
    "resnet50_standardised": Experiment("control: head of model 3, pooled features only", "strong_head"),
    "resnet50_means": Experiment(
        "control: means of the stem and layer1 maps instead of their dimensions", "strong_head"
    ),
    "resnet50_means_fractal": Experiment("control: means and dimensions of the stem and layer1 maps", "strong_head"),
    "resnet50_shuffled": Experiment(
        "control: dimensions of another image of the split",
        "strong_head",
        model="resnet50_fractal",
        dimensions="shuffled",
    ),
    "resnet50_noise": Experiment(
        "control: Gaussian noise instead of the dimensions", "strong_head", model="resnet50_fractal", dimensions="noise"
    ),
    "resnet50_variogram": Experiment("beyond the paper: variogram dimensions beside those of model 3", "strong_head"),
    # What of model 4's gain is the loss's? {nothing, means, dimensions} × {cross-entropy, combined loss}, one head.
    "resnet50_projection": Experiment("control: projection head, pooled features only, cross-entropy", "strong_head"),
    "resnet50_projection_loss": Experiment(
        "control: projection head, pooled features only, combined loss",
        "strong_head",
        model="resnet50_projection",
        combined_loss={},
    ),
    "resnet50_means_projection": Experiment(
        "control: projection head, means of the maps, cross-entropy", "strong_head"
    ),
    "resnet50_means_loss": Experiment(
        "control: projection head, means of the maps, combined loss",
        "strong_head",
        model="resnet50_means_projection",
        combined_loss={},
    ),
    "resnet50_fractal_projection": Experiment(
        "control: model 4 with cross-entropy", "strong_head", model="resnet50_fractal_loss"
    ),
    "resnet50_loss_as_printed": Experiment(
        "control: model 4 with the sign of equation 4 as printed",
        "strong_head",
        model="resnet50_fractal_loss",
        combined_loss={"sign": "as_printed"},
    ),
}


def hyperparameters(name: str, profile: profiles.Profile) -> dict:
    """Return everything that a record of this experiment says about its training: JSON types."""
    experiment = _experiment(name)
    architecture = models.MODELS[experiment.model or name]
    settings = PRESETS[experiment.preset] | {"preset": experiment.preset}
    if not architecture.frozen and profile.batch_size:
        settings["batch_size"] = profile.batch_size
    if architecture.frozen:
        settings["epochs"] = round(profile.epochs * settings.get("epochs_share", 1))
    elif architecture.start == "rotation":
        settings["epochs"] = profile.epochs_full
    else:
        settings["epochs"] = profile.epochs_full + profile.epochs_pretext
    if architecture.start == "rotation":
        settings["pretext"] = {"preset": PRETEXT_PRESET, "epochs": profile.epochs_pretext}
    if experiment.combined_loss is not None:
        settings["combined_loss"] = experiment.combined_loss
    if experiment.dimensions != "measured":
        settings["dimensions"] = experiment.dimensions
    return settings


def train_or_load(
    name: str, seed: int = 0, profile: str | profiles.Profile | None = None
) -> tuple[models.Detector, records.Record]:
    """Return a trained model, on the CPU in eval mode, and the record of its run.

    Trains where there is no finished run of this experiment and seed, on the same data and weights and with the same
    hyper-parameters, under ``CIFAKE_RUNS``; loads it otherwise. A training that was stopped goes on. The test set
    is scored once, after training. Processes of one job (``accelerate launch``) share the work; the main one writes.

    Parameters
    ----------
    name : str
        A key of `EXPERIMENTS`; another one is a `CifakeError` that lists them.
    seed : int
        Fixes initial values, order, flips and turns. A frozen rotation backbone is always that of seed 0.
    profile : str or Profile, optional
        Default: the active one.
    """
    profile = profiles.resolve(profile)
    settings = hyperparameters(name, profile)
    model_name = _experiment(name).model or name
    architecture = models.MODELS[model_name]
    accelerator = profile.accelerator()
    with accelerator.main_process_first():  # which decodes and downloads; the others find it done
        cifake = data.load(profile)
        start = models.starting_weights(model_name, profile)
    path = profile.runs / f"{name}-seed{seed}.json"
    unfinished = profile.runs / "unfinished" / f"{path.stem}.safetensors"
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    with locked(unfinished.with_suffix(".lock"), accelerator):  # a second job waits here and then finds the run
        record = records.read(path) if path.exists() else None
        is_finished = record is not None and _made_from(record) == (cifake.hash, start.hash, settings)
        backbone, pretext = start, {}
        if architecture.start == "rotation" and (architecture.frozen or not is_finished):
            pretext_seed = 0 if architecture.frozen else seed
            batch_size = profile.batch_size or PRESETS[PRETEXT_PRESET]["batch_size"]
            options = _fit_options(PRESETS[PRETEXT_PRESET]) | {"batch_size": batch_size}
            backbone, pretext = rotation.pretrained(start, cifake, profile, pretext_seed, options)
        model = models.build(model_name, profile, seed, backbone)
        weights_file = path.with_suffix(".safetensors")
        if is_finished:
            model.load_state_dict(model.state_dict() | load_file(weights_file))
            return model.eval(), record

        start, backbone = replace(start, state={}), replace(backbone, state={})  # the model has its own copy
        record = _train(name, seed, profile, cifake, start, model, accelerator, checkpoint=unfinished)
        record.details["trained"] = f"{backbone.name}, hash {backbone.hash}"
        if pretext:
            record.seconds["pretext"], record.details["pretext"] = pretext["curves"]["seconds"], pretext
        model.cpu().eval()
        if accelerator.is_main_process:
            with replacing(weights_file) as partial:
                save_file({key: value.contiguous() for key, value in model.learned_state().items()}, partial)
            records.save(record, profile.runs)
            unfinished.unlink(missing_ok=True)
        accelerator.free_memory()  # it holds the optimiser
        memory.trim()
        return model, record


def finished(profile: str | profiles.Profile | None = None) -> list[records.Record]:
    """Return the reader's runs that `train_or_load` would load, by name and seed.

    Those of a profile (default: the active one), on its data and weights, with today's hyper-parameters.
    """
    profile = profiles.resolve(profile)
    paths = [path for path in sorted(profile.runs.glob("*-seed*.json")) if path.with_suffix(".safetensors").exists()]
    runs = [record for record in map(records.read, paths) if record.model in EXPERIMENTS]
    if not runs:
        return []
    data_hash = data.load(profile).hash
    architectures = {record.model: EXPERIMENTS[record.model].model or record.model for record in runs}
    one_of_each = {models.MODELS[name].start: name for name in architectures.values()}
    hashes = {start: models.starting_weights(name, profile).hash for start, name in one_of_each.items()}
    starts = {name: hashes[models.MODELS[model].start] for name, model in architectures.items()}
    return [
        record
        for record in runs
        if _made_from(record) == (data_hash, starts[record.model], hyperparameters(record.model, profile))
    ]


def trained(
    name: str | None = None, profile: str | profiles.Profile | None = None
) -> tuple[models.Detector, records.Record]:
    """Return the reader's best finished run, of one experiment or of all, as `train_or_load` would; train nothing.

    The best has the highest validation accuracy.

    Raises
    ------
    CifakeError
        An unknown experiment; no finished run; a control whose dimensions are broken, as it sees other images too.
    """
    profile = profiles.resolve(profile)
    if name is not None and _experiment(name).dimensions != "measured":
        raise CifakeError(
            f"{name} is a control that gets something else in place of an image's dimensions: what it says of an image "
            f"is not about that image alone. Choose a model without that, such as {EXPERIMENTS[name].model}."
        )
    runs = [
        record
        for record in finished(profile)
        if (record.model == name if name else _experiment(record.model).dimensions == "measured")
    ]
    if not runs:
        raise CifakeError(_no_run(name, profile))
    best = max(runs, key=lambda record: record.metrics["val"]["accuracy"])
    return train_or_load(best.model, best.seed, profile)


def _no_run(name: str | None, profile: profiles.Profile) -> str:
    """Return why there is no finished run, and how to get one."""
    command = f"`python -m cifake_utils --profile {profile.name} train {name or 'resnet50_transfer'}`"
    what = f"no finished run of {name}" if name else "no trained model"
    where = f"There is {what} in the profile {profile.name} (looked in {profile.runs})."
    if any((profile.runs / "unfinished").glob(f"{name or '*'}-seed*.safetensors")):
        return f"{where} A training was stopped before its end; it goes on with {command}."
    if any(profile.runs.glob(f"{name or '*'}-seed*.json")):
        return (
            f"{where} What is there was trained on other data, from other weights or with other settings than the "
            f"profile's, or its weights are missing. Train one with {command}."
        )
    return f"{where} Train one with {command}."


def _made_from(record: records.Record) -> tuple[str, str, dict]:
    return record.data_hash, record.weights_hash, record.hyperparameters


def predict_images(
    detectors: dict[str, tuple[models.Detector, records.Record]], images: torch.Tensor, accelerator: Accelerator
) -> dict[str, np.ndarray]:
    """Return P(FAKE) that trained detectors give to any images, as their records' probabilities were made.

    Where the preset says so it is the mean over image and mirror image. Controls get the dimensions they were trained
    with: those of another of these images, or noise. Frozen detectors that share a backbone share one pass through
    it; about 12 kB an image are held meanwhile.

    Parameters
    ----------
    detectors : dict of str to (Detector, Record)
        What `train_or_load` returned, by any name. On return they are on the CPU in eval mode.
    images : torch.Tensor
        uint8 (N, 3, 32, 32), RGB.
    accelerator : accelerate.Accelerator
        Device and precision.

    Returns
    -------
    dict of str to np.ndarray
        float32 (N,) for each name, in the order of ``detectors``.
    """
    groups: dict[str, list[str]] = {}
    for name, (model, _) in detectors.items():  # frozen, and from the same weights: the same backbone
        groups.setdefault(model.weights_hash if model.frozen else name, []).append(name)
    probabilities = {}
    for names in groups.values():
        group = {name: detectors[name] for name in names}
        frozen = group[names[0]][0].frozen
        for name, inputs in _measured(group, images, accelerator) if frozen else [(names[0], images)]:
            model, record = group[name]
            learned, cut = (model.head, FeatureBatches) if frozen else (model, ImageBatches)
            learned.to(accelerator.device)
            batches = cut(inputs, torch.zeros(len(images)), features.BATCH_SIZE, accelerator.device)
            sides = (False, True) if record.hyperparameters.get("mirror_average") else (False,)
            probabilities[name] = sum(training.predict(learned, batches, mirrored=side) for side in sides) / len(sides)
            learned.cpu()
    return {name: probabilities[name] for name in detectors}


def _measured(
    detectors: dict[str, tuple[models.Detector, records.Record]], images: torch.Tensor, accelerator: Accelerator
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what the head of each of these frozen detectors, which share a backbone, sees: float16 (N, 1 or 2, D).

    With 1 there are no mirror images: none of these detectors asks for them.
    """
    statistics, wanted = {}, {}
    for name, (model, _) in detectors.items():
        keys = {f"{key} {state_hash(tap.state_dict())}": tap for key, tap in model.statistics.items()}
        statistics, wanted[name] = statistics | keys, list(keys)
    statistics = {key: copy.deepcopy(tap).to(accelerator.device) for key, tap in statistics.items()}
    mirrored = any(record.hyperparameters.get("mirror_average") for _, record in detectors.values())
    backbone = next(iter(detectors.values()))[0].backbone.eval().folded().to(accelerator.device)
    values: dict[str, torch.Tensor] = {}
    for start, side, batch in features.measured(backbone, statistics, images, accelerator, mirrored):
        for key, part in batch.items():
            if key not in values:
                values[key] = part.new_empty(len(images), 1 + mirrored, part.shape[1])
            values[key][start : start + len(part), side] = part
    for name, (_, record) in detectors.items():
        seen = torch.cat([values[key] for key in wanted[name]], 2)
        yield name, _with_dimensions(seen, record.hyperparameters.get("dimensions", "measured"), record.seed, "test")


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
    """Train a model in place and score it."""
    settings = hyperparameters(name, profile)
    experiment = _experiment(name)
    combined = experiment.combined_loss
    learned = model.head if model.frozen else model
    splits, seconds = _batches(model, cifake, settings["batch_size"], accelerator, experiment.dimensions, seed)
    splits["train"].stratified = combined is not None
    history = training.fit(
        learned,
        splits["train"],
        splits["val"],
        epochs=settings["epochs"],
        seed=seed,
        accelerator=accelerator,
        loss=F.cross_entropy if combined is None else losses.CombinedLoss(**combined),
        checkpoint=checkpoint,
        **_fit_options(PRESETS[settings["preset"]]),
    )
    details = {"precision": accelerator.mixed_precision}
    if accelerator.num_processes > 1:
        details["processes"] = accelerator.num_processes
    splits = {split: splits[split].shared(accelerator) for split in ("val", "test")}
    probabilities = {split: training.predict(learned, batches) for split, batches in splits.items()}
    labels = {split: cifake.splits[split].labels.numpy() for split in probabilities}
    if settings.get("mirror_average"):
        details["val_without_mirror_average"] = evaluation.score(probabilities["val"], labels["val"])
        for split, one_sided in probabilities.items():
            probabilities[split] = (one_sided + training.predict(learned, splits[split], mirrored=True)) / 2
    probabilities = {split: values.astype(np.float16) for split, values in probabilities.items()}
    return records.Record(
        model=name,
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
    )


def _batches(
    model: models.Detector, cifake: data.Cifake, batch_size: int, accelerator: Accelerator, dimensions: str, seed: int
) -> tuple[dict[str, ImageBatches], dict[str, float]]:
    """Return what the learning part of a model sees of each split, and the seconds it took to make.

    A frozen model gets its thresholds here, from training images.
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
    cached = features.cached(model.backbone, cifake, list(model.statistics), accelerator)
    cached = {split: _with_dimensions(values, dimensions, seed, split) for split, values in cached.items()}
    return {
        split: FeatureBatches(cached[split], images.labels, batch_size, accelerator.device)
        for split, images in cifake.splits.items()
    }, {"features": time.perf_counter() - start}


def _with_dimensions(values: torch.Tensor, dimensions: str, seed: int, split: str) -> torch.Tensor:
    """Return features (N, …, D) with the dimensions, which stand behind the pooled ones, as they are or broken."""
    if dimensions == "measured":
        return values
    pooled, measured = values.tensor_split([models.CHANNELS["layer4"]], 2)
    splits = ("train", "val", "test")
    broken = features.BREAKS[dimensions](measured, len(splits) * seed + splits.index(split))
    return torch.cat([pooled, broken], 2)


def _fit_options(preset: dict) -> dict:
    """Return the part of a preset that `training.fit` takes."""
    return {key: value for key, value in preset.items() if key not in {"batch_size", "epochs_share", "mirror_average"}}


def _experiment(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise CifakeError(f"There is no experiment {name!r}; choose one of: {', '.join(EXPERIMENTS)}.")
    return EXPERIMENTS[name]
