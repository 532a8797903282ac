"""Ask a trained model about images from elsewhere: single images with a verdict and a picture each, or a folder."""

import itertools
import json
import os
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from cifake_utils import (
    CifakeError,
    data,
    data_sets,
    embedded,
    evaluation,
    experiments,
    explanation,
    familiarity,
    fractal,
    general,
    images,
    models,
    profiles,
    records,
)
from cifake_utils.data import FAKE, LABELS, REAL
from cifake_utils.familiarity import Familiarity
from cifake_utils.sources import SIZE
from cifake_utils.support import filenames, progress
from cifake_utils.support.files import replacing

AT_ONCE = 32  # images that are read and scored together; with more of them the first row would take longer
FEW = 20  # with fewer images the intervals are hardly narrower than 0 to 1
SURE = 0.9  # a verdict needs a calibrated probability of at least so much
UNLIKE = "no verdict: unlike the images it knows"
UNSURE = "no verdict: not sure enough"
SMALL = f"no verdict: smaller than {SIZE}×{SIZE} pixels"
PREPARED = (
    "Every image was turned upright, laid on white where transparent, cut to the square in its middle, scaled to "
    "32×32 RGB and compressed as CIFAKE's files are (JPEG, quality 75, 4:2:0), so that all have the same size and the "
    "same last compression. A JPEG that was like CIFAKE's already was left as it is; any other has been compressed "
    "twice, and traces of that, and of the scaling, may remain."
)


def _percent(share: float, digits: int = 1) -> str:
    return f"{share:.{digits}%}".removesuffix("%") + " %"


@dataclass(frozen=True)
class Asked:
    """The model that is asked, with what its answers need.

    Attributes
    ----------
    model : models.Detector
    record : records.Record
    temperature : float
        It fits the validation images (`evaluation.usable_temperature`).
    known : Familiarity
        Of the images that the model learned from.
    name : str
        What a report calls the model.
    accuracy : float
        On the test images of its data set.
    facts : str
        Sentences on what else was measured; may be empty.
    limits : str
        Sentences on what the model learned from and where its limits are; if empty, those of its data set.
    knows : str
        What it knows, for the line below a picture; if empty, its data set.
    """

    model: models.Detector
    record: records.Record
    temperature: float
    known: Familiarity
    name: str
    accuracy: float
    facts: str = ""
    limits: str = ""
    knows: str = ""

    @property
    def learned_from(self) -> str:
        """Sentences on what the model learned from."""
        return self.limits or data_sets.get(self.record.data).learned_from


@dataclass(frozen=True)
class Answer:
    """What a model says about one image.

    Attributes
    ----------
    path : Path
        The image's file.
    image : torch.Tensor
        uint8 (3, 32, 32), what the model sees.
    size : tuple of int
        Width and height of the picture in the file, in pixels.
    p : float
        P(FAKE), with the temperature.
    distance : float
        How far the image lies from those that the model knows (`Familiarity.distances`).
    like : bool
        Whether that is as near as 99 of 100 of the validation images are.
    """

    path: Path
    image: torch.Tensor
    size: tuple[int, int]
    p: float
    distance: float
    like: bool

    @property
    def known(self) -> bool:
        """Whether P(FAKE) means anything: the picture is large enough, and like the images that the model knows."""
        return self.like and min(self.size) >= SIZE

    @property
    def called(self) -> int | None:
        """`REAL` or `FAKE`; None where there is no verdict."""
        if not self.known or max(self.p, 1 - self.p) < SURE:
            return None
        return FAKE if self.p > 0.5 else REAL

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        if self.called is not None:
            return f"looks {LABELS[self.called]}"
        return SMALL if min(self.size) < SIZE else UNSURE if self.like else UNLIKE

    @property
    def chance(self) -> str:
        """The probability of FAKE in per cent, in words of at most five letters; a dash where it says nothing."""
        if not self.known:
            return "–"
        return "< 1 %" if self.p < 0.01 else "> 99 %" if self.p > 0.99 else _percent(self.p, 0)


