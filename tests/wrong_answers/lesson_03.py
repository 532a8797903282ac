"""Answers that the checks of lesson 03 must reject."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from cifake_utils import models, profiles, training
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


def losses_with(train, val, first=None, order=None, patience=None, pick=lambda losses: losses[-1]):
    """Return an answer to exercise 6 that may forget a seed, stop early, or pick another loss."""

    def answer(make, seeds):
        accelerator = profiles.active().accelerator()
        options = training.Options(learning_rate=1e-3, patience=patience)
        fitted = []
        for seed in seeds:
            network = make(seed if first is None else first)
            order_seed = seed if order is None else order
            fitted.append(
                training.fit(
                    network, train, val, epochs=10, accelerator=accelerator, options=options, seed=order_seed
                ).val_loss
            )
        return [pick(losses) for losses in fitted]

    return answer


def stride_first(x, block):
    x = F.relu(block.bn1(F.conv2d(x, block.conv1.weight, stride=block.conv2.stride[0])))
    x = F.relu(block.bn2(F.conv2d(x, block.conv2.weight, padding=1)))
    return block.bn3(block.conv3(x))


def returns_only_where_it_stops(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        best = epoch if loss <= losses[best] else best
        if epoch - best >= patience:
            return epoch + 1, best


def never_reset(losses, patience):
    best = worse = 0
    for epoch, loss in enumerate(losses):
        if loss <= losses[best]:
            best = epoch
        else:
            worse += 1
        if worse >= patience:
            break
    return epoch + 1, best


def first_of_equals(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        best = epoch if loss < losses[best] else best
        if epoch - best >= patience:
            break
    return epoch + 1, best


def light_pooling():
    network = backbone(stride=1)
    network.maxpool = nn.MaxPool2d(3, stride=1, padding=1)
    return network


def without_padding():
    network = backbone(stride=1, pool=False)
    network.conv1.padding = (0, 0)
    return network


def stopped(losses, patience):
    best = 0
    for epoch, loss in enumerate(losses):
        best = epoch if loss <= losses[best] else best
        if epoch - best >= patience:
            break
    return epoch + 1, best


def stopped_by_rises(losses, patience):
    rises = 0
    for epoch in range(1, len(losses)):
        rises = rises + 1 if losses[epoch] > losses[epoch - 1] else 0
        if rises >= patience:
            break
    return epoch + 1, max(range(epoch + 1), key=lambda i: (-losses[i], i))


def stopped_late(losses, patience):
    return stopped(losses, patience + 1)


def wrong_answers() -> dict[str, list[tuple]]:
    """Return lists of arguments by the name of the check."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 12, 3, 32, 32), dtype=torch.uint8, generator=generator)
    train, val = (ImageBatches(half, torch.arange(12) % 2, batch_size=6) for half in images)
    runs = (make, train, val)
    return {
        "sure_loss": [
            (wrong,)
            for wrong in (math.log(2), -math.log(0.99), 0.5, -math.log(0.99 * 0.01), 7.0, 3.329, 0.056, 2.3, 2.31)
        ],
        "map_width": [
            (lambda width, kernel, stride, padding: width // stride,),
            (lambda width, kernel, stride, padding: (width - kernel) // stride + 1,),
            (lambda width, kernel, stride, padding: (width + padding - kernel) // stride + 1,),
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
            (lambda x, block: block(x),),
            (lambda x, block: F.relu(stride_first(x, block) + block.downsample(x)),),
            (lambda x, block: F.relu(body(x, block) + F.relu(block.downsample(x))),),
            (lambda x, block: F.relu(F.relu(body(x, block)) + block.downsample(x)),),
            (lambda x, block: F.relu(body(x, block) + F.conv2d(x, block.downsample[0].weight, stride=2)),),
        ],
        "repaired": [
            (models.Backbone,),
            (lambda: backbone(stride=1),),
            (lambda: backbone(pool=False),),
            (lambda: backbone(stride=4),),
            (lambda: 4,),
            (light_pooling,),
            (without_padding,),
        ],
        "stopping": [
            (stopped_late,),
            (lambda losses, patience: stopped(losses, patience - 1),),
            (stopped_by_rises,),
            (returns_only_where_it_stops,),
            (never_reset,),
            (first_of_equals,),
            (lambda *case: stopped(*case)[::-1],),
            (lambda *case: (stopped(*case)[0] - 1, stopped(*case)[1]),),
            (lambda losses, patience: (len(losses), losses.index(min(losses))),),
            (lambda losses, patience: (3, 0),),
            (lambda losses, patience: losses[9],),
        ],
        "last_losses": [
            (lambda make, seeds: [0.5, 0.4], *runs),
            (lambda make, seeds: 0.5, *runs),
            (lambda make, seeds: [0.5] * 3, *runs),
            (lambda make, seeds: make(None), *runs),
            (losses_with(train, val, order=0), *runs),
            (losses_with(train, val, first=0), *runs),
            (losses_with(train, val, patience=5), *runs),
            (losses_with(train, val, pick=min), *runs),
        ],
    }
