"""One training loop for every model."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from cifake_utils import progress
from cifake_utils.batches import ImageBatches


@dataclass
class History:
    """What `fit` saw: a value an epoch in each list.

    ``train_loss`` is the mean over the epoch while the weights move, ``val_loss`` and ``val_accuracy`` are taken at
    its end. ``best_epoch`` counts from 0; its weights are the ones kept.
    """

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0


def fit(
    module: nn.Module,
    train: ImageBatches,
    val: ImageBatches,
    *,
    epochs: int,
    accelerator: Accelerator,
    learning_rate: float = 1e-4,
    patience: int = 5,
    seed: int = 0,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.cross_entropy,
) -> History:
    """Train what requires a gradient in ``module``, in place, and return the curves.

    Adam, learning rate falling to zero along a cosine, early stopping on the validation loss. The weights of the
    best epoch are left in ``module``.

    Parameters
    ----------
    module : nn.Module
        Inputs of the batches to logits (N, 2).
    train, val : ImageBatches or FeatureBatches
    epochs : int
        Upper limit, and the length of the cosine.
    accelerator : accelerate.Accelerator
        Device and precision.
    learning_rate : float
        At the start.
    patience : int
        Epochs without a better validation loss after which training stops.
    seed : int
        Fixes order and flips.
    loss : callable
        (logits, labels) to a scalar.
    """
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(train))
    model, optimizer = accelerator.prepare(module, optimizer)

    history, best = History(), copy.deepcopy(module.state_dict())
    start = time.perf_counter()
    with progress.bar(total=epochs * len(train.labels), desc="training") as bar:
        for epoch in range(epochs):
            history.learning_rate.append(schedule.get_last_lr()[0])
            model.train()
            total = torch.zeros((), device=accelerator.device)
            for inputs, labels in train.shuffled(seed, epoch):
                batch_loss = loss(model(inputs), labels)
                optimizer.zero_grad()
                accelerator.backward(batch_loss)
                optimizer.step()
                schedule.step()
                total += batch_loss.detach() * len(labels)  # stays on the device: no waiting in the loop
                bar.update(len(labels))
            history.train_loss.append(total.item() / len(train.labels))

            logits = predict_logits(model, val)
            history.val_loss.append(F.cross_entropy(logits, val.labels).item())
            history.val_accuracy.append((logits.argmax(1) == val.labels).float().mean().item())
            bar.set_postfix(val_loss=f"{history.val_loss[-1]:.4f}", val_accuracy=f"{history.val_accuracy[-1]:.4f}")
            if history.val_loss[-1] <= min(history.val_loss):
                history.best_epoch, best = epoch, copy.deepcopy(module.state_dict())
            elif epoch - history.best_epoch >= patience:
                break
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # the module casts nothing by itself from here on
    module.load_state_dict(best)
    history.seconds = time.perf_counter() - start
    return history


@torch.inference_mode()
def predict_logits(module: nn.Module, batches: ImageBatches) -> torch.Tensor:
    """Return logits (N, 2), float32, of every image in order, in eval mode."""
    module.eval()
    return torch.cat([module(inputs).float() for inputs, _ in batches.in_order()])


def predict(module: nn.Module, batches: ImageBatches) -> np.ndarray:
    """Return P(FAKE) of every image in order: float32, shape (N,)."""
    return predict_logits(module, batches).softmax(1)[:, 1].cpu().numpy()
