"""Measure how detectors do on kinds of generators that they never saw, and make the general head.

    export CIFAKE_DATA=FOLDER CIFAKE_RUNS=FOLDER
    python -m tools.make_general features
    python -m tools.make_general alone resnet50_embedded
    python -m tools.make_general alone resnet50_strong --weights FILE
    python -m tools.make_general heads
    python -m tools.make_general final

The first command keeps means and spreads of the embedded backbone's maps among the runs, and needs three minutes on one
core. The second asks the detector that comes with the package about the zoo (three minutes), the third a trained model,
whose state dict is in a safetensors file (ten minutes). ``heads`` trains linear heads on the features, in closed form,
for every set of kinds (two minutes). ``final`` chooses a head with a hidden layer on re-renderings alone, trains one
without each kind, and one on all, which becomes ``general_head.safetensors`` (ten minutes). All write into
``cifake_utils/reference/zoo`` and ``cifake_utils/assets``, with the checksums of what is in these folders. Every random
choice has a seed.

Who has seen which photographs: the generators were trained on all REAL images of the train split, as the backbone was.
Heads learn from 5,000 of these, of which 1,000 count once more after CIFAKE's encoder, as REAL, since re-rendered
photographs went through it twice. What is measured is measured on REAL images of the test split, which no network saw.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from cifake_utils import CifakeError, catalogue, data, embedded, familiarity, general, models, profiles, weights
from cifake_utils.batches import normalise
from cifake_utils.lessons import unseen, zoo
from cifake_utils.lessons.unseen import AGAIN, ALONE, CIFAKE, KINDS, PHOTOGRAPHS, RENDERINGS, SUBSETS, WAYS
from cifake_utils.support import progress, verified

STAGES = ("stem", "layer1", "layer2")
ABOUT = "about.json"


@dataclass(frozen=True)
class Part:
    """Images of a split with one label, of which some are taken, always the same.

    Attributes
    ----------
    split : str
    label : int
    count : int
    encoded_again : bool
        Whether they go through CIFAKE's encoder once more.
    """

    split: str
    label: int
    count: int
    encoded_again: bool = False

    def rows(self, cifake: data.Cifake) -> torch.Tensor:
        """Return their rows in the split. The photographs that are made again come first, then a random choice."""
        images = cifake.splits[self.split]
        first = torch.zeros(0, dtype=torch.long)
        if self.label == data.REAL and self.split != "test":
            first = zoo.chosen(images)
        rest = (images.labels == self.label).nonzero()[:, 0]
        rest = rest[~torch.isin(rest, first)]
        order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(1))
        rest = rest[order[: max(0, WHOLE[self.split, self.label] - len(first))]].sort().values
        return torch.cat([first, rest])[: self.count]

    def images(self, cifake: data.Cifake) -> torch.Tensor:
        """Return the images, uint8 (N, 3, 32, 32)."""
        found = cifake.splits[self.split].images[self.rows(cifake)]
        return zoo.unpack(*zoo.pack(found).values()) if self.encoded_again else found


WHOLE = {
    ("train", data.REAL): 5_000,
    ("val", data.REAL): 3_000,
    ("test", data.REAL): 3_000,
    ("train", data.FAKE): 5_000,
    ("val", data.FAKE): 1_000,
    ("test", data.FAKE): 1_500,
}
PARTS = {
    f"{split}_{'real' if label == data.REAL else 'fake'}": Part(split, label, count)
    for (split, label), count in WHOLE.items()
} | {
    "train_again": Part("train", data.REAL, 1_000, encoded_again=True),
    "test_again": Part("test", data.REAL, 500, encoded_again=True),
}


def rendered() -> list[str]:
    """Return the names of the files with photographs that were made again."""
    return [path.stem for path in sorted(zoo.FOLDER.glob("*.npz")) if path.stem not in KINDS]


def image_sets(cifake: data.Cifake) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and images, uint8 (N, 3, 32, 32), of all that heads learn from or are asked about."""
    for name, part in PARTS.items():
        yield name, part.images(cifake)
    for kind in KINDS:
        yield kind, zoo.read(zoo.FOLDER / f"{kind}.npz")[zoo.SAMPLES][0]
    for name in rendered():
        yield name, zoo.read(zoo.FOLDER / f"{name}.npz")[zoo.TRAINING][0]


