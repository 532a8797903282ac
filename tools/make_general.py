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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.ndimage import median_filter
from skimage.restoration import denoise_tv_chambolle
from sklearn.linear_model import LogisticRegression

from cifake_utils import (
    CifakeError,
    catalogue,
    data,
    embedded,
    evaluation,
    familiarity,
    general,
    models,
    profiles,
    records,
    training,
    weights,
)
from cifake_utils.batches import ImageBatches
from cifake_utils.lessons import robustness, unseen, zoo
from cifake_utils.lessons.unseen import AGAIN, ALONE, CIFAKE, KINDS, PHOTOGRAPHS, RENDERINGS, SUBSETS, TWINS, WAYS
from cifake_utils.support import progress, verified
from cifake_utils.support.fingerprint import recipe_hash

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


def rendered() -> tuple[str, ...]:
    """Return the names of the files with photographs that were made again."""
    return tuple(path.stem for path in sorted(zoo.FOLDER.glob("*.npz")) if path.stem not in KINDS)


def sharpened(images: torch.Tensor) -> torch.Tensor:
    """Return images (N, 3, H, W) with twice the difference from their blurred copies: an unsharp mask."""
    values = images.float()
    return (2 * values - robustness.blur(images, 1.0).float()).round().clamp(0, 255).to(torch.uint8)


def smoothed(images: torch.Tensor) -> torch.Tensor:
    """Return images (N, 3, H, W) of less total variation (Chambolle, *An Algorithm for Total Variation Minimization and
    Applications*, Journal of Mathematical Imaging and Vision 2004).
    """
    values = [denoise_tv_chambolle(image.permute(1, 2, 0).numpy() / 255, 0.06, channel_axis=2) for image in images]
    return torch.from_numpy(255 * np.stack(values)).round().clamp(0, 255).to(torch.uint8).permute(0, 3, 1, 2)


# Photographs that are changed by hand, without any network.
CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "blurred": partial(robustness.blur, sigma=0.8),
    "scaled down and up": partial(robustness.rescale, pixels=20),
    "sharpened": sharpened,
    "noisy": partial(robustness.noise, sigma=6),
    "smoothed": smoothed,
    "median of 3×3 pixels": lambda images: torch.from_numpy(median_filter(images.numpy(), size=(1, 1, 3, 3))),
}
CHANGED = {"train": slice(1_000, 1_700), "test": slice(500)}  # of PARTS: not those that networks made again


