"""The models of the series: a ResNet50 backbone, statistics of its maps, and a head.

Architecture: He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, as torchvision builds it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from cifake_utils import CifakeError, profiles, weights
from cifake_utils.weights import Weights

Maps = dict[str, torch.Tensor]
Statistic = Callable[[Maps], torch.Tensor]


class Backbone(ResNet):
    """ResNet50 without its last layer; returns the feature maps of every stage.

    ``forward`` takes normalised images (N, 3, H, W) and returns, by name: ``stem`` (N, 64, H/2, W/2) and ``layer1``
    … ``layer4`` (N, 256 … 2048, H/4 … H/32). At 32×32 the maps are 16, 8, 4, 2 and 1 pixels wide.
    """

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3])
        self.fc = nn.Identity()

    def forward(self, images: torch.Tensor) -> Maps:
        maps = {"stem": self.relu(self.bn1(self.conv1(images)))}
        x = self.maxpool(maps["stem"])
        for name in ("layer1", "layer2", "layer3", "layer4"):
            maps[name] = x = getattr(self, name)(x)
        return maps


def channel_mean(stage: str) -> Statistic:
    """Return the statistic that averages each channel of a stage's map: (N, C, H, W) to (N, C)."""
    return lambda maps: maps[stage].mean((2, 3))


# What can be computed from the backbone's maps in one pass, by name; each gives (N, D).
STATISTICS: dict[str, Statistic] = {
    "pooled": channel_mean("layer4"),
    "stem_mean": channel_mean("stem"),
    "layer1_mean": channel_mean("layer1"),
}


class Projection(nn.Module):
    """Head with a trainable projection, on whose output the feature-similarity loss acts: (N, D) to logits (N, 2).

    Standardise, project, ReLU, classify. Features of a frozen backbone have no gradient; the projected ones have.

    Parameters
    ----------
    inputs : int
        D.
    width : int
        Number of projected features; our assumption, the paper gives none.
    """

    def __init__(self, inputs: int, width: int = 512) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.BatchNorm1d(inputs, affine=False), nn.Linear(inputs, width), nn.ReLU())
        self.classify = nn.Linear(width, 2)

    def forward(
        self, features: torch.Tensor, with_features: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return logits (N, 2), with ``with_features`` the projected features (N, width) too."""
        projected = self.project(features)
        logits = self.classify(projected)
        return (logits, projected) if with_features else logits


class Detector(nn.Module):
    """Backbone, statistics of its maps side by side, head: images (N, 3, 32, 32) to logits (N, C).

    C is 2, REAL and FAKE, or 4, the turns of the rotation pretext.

    Parameters
    ----------
    backbone : Backbone
    statistics : list of str
        What the head sees, in this order: keys of `STATISTICS`.
    head : nn.Module
        (N, D) to (N, C).
    start : Weights
        Which weights the backbone starts from.
    frozen : bool
        The backbone neither learns nor updates its batch-norm statistics: it stays in eval mode whatever
        ``train()`` is called.
    """

    def __init__(
        self, backbone: Backbone, statistics: list[str], head: nn.Module, start: Weights, *, frozen: bool = False
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.statistics = statistics
        self.frozen = frozen
        self.weights_name, self.weights_hash = start.name, start.hash
        if frozen:
            backbone.requires_grad_(False)
        self.train()
        self.to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the head sees of normalised images: (N, D)."""
        return statistics_of(self.backbone(images), self.statistics)

    def forward(self, images: torch.Tensor, **options) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return the head's logits; ``options`` are the head's own, such as ``with_features``."""
        return self.head(self.features(images), **options)


@dataclass(frozen=True)
class Architecture:
    """What a model is made of.

    Attributes
    ----------
    about : str
        One line.
    start : str
        Where the backbone comes from: ``"random"`` values, the ``"pretrained"`` weights of the profile, or the
        ``"rotation"`` pretext that starts from those.
    frozen : bool
        Only the head learns.
    statistics : tuple of str
        Keys of `STATISTICS`.
    head : callable
        Number of features D to a module (N, D) to (N, 2).
    """

    about: str
    start: str
    frozen: bool = False
    statistics: tuple[str, ...] = ("pooled",)
    head: Callable[[int], nn.Module] = lambda inputs: nn.Linear(inputs, 2)


MODELS = {
    "resnet50_scratch": Architecture("model 1 of the paper: random initial values, everything learns", "random"),
    "resnet50_transfer": Architecture("model 2: pre-trained, only the last layer learns", "pretrained", frozen=True),
    "resnet50_rotation": Architecture("model 5: the rotation pretext, then everything learns", "rotation"),
    "resnet50_finetuned": Architecture("control of model 5: pre-trained, no pretext, everything learns", "pretrained"),
    "resnet50_rotation_frozen": Architecture(
        "control of model 5: the rotation backbone, only the last layer learns", "rotation", frozen=True
    ),
    "resnet50_projection": Architecture(
        "control of model 4: its head without fractal features", "pretrained", frozen=True, head=Projection
    ),
}


def statistics_of(maps: Maps, names: Iterable[str]) -> torch.Tensor:
    """Return the named statistics of the maps side by side: (N, D)."""
    return torch.cat([STATISTICS[name](maps) for name in names], 1)


def backbone(start: Weights) -> Backbone:
    """Return a backbone that starts from these weights, from torchvision's random initial values where there are none.

    The random values are those of He et al., *Delving Deep into Rectifiers*, ICCV 2015, from torch's global
    generator.
    """
    network = Backbone()
    if start.state:
        network.load_state_dict(start.state)
    return network


def starting_weights(name: str, profile: profiles.Profile) -> Weights:
    """Return the weights a model's training begins with (for rotation models: the pretext's training)."""
    return weights.NONE if _architecture(name).start == "random" else weights.load(profile)


def build(
    name: str, profile: str | profiles.Profile | None = None, seed: int = 0, start: Weights | None = None
) -> Detector:
    """Return a freshly initialised model by name.

    Parameters
    ----------
    name : str
        A key of `MODELS`; another one is a `CifakeError` that lists them.
    profile : str or Profile, optional
        Gives the pre-trained weights; default: the active one.
    seed : int
        Fixes the random initial values.
    start : Weights, optional
        Of the backbone, in place of the profile's. Rotation models need it: `rotation.pretrained` makes it.
    """
    architecture = _architecture(name)
    if start is None and architecture.start == "rotation":
        raise CifakeError(
            f"The backbone of {name} has to learn rotations first. experiments.train_or_load({name!r}) sees to that; "
            "or give `start`, which rotation.pretrained makes."
        )
    start = start or starting_weights(name, profiles.resolve(profile))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = backbone(start)
        head = architecture.head(_width(architecture.statistics))
        return Detector(network, list(architecture.statistics), head, start, frozen=architecture.frozen)


def _architecture(name: str) -> Architecture:
    if name not in MODELS:
        raise CifakeError(f"There is no model {name!r}; choose one of: {', '.join(MODELS)}.")
    return MODELS[name]


def _width(names: Iterable[str]) -> int:
    """Return how many numbers the named statistics give for an image."""
    with torch.device("meta"):
        maps = Backbone()(torch.empty(2, 3, 32, 32))
        return statistics_of(maps, names).shape[1]