def cache_file(name: str) -> Path:
    return profiles.runs_folder() / "cache" / "general" / f"{name}.safetensors"


def make_features() -> None:
    """Keep the features of all images. Those that are there already are not computed again."""
    cifake = data.load("full")
    backbone = models.backbone(weights.load_offline(), general.LAYOUT).eval().folded()
    backbone = backbone.to(memory_format=torch.channels_last)
    for name, images in image_sets(cifake):
        if not verified.is_whole(cache_file(name), "features"):
            values = familiarity.features_of(backbone, images, STAGES).half()
            verified.save_tensors(cache_file(name), {"features": values}, recipe="features")
            print(f"{name}: {tuple(values.shape)}", flush=True)


@cache
def features(name: str, stages: tuple[str, ...]) -> torch.Tensor:
    """Return the means and spreads of these stages that `make_features` kept: float32 (N, D)."""
    kept = verified.load_tensors(cache_file(name), "features")[0]["features"].float()
    widths = [general.LAYOUT.channels[stage] for stage in STAGES]
    parts = kept.split(widths * 2, 1)
    places = [STAGES.index(stage) for stage in stages]
    return torch.cat([parts[half + place] for half in (0, len(STAGES)) for place in places], 1)


@dataclass(frozen=True)
class Shares:
    """What a head learns to call FAKE: the kinds, and the shares of kinds, re-renderings and CIFAKE's FAKE."""

    kinds: tuple[str, ...] = ()
    renderings: float = 0
    cifake: float = 0

    def weights(self) -> dict[str, float]:
        """Return the weight of each set of images; half of the whole weight is on REAL ones."""
        named: dict[str, float] = {kind: 1 / len(self.kinds) for kind in self.kinds}
        named |= {name: self.renderings / len(rendered()) for name in rendered() if self.renderings}
        named |= {"train_fake": self.cifake} if self.cifake else {}
        total = sum(named.values())
        return {name: weight / total / 2 for name, weight in named.items()} | REAL_WEIGHTS


REAL_WEIGHTS = {"train_real": 0.35, "train_again": 0.15}

# The simple head: linear, on means and spreads of layer2, in closed form.
SIMPLE_STAGES = ("layer2",)
RIDGE = 0.1
LIMIT = 5.0


