"""The detector that comes with the package: it answers in a fresh clone, in every profile, without any training.

`tools/make_detector.py` makes its file from a run on all of CIFAKE.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cifake_utils import catalogue, models, records, weights
from cifake_utils.familiarity import Familiarity
from cifake_utils.support import verified
from cifake_utils.support.files import replacing

FILE = Path(__file__).parent / "assets" / "detector_int8.safetensors"
EXPERIMENT = "resnet50_embedded"
PREFIX = "familiarity."  # of the names of tensors that belong to the density


@dataclass(frozen=True)
class Embedded:
    """The detector with everything that its answers need.

    Attributes
    ----------
    model : models.Detector
        On the CPU in eval mode.
    record : records.Record
        The record of its training. Its probabilities were computed before the weights were rounded to 8 bits.
    familiarity : Familiarity
        Of the features that its backbone computes (`familiarity.features_of`), for images of CIFAKE.
    facts : dict
        What `tools/make_detector.py` measured with the rounded weights, as JSON types.
    """

    model: models.Detector
    record: records.Record
    familiarity: Familiarity
    facts: dict


def save(path: Path, model: models.Detector, familiarity: Familiarity, facts: dict) -> None:
    """Write the file of a detector. Weights are rounded to 8 bits (`weights.quantise`), the density to 16."""
    tensors = weights.quantise(model.state_dict()) | {
        PREFIX + name: value for name, value in familiarity.tensors().items()
    }
    with replacing(path) as partial:
        save_file(tensors, partial, {"facts": json.dumps(facts)})


@cache
def load(path: Path = FILE) -> Embedded:
    """Return the detector that comes with the package.

    Raises `verified.DamagedFile` if its file is damaged.
    """
    tensors = {}
    with safe_open(verified.shipped(path), "pt") as file:
        facts = json.loads(file.metadata()["facts"])
        for name in file.keys():
            tensors[name] = file.get_tensor(name)
    density = {name.removeprefix(PREFIX): tensors.pop(name) for name in list(tensors) if name.startswith(PREFIX)}
    with torch.device("meta"):  # drawing random values would take half a second
        model = catalogue.get(EXPERIMENT).build(weights.NONE)
    model.load_state_dict(weights.dequantise(tensors), assign=True)
    model = model.to(memory_format=torch.channels_last).eval()
    return Embedded(model, records.reference(EXPERIMENT), Familiarity.of_tensors(density), facts)
