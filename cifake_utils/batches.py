"""Batches cut from resident tensors: shuffled, mirrored and normalised on the device they are used on."""

from collections.abc import Iterator

import torch

# Mean and standard deviation of ImageNet's RGB channels, for values from 0 to 1 (torchvision's numbers).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Return uint8 images (N, 3, H, W) as float32 in ImageNet's normalisation, in ``channels_last`` layout."""
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def mirror(images: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
    """Return images (N, 3, H, W) with those mirrored left to right where ``flips`` (bool, (N,)) says so."""
    return torch.where(flips[:, None, None, None], images.flip(3), images)


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the random seed of one epoch of a run, so that a stopped run can be taken up again."""
    return seed * 100_003 + epoch


class ImageBatches:
    """Batches of normalised images.

    A last batch of one image joins the batch before it: batch norm can't train on a single value.

    Parameters
    ----------
    inputs : torch.Tensor
        uint8 images (N, 3, H, W).
    labels : torch.Tensor
        int64 (N,).
    batch_size : int
    device : torch.device or str
        Where the images stay and the batches are made.
    stratified : bool
        Every shuffled batch holds each label in the share it has of the whole, up to rounding.
    """

    def __init__(
        self, inputs: torch.Tensor, labels: torch.Tensor, batch_size: int, device="cpu", *, stratified: bool = False
    ) -> None:
        self.inputs, self.labels = inputs.to(device), labels.to(device)
        self.batch_size, self.stratified = batch_size, stratified

    def __len__(self) -> int:
        """Number of batches in one pass."""
        return len(self._cut(torch.arange(len(self.labels))))

    def take(self, rows: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
        return normalise(mirror(self.inputs[rows], flips))

    def shuffled(self, seed: int, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield one epoch of (inputs, labels): random order, every image mirrored with probability ½.

        Order and flips depend on ``seed`` and ``epoch`` alone, so a stopped run can be taken up again.
        """
        generator = torch.Generator().manual_seed(epoch_seed(seed, epoch))
        order = torch.randperm(len(self.labels), generator=generator)
        if self.stratified:
            order = order[_spread(self.labels.cpu()[order])]
        flips = torch.rand(len(order), generator=generator) < 0.5
        yield from self._batches(order, flips)

    def in_order(self, mirrored: bool = False) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield every (inputs, labels) batch once, in the given order, nothing mirrored or everything."""
        count = len(self.labels)
        yield from self._batches(torch.arange(count), torch.full((count,), mirrored))

    def _batches(self, order: torch.Tensor, flips: torch.Tensor):
        order, flips = order.to(self.labels.device), flips.to(self.labels.device)
        for rows, flip in zip(self._cut(order), self._cut(flips), strict=True):
            yield self.take(rows, flip), self.labels[rows]

    def _cut(self, rows: torch.Tensor) -> list[torch.Tensor]:
        *pieces, last = rows.split(self.batch_size)
        if pieces and len(last) == 1:
            last = torch.cat([pieces.pop(), last])
        return [*pieces, last]


def _spread(labels: torch.Tensor) -> torch.Tensor:
    """Return an order of the rows in which each label comes at even distances, its own rows in the given order."""
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        rows = labels == label
        place[rows] = (torch.arange(int(rows.sum()), dtype=torch.float64) + 0.5) / rows.sum()
    return place.argsort(stable=True)


class FeatureBatches(ImageBatches):
    """Batches of cached features: ``inputs`` is (N, 2, D), features of each image and of its mirror image.

    The same seed and epoch give the same order and flips as `ImageBatches`, hence the same training.
    """

    def take(self, rows: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
        return self.inputs[rows, flips.long()].float()