def image_sets(cifake: data.Cifake) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and images, uint8 (N, 3, 32, 32), of all that heads learn from or are asked about."""
    for name, part in PARTS.items():
        yield name, part.images(cifake)
    for kind in KINDS:
        yield kind, zoo.read(zoo.FOLDER / f"{kind}.npz")[zoo.SAMPLES][0]
    for name in rendered():
        yield name, zoo.read(zoo.FOLDER / f"{name}.npz")[zoo.TRAINING][0]
    for split, some in CHANGED.items():
        photographs = PARTS[f"{split}_real"].images(cifake)[some]
        for change, compute in CHANGES.items():
            yield f"{split}, {change}", zoo.unpack(*zoo.pack(compute(photographs)).values())


def cache_file(name: str) -> Path:
    return profiles.runs_folder() / "cache" / "general" / f"{name}.safetensors"


@cache
def cache_recipe() -> str:
    """Return the fingerprint of what all features depend on: the backbone, CIFAKE's images, the zoo's, and how they
    are chosen and changed. It can't see the arithmetic of `CHANGES`: after a change there, delete the cache.
    """
    zoo_sums = (zoo.FOLDER / verified.SUMS).read_text(encoding="utf-8")
    backbone = [weights.load_offline().hash, models.BACKBONE_VERSION, general.LAYOUT.sizes, STAGES]
    changes = {change: getattr(compute, "keywords", None) for change, compute in CHANGES.items()}
    parts = [{name: asdict(part) for name, part in PARTS.items()}, list(WHOLE.values()), str(CHANGED), changes]
    return recipe_hash([*backbone, data.load("full").hash, zoo_sums, parts])


def make_features() -> None:
    """Keep the features of all images. Those that are there already are not computed again."""
    cifake = data.load("full")
    backbone = models.backbone(weights.load_offline(), general.LAYOUT).eval().folded()
    backbone = backbone.to(memory_format=torch.channels_last)
    for name, images in image_sets(cifake):
        if not verified.is_whole(cache_file(name), cache_recipe()):
            values = familiarity.features_of(backbone, images, STAGES).half()
            verified.save_tensors(cache_file(name), {"features": values}, recipe=cache_recipe())
            print(f"{name}: {tuple(values.shape)}", flush=True)


@cache
def features(name: str, stages: tuple[str, ...]) -> torch.Tensor:
    """Return the means and spreads of these stages that `make_features` kept: float32 (N, D)."""
    kept = verified.load_tensors(cache_file(name), cache_recipe())[0]["features"].float()
    widths = [general.LAYOUT.channels[stage] for stage in STAGES]
    parts = kept.split(widths * 2, 1)
    places = [STAGES.index(stage) for stage in stages]
    return torch.cat([parts[half + place] for half in (0, len(STAGES)) for place in places], 1)


@dataclass(frozen=True)
class Shares:
    """What a head learns to call FAKE, as if there were as many images of each of three sets.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of generators.
    renderings : tuple of str
        Names of files of photographs that were made again.
    cifake : bool
        Whether CIFAKE's FAKE takes part.
    """

    kinds: tuple[str, ...] = ()
    renderings: tuple[str, ...] = ()
    cifake: bool = False

    def weights(self) -> dict[str, float]:
        """Return the weight of each set of images; half of the whole weight is on REAL ones."""
        named = {name: 1 / len(names) for names in (self.kinds, self.renderings) for name in names}
        named |= {"train_fake": 1.0} if self.cifake else {}
        total = sum(named.values())
        return {name: weight / total / 2 for name, weight in named.items()} | REAL_WEIGHTS


REAL_WEIGHTS = {"train_real": 0.35, "train_again": 0.15}

# The simple head: linear, on means and spreads of layer2, in closed form.
SIMPLE_STAGES = ("layer2",)
RIDGE = 0.1


def standardised(stages: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean and the scale of the features of REAL training images, both (D,)."""
    found = features("train_real", stages)
    return found.mean(0), found.std(0) + 1e-3


@cache
def inputs(name: str) -> torch.Tensor:
    """Return what the simple head sees: standardised features and a 1, (N, D + 1)."""
    mean, scale = standardised(SIMPLE_STAGES)
    values = ((features(name, SIMPLE_STAGES) - mean) / scale).clamp(-general.LIMIT, general.LIMIT)
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
        root = torch.linalg.cholesky(products)
        solved = torch.cholesky_solve(target[:, None], root)  # pyright: ignore[reportIndexIssue]
        self.solution = solved[:, 0]
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


def write(name: str, answers: Mapping[str, Answers], about: dict, kind: type[np.floating] = np.float16) -> None:
    """Write P(FAKE) by detector and by what it was asked about, and add facts to the JSON file beside them.

    Half precision knows no probability between 0 and 6e-8. Detectors that are sure need single precision.
    """
    arrays = {f"{detector}/{asked}": p.astype(kind) for detector, row in answers.items() for asked, p in row.items()}
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
    answers[CIFAKE] = ask(Simple(Shares(cifake=True)), KINDS)
    answers[RENDERINGS] = ask(Simple(Shares(renderings=rendered())), KINDS)
    others = replace(shares_without("ddpm"), kinds=(), cifake=False)
    answers[f"{RENDERINGS} of other networks"] = ask(Simple(others), ("ddpm",))
    return answers


# Ways to train the simple head, and what takes no part in each of them.
SIMPLE_WAYS: dict[str, dict] = {
    "CIFAKE alone": {"kinds": (), "renderings": ()},
    "the other kinds": {"renderings": (), "cifake": False},
    "re-renderings alone": {"kinds": (), "cifake": False},
    "the other kinds and re-renderings": {"cifake": False},
    "the other kinds, re-renderings and CIFAKE": {},
}


# Re-renderings by a kind's own network, which never train a head that is tested on the kind; and those by networks that
# are built like it. The flow has the network of the DDPM, and the VAE is an autoencoder.
OWN = {"ddpm": "noised"}
RELATIVES = OWN | {"flow_matching": "noised", "vae": "autoencoder"}


