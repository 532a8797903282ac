"""The detector that comes with the package: it answers in a fresh clone, in every profile, without any training.

`tools/make_detector.py` makes its file from a run on all of CIFAKE.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from cifake_utils import catalogue, familiarity, models, records, weights
from cifake_utils.familiarity import Familiarity

FILE = Path(__file__).parent / "assets" / "detector_int8.safetensors"
EXPERIMENT = "resnet50_embedded"


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


@cache
def load(path: Path = FILE) -> Embedded:
    """Return the detector that comes with the package.

    Raises `verified.DamagedFile` if its file is damaged.
    """
    state, known, facts = familiarity.load(path)
    with torch.device("meta"):  # drawing random values would take half a second
        model = catalogue.get(EXPERIMENT).build(weights.NONE)
    model.load_state_dict(state, assign=True)
    model = model.to(memory_format=torch.channels_last).eval()
    return Embedded(model, records.reference(EXPERIMENT), known, facts)
