"""Make batches from tensors that stay on a device: shuffle, mirror and normalise them there."""

import copy
from collections.abc import Iterator
from functools import cache
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather

# Mean and standard deviation of ImageNet's RGB channels, for values from 0 to 1 (torchvision's numbers).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@cache
def _mean_and_std(device: torch.device) -> list[torch.Tensor]:
    """Return `MEAN` and `STD` as (1, 3, 1, 1) on a device. They are copied once, since a copy makes the CPU wait."""
    return [torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (MEAN, STD)]


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 images (N, 3, H, W) as float32, normalised as for ImageNet, in ``channels_last`` layout."""
    mean, std = _mean_and_std(images.device)
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def mirror(images: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
    """Return images (N, 3, H, W), of which those are mirrored left to right where ``flips`` (bool, (N,)) is True."""
    return torch.where(flips[:, None, None, None], images.flip(3), images)


def shifted(images: torch.Tensor, moves: torch.Tensor) -> torch.Tensor:
    """Return images (N, 3, H, W), each moved down and to the right by its own numbers of pixels.

    ``moves`` is int64 (N, 2), less than H and W in size. What comes in at a border is mirrored there.
    """

    def places(offsets: torch.Tensor, width: int) -> torch.Tensor:
        place = (torch.arange(width, device=images.device) - offsets[:, None]).abs()
        return width - 1 - (width - 1 - place).abs()

    rows, columns = places(moves[:, 0], images.shape[2]), places(moves[:, 1], images.shape[3])
    first = torch.arange(len(images), device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[first, channels, rows[:, None, :, None], columns[:, None, None, :]]


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the random seed of one epoch of a run. With a seed for each epoch, a stopped run can go on."""
    return seed * 100_003 + epoch


class ImageBatches:
    """Batches of normalised images.

    A last batch of one image is joined to the batch before it, since batch norm can't train on a single image.

    Parameters
    ----------
    inputs : torch.Tensor
        uint8 images (N, 3, H, W).
    labels : torch.Tensor
        int64 (N,).
    batch_size : int
    device : torch.device or str
        The device on which the images stay and the batches are made.
    stratified : bool
        Whether every shuffled batch holds the labels in the same shares as the whole set, up to rounding.
    shift : int
        By how many pixels at most `shuffled` moves an image, up or down and left or right.
    """

    def __init__(
        self,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        batch_size: int,
        device: torch.device | str = "cpu",
        *,
        stratified: bool = False,
        shift: int = 0,
    ) -> None:
        self.inputs, self.labels = inputs.to(device), labels.to(device)
        self.batch_size, self.stratified, self.shift = batch_size, stratified, shift
        self.process, self.processes = 0, 1

    def __len__(self) -> int:
        """Number of batches in one pass."""
        return len(self.sizes())

    def sizes(self) -> list[int]:
        """Return the number of images in each batch of one pass, over all processes."""
        return [len(rows) for rows in self._cut(torch.arange(len(self.labels)))]

    def shared(self, accelerator: Accelerator) -> "ImageBatches":
        """Return these batches as one of several processes sees them. The tensors are not copied.

        `shuffled` then yields this process's share of every batch. A share holds adjacent rows, and the sizes of the
        shares differ by at most one. `in_order` yields every n-th image in each of n processes. If n does not divide
        the number of images, the last image is repeated, so that all processes get as many. `gather` brings the images
        back into order.
        """
        shared = copy.copy(self)
        shared.process, shared.processes = accelerator.process_index, accelerator.num_processes
        return shared

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Return, in every process, what all processes computed from `in_order`: (M, …) each to (N, …), in order."""
        if self.processes == 1:
            return values
        gathered = cast(torch.Tensor, gather(values))
        return gathered.unflatten(0, (self.processes, -1)).transpose(0, 1).flatten(0, 1)[: len(self.labels)]

    def take(self, rows: torch.Tensor, flips: torch.Tensor, moves: torch.Tensor | None = None) -> torch.Tensor:
        images = mirror(self.inputs[rows], flips)
        return normalise(images if moves is None else shifted(images, moves))

    def shuffled(self, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield one epoch of (inputs, labels), in random order. Every image is mirrored with probability ½.

        With `shift`, every image is moved too. Order, flips and moves depend only on ``seed`` and ``epoch``, so that a
        stopped run can go on.
        """
        generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
        order = torch.randperm(len(self.labels), generator=generator)
        if self.stratified:
            order = order[_spread(self.labels.cpu()[order].numpy())]
        flips = torch.rand(len(order), generator=generator) < 0.5
        drawn = [order, flips]
        if self.shift:
            drawn.append(torch.randint(-self.shift, self.shift + 1, (len(order), 2), generator=generator))
        for rows, *others in self._batches(*drawn):
            rows, *others = (whole.tensor_split(self.processes)[self.process] for whole in (rows, *others))
            yield self.take(rows, *others), self.labels[rows]

    def in_order(self, mirrored: bool = False) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield every (inputs, labels) batch once, in the given order, with no image mirrored or with all of them."""
        count = len(self.labels)
        order = torch.arange(self.process, count + -count % self.processes, self.processes).clamp(max=count - 1)
        for rows, flip in self._batches(order, torch.full((len(order),), mirrored)):
            yield self.take(rows, flip), self.labels[rows]

    def _batches(self, *drawn: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """Return rows, flips and moves of each batch. They are moved to the device in one copy for the whole pass."""
        return zip(*(self._cut(values.to(self.labels.device)) for values in drawn), strict=True)

    def _cut(self, rows: torch.Tensor) -> list[torch.Tensor]:
        *pieces, last = rows.split(self.batch_size)
        if pieces and len(last) == 1:
            last = torch.cat([pieces.pop(), last])
        return [*pieces, last]


def _spread(labels: np.ndarray) -> torch.Tensor:
    """Return an order of the rows that spreads each label evenly. Rows of one label keep the order they have."""
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = labels == label
        place[rows] = (np.arange(rows.sum()) + 0.5) / rows.sum()
    return torch.from_numpy(place.argsort(kind="stable"))


class FeatureBatches(ImageBatches):
    """Batches of cached features: ``inputs`` is (N, 2, D), the features of each image and of its mirror image.

    The same seed and epoch give the same order and flips as with `ImageBatches`, and so the same training.
    """

    def shared(self, accelerator: Accelerator) -> "FeatureBatches":
        """Return these batches unchanged: every process gets them in full.

        A head trains in seconds, and its batch norm and the combined loss need a whole batch. So every process takes
        the same steps as a single process would.
        """
        return self

    def take(self, rows: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
        return self.inputs[rows, flips.long()].float()
