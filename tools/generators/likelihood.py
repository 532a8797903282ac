"""Generators whose likelihood can be computed: a normalising flow, and an autoregressive network."""

import math
from collections.abc import Iterator

import normflows  # pyright: ignore[reportMissingImports]
import torch
from torch import nn
from torch.nn import functional as F

from tools.generators.training import Network

VALUES = 3 * 32 * 32  # in an image
LEVELS = 256


class Glow(Network):
    """A normalising flow: Kingma & Dhariwal, *Glow: Generative Flow with Invertible 1×1 Convolutions*, NeurIPS 2018.

    Its loss is in bits per value. It computes in float32, since rounding errors grow where it is inverted.
    """

    autocast = False

    def __init__(self, blocks: int = 12, hidden: int = 256, temperature: float = 0.8) -> None:
        super().__init__()
        self.temperature = temperature  # the paper's samples are drawn with a smaller variance too
        bases, flows = [], []
        for side, channels in ((4, 48), (8, 24), (16, 12)):  # half of the channels join on the way to larger maps
            steps = [normflows.flows.GlowBlock(channels, hidden, leaky=0.01) for _ in range(blocks)]
            flows.append([*steps, normflows.flows.Squeeze()])
            bases.append(normflows.distributions.DiagGaussian((channels // 2 if bases else channels, side, side)))
        merges = [normflows.flows.Merge() for _ in bases[1:]]
        self.flow = normflows.MultiscaleFlow(bases, flows, merges, class_cond=False)

    def losses(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        levels = (images + 1) * (LEVELS - 1) / 2  # the grey levels 0 to 255, and noise in between
        noisy = (levels + torch.rand_like(levels)) / LEVELS - 0.5
        nats = self.flow.forward_kld(noisy) / VALUES
        yield "flow", nats / math.log(2) + math.log2(LEVELS)

    def sample(self, count: int) -> torch.Tensor:
        images, _ = self.flow.sample(count, temperature=self.temperature)
        return ((images + 0.5) * LEVELS).floor() / (LEVELS - 1) * 2 - 1


class Layer(nn.Module):
    """A layer of `PixelCnn`, which takes one map from all rows above a pixel and one from the pixels left of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, 2 * channels, (2, 3))
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.across = nn.Conv2d(channels, 2 * channels, (1, 2))
        self.out = nn.Conv2d(channels, channels, 1)

    def above(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next map of the rows above, and what the map of the row gets from it."""
        change = self.down(F.pad(maps, (1, 1, 1, 0)))
        return maps + _gated(change), self.link(change)

    def along(self, maps: torch.Tensor, from_above: torch.Tensor) -> torch.Tensor:
        """Return the next map of the row."""
        return maps + self.out(_gated(self.across(F.pad(maps, (1, 0))) + from_above))


def _gated(maps: torch.Tensor) -> torch.Tensor:
    values, gates = maps.chunk(2, 1)
    return values.tanh() * gates.sigmoid()


class PixelCnn(Network):
    """An autoregressive network, which draws one pixel after the other, row by row.

    Van den Oord et al., *Conditional Image Generation with PixelCNN Decoders*, NeurIPS 2016, with the mixture of
    logistic distributions of Salimans et al., *PixelCNN++*, ICLR 2017. Its loss is in bits per value.
    """

    def __init__(self, layers: int = 10, channels: int = 96, mixtures: int = 10) -> None:
        super().__init__()
        self.mixtures = mixtures
        body = [Layer(channels) for _ in range(layers)]
        self.network = nn.ModuleDict(
            {
                "above": nn.Conv2d(4, channels, (2, 3)),
                "along": nn.Conv2d(4, channels, (1, 2)),
                "body": nn.ModuleList(body),
                "head": nn.Sequential(nn.SiLU(), nn.Conv2d(channels, 10 * mixtures, 1)),
            }
        )

    def losses(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        parameters = self.along(images, self.above(images))
        yield "network", -log_likelihood(images, parameters, self.mixtures).mean() / (3 * math.log(2))

    def above(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return what each layer takes from the rows above each row of the images."""
        # The fourth channel tells pixels from the padding around them. Row r of the result has seen rows r-2 and r-1.
        maps = self.network["above"](F.pad(_marked(images), (1, 1, 2, -1)))
        taken = []
        for layer in self.network["body"]:  # pyright: ignore[reportGeneralTypeIssues]
            maps, from_above = layer.above(maps)
            taken.append(from_above)
        return taken

    def along(self, images: torch.Tensor, from_above: list[torch.Tensor]) -> torch.Tensor:
        """Return the parameters of the distribution of each pixel: float32 (N, 10 M, H, W)."""
        maps = self.network["along"](F.pad(_marked(images), (2, -1)))
        for layer, taken in zip(self.network["body"], from_above, strict=True):  # pyright: ignore[reportArgumentType]
            maps = layer.along(maps, taken)
        return self.network["head"](maps).float()

    def sample(self, count: int) -> torch.Tensor:
        images = torch.zeros(count, 3, 32, 32, device=self.device)
        # So many rows above a row have an influence on it.
        reach = len(self.network["body"]) + 2  # pyright: ignore[reportArgumentType]
        for row in range(32):
            from_above = [taken[:, :, -1:] for taken in self.above(images[:, :, max(0, row - reach) : row + 1])]
            for column in range(32):
                parameters = self.along(images[:, :, row : row + 1], from_above)[:, :, 0, column]
                images[:, :, row, column] = draw(parameters, self.mixtures)
        return images


def _marked(images: torch.Tensor) -> torch.Tensor:
    return torch.cat([images, torch.ones_like(images[:, :1])], 1)


def _parts(parameters: torch.Tensor, mixtures: int) -> tuple[torch.Tensor, ...]:
    """Return log-weights (N, M, …), and means, log-scales and colour coefficients (N, 3, M, …) of the mixtures."""
    weights, others = parameters.split([mixtures, 9 * mixtures], 1)
    means, scales, colours = others.unflatten(1, (3, 3, mixtures)).unbind(1)
    return weights.log_softmax(1), means, scales.clamp(min=-7), colours.tanh()


def log_likelihood(images: torch.Tensor, parameters: torch.Tensor, mixtures: int) -> torch.Tensor:
    """Return the logarithm of the probability of each pixel's three levels: (N, H, W).

    A level has the probability that the logistic distribution gives to the interval around it. The first and the last
    interval are open. The mean of green depends on red, and that of blue on both.
    """
    weights, means, scales, colours = _parts(parameters, mixtures)
    red, green, _ = images[:, :, None].unbind(1)
    shifts = torch.stack(
        [torch.zeros_like(colours[:, 0]), colours[:, 0] * red, colours[:, 1] * red + colours[:, 2] * green], 1
    )
    values, half = images[:, :, None], 1 / (LEVELS - 1)
    upper, lower = ((values + edge - means - shifts) * (-scales).exp() for edge in (half, -half))
    # s(u) - s(l) = s(u) s(-l) (1 - exp(l - u)), where s is the logistic function, without a difference of like numbers
    between = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
    logs = torch.where(
        values < -1 + half, F.logsigmoid(upper), torch.where(values > 1 - half, F.logsigmoid(-lower), between)
    )
    return torch.logsumexp(weights + logs.sum(1), 1)


def draw(parameters: torch.Tensor, mixtures: int) -> torch.Tensor:
    """Return pixels (N, 3) drawn from distributions with parameters (N, 10 M)."""
    weights, means, scales, colours = _parts(parameters, mixtures)
    chosen = torch.distributions.Categorical(logits=weights, validate_args=False).sample()
    chosen = chosen[:, None, None].expand(-1, 3, 1)
    means, scales, colours = (values.gather(2, chosen)[..., 0] for values in (means, scales, colours))
    uniform = torch.rand_like(means).clamp(1e-5, 1 - 1e-5)
    drawn = means + scales.exp() * uniform.logit()
    red = _level(drawn[:, 0])
    green = _level(drawn[:, 1] + colours[:, 0] * red)
    blue = _level(drawn[:, 2] + colours[:, 1] * red + colours[:, 2] * green)
    return torch.stack([red, green, blue], 1)


def _level(values: torch.Tensor) -> torch.Tensor:
    half = (LEVELS - 1) / 2
    return (values.clamp(-1, 1) * half + half).round() / half - 1
