"""Train a network on photographs for a number of seconds or steps."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

WARM_UP = 0.02  # the share of the training in which the learning rate rises to its full value
DECAY = 0.999  # of the moving average of the weights
POINTS = 100  # of the loss curve
LARGEST_GRADIENT = 1.0


class Network(nn.Module):
    """What `fit` can train. Images are float32 (N, 3, 32, 32), from -1 to 1.

    Attributes
    ----------
    autocast : bool
        Whether its layers compute in bfloat16.
    """

    autocast = True

    def losses(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the name of a submodule and the loss that a step of its optimizer makes smaller, in turn.

        The step is made before the next pair is computed.
        """
        raise NotImplementedError

    def finish(self) -> None:
        """Do what has to be done when the weights have become their moving average."""

    def sample(self, count: int) -> torch.Tensor:
        """Return generated images."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Attributes
    ----------
    batch : int
        Photographs in a step.
    rates : float or dict of str to float
        The highest learning rate of Adam, or that of each submodule that `Network.losses` names.
    betas : tuple of float
        Adam's.
    """

    batch: int = 128
    rates: float | dict[str, float] = 5e-4
    betas: tuple[float, float] = (0.9, 0.99)


@dataclass
class Course:
    """What a training was like: its steps, its seconds, and means of its losses between the steps of ``curve``."""

    steps: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)


def fit(network: Network, photographs: torch.Tensor, plan: Plan, seconds: float, steps: int | None = None) -> Course:
    """Train a network, and give it the moving average of its weights.

    The training ends after ``seconds`` by the clock, or after ``steps`` if this comes first. The learning rate rises
    linearly, then falls along half a cosine to 0; time is measured as the share of the training that is over.

    Parameters
    ----------
    network : Network
        On the device on which it is trained.
    photographs : torch.Tensor
        uint8 (N, 3, 32, 32), on the same device. They are mirrored at random.
    plan : Plan
    seconds : float
    steps : int, optional
    """
    network.train()
    parameters = list(network.parameters())
    averages = [parameter.detach().clone() for parameter in parameters]
    optimizers: dict[str, torch.optim.Optimizer] = {}
    sums: dict[str, torch.Tensor] = {}
    kept: list[tuple[int, float, int, dict[str, torch.Tensor]]] = []
    course, since, start = Course(), 0, time.monotonic()
    while True:
        elapsed = time.monotonic() - start
        share = max(elapsed / seconds, course.steps / steps if steps else 0.0)
        if since and (share >= 1 or share * POINTS >= len(kept) + 1):
            kept.append((course.steps, elapsed, since, sums))
            sums, since = {}, 0
        if share >= 1:
            break
        for part, loss in _turns(network, _batch(photographs, plan.batch)):
            if part not in optimizers:
                rate = plan.rates[part] if isinstance(plan.rates, dict) else plan.rates
                trained = network.get_submodule(part).parameters()
                optimizers[part] = torch.optim.Adam(trained, rate, betas=plan.betas, fused=True)
                optimizers[part].param_groups[0]["initial_lr"] = rate
            step(optimizers[part], loss, share)
            sums[part] = sums.get(part, 0) + loss.detach()
        decay = min(DECAY, (1 + course.steps) / (10 + course.steps))  # forgets the first values soon
        get_ema_multi_avg_fn(decay)(averages, parameters, 0)  # pyright: ignore[reportArgumentType]
        course.steps += 1
        since += 1
    # The losses are read only now, because reading one makes the host wait for the device.
    for number, moment, count, losses in kept:
        means = {part: round(float(total / count), 5) for part, total in losses.items()}
        course.curve.append({"step": number, "seconds": round(moment, 2)} | means)
    course.seconds = time.monotonic() - start
    with torch.no_grad():
        for parameter, average in zip(parameters, averages, strict=True):
            parameter.copy_(average)
    network.finish()
    network.eval()
    return course


def _turns(network: Network, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what `Network.losses` does, computed under autocast, while the caller's steps are not."""
    turns = network.losses(images)
    while True:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=network.autocast):
            turn = next(turns, None)
        if turn is None:
            return
        yield turn


def step(optimizer: torch.optim.Optimizer, loss: torch.Tensor, share: float) -> None:
    """Make one step at the learning rate of this share of the training."""
    (group,) = optimizer.param_groups
    group["lr"] = group["initial_lr"] * min(1, share / WARM_UP + 1e-3) * (1 + math.cos(math.pi * share)) / 2
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(group["params"], LARGEST_GRADIENT)
    optimizer.step()


def _batch(photographs: torch.Tensor, count: int) -> torch.Tensor:
    device = photographs.device
    images = photographs[torch.randint(len(photographs), (count,), device=device)]
    mirrored = torch.rand(count, 1, 1, 1, device=device) < 0.5
    return scaled(torch.where(mirrored, images.flip(3), images))


def scaled(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 images as float32 from -1 to 1, in the layout that convolutions like best."""
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def rounded(images: torch.Tensor) -> torch.Tensor:
    """Return images from -1 to 1 as uint8. Values outside are clipped."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).contiguous()
