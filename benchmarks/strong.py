"""What brings a ResNet50 further on these images: trials, each judged on all 20,000 validation images of CIFAKE.

`python -m benchmarks.strong NAME …` makes the named trials, and writes each into `strong.json` as soon as it ends.
Without names it lists all. A trial takes ten minutes to an hour on two cores. The test images play no part.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks import report
from cifake_utils import data, models, profiles, records
from cifake_utils.batches import ImageBatches, epoch_seed, mirror, normalise, shifted
from cifake_utils.catalogue import STRONG, get
from cifake_utils.experiments import starting_weights
from cifake_utils.support.files import replacing

FILE = report.FOLDER / "strong.json"
VIEWS = [(mirrored, 0, 0) for mirrored in (False, True)]  # whether an image is mirrored, pixels down and to the right
SHIFTS = [(False, -1, 0), (False, 1, 0), (False, 0, -1), (False, 0, 1)]


@dataclass(frozen=True)
class Trial:
    """One way to train all layers, from the pre-trained weights.

    Attributes
    ----------
    coarse, fine : int
        Epochs with the stem's usual stride of 2, and after them epochs with a stride of 1, in which all maps are twice
        as wide.
    shift : int
        Training images are shifted by up to this many pixels in both directions.
    smoothing : float
        Label smoothing.
    mixup : float
        Images are mixed in pairs, with a share from a Beta distribution with this parameter. 0 means that they are not.
    averaging : float
        Decay of an exponential moving average of the weights, which is judged too. 0 means that there is none.
    stages : tuple of str
        The means of these stages' maps are what the last layer sees. Stages after the last of them are left out.
    learning_rate : float
        The highest one of the one-cycle.
    """

    coarse: int = 3
    fine: int = 0
    shift: int = 0
    smoothing: float = 0.0
    mixup: float = 0.0
    averaging: float = 0.0
    stages: tuple[str, ...] = ("layer4",)
    learning_rate: float = STRONG.options.learning_rate


BASE = Trial()
TRIALS = {
    "base": BASE,
    "shifts of 2 pixels": replace(BASE, shift=2),
    "label smoothing": replace(BASE, smoothing=0.05),
    "mixup": replace(BASE, mixup=0.2),
    "early maps": replace(BASE, stages=("stem", "layer1", "layer4")),
    "without the last stage": replace(BASE, stages=("layer3",)),
    "averaged weights": replace(BASE, averaging=0.998),
    "five epochs": replace(BASE, coarse=5),
    "twice the resolution": replace(BASE, coarse=0, fine=3),
    "progressive": replace(BASE, coarse=2, fine=1),
}


class Network(nn.Module):
    """A ResNet50 whose last layer sees the means of some stages' maps."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        experiment = get("resnet50_finetuned")
        self.backbone = experiment.build(starting_weights(experiment, profiles.resolve("full"))).backbone
        self.stages = trial.stages
        for name in reversed(self.backbone.channels):
            if name == self.stages[-1]:
                break
            setattr(self.backbone, name, nn.Identity())
        self.head = models.standardised_linear(sum(self.backbone.channels[name] for name in self.stages))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.backbone(images, last=self.stages[-1])
        return self.head(torch.cat([maps[name].float().mean((2, 3)) for name in self.stages], 1))


def epoch_of(train: ImageBatches, trial: Trial, epoch: int):
    """Yield normalised images, labels, and for mixup the partners' labels and the share of the images themselves."""
    generator = torch.Generator().manual_seed(epoch_seed(1, epoch))
    shares = torch.distributions.Beta(trial.mixup or 1.0, trial.mixup or 1.0)
    order = torch.randperm(len(train.labels), generator=generator)
    for rows in order.split(train.batch_size):
        images, labels = train.inputs[rows], train.labels[rows]
        images = mirror(images, torch.rand(len(rows), generator=generator) < 0.5)
        if trial.shift:
            images = shifted(images, torch.randint(-trial.shift, trial.shift + 1, (len(rows), 2), generator=generator))
        inputs = normalise(images)
        if trial.mixup:
            share, partners = float(shares.sample()), torch.randperm(len(rows), generator=generator)
            yield share * inputs + (1 - share) * inputs[partners], labels, labels[partners], share
        else:
            yield inputs, labels, labels, 1.0


