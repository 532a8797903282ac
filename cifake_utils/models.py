"""The models of the series: a ResNet50 backbone, statistics of its maps, and a head.

Architecture: He et al., *Deep Residual Learning for Image Recognition*, CVPR 2016, as torchvision builds it.
"""

from collections.abc import Callable

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from cifake_utils import CifakeError, profiles, weights

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


class Detector(nn.Module):
    """Backbone, statistics of its maps side by side, head: images (N, 3, 32, 32) to logits (N, 2), REAL and FAKE.

    Parameters
    ----------
    backbone : Backbone
    statistics : list of str
        What the head sees, in this order: keys of `STATISTICS`.
    head : nn.Module
        (N, D) to (N, 2).
    frozen : bool
        The backbone neither learns nor updates its batch-norm statistics: it stays in eval mode whatever
        ``train()`` is called.
    weights_name, weights_hash : str
        Which weights the backbone started from.
    """

    def __init__(
        self,
        backbone: Backbone,
        statistics: list[str],
        head: nn.Module,
        *,
        frozen: bool,
        weights_name: str,
        weights_hash: str,
    ) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.statistics = statistics
        self.frozen = frozen
        self.weights_name, self.weights_hash = weights_name, weights_hash
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
        return torch.cat([STATISTICS[name](maps) for name in self.statistics], 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))


def _transfer(profile: profiles.Profile) -> Detector:
    """Model 2 of the paper: pre-trained, everything frozen but the last layer."""
    pretrained = weights.load(profile)
    backbone = Backbone()
    backbone.load_state_dict(pretrained.state)
    return Detector(
        backbone,
        ["pooled"],
        nn.Linear(2048, 2),
        frozen=True,
        weights_name=pretrained.name,
        weights_hash=pretrained.hash,
    )


BUILDERS = {"resnet50_transfer": _transfer}


def build(name: str, profile: str | profiles.Profile | None = None, seed: int = 0) -> Detector:
    """Return a freshly initialised model by name, with the pre-trained weights of the profile (default: active).

    ``seed`` fixes the random initial values. An unknown name is a `CifakeError` that lists the known ones.
    """
    if name not in BUILDERS:
        raise CifakeError(f"There is no model {name!r}; choose one of: {', '.join(BUILDERS)}.")
    profile = profiles.resolve(profile)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BUILDERS[name](profile)
