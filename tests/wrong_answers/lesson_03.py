"""Answers that the checks of lesson 03 must reject."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from cifake_utils import models
from cifake_utils.batches import ImageBatches


def body(x, block):
    x = F.relu(block.bn1(block.conv1(x)))
    return block.bn3(block.conv3(F.relu(block.bn2(block.conv2(x)))))


def backbone(stride=2, pool=True):
    network = models.Backbone()
    network.conv1.stride = (stride, stride)
    if not pool:
        network.maxpool = nn.Identity()
    return network


def make(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))


def stopped_late(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        best = epoch if loss < losses[best] else best
        if epoch - best > patience:
            break
    return epoch + 1, best


def wrong_answers() -> dict[str, list[tuple]]:
    """Return lists of arguments by the name of the check."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=generator)
    batches = ImageBatches(images, torch.arange(12) % 2, batch_size=6)
    runs = (make, batches, batches)
    return {
        "sure_loss": [(math.log(2),), (-math.log(0.99),), (0.5,), (-math.log(0.99 * 0.01),), (7.0,)],
        "map_width": [
            (lambda width, kernel, stride, padding: width // stride,),
            (lambda width, kernel, stride, padding: (width - kernel) // stride + 1,),
            (lambda width, kernel, stride, padding: (width + 2 * padding - kernel) // stride,),
            (lambda width, kernel, stride, padding: (width + 2 * padding - kernel) / stride + 1,),
            (lambda width, kernel, stride, padding: 16,),
            (16,),
        ],
        "shortcut": [
            (lambda x, block: F.relu(body(x, block)),),
            (lambda x, block: body(x, block) + block.downsample(x),),
            (lambda x, block: F.relu(body(x, block) + block.downsample[0](x)),),
            (lambda x, block: F.relu(body(x, block) + x),),
            (lambda x, block: block.downsample(x),),
        ],
        "repaired": [
            (models.Backbone,),
            (lambda: backbone(stride=1),),
            (lambda: backbone(pool=False),),
            (lambda: backbone(stride=4),),
            (lambda: 4,),
        ],
        "stopping": [
            (stopped_late,),
            (lambda losses, patience: (len(losses), losses.index(min(losses))),),
            (lambda losses, patience: (3, 0),),
            (lambda losses, patience: losses[9],),
        ],
        "last_losses": [
            (lambda make, seeds: [0.5, 0.4], *runs),
            (lambda make, seeds: 0.5, *runs),
            (lambda make, seeds: [0.5] * 3, *runs),
            (lambda make, seeds: make(None), *runs),
        ],
    }
