"""The models: a ResNet backbone, statistics of its feature maps, and a head.

Architecture: He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, as torchvision builds it.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from cifake_utils import CifakeError
from cifake_utils.fractal import FractalDimension, OccupiedShare, variogram_dimension
from cifake_utils.support.fingerprint import recipe_hash
from cifake_utils.weights import Weights

Maps = dict[str, torch.Tensor]


class SmallMapConv2d(nn.Conv2d):
    """A convolution that is computed as a matrix product where the map is small. Results differ only by rounding.

    For images of 32×32 pixels, the last two of ResNet50's four layers see 2×2 and 1×1 pixels. torch's convolutions on
    a CPU are slow on such maps: with them a whole training step takes 1.3 (float32) to 1.5 (bfloat16) times as long.
    Dilation and groups are not supported, and padding is with zeros.
    """

    padding: tuple[int, int]  # never a word such as "same"

    @classmethod
    def like(cls, convolution: nn.Conv2d) -> "SmallMapConv2d":
        """Return one that shares the parameters of a convolution. No random values are drawn."""
        # Pairs of numbers, which torch declares as tuples of any length.
        shape: Any = (convolution.kernel_size, convolution.stride, convolution.padding)
        with torch.device("meta"):
            made = cls(convolution.in_channels, convolution.out_channels, *shape, bias=convolution.bias is not None)
        made.weight, made.bias = convolution.weight, convolution.bias
        return made

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        (height, width), (down, right) = maps.shape[2:], self.padding
        kernel = self.weight
        free = (
            height + 2 * down - kernel.shape[2],
            width + 2 * right - kernel.shape[3],
        )  # pixels that the kernel can move
        if free[0] < self.stride[0] and free[1] < self.stride[1]:  # the kernel has one place, mostly over padding
            kernel = kernel[:, :, down : down + height, right : right + width]
            maps = maps[:, :, : kernel.shape[2], : kernel.shape[3]]
            return F.linear(maps.flatten(1), kernel.flatten(1), self.bias)[:, :, None, None]
        if kernel.shape[2:] == self.stride == (1, 1) and height * width <= 4:
            return F.linear(maps.permute(0, 2, 3, 1), kernel.flatten(1), self.bias).permute(0, 3, 1, 2)
        return super().forward(maps)


@dataclass(frozen=True)
class Layout:
    """The kind of ResNet that a backbone is; by default ResNet50.

    Attributes
    ----------
    block : type
        torchvision's ``Bottleneck`` or ``BasicBlock``.
    blocks : tuple of int
        Number of blocks in ``layer1`` to ``layer4``.
    stem_stride : int
        By how many pixels the stem's filters move. With 1 in place of the usual 2, all maps are twice as wide, and
        computing them takes four times as long. The weights have the same shapes.
    stem_pool : bool
        Whether the stem's maps are halved by max pooling. Without it, all later maps are twice as wide.
    enlarge : int
        Images are enlarged to this many times their width and height (bilinear) before the stem sees them.
    """

    block: type[Bottleneck | BasicBlock] = Bottleneck
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    stem_stride: int = 2
    stem_pool: bool = True
    enlarge: int = 1

    @property
    def channels(self) -> dict[str, int]:
        """Number of channels of each stage's maps, by the stage's name, from the stem on."""
        return {"stem": 64} | {f"layer{number}": 2 ** (5 + number) * self.block.expansion for number in range(1, 5)}

    def recipe(self) -> list:
        """Return what distinguishes it from other layouts, as JSON types."""
        return [self.block.__name__, list(self.blocks), *([self.sizes] if self.sizes else [])]

    @property
    def sizes(self) -> dict[str, int]:
        """What changes the size of the maps, and not the shapes of the weights: the settings other than ResNet50's."""
        usual = {"stem_stride": 2, "stem_pool": True, "enlarge": 1}
        return {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}

    @property
    def fits_resnet50(self) -> bool:
        """Whether the weights of a ResNet50 have its shapes."""
        return (self.block, self.blocks) == (RESNET50.block, RESNET50.blocks)

    def halved(self) -> "Layout":
        """Return the layout whose maps are half as wide."""
        if self.enlarge > 1:
            return replace(self, enlarge=self.enlarge // 2)
        return replace(self, stem_stride=2 * self.stem_stride)


RESNET50 = Layout()


class Backbone(ResNet):
    """A ResNet without its last layer, which returns the feature maps of every stage.

    ``forward`` takes normalised images (N, 3, H, W) and returns maps by name: ``stem`` (N, 64, H/2, W/2), and
    ``layer1`` … ``layer4`` (N, C, H/4, W/4) … (N, C, H/32, W/32). The attribute ``channels`` gives C by name; in
    ResNet50 the layers have 256 to 2048 channels. For images of 32×32 pixels the maps are 16, 8, 4, 2 and 1 pixels
    wide. `Layout` can make them wider. Stages after the one named ``last`` are neither computed nor returned.
    """

    def __init__(self, layout: Layout = RESNET50) -> None:
        super().__init__(layout.block, list(layout.blocks))
        self.layout, self.channels = layout, layout.channels
        if not layout.stem_pool:
            self.maxpool = nn.Identity()
        self.set_coarse(False)
        self.fc = nn.Identity()
        for module in (*self.layer3.modules(), *self.layer4.modules()):
            for name, child in module.named_children():
                if type(child) is nn.Conv2d:  # torchvision has no argument for the class; initial values stay the same
                    setattr(module, name, SmallMapConv2d.like(child))

    def set_coarse(self, coarse: bool) -> None:
        """Halve the width of all maps, or give them back the layout's. `training.Options.coarse_share` calls it."""
        layout = self.layout.halved() if coarse else self.layout
        self.enlarge, self.conv1.stride = layout.enlarge, (layout.stem_stride, layout.stem_stride)

    def extra_repr(self) -> str:
        return f"enlarge={self.enlarge}" if self.enlarge > 1 else ""  # no layer shows it

    def forward(self, images: torch.Tensor, last: str = "layer4") -> Maps:
        if self.enlarge > 1:
            images = F.interpolate(images, scale_factor=self.enlarge, mode="bilinear")
        maps = {"stem": self.relu(self.bn1(self.conv1(images)))}
        x = self.maxpool(maps["stem"])
        for name in list(self.channels)[1:]:
            if last in maps:
                break
            maps[name] = x = getattr(self, name)(x)
        return maps

    def folded(self) -> "Backbone":
        """Return a copy for eval mode only, in which each batch norm is folded into the convolution before it.

        This saves time.
        """
        values = {id(value): value for value in (*self.parameters(), *self.buffers())}
        backbone = copy.deepcopy(self, values)  # does not copy the values, since all of them are replaced below
        for module in list(backbone.modules()):
            children = dict(module.named_children())
            for before, after in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1")):
                convolution, norm = children.get(before), children.get(after)
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    setattr(module, before, fuse_conv_bn_eval(convolution, norm))
                    setattr(module, after, nn.Identity())
        return backbone


def channel_mean(maps: torch.Tensor) -> torch.Tensor:
    """Return the mean of each channel: (N, C, H, W) to (N, C)."""
    return maps.mean((2, 3))


def channel_deviation(maps: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of each channel over its pixels: (N, C, H, W) to (N, C)."""
    return maps.std((2, 3), correction=0)


def channel_maximum(maps: torch.Tensor) -> torch.Tensor:
    """Return the largest value of each channel: (N, C, H, W) to (N, C)."""
    return maps.amax((2, 3))


@dataclass(frozen=True)
class Measure:
    """A way to compute one number from each channel of a map, and the version of its arithmetic.

    Attributes
    ----------
    compute : callable
        A function from maps (N, C, H, W) to (N, C). Or a class of `nn.Module` that maps likewise, and is made with the
        number of channels and ``options``. Its method ``fit``, if there is one, takes thresholds from batches of
        training maps. Its method ``options``, if there is one, returns in JSON types what its numbers depend on.
    version : int
        Raise it when the arithmetic changes. Runs and caches of the old version are then made again.
    options : dict
        Keyword arguments for the class or the function.

    Raises
    ------
    CifakeError
        ``compute`` has no name, as a `functools.partial`. A recipe says by this name what was computed.
    """

    compute: Callable[[torch.Tensor], Any] | type[nn.Module]  # Any: some return a float for a single surface
    version: int = 1
    options: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not hasattr(self.compute, "__name__"):
            raise CifakeError(
                f"Found {self.compute!r} as the way to compute a measure. Expected a function or class with a name. "
                "Its arguments belong into `options`."
            )

    def made(self, channels: int) -> Callable[[torch.Tensor], Any]:
        """Return the function or module that computes it for maps with this number of channels."""
        if isinstance(self.compute, type):
            return self.compute(channels, **self.options)
        return partial(self.compute, **self.options) if self.options else self.compute


@dataclass(frozen=True)
class Statistic:
    """A measure, and the stage of the backbone whose map it measures.

    Attributes
    ----------
    stage : str
        ``"stem"``, ``"layer1"`` … ``"layer4"``.
    measure : Measure
    """

    stage: str
    measure: Measure

    def recipe(self) -> dict:
        """Return what the numbers depend on besides the maps and the thresholds, as JSON types."""
        made = self.measure.made(1)
        options = made.options() if hasattr(made, "options") else self.measure.options
        return {
            "stage": self.stage,
            "measure": self.measure.compute.__name__,
            "version": self.measure.version,
            **options,
        }


class Tap(nn.Module):
    """A module that computes a statistic: ``forward`` takes maps by name and returns (N, C).

    It computes in float32, whatever the type of the maps is. The types of autocast have too few digits: bfloat16 would
    keep eight bits of a mean, and variogram dimensions in steps of 1/64.

    Parameters
    ----------
    statistic : Statistic
    channels : int
        C, the number of channels of the statistic's stage.
    """

    def __init__(self, statistic: Statistic, channels: int) -> None:
        super().__init__()
        self.statistic, self.measure = statistic, statistic.measure.made(channels)

    def forward(self, maps: Maps) -> torch.Tensor:
        values = maps[self.statistic.stage]
        with torch.autocast(values.device.type, enabled=False):
            return self.measure(values.float())

    def fingerprint(self) -> str:
        """Return the fingerprint of the statistic's recipe and thresholds."""
        return recipe_hash([self.statistic.recipe(), self.state_dict()])

    def extra_repr(self) -> str:
        return str(self.statistic.recipe())


# Raise it when the arithmetic of the backbone changes. A test pins the values that each version of a measure computes.
BACKBONE_VERSION = 1

CHANNEL_MEAN = Measure(channel_mean, version=1)
CHANNEL_DEVIATION = Measure(channel_deviation, version=1)
CHANNEL_MAXIMUM = Measure(channel_maximum, version=1)
DIMENSION = Measure(FractalDimension, version=1)
SHARE = Measure(OccupiedShare, version=1)
VARIOGRAM = Measure(variogram_dimension, version=1)

# The statistics that one pass through the backbone can compute, by name. The maps after layer1 are too small for a
# fractal dimension. `features.fitted_statistics` takes the thresholds of dimensions from training images.
STATISTICS = {
    "pooled": Statistic("layer4", CHANNEL_MEAN),
    "stem_mean": Statistic("stem", CHANNEL_MEAN),
    "layer1_mean": Statistic("layer1", CHANNEL_MEAN),
    "stem_dimension": Statistic("stem", DIMENSION),
    "layer1_dimension": Statistic("layer1", DIMENSION),
    "stem_variogram": Statistic("stem", VARIOGRAM),
    "layer1_variogram": Statistic("layer1", VARIOGRAM),
    "stem_deviation": Statistic("stem", CHANNEL_DEVIATION),
    "layer1_deviation": Statistic("layer1", CHANNEL_DEVIATION),
    "stem_maximum": Statistic("stem", CHANNEL_MAXIMUM),
    "layer1_maximum": Statistic("layer1", CHANNEL_MAXIMUM),
    "stem_share": Statistic("stem", SHARE),
    "layer1_share": Statistic("layer1", SHARE),
}


def widths(names: Iterable[str], channels: dict[str, int]) -> list[int]:
    """Return how many numbers each of the named statistics gives for an image: one for each channel of its stage.

    Parameters
    ----------
    names : iterable of str
        Keys of `STATISTICS`.
    channels : dict of str to int
        Number of channels of each stage, such as `Layout.channels`.

    Raises
    ------
    CifakeError
        A statistic is unknown, or ``channels`` lacks its stage.
    """
    for name in names:
        if name not in STATISTICS:
            raise CifakeError(f"There is no statistic {name!r}; choose from: {', '.join(STATISTICS)}.")
        if STATISTICS[name].stage not in channels:
            raise CifakeError(
                f"The statistic {name!r} is of the stage {STATISTICS[name].stage!r}, which the backbone does not have. "
                f"Choose one of its stages: {', '.join(channels)}."
            )
    return [channels[STATISTICS[name].stage] for name in names]


def taps(names: Iterable[str], channels: dict[str, int]) -> nn.ModuleDict:
    """Return modules that compute the named statistics, by name and in this order. Raises `CifakeError` as `widths`."""
    names = list(names)
    return nn.ModuleDict(
        {name: Tap(STATISTICS[name], width) for name, width in zip(names, widths(names, channels), strict=True)}
    )


def by_name(statistics: nn.ModuleDict) -> dict[str, Tap]:
    """Return what `taps` made as a dict, whose type says that it holds nothing but taps."""
    return cast(dict[str, Tap], dict(statistics.items()))


def standardise(inputs: int) -> nn.BatchNorm1d:
    """Return a layer that gives each of ``inputs`` features mean 0 and standard deviation 1: (N, D) to (N, D).

    It is batch norm without weights. With ``momentum=None`` it averages over all batches of the training instead of
    the last few. The features of a frozen backbone don't change, so the average over all batches is the most accurate.
    On a GPU this makes the CPU wait at each batch, since torch reads the number of batches to take the average.
    """
    return nn.BatchNorm1d(inputs, affine=False, momentum=None)


def standardised_linear(inputs: int) -> nn.Sequential:
    """Return a head that standardises its features before the linear layer: (N, D) to logits (N, 2).

    Dimensions vary by tenths, pooled features by much more or much less. Standardised, one learning rate suits all.
    """
    return nn.Sequential(standardise(inputs), nn.Linear(inputs, 2))


class Projection(nn.Module):
    """A head with a trainable projection: (N, D) to logits (N, 2).

    It standardises the features, projects them, applies ReLU and classifies. The feature-similarity loss acts on the
    projected features, because the features of a frozen backbone have no gradient.

    Parameters
    ----------
    inputs : int
        D.
    width : int
        Number of projected features. The paper does not state it. On validation images, 256 had an accuracy of 0.962
        after 8 epochs, and 512 had 0.961 after 4, which takes about as long.
    """

    def __init__(self, inputs: int, width: int = 256) -> None:
        super().__init__()
        self.project = nn.Sequential(standardise(inputs), nn.Linear(inputs, width), nn.ReLU())
        self.classify = nn.Linear(width, 2)

    def forward(
        self, features: torch.Tensor, with_features: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return logits (N, 2). With ``with_features``, return the projected features (N, width) too."""
        projected = self.project(features)
        logits = self.classify(projected)
        return (logits, projected) if with_features else logits


class Detector(nn.Module):
    """A backbone, statistics of its maps, and a head: normalised images (N, 3, 32, 32) to logits (N, C).

    C is 2 for REAL and FAKE, or 4 for the turns of the rotation pretext.

    Parameters
    ----------
    backbone : Backbone
    statistics : sequence of str
        Keys of `STATISTICS`. The head sees them concatenated, in this order.
    head : nn.Module
        (N, D) to (N, C).
    start : Weights
        The weights from which the backbone starts. Only their name and hash are kept.
    frozen : bool
        Whether the backbone is frozen. Then it neither learns nor updates its batch-norm statistics, and stays in eval
        mode even after ``train()``.
    """

    def __init__(
        self, backbone: Backbone, statistics: Iterable[str], head: nn.Module, start: Weights, *, frozen: bool = False
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.statistics = taps(statistics, backbone.channels)
        self.frozen = frozen
        self.weights_hash = start.hash
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
        """Return the features that the head sees of normalised images: (N, D)."""
        maps = self.backbone(images)
        return torch.cat([statistic(maps) for statistic in self.statistics.values()], 1)

    def forward(self, images: torch.Tensor, **options) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return what the head returns: logits (N, C). ``options`` go to the head, such as ``with_features``."""
        return self.head(self.features(images), **options)

    def learned_state(self) -> dict[str, torch.Tensor]:
        """Return the part of the state dict that was trained: all of it, except a frozen backbone."""
        state = self.state_dict()
        return {name: value for name, value in state.items() if not (self.frozen and name.startswith("backbone."))}


linear = partial(nn.Linear, out_features=2)  # the simplest head: (N, D) to logits (N, 2)


class LinearWithFeatures(nn.Linear):
    """A linear head for `losses.CombinedLoss` without a projection: (N, D) to logits (N, 2).

    The feature-similarity loss then acts on the features themselves. Those of a frozen backbone have no gradient.

    Parameters
    ----------
    inputs : int
        D.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, 2)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, features: torch.Tensor, with_features: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return logits (N, 2). With ``with_features``, return the features (N, D) too."""
        logits = super().forward(features)
        return (logits, features) if with_features else logits


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The parts of a model.

    Attributes
    ----------
    start : str
        From what the backbone starts: ``"random"`` values; the ``"pretrained"`` weights of the profile; the
        ``"embedded"`` weights that the package ships, in every profile; or the ``"rotation"`` pretext, which itself
        starts from the pre-trained weights.
    frozen : bool
        Whether only the head learns.
    statistics : tuple of str
        Keys of `STATISTICS`. The head sees them concatenated, in this order.
    head : callable
        Takes the number of features D and returns a module, (N, D) to (N, C).
    layout : Layout
        Layout of the backbone. Pre-trained weights fit only that of ResNet50, with any size of its maps.
    """

    start: str = "pretrained"
    frozen: bool = False
    statistics: tuple[str, ...] = ("pooled",)
    head: Callable[[int], nn.Module] = linear
    layout: Layout = RESNET50

    def widths(self) -> dict[str, int]:
        """Return how many numbers each statistic gives for an image, by the name of the statistic."""
        return dict(zip(self.statistics, widths(self.statistics, self.layout.channels), strict=True))

    def meta_head(self) -> nn.Module:
        """Return a head whose parameters have shapes but no values."""
        with torch.device("meta"):
            return self.head(sum(self.widths().values()))

    def recipe(self) -> dict:
        """Return everything in which two models can differ before their training, as JSON types."""
        leaves = [layer for layer in self.meta_head().modules() if not list(layer.children())]
        made_from = {
            "start": self.start,
            "backbone_version": BACKBONE_VERSION,
            "frozen": self.frozen,
            "statistics": [[name, STATISTICS[name].recipe()] for name in self.statistics],
            "head": [_layer_recipe(layer) for layer in leaves],
        }
        # A recipe with ResNet50 names no backbone, since the first recipes were written when there was no other one.
        return made_from if self.layout == RESNET50 else made_from | {"backbone": self.layout.recipe()}

    def build(self, start: Weights, seed: int = 0) -> Detector:
        """Return a freshly initialised model.

        Parameters
        ----------
        start : Weights
            Weights for the backbone. Raises `CifakeError` as `backbone` does.
        seed : int
            Fixes the random initial values.
        """
        with torch.random.fork_rng(devices=[]):  # everything is drawn on the CPU
            torch.manual_seed(seed)
            network = backbone(start, self.layout)
            head = self.head(sum(self.widths().values()))
            return Detector(network, self.statistics, head, start, frozen=self.frozen)


def _layer_recipe(layer: nn.Module) -> list:
    """Return kind, shapes and options of a layer. (torch's description of it may change from version to version.)"""
    shapes = {name: list(value.shape) for name, value in layer.state_dict().items()}
    options = {name: getattr(layer, name) for name in ("eps", "momentum", "p") if hasattr(layer, name)}
    return [type(layer).__name__, shapes, options]


def backbone(start: Weights, layout: Layout = RESNET50) -> Backbone:
    """Return a backbone with these weights, or with random initial values if ``start`` holds no weights.

    torchvision draws the random values as in He et al., *Delving Deep into Rectifiers*, ICCV 2015, from torch's global
    generator. Raises `CifakeError` if the weights belong to another backbone.
    """
    network = Backbone(layout)
    if start.state:
        expected = network.state_dict()
        wrong = [
            name
            for name in expected | start.state
            if name not in expected or name not in start.state or expected[name].shape != start.state[name].shape
        ]
        if wrong:
            raise CifakeError(
                f"The weights {start.name} don't fit this backbone of {' + '.join(map(str, layout.blocks))} blocks "
                f"({layout.block.__name__}): {len(wrong)} tensors are missing, unexpected or of another shape, such as "
                f'{wrong[0]}. Pre-trained weights are those of ResNet50. Let this backbone start from "random" values.'
            )
        network.load_state_dict(start.state)
    return network
