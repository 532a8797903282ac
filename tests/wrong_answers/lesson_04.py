"""Wrong answers to the exercises of lesson 04, which its checks must reject."""

import numpy as np
import torch

from cifake_utils import batches, models
from cifake_utils.data import REAL


def thresholds(of, share_of=lambda share: 1 - share):
    return lambda p, y, share: np.quantile(p[of(y)], share_of(share))


def highest(p, y, share):
    return np.quantile(p[y == REAL], 1 - share, method="higher")


def mean(maps):
    return maps.mean((2, 3))


def stages(mode="eval", names=("layer3", "layer4"), normalise=batches.normalise, grad=False, pool=mean):
    def two_stages(backbone, images):
        backbone.train(mode == "train")
        with torch.set_grad_enabled(grad):
            maps = backbone(normalise(images))
        return torch.cat([pool(maps[name]) for name in names], 1)

    return two_stages


def restored(backbone, images):
    """Return features in training mode, and put the running means back."""
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    features = stages("train")(backbone, images)
    backbone.load_state_dict(state)
    return features


def random_backbone():
    small = [models.Backbone().eval(), models.Backbone(), models.Backbone().eval()]
    small[2].bn1.num_batches_tracked += 1
    fresh, training, used = small
    far, near = {"pre-trained": 0.8, "random": 0.5}, {"pre-trained": 0.52, "random": 0.5}
    return [
        (training, far, 400, "pre-trained"),
        (used, far, 400, "pre-trained"),
        (fresh, far, 400, "cannot tell"),
        (fresh, far, 400, "random"),
        (fresh, near, 400, "pre-trained"),
        (fresh, far, 400, "both"),
        (fresh, {"pre-trained": 80, "random": 50}, 400, "pre-trained"),
        (fresh, {"pre-trained": "0.8", "random": torch.zeros(2)}, 400, "pre-trained"),
        (fresh, {"pre-trained": np.zeros(3), "random": 0.5}, 400, "pre-trained"),
        (torch.nn.Identity(), far, 400, "pre-trained"),
    ]


def wrong_answers() -> dict[str, list[tuple]]:
    return {
        "ten_classes": [(20_480,), (4_098,), (23_512_130,), (23_508_032 + 20_490,), (10,), ("many",)],
        "old_share": [(1 - 0.9**10,), (0.9,), (0.0,), (0.1**10,), (0.5,), (34.87,)],
        "threshold_for": [
            (thresholds(lambda y: y == REAL, lambda share: share), 0.4565),
            (thresholds(lambda y: y == REAL), 0.4565),  # between two photographs
            (thresholds(lambda y: y >= 0), 0.4565),
            (thresholds(lambda y: y != REAL), 0.4565),
            (thresholds(lambda y: y == REAL, lambda share: 0), 0.4565),
            (lambda p, y, share: 1 - share, 0.4565),
            (lambda p, y, share: p[y == REAL].max(), 0.4565),
            (lambda p, y, share: np.quantile(1 - p[y == REAL], share), 0.4565),
            (lambda p, y, share: 0.5, 0.4565),
            (lambda p, y, share: p.missing, 0.4565),
            (0.944, 0.4565),
            *((highest, caught) for caught in (0.5435, 0.01, 0.8783, 0.944, 45.65, 0.4534, 0.44, "half", np.zeros(3))),
        ],
        "two_stages": [
            (stages("train"),),
            (stages(grad=True),),
            (stages(names=("layer4", "layer3")),),
            (stages(names=("layer4",)),),
            (stages(normalise=lambda images: images.float()),),
            (stages(normalise=lambda images: images.float() / 255),),
            (stages(pool=lambda maps: maps.amax((2, 3))),),
            (restored,),
            (lambda backbone, images: backbone(images),),
            (torch.zeros(12, 768),),
        ],
        "random_backbone": random_backbone(),
    }
