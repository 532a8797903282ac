"""Data and a backbone so small that a whole run takes milliseconds. Processes that tests start import this too."""

import torch
from torch import nn

from cifake_utils import data, data_sets, models


def cifake(count: int) -> data.Cifake:
    """Return the same random images, REAL and FAKE by turns, as every split."""
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    labels, names = torch.arange(count) % 2, [str(number) for number in range(count)]
    images = data.ImageSet(images, labels, torch.zeros(count, dtype=torch.long), names)
    return data.Cifake(images, images, images, class_names=data_sets.CIFAKE.class_names, source="sample", hash="few")


class Projected(nn.Module):
    """A convolution, the given layers, and a linear layer from 8 features to logits; the kernel is channels_last."""

    def __init__(self, *layers):
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), *layers, nn.AvgPool2d(15), nn.Flatten())
        self.classify = nn.Linear(8, 2)
        self.to(memory_format=torch.channels_last)

    def forward(self, inputs, with_features=False):
        features = self.project(inputs)
        return (self.classify(features), features) if with_features else self.classify(features)


class Narrow(nn.Module):
    """Stands in for ResNet50, which would take gigabytes to train: maps of the right shapes from one convolution."""

    layout, channels = models.RESNET50, models.RESNET50.channels

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolve, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, images, last="layer4"):
        maps = self.norm(self.convolve(images)).relu()
        sides = {"stem": 16, "layer1": 8, "layer4": 1}
        return {
            stage: nn.functional.adaptive_avg_pool2d(maps, side).repeat(1, self.channels[stage] // 8, 1, 1)
            for stage, side in sides.items()
        }

    def folded(self):
        return self