def ask(name: str | None, profile: profiles.Profile) -> Asked:
    """Return the model to ask.

    Parameters
    ----------
    name : str or None
        The experiment whose best finished run in the profile is asked (`experiments.trained`). None means the detector
        that comes with the package, and `general.NAME` the one that knows many kinds of generators.
    profile : Profile

    Raises
    ------
    CifakeError
        There is no suitable run.
    """
    if name == general.NAME:
        return _general()
    if name is None:
        found = embedded.load()
        facts = found.facts
        others = (
            f"Of {facts['gan_images']} images that another kind of generator made (a GAN), it calls "
            f"{round(facts['gan_called_fake'] * facts['gan_images'])} FAKE."
        )
        own = f"the detector that comes with this package ({found.record.name})"
        accuracy = facts["test"]["rounded"]["accuracy"]
        return Asked(found.model, found.record, facts["temperature"], found.familiarity, own, accuracy, others)
    model, record = experiments.trained(name, profile)
    temperature = evaluation.usable_temperature(record.probabilities["val"], record.labels["val"])
    cifake = data.load(profile)
    known = familiarity.of(model.backbone, cifake.train.images, cifake.val.images)
    return Asked(model, record, temperature, known, f"your run {record.name}", record.metrics["test"]["accuracy"])


def _general() -> Asked:
    """Return the general detector. Its limits stand first."""
    found = general.load()
    unseen, own = found.facts["unseen"], found.facts["test"]["accuracy"]
    lowest = min(unseen, key=unseen.__getitem__)
    limits = (
        f"Its limits: it learned from {found.facts['learned_from']} Heads that had learned from nothing like one "
        f"of these {len(unseen)} kinds had an AUROC of {found.facts['unseen_mean']:.2f} on average, and of "
        f"{unseen[lowest]:.2f} on the hardest ({lowest}). Chance is 0.50. These generators are weak: on better ones "
        f"expect less. Trained without smooth images, a head had {found.facts['unseen_strict']:.2f} on those of a VAE, "
        f"which are smooth. It calls most blurred photographs FAKE. On CIFAKE it is right less often ({_percent(own)}) "
        "than the detector that is asked without --model."
    )
    name = "the general detector that comes with this package"
    knows = "CIFAKE and seven small generators"
    temperature = found.facts["temperature"]
    return Asked(found.model, found.record, temperature, found.familiarity, name, own, limits=limits, knows=knows)


def predict(
    paths: Sequence[Path | str],
    name: str | None = None,
    folder: Path | str | None = None,
    write: Callable[[str], object] = print,
    as_json: bool = False,
) -> list[str]:
    """Say of image files whether they look REAL or FAKE, and draw a picture that explains each answer.

    Parameters
    ----------
    paths : sequence of Path or str
    name : str, optional
        The experiment whose run is asked; default: the detector that comes with the package. See `ask`.
    folder : Path or str, optional
        The folder for the pictures; default: ``predictions`` among the runs of the active profile.
    write : callable
        Gets the lines of the report, each as soon as it is known: what the model has learned from and how good it is, a
        table with a verdict on each image, and what the verdicts mean. If no file can be read, there is no report.
    as_json : bool
        Whether `write` gets a single JSON document instead, after the last image.

    Returns
    -------
    list of str
        What is wrong with each file that could not be read.

    Raises
    ------
    CifakeError
        ``folder`` is a file, or there is no suitable run.
    """
    profile = profiles.active()
    files = list(dict.fromkeys(map(Path, paths)))
    folder = Path(folder or profile.runs / "predictions")
    if folder.exists() and not folder.is_dir():
        raise CifakeError(
            f"{filenames.escaped(folder)} is a file. Expected the name of a folder, old or new, to write pictures into."
        )
    # A picture may replace an older picture, but none of the images to score.
    there = os.path.realpath(folder)
    taken = {filenames.same(path.name) for path in files if os.path.realpath(path.parent) == there}
    problems: list[str] = []
    batches = _readable(files, problems)
    first = next(batches, None)
    if first is None and not as_json:
        return problems
    asked, documents = ask(name, profile), []
    widths = max([len("image"), *(len(filenames.shown(path)) for path in files)]), len(UNLIKE)
    if not as_json:
        header = _row("image", "pixels", "verdict", "chance of FAKE", "explained in", widths)
        for line in (*_about(asked), _filled(SHRUNK), "", header):
            write(line)
    with progress.bar(desc="predicting", total=len(files), shown=len(files) > 1) as bar:
        for found in itertools.chain([first] if first else [], batches):
            bar.total = len(files) - len(problems)
            for answer in _answers(asked, found, profile):
                picture = folder / filenames.picture(answer.path.name, taken)
                _draw(picture, asked, answer)
                documents.append(_document(answer, picture))
                pixels = "{}×{}".format(*answer.size)
                cells = (filenames.shown(answer.path), pixels, answer.verdict, answer.chance)
                if not as_json:
                    with bar.external_write_mode():  # hides the bar in a terminal meanwhile
                        write(_row(*cells, filenames.escaped(picture), widths))
                bar.update()
    if as_json:
        write(json.dumps({"model": _model_document(asked), "images": documents, "problems": problems}, indent=1))
    else:
        for line in ("", *map(_filled, MEANING)):
            write(line)
    return problems


