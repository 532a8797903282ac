"""Measure how far generated images are from photographs: the Fréchet distance of features.

Heusel et al., *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium*, NeurIPS 2017. The
features are the means of the last maps of the embedded backbone, not those of the paper's network, so the distances
can only be compared with each other. They depend on the number of images too.
"""

from pathlib import Path

import torch

from cifake_utils import CifakeError, data, models, weights
from cifake_utils.batches import normalise
from cifake_utils.lessons import zoo
from cifake_utils.support import progress

AT_ONCE = 250


@torch.inference_mode()
def features(backbone: models.Backbone, images: torch.Tensor) -> torch.Tensor:
    """Return the means of the last maps for uint8 images (N, 3, 32, 32): float64 (N, D)."""
    return torch.cat([backbone(normalise(part))["layer4"].mean((2, 3)) for part in images.split(AT_ONCE)]).double()


def frechet_distance(few: torch.Tensor, many: torch.Tensor) -> float:
    """Return the squared Fréchet distance of the Gaussians that have the means and covariances of two sets.

    Parameters
    ----------
    few, many : torch.Tensor
        float64 (N, D) and (M, D). It takes less time if the first is the smaller set.
    """
    one, other = ((values - values.mean(0)) / (len(values) - 1) ** 0.5 for values in (few, many))
    # The covariances are A'A and B'B. The trace of the root of their product is that of the root of (AB')(AB')'.
    shared = torch.linalg.eigvalsh(one @ (other.T @ other) @ one.T).clamp(min=0).sqrt().sum()
    apart = (few.mean(0) - many.mean(0)).square().sum()
    return float(apart + one.square().sum() + other.square().sum() - 2 * shared)


def measure(folder: Path, cifake: data.Cifake) -> None:
    """Write the distance of the images in each file of a folder to photographs into the JSON file beside it.

    The photographs are REAL ones of the validation split, without those that are made again. Of these, and of images of
    Stable Diffusion, CIFAKE's FAKE, the distance is measured too.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise CifakeError(
            f"There are no NPZ files in {folder}. Expected those that this command makes without --quality."
        )
    backbone = models.backbone(weights.load_offline()).eval()
    labels = cifake.val.labels
    held = zoo.chosen(cifake.val)
    others = labels == data.REAL
    others[held] = False
    reference = features(backbone, cifake.val.images[others])

    def distance(images: torch.Tensor) -> float:
        return round(frechet_distance(features(backbone, images), reference), 2)

    rendered = (labels == data.FAKE).nonzero()[:: len(labels) // 2 // len(held), 0][: len(held)]
    yardsticks = {
        "of_photographs": distance(cifake.val.images[held]),
        "of_stable_diffusion": distance(cifake.val.images[rendered]),
    }
    print(f"{len(held):,} images each, {len(reference):,} photographs: {yardsticks}")
    for path in progress.bar(paths, "distances", len(paths)):
        made, about = zoo.read(path), zoo.read_about(path)
        images = (made.get(zoo.SAMPLES) or made[zoo.VALIDATION])[0]
        about["quality"] = {"frechet_distance": distance(images), "images": len(images)} | yardsticks
        zoo.write_about(path, about)
        print(f"{path.stem}: {about['quality']['frechet_distance']}")
