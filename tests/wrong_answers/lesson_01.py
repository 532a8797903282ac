"""Wrong answers to the exercises of lesson 01, with which its checks are tried."""

import numpy as np
import torch
from scipy.stats import norm

from cifake_utils import data
from cifake_utils.lessons import effects, exploration


def cohens_d(real_mean, real_deviation, fake_mean, fake_deviation):
    return (fake_mean - real_mean) / np.sqrt((real_deviation**2 + fake_deviation**2) / 2)


def saturation(images):
    return (images.amax(1).float() - images.amin(1).float()).mean((1, 2))


def effect_of(images):
    return effects.effect_sizes(saturation(images.images).numpy()[:, None], images.labels.numpy())


def wrong_answers() -> dict[str, list[tuple]]:
    cifake = data.load("sample")
    val, found = cifake.val, effect_of(cifake.val)
    d, low, high = effect = [values[0] for values in found.values()]
    fitted = exploration.probe(exploration.radial_power_spectrum(cifake.train.images), cifake.train.labels)
    blurred = exploration.radial_power_spectrum(exploration.blurred(val.images))
    real, fake = exploration.called_fake(fitted, blurred, val.labels).values()
    as_they_are = exploration.called_fake(fitted, exploration.radial_power_spectrum(val.images), val.labels)
    return {
        "best_accuracy": [
            (cohens_d,),
            (lambda *x: abs(cohens_d(*x)),),
            (lambda *x: norm.cdf(cohens_d(*x) / 2),),
            (lambda *x: norm.cdf(abs(cohens_d(*x))),),
            (lambda *x: norm.sf(abs(cohens_d(*x)) / 2),),
            (lambda *x: 100 * norm.cdf(abs(cohens_d(*x)) / 2),),
            (lambda *x: norm.pdf(abs(cohens_d(*x)) / 2),),
            (lambda m, s, n, t: norm.cdf(abs(n - m) / (s + t)),),  # the mean of both deviations
            (lambda m, s, n, t: norm.cdf(abs(n - m) / np.hypot(s, t) / 2),),
            (lambda *x: 0.573,),
            (0.573,),
        ],
        "saturation": [
            (lambda x: saturation(x).mean(), effect, cifake),
            (lambda x: x.amax((1, 2, 3)).float() - x.amin((1, 2, 3)).float(), effect, cifake),
            (lambda x: x.float().std(1).mean((1, 2)), effect, cifake),
            (lambda x: torch.full((len(x),), 85.0), effect, cifake),
            (lambda x: (x.amax(1) - x.amin(1)).mean((1, 2)), effect, cifake),  # integers have no mean
            (lambda x: saturation(x) / 255, effect, cifake),
            (lambda x: saturation(x.float().mean((2, 3), keepdim=True)), effect, cifake),
            (saturation, d, cifake),
            (saturation, [d], cifake),
            (saturation, found, cifake),
            (saturation, list(found.values()), cifake),
            (saturation, [-d, -high, -low], cifake),
            (saturation, [values[0] for values in effect_of(cifake.train).values()], cifake),
            (saturation, [0.0, low, high], cifake),
        ],
        "repeated": [
            (lambda x: 0,),
            (lambda x: len({pixels.numpy().tobytes() for pixels in x}),),
            (lambda x: int((x[1:] == x[:-1]).flatten(1).all(1).sum()),),
            (lambda x: sum(torch.equal(x[i], x[j]) for i in range(len(x)) for j in range(i)),),
            (lambda x: len(x) - len(set(x)),),  # tensors are compared by identity
            (lambda x: len(x) - len(torch.unique(x.flatten(1).long().sum(1))),),
        ],
        "p_value": [
            (lambda found, shuffled: sum(other >= found for other in shuffled) / len(shuffled),),
            (lambda found, shuffled: (1 + sum(other <= found for other in shuffled)) / (1 + len(shuffled)),),
            (lambda found, shuffled: (1 + sum(other > found for other in shuffled)) / (1 + len(shuffled)),),
            (lambda found, shuffled: (1 + sum(other >= found for other in shuffled)) / 40,),
            (lambda found, shuffled: 0.4,),
        ],
        "called_fake": [
            ((fake, real), cifake),
            (tuple(as_they_are.values()), cifake),
            ((1 - real, fake), cifake),
            ((real / 2, fake / 2), cifake),
            ((100 * real, 100 * fake), cifake),
            (fake, cifake),
            ((0.5, 0.5), cifake),
        ],
    }
