"""The models of the series: a ResNet50 backbone, statistics of its maps, and a head.

Architecture: He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, as torchvision builds it.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import Bottleneck, ResNet

from cifake_utils import CifakeError, profiles, weights
from cifake_utils.fractal import FractalDimension, variogram_dimension
from cifake_utils.support.fingerprint import recipe_hash
from cifake_utils.weights import Weights

Maps = dict[str, torch.Tensor]

CHANNELS = {"stem": 64, "layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}


class SmallMapConv2d(nn.Conv2d):
    """Convolution that is written as a matrix product where the map is small; the same numbers but for rounding.

    At 32×32 the last two of ResNet50's four layers see 2×2 and 1×1 pixels, for which the CPU's convolutions are not
    made: a whole training step takes 1.3 (float32) to 1.5 (bfloat16) times as long with them. Without dilation or
    groups, padded with zeros.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        (height, width), (down, right) = maps.shape[2:], self.padding
        kernel = self.weight
        room = (height + 2 * down - kernel.shape[2], width + 2 * right - kernel.shape[3])
        if room[0] < self.stride[0] and room[1] < self.stride[1]:  # one place for the kernel, most of it on the padding
            kernel = kernel[:, :, down : down + height, right : right + width]
            maps = maps[:, :, : kernel.shape[2], : kernel.shape[3]]
            return F.linear(maps.flatten(1), kernel.flatten(1), self.bias)[:, :, None, None]
        if kernel.shape[2:] == self.stride == (1, 1) and height * width <= 4:
            return F.linear(maps.permute(0, 2, 3, 1), kernel.flatten(1), self.bias).permute(0, 3, 1, 2)
        return super().forward(maps)


class Backbone(ResNet):
    """ResNet50 without its last layer; returns the feature maps of every stage.

    ``forward`` takes normalised images (N, 3, H, W) and returns, by name: ``stem`` (N, 64, H/2, W/2) and ``layer1``
    … ``layer4`` (N, 256 … 2048, H/4 … H/32). At 32×32 the maps are 16, 8, 4, 2 and 1 pixels wide. Stages behind the
    one named ``last`` are neither computed nor returned.
    """

    def __init__(self) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3])
        self.fc = nn.Identity()
        for module in (*self.layer3.modules(), *self.layer4.modules()):
            if type(module) is nn.Conv2d:  # torchvision has no argument for it; initial values stay as they are
                module.__class__ = SmallMapConv2d

    def forward(self, images: torch.Tensor, last: str = "layer4") -> Maps:
        maps = {"stem": self.relu(self.bn1(self.conv1(images)))}
        x = self.maxpool(maps["stem"])
        for name in ("layer1", "layer2", "layer3", "layer4"):
            if last in maps:
                break
            maps[name] = x = getattr(self, name)(x)
        return maps

    def folded(self) -> "Backbone":
        """Return a copy for eval mode alone: each batch norm is part of the convolution before it, which saves time."""
        values = {id(value): value for value in (*self.parameters(), *self.buffers())}
        backbone = copy.deepcopy(self, values)  # all but the values, since all of those are replaced
        for module in list(backbone.modules()):
            children = dict(module.named_children())
            for before, after in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1")):
                if isinstance(children.get(after), nn.BatchNorm2d):
                    setattr(module, before, fuse_conv_bn_eval(children[before], children[after]))
                    setattr(module, after, nn.Identity())
        return backbone