def standardised(stages: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the scale of the features of REAL training images, both (D,)."""
    found = features("train_real", stages)
    return found.mean(0), found.std(0) + 1e-3


@cache
def inputs(name: str) -> torch.Tensor:
    """Return what the simple head sees: standardised features and a 1, (N, D + 1)."""
    mean, scale = standardised(SIMPLE_STAGES)
    values = ((features(name, SIMPLE_STAGES) - mean) / scale).clamp(-LIMIT, LIMIT)
    return torch.cat([values, torch.ones(len(values), 1)], 1)


@cache
def moments(name: str, part: str = "whole") -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean of the products of inputs (D + 1, D + 1) and of the inputs, over all images or the first half."""
    values = inputs(name)
    values = values if part == "whole" else values[: len(values) // 2]
    return values.T @ values / len(values), values.mean(0)


class Simple:
    """Ridge regression of the label (-1 for REAL, 1 for FAKE) on the inputs, and a logistic regression of the label on
    what it says, which makes it a probability.
    """

    def __init__(self, shares: Shares, part: str = "whole") -> None:
        products, target, named = RIDGE * torch.eye(inputs("train_real").shape[1]), 0, shares.weights()
        for name, weight in named.items():
            both, mean = moments(name, part if name in shares.kinds else "whole")
            products, target = products + weight * both, target + weight * mean * (-1 if name in REAL_WEIGHTS else 1)
        self.solution = torch.cholesky_solve(target[:, None], torch.linalg.cholesky(products))[:, 0]
        said = {name: (inputs(name) @ self.solution).numpy() for name in named}
        labels = np.concatenate([np.full(len(said[name]), int(name not in REAL_WEIGHTS)) for name in named])
        shared = np.concatenate([np.full(len(said[name]), named[name] / len(said[name])) for name in named])
        self.scale = LogisticRegression(C=1e6).fit(np.concatenate(list(said.values()))[:, None], labels, shared)

    def probabilities(self, name: str) -> np.ndarray:
        """Return P(FAKE) of a set of images, float64 (N,)."""
        return self.scale.predict_proba((inputs(name) @ self.solution).numpy()[:, None])[:, 1]


Answers = dict[str, np.ndarray]
FEW = slice(None, None, 3)  # of the photographs, for the many heads
HALF = slice(500, None)  # of a kind's images


def write(name: str, answers: Mapping[str, Answers], about: dict) -> None:
    """Write P(FAKE) by detector and by what it was asked about, and add facts to the JSON file beside them."""
    arrays = {
        f"{detector}/{asked}": p.astype(np.float16) for detector, row in answers.items() for asked, p in row.items()
    }
    verified.save_arrays(unseen.FOLDER / f"{name}.npz", **arrays)
    path = unseen.FOLDER / ABOUT
    verified.save_json(path, (verified.load_json(path) if path.exists() else {}) | about)
    zoo.write_sums(unseen.FOLDER)


def subset_answers() -> dict[str, Answers]:
    """Return what the simple head says, trained on every set of one to six kinds and on the rows of the matrix."""

    def ask(head: Simple, kinds: tuple[str, ...]) -> Answers:
        asked = {PHOTOGRAPHS: head.probabilities("test_real")[FEW], CIFAKE: head.probabilities("test_fake")[HALF]}
        return asked | {kind: head.probabilities(kind)[HALF] for kind in kinds}

    chosen = [trained for number in range(1, len(KINDS)) for trained in combinations(KINDS, number)]
    answers = {}
    for kinds in progress.bar(chosen, "sets of kinds", len(chosen)):
        answers["+".join(kinds)] = ask(Simple(Shares(kinds)), tuple(kind for kind in KINDS if kind not in kinds))
    for kind in KINDS:
        answers[f"half of {kind}"] = ask(Simple(Shares((kind,)), "first half"), (kind,))
    answers[RENDERINGS] = ask(Simple(Shares(renderings=1)), KINDS)
    answers[CIFAKE] = ask(Simple(Shares(cifake=1)), KINDS)
    return answers


# Ways to train the simple head: the shares of other kinds (all or none), of re-renderings and of CIFAKE's FAKE.
SIMPLE_WAYS = {
    "CIFAKE alone": (0, 0, 1),
    "the other kinds": (1, 0, 0),
    "re-renderings alone": (0, 1, 0),
    "the other kinds and re-renderings": (1, 1, 0),
    "the other kinds, re-renderings and CIFAKE": (1, 1, 1),
}


def shares_without(kind: str, others: float, renderings: float, cifake: float) -> Shares:
    kinds = tuple(other for other in KINDS if other != kind) if others else ()
    return Shares(kinds, renderings, cifake)


ASKED = {PHOTOGRAPHS: "test_real", AGAIN: "test_again", CIFAKE: "test_fake"}


def way_answers() -> dict[str, Answers]:
    """Return what the simple head says, for each way to train and each kind that it never saw."""
    answers = {}
    for way, settings in SIMPLE_WAYS.items():
        for kind in KINDS:
            head = Simple(shares_without(kind, *settings))
            asked = {name: head.probabilities(images) for name, images in ASKED.items()}
            answers[f"{way} without {kind}"] = asked | {kind: head.probabilities(kind)}
    return answers


def make_heads() -> None:
    """Train the simple heads, and keep what they say."""
    start = time.monotonic()
    cifake_hash = data.load_hash("full")
    write(SUBSETS, subset_answers(), {})
    facts = {
        "simple_head": {
            "features": "means and logarithms of standard deviations of the maps of layer2 of the embedded backbone, "
            "images enlarged twice",
            "training": "ridge regression of the label, closed form",
            "ridge": RIDGE,
            "weights_of_real": REAL_WEIGHTS,
            "chosen_on": "nothing: layer2 and a linear head were fixed before the zoo was looked at",
        },
        "images": {name: len(features(name, SIMPLE_STAGES)) for name in [*PARTS, *KINDS, *rendered()]},
        "backbone": weights.load_offline().hash,
        "data_hash": cifake_hash,
        "ways": list(SIMPLE_WAYS),
    }
    write(WAYS, way_answers(), facts | {"seconds_of_simple_heads": round(time.monotonic() - start, 1)})


@torch.inference_mode()
def ask_detector(model: models.Detector, images: torch.Tensor, low_precision: bool) -> np.ndarray:
    """Return P(FAKE) of images, the mean over each image and its mirror image: float32 (N,)."""
    answers = []
    with torch.autocast("cpu", torch.bfloat16, enabled=low_precision):
        for part in images.split(50):
            sides = [model(normalise(side)).float().softmax(1)[:, 1] for side in (part, part.flip(3))]
            answers.append((sides[0] + sides[1]) / 2)
    return torch.cat(answers).numpy()


def ask_alone(name: str, file: Path | None) -> None:
    """Keep what a detector says that learned from CIFAKE alone.

    Parameters
    ----------
    name : str
        An experiment. That of `embedded` is the detector that comes with the package.
    file : Path or None
        Its state dict as safetensors, for any other. Fewer images are asked about then, with bfloat16 autocast.
    """
    if name == embedded.EXPERIMENT:
        model, count = embedded.load().model, 1_000
    elif file is None:
        raise CifakeError(
            f"Found no weights for {name}. Expected a file after --weights, with the state dict of a run."
        )
    else:
        model, count = catalogue.get(name).build(weights.NONE), 500
        model.load_state_dict({key: value.to(model.state_dict()[key].dtype) for key, value in load_file(file).items()})
        model = model.eval()
        model.backbone = model.backbone.folded()
    model, cifake = model.to(memory_format=torch.channels_last), data.load("full")

    def some(images: torch.Tensor, number: int) -> torch.Tensor:
        return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(2))[:number]]

    photographs = some(PARTS["test_real"].images(cifake), 2 * count)
    asked = {PHOTOGRAPHS: photographs, CIFAKE: some(PARTS["test_fake"].images(cifake), count)}
    asked |= {kind: zoo.read(zoo.FOLDER / f"{kind}.npz")[zoo.SAMPLES][0][:count] for kind in KINDS}
    asked[AGAIN] = zoo.unpack(*zoo.pack(photographs[:count]).values())
    start, answers = time.monotonic(), {}
    for key, images in progress.bar(asked.items(), name, len(asked)):
        answers[key] = ask_detector(model, images, file is not None)
    keep_alone(name, answers, round(time.monotonic() - start, 1))


def keep_alone(name: str, answers: Answers, seconds: float) -> None:
    """Add what a detector says to the file of those that learned from CIFAKE alone."""
    path = unseen.FOLDER / f"{ALONE}.npz"
    before = unseen.read(ALONE) if path.exists() else {}
    known = verified.load_json(unseen.FOLDER / ABOUT).get("alone", {}) if (unseen.FOLDER / ABOUT).exists() else {}
    asked = {key: len(p) for key, p in answers.items()}
    write(ALONE, before | {name: answers}, {"alone": known | {name: {"images": asked, "seconds": seconds}}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("features", "alone", "heads"))
    parser.add_argument("name", nargs="?", default=embedded.EXPERIMENT, help="for `alone`: which detector is asked")
    parser.add_argument("--weights", type=Path, help="for `alone`: its state dict, a safetensors file")
    options = parser.parse_args()
    if options.step == "alone":
        ask_alone(options.name, options.weights)
    else:
        {"features": make_features, "heads": make_heads}[options.step]()


if __name__ == "__main__":
    main()