def shares_without(*kinds: str, made_by: Mapping[str, str] = OWN) -> Shares:
    """Return the shares of a head that learns from all but these kinds and their re-renderings in ``made_by``."""
    families = tuple(made_by[kind] for kind in kinds if kind in made_by)
    return Shares(
        tuple(kind for kind in KINDS if kind not in kinds),
        tuple(name for name in rendered() if not name.startswith(families)),
        cifake=True,
    )


def twins(kind: str) -> tuple[str, ...]:
    """Return a kind and the kind that draws nearly the same pictures, if there is one."""
    return TWINS if kind in TWINS else (kind,)


ASKED = {PHOTOGRAPHS: "test_real", AGAIN: "test_again", CIFAKE: "test_fake"}


def way_answers() -> dict[str, Answers]:
    """Return what the simple head says, for each way to train and each kind that it never saw."""
    answers = {}
    for way, left_out in SIMPLE_WAYS.items():
        for kind in KINDS:
            head = Simple(replace(shares_without(kind), **left_out))
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
            "chosen_on": "trials on other images, for layer2; the first ridge and a linear head were kept. Trials on "
            "the zoo, made before, had layer1 do better",
        },
        "images": {name: len(features(name, SIMPLE_STAGES)) for name in [*PARTS, *KINDS, *rendered()]},
        "backbone": weights.load_offline().hash,
        "data_hash": cifake_hash,
        "ways": list(SIMPLE_WAYS),
    }
    write(WAYS, way_answers(), facts | {"seconds_of_simple_heads": round(time.monotonic() - start, 1)})


@dataclass(frozen=True)
class Settings:
    """What a head with a hidden layer is made from.

    Attributes
    ----------
    stages : tuple of str
        Whose maps it sees.
    hidden, seeds : int
        The width of the hidden layer of each of so many heads, of which it is the average.
    epochs, rate, decay, drop
        Of AdamW with one cycle; the last is the share of hidden units that are left out.
    """

    stages: tuple[str, ...]
    hidden: int = 128
    seeds: int = 1
    epochs: int = 8
    rate: float = 2e-3
    decay: float = 0.02
    drop: float = 0.2


BATCH = 256
CANDIDATES = [Settings(stages) for stages in (("layer1",), ("layer2",), ("layer1", "layer2"), STAGES)]
# Re-renderings that are left out together: the networks in a family have the same parts.
FAMILIES = ("autoencoder_nearest", "autoencoder_shuffle", "autoencoder_transposed", "noised")
LEAST_CIFAKE = 0.95