class Tap(nn.Module):
    """A measure of each channel of one stage's map: ``forward`` takes maps by name and returns (N, C).

    It is computed in float32 whatever the type of the maps, since those of autocast have too few digits: bfloat16
    would keep eight bits of a mean and count variogram dimensions in steps of 1/64.

    Parameters
    ----------
    stage : str
        A key of `CHANNELS`.
    measure : callable or nn.Module
        (N, C, H, W) to (N, C).
    """

    def __init__(self, stage: str, measure: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.stage, self.measure = stage, measure

    def forward(self, maps: Maps) -> torch.Tensor:
        values = maps[self.stage]
        with torch.autocast(values.device.type, enabled=False):
            return self.measure(values.float())

    def recipe(self) -> dict:
        """Return what the numbers depend on besides the maps and the state: JSON types."""
        name = getattr(self.measure, "__name__", type(self.measure).__name__)
        options = self.measure.options() if isinstance(self.measure, nn.Module) else {}
        return {"stage": self.stage, "measure": name, "version": MEASURE_VERSIONS[name], **options}

    def fingerprint(self) -> str:
        """Return the fingerprint of the recipe and of the thresholds that it was given."""
        return recipe_hash([self.recipe(), self.state_dict()])

    def extra_repr(self) -> str:
        return str(self.recipe())


def channel_mean(maps: torch.Tensor) -> torch.Tensor:
    """Return the mean of each channel: (N, C, H, W) to (N, C)."""
    return maps.mean((2, 3))


# Raise a number when the arithmetic of the backbone or of that measure changes: whatever was made with the old one is
# then made again. A test compares what each computes with the values of its version.
BACKBONE_VERSION = 1
MEASURE_VERSIONS = {"channel_mean": 1, "FractalDimension": 1, "variogram_dimension": 1}

# What can be computed from the backbone's maps in one pass, by name. A model has copies of its own,
# whose thresholds `features.fitted_statistics` takes from training images.
STATISTICS: dict[str, Tap] = {
    "pooled": Tap("layer4", channel_mean),
    "stem_mean": Tap("stem", channel_mean),
    "layer1_mean": Tap("layer1", channel_mean),
    "stem_dimension": Tap("stem", FractalDimension(CHANNELS["stem"])),
    "layer1_dimension": Tap("layer1", FractalDimension(CHANNELS["layer1"])),
    "stem_variogram": Tap("stem", variogram_dimension),
    "layer1_variogram": Tap("layer1", variogram_dimension),
}
POOLED = ("pooled",)
FRACTAL = ("pooled", "stem_dimension", "layer1_dimension")
MEANS = ("pooled", "stem_mean", "layer1_mean")  # of the very maps whose dimension is taken
BOTH = (*FRACTAL, *MEANS[1:])
VARIOGRAM = (*FRACTAL, "stem_variogram", "layer1_variogram")


def standardise(inputs: int) -> nn.BatchNorm1d:
    """Return a layer that gives each of ``inputs`` features mean 0 and standard deviation 1: (N, D) to (N, D).

    Batch norm without weights of its own. ``momentum=None`` averages over all batches of the training, not over the
    last few: features of a frozen backbone have one mean, so that the average of all is the best there is. On a GPU
    the CPU waits for each batch then: torch reads their number to take the average.
    """
    return nn.BatchNorm1d(inputs, affine=False, momentum=None)


def standardised_linear(inputs: int) -> nn.Sequential:
    """Return a head that standardises its features before the linear layer: (N, D) to logits (N, 2).

    Dimensions vary by tenths, pooled features by much more or less; at one learning rate for all, a plain linear
    layer hardly learns to use the dimensions.
    """
    return nn.Sequential(standardise(inputs), nn.Linear(inputs, 2))


class Projection(nn.Module):
    """Head with a trainable projection, on whose output the feature-similarity loss acts: (N, D) to logits (N, 2).

    Standardise, project, ReLU, classify. Features of a frozen backbone have no gradient; the projected ones have.

    Parameters
    ----------
    inputs : int
        D.
    width : int
        Number of projected features; the paper gives none. On validation images 256 got 0.962 in 8 epochs, 512 got
        0.961 in 4, at about the same cost.
    """

    def __init__(self, inputs: int, width: int = 256) -> None:
        super().__init__()
        self.project = nn.Sequential(standardise(inputs), nn.Linear(inputs, width), nn.ReLU())
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
        self.statistics = nn.ModuleDict({name: copy.deepcopy(STATISTICS[name]) for name in statistics})
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
        maps = self.backbone(images)
        return torch.cat([statistic(maps) for statistic in self.statistics.values()], 1)

    def forward(self, images: torch.Tensor, **options) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return the head's logits; ``options`` are the head's own, such as ``with_features``."""
        return self.head(self.features(images), **options)

    def learned_state(self) -> dict[str, torch.Tensor]:
        """Return the part of the state dict that training made: all of it, without a backbone that is frozen."""
        state = self.state_dict()
        return {name: value for name, value in state.items() if not (self.frozen and name.startswith("backbone."))}


@dataclass(frozen=True)
class Architecture:
    """What a model is made of. `recipe` says it in JSON types.

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

    def recipe(self) -> dict:
        """Return all that makes two models different before they are trained: JSON types."""
        with torch.device("meta"):
            head = self.head(_width(self.statistics))
        return {
            "start": self.start,
            "backbone_version": BACKBONE_VERSION,
            "frozen": self.frozen,
            "statistics": [[name, STATISTICS[name].recipe()] for name in self.statistics],
            "head": [_layer_recipe(layer) for layer in head.modules() if not list(layer.children())],
        }


def _layer_recipe(layer: nn.Module) -> list:
    """Return kind, shapes and options of one layer; torch's own description of it changes from version to version."""
    shapes = {name: list(value.shape) for name, value in layer.state_dict().items()}
    options = {name: getattr(layer, name) for name in ("eps", "momentum", "p") if hasattr(layer, name)}
    return [type(layer).__name__, shapes, options]


FROZEN = {"start": "pretrained", "frozen": True}
MODELS = {
    "resnet50_scratch": Architecture("model 1 of the paper: random initial values, everything learns", "random"),
    "resnet50_transfer": Architecture("model 2: pre-trained, only the last layer learns", **FROZEN),
    "resnet50_fractal": Architecture(
        "model 3: the dimensions of stem and layer1 maps beside the pooled features",
        **FROZEN,
        statistics=FRACTAL,
        head=standardised_linear,
    ),
    "resnet50_fractal_loss": Architecture(
        "model 4: what model 3 sees, and a projection for the combined loss to act on",
        **FROZEN,
        statistics=FRACTAL,
        head=Projection,
    ),
    "resnet50_rotation": Architecture("model 5: the rotation pretext, then everything learns", "rotation"),
    "resnet50_rotation_fractal_loss": Architecture(
        "the paper's future work: model 4 on the frozen backbone of the rotation pretext",
        "rotation",
        frozen=True,
        statistics=FRACTAL,
        head=Projection,
    ),
    "resnet50_finetuned": Architecture("control of model 5: pre-trained, no pretext, everything learns", "pretrained"),
    "resnet50_rotation_frozen": Architecture(
        "control of model 5: the rotation backbone, only the last layer learns", "rotation", frozen=True
    ),
    "resnet50_standardised": Architecture(
        "control of model 3: its head without dimensions", **FROZEN, head=standardised_linear
    ),
    "resnet50_means": Architecture(
        "control of model 3: means of the same maps instead of their dimensions",
        **FROZEN,
        statistics=MEANS,
        head=standardised_linear,
    ),
    "resnet50_means_fractal": Architecture(
        "control of model 3: means of the same maps and their dimensions",
        **FROZEN,
        statistics=BOTH,
        head=standardised_linear,
    ),
    "resnet50_variogram": Architecture(
        "beyond the paper: variogram dimensions beside those of model 3",
        **FROZEN,
        statistics=VARIOGRAM,
        head=standardised_linear,
    ),
    "resnet50_projection": Architecture("control of model 4: its head without dimensions", **FROZEN, head=Projection),
    "resnet50_means_projection": Architecture(
        "control of model 4: means of the same maps instead of their dimensions",
        **FROZEN,
        statistics=MEANS,
        head=Projection,
    ),
}


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
    with torch.random.fork_rng(devices=[]):  # everything is drawn on the CPU
        torch.manual_seed(seed)
        network = backbone(start)
        head = architecture.head(_width(architecture.statistics))
        return Detector(network, list(architecture.statistics), head, start, frozen=architecture.frozen)


def _architecture(name: str) -> Architecture:
    if name not in MODELS:
        raise CifakeError(f"There is no model {name!r}; choose one of: {', '.join(MODELS)}.")
    return MODELS[name]


def _width(names: Iterable[str]) -> int:
    """Return how many numbers the named statistics give for an image: one a channel of their stages."""
    return sum(CHANNELS[STATISTICS[name].stage] for name in names)
