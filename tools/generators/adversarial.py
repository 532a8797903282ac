"""Generative adversarial networks: one network makes images, and another one judges whether they are photographs."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.swa_utils import update_bn

from tools.generators.training import Network

STATISTICS = (20, 500)  # batches, and images in each, that give the batch norms their statistics at the end


class Adversarial(Network):
    """Two networks: ``makes``, from latent vectors (N, L) to images, and ``judges``, from images to (N, 1).

    The second is large for photographs.
    """

    def __init__(self, makes: nn.Module, judges: nn.Module, latent: int) -> None:
        super().__init__()
        self.makes, self.judges, self.latent = makes, judges, latent

    def finish(self) -> None:
        batches, count = STATISTICS
        update_bn((self._latents(count) for _ in range(batches)), self.makes)

    def _latents(self, count: int) -> torch.Tensor:
        return torch.randn(count, self.latent, device=self.device)

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.judges(images).float()

    def sample(self, count: int) -> torch.Tensor:
        return self.makes(self._latents(count))


class Dcgan(Adversarial):
    """A GAN of plain convolutions: Radford, Metz & Chintala, *Unsupervised Representation Learning with Deep
    Convolutional Generative Adversarial Networks*, ICLR 2016, for 32×32 pixels.

    Its objective is the non-saturating one of Goodfellow et al., *Generative Adversarial Nets*, NeurIPS 2014.
    """

    autocast = False  # its layers are so small that bfloat16 saves nothing

    def __init__(self, latent: int = 100) -> None:
        makes: list[nn.Module] = [nn.Unflatten(1, (latent, 1, 1))]
        makes += [nn.ConvTranspose2d(latent, 256, 4, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
        judges: list[nn.Module] = [nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2)]
        for few, many in ((64, 128), (128, 256)):
            judges += [nn.Conv2d(few, many, 4, 2, 1, bias=False), nn.BatchNorm2d(many), nn.LeakyReLU(0.2)]
        for many, few in ((256, 128), (128, 64)):
            makes += [nn.ConvTranspose2d(many, few, 4, 2, 1, bias=False), nn.BatchNorm2d(few), nn.ReLU()]
        makes += [nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh()]
        judges += [nn.Conv2d(256, 1, 4), nn.Flatten()]
        super().__init__(nn.Sequential(*makes), nn.Sequential(*judges), latent)
        self.apply(_start)

    def losses(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        made = self.sample(len(images))
        yield "judges", F.softplus(-self._logits(images)).mean() + F.softplus(self._logits(made.detach())).mean()
        yield "makes", F.softplus(-self._logits(made)).mean()


def _start(module: nn.Module) -> None:
    """Give a layer the initial values of the DCGAN paper."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


class Up(nn.Module):
    """A residual block that doubles the sides of maps by repeating their values."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.skip = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 1))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.change(maps) + self.skip(maps)


class Judge(nn.Module):
    """A residual block with spectral norm, which halves the sides of maps if ``pool`` is 2."""

    def __init__(self, inputs: int, channels: int, pool: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.ReLU(),
            spectral_norm(nn.Conv2d(inputs, channels, 3, padding=1)),
            nn.ReLU(),
            spectral_norm(nn.Conv2d(channels, channels, 3, padding=1)),
            nn.AvgPool2d(pool),
        )
        self.skip = nn.Sequential(spectral_norm(nn.Conv2d(inputs, channels, 1)), nn.AvgPool2d(pool))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.change(maps) + self.skip(maps)


class HingeGan(Adversarial):
    """A GAN of residual blocks with a hinge loss and spectral norm.

    Miyato, Kataoka, Koyama & Yoshida, *Spectral Normalization for Generative Adversarial Networks*, ICLR 2018; Lim &
    Ye, *Geometric GAN*, 2017.
    """

    def __init__(self, latent: int = 128, channels: int = 128) -> None:
        makes = nn.Sequential(
            nn.Linear(latent, channels * 4 * 4),
            nn.Unflatten(1, (channels, 4, 4)),
            *(Up(channels) for _ in range(3)),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 3, 3, padding=1),
            nn.Tanh(),
        )
        judges = nn.Sequential(
            Judge(3, channels, pool=2),
            Judge(channels, channels, pool=2),
            Judge(channels, channels, pool=1),
            Judge(channels, channels, pool=1),
            nn.ReLU(),
            nn.AvgPool2d(8, divisor_override=1),  # the sum
            nn.Flatten(),
            spectral_norm(nn.Linear(channels, 1)),
        )
        super().__init__(makes, judges, latent)

    def losses(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        made = self.sample(len(images))
        yield "judges", F.relu(1 - self._logits(images)).mean() + F.relu(1 + self._logits(made.detach())).mean()
        yield "makes", -self._logits(made).mean()