SHRUNK = (
    f"Every picture is cut to a square and shrunk to {SIZE}×{SIZE} pixels first, and so loses most of the traces that "
    "a detector could use. The numbers above were measured on images that have this size already. For larger pictures "
    "they do not hold."
)
NO_PROOF = "It proves nothing about a picture from elsewhere."
MEANING = (
    "Looks FAKE: the model finds what it has learned of rendered images. Looks REAL: it does not find it. An image "
    "that another program made often looks REAL, so this is no proof that a picture is genuine.",
    f"Not sure enough: a verdict needs a chance of FAKE of at least {_percent(SURE, 0)}, or of at most "
    f"{_percent(1 - SURE, 0)}. The chance is right where half of the pictures are FAKE; where fewer are, it is lower.",
    "Unlike the images it knows: the picture lies farther from them than 99 of 100 of them do. How often "
    "the model is right about such pictures is not known.",
)


def _row(image: str, pixels: str, verdict: str, chance: str, picture: str, widths: tuple[int, int]) -> str:
    return f"{image:<{widths[0]}}  {pixels:>11}  {verdict:<{widths[1]}}  {chance:>14}  {picture}"


def _readable(paths: Sequence[Path], problems: list[str]) -> Iterator[dict[Path, torch.Tensor]]:
    """Yield images, some at a time. Add to ``problems`` what is wrong with those that can't be read."""
    for start in range(0, len(paths), AT_ONCE):
        part = paths[start : start + AT_ONCE]
        results = dict(zip(part, images.read_all(part), strict=True))
        problems += [result for result in results.values() if isinstance(result, str)]
        found = {path: result for path, result in results.items() if not isinstance(result, str)}
        if found:
            yield found


def _answers(asked: Asked, found: dict[Path, torch.Tensor], profile: profiles.Profile) -> Iterator[Answer]:
    """Yield the answers about images, uint8 (3, 32, 32) by path."""
    pixels = torch.stack(list(found.values()))
    raw = _probabilities(asked, pixels, profile)
    scaled = evaluation.with_temperature(raw, asked.temperature)
    distances = asked.known.distances(familiarity.features_of(asked.model.backbone, pixels))
    for path, image, p, distance in zip(found, pixels, scaled, distances, strict=True):
        like = float(distance) <= asked.known.threshold
        yield Answer(path, image, images.size(path), float(p), float(distance), like)


def _probabilities(asked: Asked, pixels: torch.Tensor, profile: profiles.Profile) -> np.ndarray:
    detectors = {asked.name: (asked.model, asked.record)}
    return experiments.predict_images(detectors, pixels, profile.accelerator())[asked.name]


def _document(answer: Answer, picture: Path) -> dict:
    """Return an answer as JSON types."""
    return {
        "image": os.fspath(answer.path),
        "pixels": list(answer.size),
        "verdict": None if answer.called is None else LABELS[answer.called],
        "in_words": answer.verdict,
        "p_fake": round(answer.p, 6) if answer.known else None,
        "distance": round(answer.distance, 4),
        "picture": os.fspath(picture),
    }


def _model_document(asked: Asked) -> dict:
    """Return what a JSON report says about the model."""
    return {
        "name": asked.record.name,
        "trained_on": asked.record.data,
        "limits": f"{asked.learned_from} {SHRUNK}",
        "test_accuracy": asked.accuracy,
        "temperature": asked.temperature,
        "sure": SURE,
        "largest_distance_of_like_images": asked.known.threshold,
    }


def _draw(path: Path, asked: Asked, answer: Answer) -> None:
    """Write the picture of one answer."""
    evidence = dimensions = None
    if answer.called is not None:
        mirror_average = asked.record.hyperparameters.get("mirror_average", False)
        evidence = explanation.grad_cam(asked.model, answer.image, mirror_average)
        if any("dimension" in name or "variogram" in name for name in asked.model.statistics):
            dimensions = fractal.local_dimensions(answer.image.float().mean(0))
    chance = "" if answer.called is None else f" (chance of FAKE: {answer.chance})"
    title = f"{filenames.shown(answer.path.name, 60)}: {answer.verdict}{chance}"
    knows = asked.knows or data_sets.get(asked.record.data).title
    limits = f"{asked.record.name} says this, and knows {knows} alone. {NO_PROOF}"
    figure = explanation.picture(answer.image, title, answer.called, evidence, dimensions, limits)
    with replacing(path) as partial, warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # about letters that matplotlib's font lacks, which are drawn as boxes
        figure.savefig(partial, dpi=120)
    plt.close(figure)


