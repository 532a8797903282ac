"""Autoencoders, which squeeze an image into few numbers and make it again, and a variational one, which draws."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from tools.generators.training import Network

WIDTHS = (48, 96, 192)  # channels at 32, 16 and 8 pixels a side

# Ways to double the sides of maps with this number of channels. Each leaves another trace: Odena, Dumoulin & Olah,
# *Deconvolution and Checkerboard Artifacts*, Distill 2016; Shi et al., *Real-Time Single Image and Video
# Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network*, CVPR 2016.
UPSAMPLERS: dict[str, Callable[[int], nn.Module]] = {
    "nearest": lambda width: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)),
    "transposed": lambda width: nn.ConvTranspose2d(width, width, 4, 2, 1),
    "shuffle": lambda width: nn.Sequential(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2)),
}


class Block(nn.Module):
    """A residual block from maps of one width to maps of another."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.GroupNorm(16, inputs),
            nn.SiLU(),
            nn.Conv2d(inputs, width, 3, padding=1),
            nn.GroupNorm(16, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.skip = nn.Conv2d(inputs, width, 1) if inputs != width else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.change(maps) + self.skip(maps)


def encoder(channels: int, widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    """Return a network from images to maps of 32 / 2^(widths - 1) pixels a side with this number of channels."""
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
    for few, many in pairwise(widths):
        layers += [Block(few, few), nn.Conv2d(few, many, 3, 2, 1)]
    last = widths[-1]
    return nn.Sequential(*layers, Block(last, last), nn.GroupNorm(16, last), nn.SiLU(), nn.Conv2d(last, channels, 1))


def decoder(channels: int, upsampler: str, widths: tuple[int, ...] = WIDTHS) -> nn.Sequential:
    """Return a network from the maps that `encoder` returns to images."""
    layers: list[nn.Module] = [nn.Conv2d(channels, widths[-1], 3, padding=1), Block(widths[-1], widths[-1])]
    for many, few in pairwise(widths[::-1]):
        layers += [UPSAMPLERS[upsampler](many), Block(many, few)]
    first = widths[0]
    return nn.Sequential(
        *layers, Block(first, first), nn.GroupNorm(16, first), nn.SiLU(), nn.Conv2d(first, 3, 3, padding=1)
    )


class Autoencoder(Network):
    """An autoencoder with one of `UPSAMPLERS`, which keeps ``size`` numbers of the 3,072 of an image."""

    def __init__(self, upsampler: str, size: int) -> None:
        super().__init__()
        channels = size // 8**2
        self.network = nn.Sequential(encoder(channels), decoder(channels, upsampler))

    def losses(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        yield "network", F.l1_loss(self.network(images).float(), images)

    def render(self, images: torch.Tensor) -> torch.Tensor:
        """Return the images as the autoencoder makes them again."""
        return self.network(images)


class Vae(Network):
    """A variational autoencoder: Kingma & Welling, *Auto-Encoding Variational Bayes*, ICLR 2014.

    The variance of its pixels is the best one for each batch (Rybkin, Daniilidis & Levine, *Simple and Effective VAE
    Training with Calibrated Decoders*, ICML 2021). Its loss is in nats per value, up to a constant.
    """

    def __init__(self, latent: int = 128) -> None:
        super().__init__()
        self.latent = latent
        widths, side = (*WIDTHS, 192), 4
        channels = 16
        self.network = nn.ModuleDict(
            {
                "encoder": nn.Sequential(
                    encoder(channels, widths), nn.Flatten(), nn.Linear(channels * side**2, 2 * latent)
                ),
                "decoder": nn.Sequential(
                    nn.Linear(latent, channels * side**2),
                    nn.Unflatten(1, (channels, side, side)),
                    decoder(channels, "nearest", widths),
                ),
            }
        )

    def losses(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        mean, log_variance = self.network["encoder"](images).float().chunk(2, 1)
        drawn = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        error = F.mse_loss(self.network["decoder"](drawn).float(), images)
        divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        values = math.prod(images.shape[1:])
        yield "network", error.log() / 2 + divergence / values

    def sample(self, count: int) -> torch.Tensor:
        return self.network["decoder"](torch.randn(count, self.latent, device=self.device))