@torch.inference_mode()
def logits(network: nn.Module, images: torch.Tensor, view=(False, 0, 0)) -> torch.Tensor:
    network.eval()
    mirrored, down, right = view
    found = []
    for batch in images.split(500):
        batch = batch.flip(3) if mirrored else batch
        moved = shifted(batch, torch.tensor([[down, right]]).expand(len(batch), 2))
        with torch.autocast("cpu", torch.bfloat16):
            found.append(network(normalise(moved)).float())
    return torch.cat(found)


def judged(network: nn.Module, val: data.ImageSet) -> dict:
    """Return accuracies on validation images: of single views, and of averages over views."""
    each = {view: logits(network, val.images, view).softmax(1)[:, 1] for view in VIEWS + SHIFTS}
    averages = {"alone": VIEWS[:1], "mirror images": VIEWS, "mirror images and shifts": VIEWS + SHIFTS}
    means = {name: torch.stack([each[view] for view in views]).mean(0) for name, views in averages.items()}
    return {name: float(((p > 0.5) == (val.labels == data.FAKE)).float().mean()) for name, p in means.items()}


def measure(trial: Trial) -> dict:
    """Return the curves, the accuracies at the end, and the CPU time of the training."""
    cifake = data.load("full")
    torch.manual_seed(0)
    network = Network(trial).to(memory_format=torch.channels_last)
    train = ImageBatches(cifake.train.images, cifake.train.labels, STRONG.batch_size)
    epochs, options = trial.coarse + trial.fine, STRONG.options
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=trial.learning_rate, weight_decay=options.weight_decay, fused=True
    )
    rates = OneCycleLR(optimizer, max_lr=trial.learning_rate, total_steps=epochs * len(train))
    average = None
    if trial.averaging:
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(trial.averaging), use_buffers=True)
    curves: dict[str, list[float]] = {"train_loss": [], "val_loss": [], "val_accuracy": [], "cpu_seconds": []}
    for epoch in range(epochs):
        start = time.process_time()
        network.backbone.set_stem_stride(2 if epoch < trial.coarse else 1)
        network.train()
        total = torch.zeros(())
        for inputs, labels, others, share in epoch_of(train, trial, epoch):
            with torch.autocast("cpu", torch.bfloat16):
                found = network(inputs).float()
            loss = share * F.cross_entropy(found, labels, label_smoothing=trial.smoothing)
            if share < 1:
                loss = loss + (1 - share) * F.cross_entropy(found, others, label_smoothing=trial.smoothing)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), options.max_norm)
            optimizer.step()
            rates.step()
            if average is not None:
                average.update_parameters(network)
            total += loss.detach() * len(labels)
        curves["cpu_seconds"].append(time.process_time() - start)
        found = logits(network, cifake.val.images)
        curves["train_loss"].append(float(total) / len(train.labels))
        curves["val_loss"].append(F.cross_entropy(found, cifake.val.labels).item())
        curves["val_accuracy"].append((found.argmax(1) == cifake.val.labels).float().mean().item())
        print(epoch + 1, {name: round(values[-1], 4) for name, values in curves.items()}, flush=True)
    result = {"trial": asdict(trial), "curves": curves, "val": judged(network, cifake.val)}
    if average is not None:
        result["val of the averaged weights"] = judged(average, cifake.val)
    return result | {"hardware": records.hardware(), "versions": records.versions()}


def main(names: list[str]) -> int:
    if not names or set(names) - set(TRIALS):
        print("\n".join(f"{name}: {trial}" for name, trial in TRIALS.items()))
        return int(bool(names))
    for name in names:
        result = measure(TRIALS[name])
        print(name, json.dumps(result["val"]), flush=True)
        with replacing(FILE) as partial:
            found = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
            partial.write_text(json.dumps(found | {name: result}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