def fit_head(named: Mapping[str, float], settings: Settings, seed: int) -> general.Head:
    """Return a head that was trained on sets of images, which are drawn by their weights."""
    mean, scale = standardised(settings.stages)
    torch.manual_seed(seed)
    head = general.Head(len(mean), settings.hidden)
    head.mean.copy_(mean)
    head.scale.copy_(scale)
    values = torch.cat([features(name, settings.stages) for name in named])
    counts = [len(features(name, settings.stages)) for name in named]
    labels = torch.repeat_interleave(
        torch.tensor([int(name not in REAL_WEIGHTS) for name in named]), torch.tensor(counts)
    )
    share = torch.cat([torch.full((count,), named[name] / count) for name, count in zip(named, counts, strict=True)])
    values = head.standardised(values)
    steps = settings.epochs * (len(values) // BATCH)
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=steps)
    for rows in torch.multinomial(share, BATCH * steps, replacement=True).split(BATCH):
        hidden = torch.nn.functional.dropout(head.hidden(values[rows]).relu(), settings.drop)
        loss = torch.nn.functional.cross_entropy(head.classify(hidden), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


def fitted(named: Mapping[str, float], settings: Settings) -> general.Head:
    """Return the average of heads of several seeds, rounded as its file is."""
    head = general.averaged([fit_head(named, settings, seed) for seed in range(settings.seeds)])
    head.load_state_dict(weights.dequantise(weights.quantise(head.state_dict())))
    return head.eval()


@torch.inference_mode()
def said(head: general.Head, settings: Settings, name: str) -> np.ndarray:
    """Return P(FAKE) of a set of images, float32 (N,)."""
    return head(features(name, settings.stages)).softmax(1)[:, 1].numpy()


def against(real: np.ndarray, fake: np.ndarray) -> float:
    """Return the AUROC of P(FAKE) of REAL and of FAKE images."""
    return unseen.auroc(np.repeat([data.REAL, data.FAKE], [len(real), len(fake)]), np.concatenate([real, fake]))


def choose() -> tuple[Settings, list[dict]]:
    """Return the best of `CANDIDATES` by AUROC on families of re-renderings that it was not trained on.

    The kinds of generators take no part in this. Of the candidates whose AUROC on validation images of CIFAKE is at
    least `LEAST_CIFAKE`, that with the highest mean over the families is taken. The second result says what each had.
    """
    tried = []
    for settings in CANDIDATES:
        families, own = {}, []
        for family in FAMILIES:
            left_out = [name for name in rendered() if name.startswith(family)]
            others = tuple(name for name in rendered() if name not in left_out)
            head = fitted(Shares(renderings=others, cifake=True).weights(), settings)
            real = said(head, settings, "val_real")
            families[family] = float(np.mean([against(real, said(head, settings, name)) for name in left_out]))
            own.append(against(real, said(head, settings, "val_fake")))
        row = {"stages": list(settings.stages), "families": families, "cifake": float(np.mean(own))}
        tried.append(row | {"mean": float(np.mean(list(families.values())))})
        print(tried[-1], flush=True)
    good = [place for place, row in enumerate(tried) if row["cifake"] >= LEAST_CIFAKE] or range(len(tried))
    return CANDIDATES[max(good, key=lambda place: tried[place]["mean"])], tried


FINAL = "the general detector"
TWINLESS = "the general detector, without the kind's twin too"
BY_HAND = "the general detector, photographs changed by hand in place of re-renderings"
STRICT = "the general detector, no re-renderings by networks like the kind's"
LICENCE = "MIT, as CIFAKE's images, on which alone all weights that take part in it were trained"


LEARNED_FROM = (
    "CIFAKE (photographs and images of Stable Diffusion 1.4), from 1,000 images of each of seven kinds of small "
    "generators, trained on its photographs for one to three minutes each on a shared GPU, and from "
    "photographs that six autoencoders and a diffusion model made again."
)


def make_final() -> None:
    """Choose a head, measure it on each kind that it was not trained on, and train and write the one on all kinds."""
    start = time.monotonic()
    chosen, tried = choose()
    settings = replace(chosen, seeds=3)
    answers = {key: row for key, row in unseen.read(WAYS).items() if key.partition(" without ")[0] in SIMPLE_WAYS}
    by_hand = tuple(f"train, {change}" for change in CHANGES)
    for kind in KINDS:
        shares = {
            FINAL: shares_without(kind),
            TWINLESS: shares_without(*twins(kind)),
            STRICT: shares_without(kind, made_by=RELATIVES),
            BY_HAND: replace(shares_without(kind), renderings=by_hand),
        }
        done: dict[Shares, Answers] = {}
        for way, of_way in shares.items():
            if of_way not in done:
                head = fitted(of_way.weights(), settings)
                asked = ASKED | {kind: kind}
                done[of_way] = {name: said(head, settings, images) for name, images in asked.items()}
            found = answers[f"{way} without {kind}"] = done[of_way]
            print(f"{kind}: {way}: {against(found[PHOTOGRAPHS], found[kind]):.3f}", flush=True)
    recipe = asdict(settings) | {
        "layout": general.LAYOUT.sizes,
        "batch": BATCH,
        "shares": "a third each: kinds, re-renderings, CIFAKE",
    }
    facts = {"settings": recipe, "chosen_on": "re-renderings alone, one family left out at a time", "tried": tried}
    write(WAYS, answers, {"ways": [*SIMPLE_WAYS, FINAL, TWINLESS, STRICT, BY_HAND], "final_head": facts})
    unseen.read.cache_clear()
    write_head(settings, recipe, round(time.monotonic() - start, 1))


def write_head(settings: Settings, recipe: dict, seconds: float) -> None:
    """Train a head on all kinds, and write its file and its record."""
    head = fitted(Shares(KINDS, rendered(), cifake=True).weights(), settings)
    probabilities, labels, metrics = {}, {}, {}
    for split in ("val", "test"):
        fake = said(head, settings, f"{split}_fake")
        real = said(head, settings, f"{split}_real")[:: len(features(f"{split}_real", STAGES)) // len(fake)]
        probabilities[split] = np.concatenate([real, fake])
        labels[split] = np.repeat([data.REAL, data.FAKE], [len(real), len(fake)])
        metrics[split] = evaluation.score(probabilities[split], labels[split])
    ways = unseen.ways().set_index("way")
    changed = {change: float((said(head, settings, f"test, {change}") > 0.5).mean()) for change in CHANGES}
    facts = {
        "stages": list(settings.stages),
        "recipe": recipe,
        "backbone": weights.load_offline().hash,
        "licence": LICENCE,
        "temperature": evaluation.fit_temperature(probabilities["val"], labels["val"]),
        "test": metrics["test"],
        "learned_from": LEARNED_FROM,
        "unseen": {kind: float(ways.loc[TWINLESS, kind]) for kind in KINDS},
        "unseen_mean": float(ways.loc[TWINLESS, "mean"]),
        "unseen_strict": float(ways.loc[STRICT, "vae"]),
        "called_fake": {"photographs": float((said(head, settings, "test_real") > 0.5).mean())} | changed,
    }
    known = [*KINDS, *rendered(), "train_again"] + ["train_real", "train_fake"] * 2
    train = torch.cat([features(name, familiarity.STAGES)[:500] for name in known])
    val = torch.cat([features(name, familiarity.STAGES)[-1_000:] for name in ("val_real", "val_fake")])
    familiarity.save(general.FILE, head.state_dict(), familiarity.fit(train, val), facts)
    record = records.Record(
        experiment=general.NAME,
        profile="full",
        seed=0,
        data="CIFAKE",
        data_hash=data.load_hash("full"),
        weights=weights.load_offline().name,
        weights_hash=weights.load_offline().hash,
        hyperparameters=recipe | {"mirror_average": False},
        seconds={"choice_and_training": seconds},
        curves={},
        metrics=metrics,
        probabilities=probabilities,
        labels=labels,
    )
    records.save(record, unseen.FOLDER)
    zoo.write_sums(unseen.FOLDER)
    zoo.write_sums(general.FILE.parent, "*.npz", "*.safetensors")


def ask_detector(model: models.Detector, images: torch.Tensor) -> np.ndarray:
    """Return P(FAKE) of images, the mean over each image and its mirror image: float32 (N,)."""
    batches = ImageBatches(images, torch.zeros(len(images)), 50)
    return (training.predict(model, batches) + training.predict(model, batches, mirrored=True)) / 2


def ask_alone(name: str, file: Path | None) -> None:
    """Keep what a detector says that learned from CIFAKE alone.

    Parameters
    ----------
    name : str
        An experiment. That of `embedded` is the detector that comes with the package.
    file : Path or None
        Its state dict as safetensors, for any other. Fewer images are asked about then.
    """
    if name == embedded.EXPERIMENT:
        model, count = embedded.load().model, 1_000
    elif file is None:
        raise CifakeError(
            f"Found no weights for {name}. Expected a file after --weights, with the state dict of a run."
        )
    else:
        model, count = catalogue.get(name).build(weights.NONE), 500
        model.load_state_dict(load_file(file))  # which may be in float16
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
        answers[key] = ask_detector(model, images)
    keep_alone(name, answers, round(time.monotonic() - start, 1))


def keep_alone(name: str, answers: Answers, seconds: float) -> None:
    """Add what a detector says to the file of those that learned from CIFAKE alone."""
    path = unseen.FOLDER / f"{ALONE}.npz"
    before = unseen.read(ALONE) if path.exists() else {}
    known = verified.load_json(unseen.FOLDER / ABOUT).get("alone", {}) if (unseen.FOLDER / ABOUT).exists() else {}
    facts: dict = {"images": {key: len(p) for key, p in answers.items()}, "seconds": seconds}
    if name == embedded.EXPERIMENT:
        facts["file"] = verified.file_checksum(embedded.FILE)
    write(ALONE, before | {name: answers}, {"alone": known | {name: facts}}, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("features", "alone", "heads", "final"))
    parser.add_argument("name", nargs="?", default=embedded.EXPERIMENT, help="for `alone`: which detector is asked")
    parser.add_argument("--weights", type=Path, help="for `alone`: its state dict, a safetensors file")
    options = parser.parse_args()
    if options.step == "alone":
        ask_alone(options.name, options.weights)
    else:
        {"features": make_features, "heads": make_heads, "final": make_final}[options.step]()


if __name__ == "__main__":
    main()