def evaluate(
    fake: Path | str,
    real: Path | str | None = None,
    name: str | None = None,
    write: Callable[[str], object] = print,
) -> list[str]:
    """Say how well a model tells a folder of FAKE images of any kind from REAL ones.

    Parameters
    ----------
    fake : Path or str
        Folder of images, all of which are FAKE.
    real : Path or str, optional
        Folder of REAL images; default: the REAL images of the active profile's test split.
    name : str, optional
        The experiment whose run is asked; default: the detector that comes with the package. See `ask`.
    write : callable
        Gets the lines of the report: the model, the numbers of `evaluation.against`, how many images are unlike those
        that the model knows, and how the images were converted.

    Returns
    -------
    list of str
        What is wrong with each file that could not be read.

    Raises
    ------
    CifakeError
        A folder has no image that can be read, or there is no suitable run.
    """
    profile = profiles.active()
    fake_images, _, problems = images.read_folder(fake)
    if real is None:
        cifake = data.load(profile)
        real_images = cifake.test.images[cifake.test.labels == REAL]
        real_from = f"the REAL test images of {data_sets.get(cifake.source).title}"
    else:
        real_images, _, others = images.read_folder(real)
        real_from, problems = filenames.escaped(real), problems + others
    asked = ask(name, profile)
    p = _probabilities(asked, torch.cat([real_images, fake_images]), profile)
    result = evaluation.against(p[: len(real_images)], p[len(real_images) :])
    places = {
        "FAKE": (fake_images, "detected", filenames.escaped(fake)),
        "REAL": (real_images, "false_alarms", real_from),
    }
    lines = []
    for label, (pixels, key, place) in places.items():
        unlike = asked.known.distances(familiarity.features_of(asked.model.backbone, pixels)) > asked.known.threshold
        called = round(result[key] * len(pixels))
        interval = f"{_percent(result[f'{key}_low'])} to {_percent(result[f'{key}_high'])}"
        lines.append(
            f"{label}: {called:,} of {len(pixels):,} called FAKE ({interval}). {int(unlike.sum()):,} of the "
            f"{len(pixels):,} are unlike the images that the model knows, and are counted all the same. They are from "
            f"{place}."
        )
    interval = f"{result['auroc_low']:.4f} to {result['auroc_high']:.4f}"
    lines.append(
        f"AUROC {result['auroc']:.4f} ({interval}): the chance that a FAKE image of these has a higher P(FAKE) than a "
        "REAL one."
    )
    if real is None and profile.data != asked.record.data:
        lines.append(
            f"The model has learned from {asked.record.data}, not from images like these REAL ones. Name a folder of "
            "your own photographs with --real."
        )
    if min(len(real_images), len(fake_images)) < FEW:
        lines.append(f"There are fewer than {FEW} images of a kind. These numbers say next to nothing.")
    note = (
        "An image is called FAKE where P(FAKE) is above 0.5, also where `predict` would give no verdict. Intervals in "
        "brackets are 95 % intervals."
    )
    for line in (*_about(asked), "", *map(_filled, lines), "", _filled(note), _filled(PREPARED)):
        write(line)
    return problems


def _about(asked: Asked) -> list[str]:
    """Return lines that say which model is asked, from what it has learned and how good it is there."""
    record, labels = asked.record, asked.record.labels["test"]
    p = evaluation.with_temperature(record.probabilities["test"], asked.temperature)
    sure = np.maximum(p, 1 - p) >= SURE
    right = ((p > 0.5) == labels)[sure].mean() if sure.any() else float("nan")
    which = f"test images of {data_sets.get(record.data).title}" if asked.limits else "such images"
    return [
        _filled(f"Asked: {asked.name}. {asked.learned_from}"),
        _filled(
            f"Of {len(labels):,} {which} that it had not seen, it labels "
            f"{_percent(asked.accuracy)} correctly. It is sure enough for a verdict on "
            f"{_percent(sure.mean())} of them, and {_percent(right)} of these verdicts are right. {asked.facts}"
        ),
    ]


def _filled(text: str) -> str:
    return textwrap.fill(text.strip(), 100, break_on_hyphens=False)
