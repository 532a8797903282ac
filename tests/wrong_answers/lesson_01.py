"""Wrong answers to the exercises of lesson 01, with which its checks are tried."""

import torch

from cifake_utils import data, records
from cifake_utils.lessons import effects, exploration


def saturation(images):
    return (images.amax(1).float() - images.amin(1).float()).mean((1, 2))


def wrong_answers() -> dict[str, list[tuple]]:
    cifake, reference = data.load("sample"), records.reference_summary("explore_cifake")
    val = cifake.val
    d = effects.effect_sizes(saturation(val.images).numpy()[:, None], val.labels.numpy())["d"][0]
    fitted = exploration.probe(exploration.radial_power_spectrum(cifake.train.images), cifake.train.labels)
    real, fake = exploration.called_fake(
        fitted, exploration.radial_power_spectrum(exploration.blurred(val.images)), val.labels
    ).values()
    as_they_are = exploration.called_fake(fitted, exploration.radial_power_spectrum(val.images), val.labels)
    return {
        "best_accuracy": [
            (-0.369, reference),
            (0.369, reference),
            (0.427, reference),
            (0.644, reference),
            (57.3, reference),
            (0.5, reference),
            (0.9, reference),
        ],
        "saturation": [
            (lambda x: saturation(x).mean(), d, val),
            (lambda x: x.amax((1, 2, 3)).float() - x.amin((1, 2, 3)).float(), d, val),
            (lambda x: x.float().std(1).mean((1, 2)), d, val),
            (lambda x: torch.full((len(x),), 85.0), d, val),
            (lambda x: (x.amax(1) - x.amin(1)).mean((1, 2)), d, val),  # integers have no mean
            (saturation, -d, val),
            (saturation, 20.0, val),
        ],
        "repeated": [
            (lambda x: 0,),
            (lambda x: len({pixels.numpy().tobytes() for pixels in x}),),
            (lambda x: int((x[1:] == x[:-1]).flatten(1).all(1).sum()),),
            (lambda x: len(x) - len(set(x)),),  # tensors are compared by identity
            (lambda x: len(x) - len(torch.unique(x.flatten(1).long().sum(1))),),
        ],
        "p_value": [
            (lambda found, shuffled: sum(other >= found for other in shuffled) / len(shuffled),),
            (lambda found, shuffled: (1 + sum(other <= found for other in shuffled)) / (1 + len(shuffled)),),
            (lambda found, shuffled: (1 + sum(other > found for other in shuffled)) / (1 + len(shuffled)),),
            (lambda found, shuffled: 0.4,),
        ],
        "called_fake": [
            ((fake, real), cifake),
            (tuple(as_they_are.values()), cifake),
            ((1 - real, fake), cifake),
            ((100 * real, 100 * fake), cifake),
            (fake, cifake),
            ((0.5, 0.5), cifake),
        ],
    }
