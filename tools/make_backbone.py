"""Train the offline backbone: a ResNet50 from scratch on the ten object classes of CIFAKE's REAL photographs.

    CIFAKE_DATA=FOLDER python tools/make_backbone.py

trains on the train split with bfloat16 autocast, which takes about an hour on two cores, and writes
``cifake_utils/assets/backbone_cifar10_int8.safetensors``. If it is stopped, it goes on from its last epoch at the next
start. The test images are scored only at the end, before and after quantisation.
"""

import time

import torch
import torchvision
from safetensors.torch import save_file
from torch.nn import functional as F
from tqdm import tqdm

from cifake_utils import CifakeError, batches, data, profiles, weights
from cifake_utils.support.files import replacing

EPOCHS, BATCH, PEAK, DECAY, SHIFT = 18, 128, 1e-3, 0.05, 4


def real(images):
    """Return images and object classes of the REAL half of a split."""
    keep = images.labels == data.REAL
    return images.images[keep], images.classes[keep]


def shift_and_flip(images, generator):
    """Random translation by up to SHIFT pixels (mirrored border) and horizontal flip, each image on its own."""
    n, _, h, w = images.shape
    padded = F.pad(images.float(), [SHIFT] * 4, mode="reflect").to(torch.uint8)
    top, left = torch.randint(0, 2 * SHIFT + 1, (2, n, 1), generator=generator)
    columns = torch.arange(w) + left
    flip = torch.rand(n, generator=generator) < 0.5
    columns[flip] = columns[flip].flip(1)
    rows = torch.arange(h) + top
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.inference_mode()
def accuracy(model, images, classes, autocast):
    """Return the share of images whose object class the model names."""
    model.eval()
    hits = 0
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for x, y in zip(images.split(512), classes.split(512), strict=True):
            hits += (model(batches.normalise(x)).argmax(1) == y).sum().item()
    return hits / len(classes)


def train(cifake):
    """Return the trained model and its history; a checkpoint is kept after each epoch."""
    images, classes = real(cifake.train)
    torch.manual_seed(0)
    model = torchvision.models.resnet50(num_classes=10, zero_init_residual=True).to(memory_format=torch.channels_last)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, epochs=EPOCHS, steps_per_epoch=steps, pct_start=0.2)
    history, checkpoint = [], profiles.runs_folder() / "backbone" / "checkpoint.pt"
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    recipe = [cifake.hash, EPOCHS, BATCH, PEAK, DECAY, SHIFT]
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state.get("recipe") != recipe:
            raise CifakeError(
                f"{checkpoint} is of a training with the settings {state.get('recipe')}. Expected {recipe}. Delete it "
                "to begin again."
            )
        history = state["history"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for epoch in range(len(history), EPOCHS):
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(len(images), generator=generator)
        model.train()
        start, total = time.time(), 0.0
        for i in tqdm(range(steps), mininterval=10):
            rows = order[i * BATCH : (i + 1) * BATCH]
            x = batches.normalise(shift_and_flip(images[rows], generator))
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), classes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        val_accuracy = accuracy(model, *real(cifake.val), autocast=True)
        history.append({"loss": total / steps, "val_accuracy": val_accuracy, "seconds": time.time() - start})
        print(epoch, history[-1], flush=True)
        with replacing(checkpoint) as partial:
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save(states | {"history": history, "recipe": recipe}, partial)
    return model, history


def main():
    cifake = data.load("full")
    model, history = train(cifake)
    test = real(cifake.test)
    before = accuracy(model, *test, autocast=False)
    packed = weights.quantise(model.state_dict())
    model.load_state_dict(weights.dequantise(packed))
    after = accuracy(model, *test, autocast=False)
    metadata = {
        "architecture": "torchvision ResNet50, 10 object classes, 32×32 RGB input in ImageNet's normalisation",
        "trained_on": f"CIFAR-10 photographs: REAL images of CIFAKE's train split, data hash {cifake.hash}",
        "recipe": f"AdamW, one cycle to {PEAK}, weight decay {DECAY}, batch {BATCH}, {EPOCHS} epochs, flips and shifts",
        "validation_accuracy": f"{history[-1]['val_accuracy']:.4f}",
        "test_accuracy_float32": f"{before:.4f}",
        "test_accuracy_int8": f"{after:.4f}",
    }
    print(metadata)
    with replacing(weights.OFFLINE) as partial:
        save_file(packed, partial, metadata)


if __name__ == "__main__":
    main()
