"""Publish a trained detector on a model hub, and load one that somebody has published.

The files are those of the Hugging Face Hub: weights as ``safetensors``, settings as JSON, and a model card. Nothing is
unpickled. `Published.save_pretrained` writes them into a folder, and `Published.from_pretrained` reads them from a
folder or from the hub.
"""

import numpy as np
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import nn

from cifake_utils import catalogue, data_sets, evaluation, features, models, training, weights
from cifake_utils.batches import ImageBatches
from cifake_utils.records import Record

CARD = """---
{{ card_data }}
---

# A detector of rendered images

It says how likely an image of 32×32 pixels is FAKE. {{ learned_from }}

```python
from cifake_utils.hub import Published
detector = Published.from_pretrained("OWNER/NAME")
p_fake = detector.probabilities(images)  # uint8 (N, 3, 32, 32), RGB
```

`config.json` names its experiment, the data it was trained on and its test accuracy there.
"""


class Published(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="cifake-utils",
    tags=["image-classification", "ai-generated-image-detection"],
    model_card_template=CARD,
):
    """A detector in the form that a model hub keeps.

    Parameters
    ----------
    experiment : str
        A key of `catalogue.EXPERIMENTS`. It says how the detector is built.
    temperature : float
        Divides the log odds (`evaluation.with_temperature`).
    mirror_average : bool
        Whether P(FAKE) is the mean over an image and its mirror image.
    trained_on : str
        Name of the data set.
    learned_from : str
        What its images are, in one sentence for the model card. If it is empty, the data set must be a declared one
        (`data_sets.DATA_SETS`), whose sentence is taken.
    test_accuracy : float, optional
        Accuracy on the test images of that data set.
    """

    def __init__(
        self,
        experiment: str,
        temperature: float = 1.0,
        mirror_average: bool = False,
        trained_on: str = data_sets.CIFAKE.name,
        learned_from: str = "",
        test_accuracy: float | None = None,
    ) -> None:
        super().__init__()
        self.temperature, self.mirror_average = temperature, mirror_average
        self.learned_from = learned_from or data_sets.get(trained_on).learned_from
        self.detector = catalogue.get(experiment).build(weights.NONE).eval()

    @classmethod
    def of(cls, model: models.Detector, record: Record) -> "Published":
        """Return a trained model in this form. The two arguments are what `experiments.train_or_load` returns.

        Raises a `CifakeError` for a control with broken statistics, whose P(FAKE) depends on other images too.
        """
        catalogue.require_own_statistics(record.experiment)
        temperature = evaluation.usable_temperature(record.probabilities["val"], record.labels["val"])
        made = cls(
            record.experiment,
            temperature=temperature,
            mirror_average=record.hyperparameters.get("mirror_average", False),
            trained_on=record.data,
            learned_from=data_sets.get(record.data).learned_from,
            test_accuracy=record.metrics["test"]["accuracy"],
        )
        made.detector.load_state_dict(model.state_dict())
        return made

    def generate_model_card(self, *arguments, **values) -> ModelCard:
        """Return the model card, which says what the detector has learned from."""
        return super().generate_model_card(*arguments, learned_from=self.learned_from, **values)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 2) of normalised images, float32 (N, 3, 32, 32)."""
        return self.detector(inputs)

    @torch.inference_mode()
    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """Return P(FAKE), float64 (N,) on the CPU, of images, uint8 (N, 3, 32, 32), RGB, on any device."""
        device = next(self.detector.parameters()).device
        batches = ImageBatches(images, torch.zeros(len(images)), features.BATCH_SIZE, device)
        sides = (False, True) if self.mirror_average else (False,)
        p = np.mean([training.predict(self, batches, mirrored=side) for side in sides], 0)
        return torch.from_numpy(evaluation.with_temperature(p, self.temperature))
