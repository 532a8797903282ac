"""One training loop for every model."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from torch.optim import Optimizer, lr_scheduler
from tqdm import tqdm

from cifake_utils import CifakeError
from cifake_utils.batches import MEAN, STD, ImageBatches, epoch_seed
from cifake_utils.losses import CombinedLoss, require_two_classes
from cifake_utils.support import checkpoints, progress
from cifake_utils.support.fingerprint import recipe_hash

VERSION = 1  # raise it when what comes out changes: the loop, schedules, batches, losses, turns, broken features

Loss = Callable[..., torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]]


def _cosine(optimizer: Optimizer, learning_rate: float, steps: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)


def _one_cycle(optimizer: Optimizer, learning_rate: float, steps: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps)


SCHEDULES = {"cosine": _cosine, "one_cycle": _one_cycle}
CHECK_EVERY = 50  # steps between two looks at the losses, which make the CPU wait for the device


@dataclass(frozen=True)
class Options:
    """How `fit` trains, as far as that changes what comes out.

    Attributes
    ----------
    learning_rate : float
        The highest one.
    weight_decay : float
        Of the module; the loss's own parameters don't decay.
    schedule : str
        ``"cosine"`` falls to zero along a cosine; ``"one_cycle"`` rises for three tenths of the steps, then falls.
        Another one is a `CifakeError`.
    max_norm : float, optional
        The gradient is shortened to this length where it is longer.
    patience : int, optional
        Epochs without a better validation loss after which training stops; None never stops early. It also decides
        which weights are kept: with it those of the epoch with the lowest validation loss, with None those of the last
        epoch, where the learning rate has come down to zero.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = "cosine"
    max_norm: float | None = None
    patience: int | None = 5

    def recipe(self) -> dict:
        """Return all that these options decide: JSON types."""
        return asdict(self) | ({"kept": "last epoch"} if self.patience is None else {})

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise CifakeError(f"There is no schedule {self.schedule!r}; choose one of: {', '.join(SCHEDULES)}.")


@dataclass
class History:
    """What `fit` saw: a value an epoch in each list.

    ``train_loss`` is the mean over the epoch while the weights move, and so is each list in ``terms``, the named
    parts of a `losses.CombinedLoss` (none with plain cross-entropy). ``val_loss`` (plain cross-entropy whatever the
    training loss) and ``val_accuracy`` are taken at the epoch's end, ``learning_rate`` at its start. ``best_epoch``
    counts from 0; its weights are the ones kept (`Options.patience`).
    """

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int = 0
    seconds: float = 0.0


def fit(
    module: nn.Module,
    train: ImageBatches,
    val: ImageBatches,
    *,
    epochs: int,
    accelerator: Accelerator,
    options: Options = Options(),
    seed: int = 0,
    loss: Loss = F.cross_entropy,
    checkpoint: Path | None = None,
) -> History:
    """Train what requires a gradient in ``module``, in place, and return the curves.

    AdamW (Adam where nothing decays), early stopping on the validation loss where there is a patience. The weights of
    ``History.best_epoch`` are left in ``module``. All that is random depends on ``seed`` and the epoch alone.

    In float16 the loss is scaled up, so that small gradients don't vanish (Micikevicius et al., *Mixed Precision
    Training*, ICLR 2018). A step whose gradient overflows is left out and the scale halved, which is usual in the
    first few steps. The schedule counts batches, those among them, so that it always ends with the last epoch.

    Every process of a job (``accelerate launch``) calls this with the same arguments. Each computes its share of every
    batch (`ImageBatches.shared`), the step is that of the whole batch, and all end with the same weights and curves.
    On GPUs batch norm takes its statistics over the whole batch too; on CPUs, for which torch has no such batch norm,
    over the share, and the curves of a module that has it differ from those of one process. The main process writes
    the checkpoint, which any number of processes can take up, except where batch norm saw the shares of several.

    Parameters
    ----------
    module : nn.Module
        Inputs of the batches to logits (N, C); for a `losses.CombinedLoss` called with ``with_features=True``, to
        logits and projected features (`models.Projection`).
    train, val : ImageBatches or FeatureBatches
        All of the images, in every process.
    epochs : int
        Upper limit, and the length of the schedule.
    accelerator : accelerate.Accelerator
        Device, precision and processes.
    options : Options
    seed : int
        Fixes order, flips and dropout.
    loss : callable
        (logits, labels) to a scalar, or an nn.Module: (logits, labels, projected features) to a scalar and its named
        terms. The module's parameters learn too.
    checkpoint : Path, optional
        File that holds where the run stands, rewritten after every epoch. If it is there and was written by the same
        call (start weights, images, settings), training goes on from it and ends as if it had never been stopped (on
        a GPU up to rounding, since each process chooses kernels anew). The caller deletes it.

    Raises
    ------
    CifakeError
        The loss or, at any scale, the gradient is not finite any more; an unreadable checkpoint; labels other than 0
        and 1 for a `losses.CombinedLoss`. Fewer than two images of a batch for each process; a loss with parameters of
        its own on batches that processes share.
    """
    run = _prepare(module, train, val, epochs, accelerator, options, seed, loss, checkpoint)
    history, done = run.history, len(run.history.val_loss)
    start = time.perf_counter() - history.seconds
    images = len(train.labels)
    extent = {"total": epochs * images, "initial": done * images, "shown": accelerator.is_main_process}
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []  # not all that the machine has
    with progress.bar(desc="training", **extent) as bar, torch.random.fork_rng(devices):
        for epoch in range(done, epochs):
            if options.patience is not None and epoch - 1 - history.best_epoch >= options.patience:
                break
            torch.manual_seed(epoch_seed(seed, epoch))
            steps = _train_epoch(run, epoch, bar)
            _validate(run, epoch, steps)
            bar.set_postfix(val_loss=f"{history.val_loss[-1]:.4f}", val_accuracy=f"{history.val_accuracy[-1]:.4f}")
            if options.patience is None:
                history.best_epoch = epoch
            elif history.val_loss[-1] <= min(history.val_loss):
                history.best_epoch = epoch
                run.keep(module.state_dict())
            history.seconds = time.perf_counter() - start
            if checkpoint and accelerator.is_main_process:
                run.save()
    accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)  # the module casts nothing by itself from here on
    if run.best:  # there is none without an epoch, and none without a patience
        module.load_state_dict(run.best)
    return history


def _train_epoch(run: "_Run", epoch: int, bar: tqdm) -> list[tuple]:
    """Take the steps of one epoch and note its mean losses; return for each step what `_require_finite` looks at."""
    train, history, scaler = run.train, run.history, run.scaler
    history.learning_rate.append(run.rates.get_last_lr()[0])
    run.model.train()
    steps = []  # each with (losses that stay on the device: no waiting in the loop, images, learning rate)
    for size, (inputs, labels) in zip(train.sizes(), train.shuffled(run.seed, epoch), strict=True):
        total, terms = _loss(run.loss, run.model, inputs, labels)
        run.optimizer.zero_grad()
        # The step takes the mean of the processes' gradients: the whole batch's if each counts by its images.
        scaler.scale(total * (len(labels) * train.processes / size)).backward()
        if run.options.max_norm is not None:
            scaler.unscale_(run.optimizer)
            nn.utils.clip_grad_norm_(run.optimizer.param_groups[0]["params"], run.options.max_norm)
        scaler.step(run.optimizer)
        scaler.update()
        steps.append((torch.stack([total.detach(), *terms.values()]), len(labels), run.rates.get_last_lr()[0]))
        run.rates.step()
        bar.update(size)
        if len(steps) % CHECK_EVERY == 0:
            _require_finite(run, epoch, steps)
    run.optimizer.zero_grad()  # gradients take as much memory as the weights, of which there may soon be a copy
    _require_finite(run, epoch, steps)
    if scaler.get_scale() < 1:
        found = "gradient overflows float16, however little the loss is scaled up,"
        _raise_not_finite(run, epoch, steps, len(steps) - 1, found)
    mean, *means = (_sums(steps, train, run.accelerator) / len(train.labels)).tolist()
    history.train_loss.append(mean)
    for name, value in zip(terms, means, strict=True):
        history.terms.setdefault(name, []).append(value)
    return steps


def _validate(run: "_Run", epoch: int, steps: list[tuple]) -> None:
    """Note loss and accuracy on the validation images."""
    logits = predict_logits(run.model, run.val)
    loss = F.cross_entropy(logits, run.val.labels).item()
    run.history.val_loss.append(loss)
    run.history.val_accuracy.append((logits.argmax(1) == run.val.labels).float().mean().item())
    if not math.isfinite(loss):  # the last step broke the weights
        _raise_not_finite(run, epoch, steps, len(steps) - 1, f"validation loss is {loss}")


def _prepare(
    module: nn.Module,
    train: ImageBatches,
    val: ImageBatches,
    epochs: int,
    accelerator: Accelerator,
    options: Options,
    seed: int,
    loss: Loss,
    checkpoint: Path | None,
) -> "_Run":
    """Return what `fit` works with: at its start, or where a checkpoint of the same call stands."""
    if isinstance(loss, CombinedLoss):
        require_two_classes(train.labels)
    own = loss.to(accelerator.device) if isinstance(loss, nn.Module) else nn.Module()
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [{"params": learning}, {"params": list(own.parameters()), "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True)
    rates = SCHEDULES[options.schedule](optimizer, options.learning_rate, epochs * len(train))
    scaler = torch.amp.GradScaler(accelerator.device.type, enabled=accelerator.mixed_precision == "fp16")
    settings = [VERSION, MEAN, STD, epochs, options.recipe(), seed, accelerator.mixed_precision]
    shares = train.shared(accelerator), val.shared(accelerator)
    processes = shares[0].processes
    if any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()) and processes > 1:
        settings.append(batch_norm_shares(accelerator))
    key = _key(settings, module, loss, train, val) if checkpoint else ""
    model = module
    if processes > 1:
        _require_shares(shares[0], loss)
        if accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    model = accelerator.prepare(model)
    run = _Run(module, model, *shares, loss, own, optimizer, rates, scaler, options, accelerator, seed, checkpoint, key)
    if checkpoint and checkpoint.exists():
        run.restore()
    return run


def computation(accelerator: Accelerator) -> dict:
    """Return how a training of all layers is computed, as far as that changes what comes out: JSON types."""
    return {"precision": accelerator.mixed_precision, "batch_norm_shares": batch_norm_shares(accelerator)}


def batch_norm_shares(accelerator: Accelerator) -> int:
    """Return into how many parts every batch falls for batch norm: one where processes share their statistics."""
    return 1 if accelerator.device.type == "cuda" else accelerator.num_processes


def _require_shares(train: ImageBatches, loss: Loss) -> None:
    """Raise where processes can't share batches."""
    if min(train.sizes()) < 2 * train.processes:
        raise CifakeError(
            f"There is a batch of {min(train.sizes())} images for {train.processes} processes. Expected at least two "
            "images for each, since batch norm can't train on a single one: start fewer processes."
        )
    if isinstance(loss, nn.Module):
        raise CifakeError(
            f"{type(loss).__name__} compares the images of a whole batch and has parameters of its own, but "
            f"{train.processes} processes hold a share of each batch. Train on cached features (FeatureBatches), "
            "which are not shared out, or in one process."
        )


def _loss(loss: Loss, model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, dict]:
    if isinstance(loss, nn.Module):
        logits, features = model(inputs, with_features=True)
        return loss(logits, labels, features)
    return loss(model(inputs), labels), {}


@dataclass
class _Run:
    """What `fit` works with, and all that moves while it does."""

    module: nn.Module
    model: nn.Module  # the module as accelerate has prepared it
    train: ImageBatches  # of these and the next, this process's share
    val: ImageBatches
    loss: Loss
    own: nn.Module  # the loss where it has parameters, else an empty module
    optimizer: Optimizer
    rates: lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    options: Options
    accelerator: Accelerator
    seed: int
    checkpoint: Path | None
    key: str  # fingerprint of all that the outcome depends on
    history: History = field(default_factory=History)
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    def keep(self, state: dict[str, torch.Tensor]) -> None:
        """Take a copy of these weights as the best ones."""
        for name, value in state.items():
            if name in self.best:
                self.best[name].copy_(value)
            else:
                self.best[name] = value.clone()

    def save(self) -> None:
        optimizer = self.optimizer.state_dict()
        moments = {f"{row}/{name}": value for row, state in optimizer["state"].items() for name, value in state.items()}
        checkpoints.save(
            self.checkpoint,
            {
                "module": self.module.state_dict(),
                "best": self.best,
                "loss": self.own.state_dict(),
                "optimizer": moments,
            },
            {
                "key": self.key,
                "history": asdict(self.history),
                "schedule": self.rates.state_dict(),
                "scaler": self.scaler.state_dict(),
                "optimizer": optimizer["param_groups"],
            },
        )

    def restore(self) -> None:
        """Take up what `save` wrote, if the same call wrote it."""
        tensors, state = checkpoints.load(self.checkpoint)
        if state["key"] != self.key:
            return
        self.module.load_state_dict(tensors["module"])
        self.own.load_state_dict(tensors.get("loss", {}))
        self.keep(tensors.get("best", {}))
        self.history = History(**state["history"])
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors["optimizer"].items():
            row, name = name.split("/")
            like = parameters[int(row)]
            if value.shape == like.shape:  # in the parameter's own memory layout, on which the fused step relies
                value = torch.empty_like(like, dtype=value.dtype).copy_(value)
            else:
                value = value.clone()  # not mapped from the file, which is written anew while this one is in use
            moments.setdefault(int(row), {})[name] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["optimizer"]})
        self.rates.load_state_dict(state["schedule"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])


def _key(settings: list, module: nn.Module, loss: Loss, train: ImageBatches, val: ImageBatches) -> str:
    """Return the fingerprint of all that the outcome of a call depends on."""
    own = loss.state_dict() if isinstance(loss, nn.Module) else {}
    named = [type(loss).__name__, loss.options()] if isinstance(loss, nn.Module) else loss.__name__
    parts = [settings, str(module), named, module.state_dict(), own]
    for batches in (train, val):
        parts += [type(batches).__name__, batches.batch_size, batches.stratified, batches.inputs, batches.labels]
    return recipe_hash(parts)


def _sums(steps: list, train: ImageBatches, accelerator: Accelerator) -> np.ndarray:
    """Return the sums of the loss and its terms over the images of an epoch: float64 (T,), the same in every process.

    The CPU adds them up: an Apple GPU has no float64.
    """
    values = torch.stack([losses for losses, *_ in steps]).cpu().numpy().astype(np.float64)
    sums = sum(row * count for row, (_, count, _) in zip(values, steps, strict=True))
    if train.processes == 1:
        return sums
    return accelerator.reduce(torch.from_numpy(sums).to(accelerator.device), "sum").cpu().numpy()


def _require_finite(run: _Run, epoch: int, steps: list[tuple]) -> None:
    """Look at the losses of the last steps, one wait for the device; raise at the first that is not a number."""
    first = max(0, len(steps) - CHECK_EVERY)
    losses = torch.stack([losses[0] for losses, *_ in steps[first:]])
    bad = (~losses.isfinite()).nonzero().flatten().tolist()
    if bad:
        _raise_not_finite(run, epoch, steps, first + bad[0], f"loss is {losses[bad[0]]}")


def _raise_not_finite(run: _Run, epoch: int, steps: list[tuple], step: int, found: str) -> None:
    kept = f"The last good checkpoint, of epoch {epoch}, is {run.checkpoint}." if run.checkpoint and epoch else ""
    raise CifakeError(
        f"The {found} at step {step + 1} of {len(run.train)} in epoch {epoch + 1}, learning rate {steps[step][2]:.3g}. "
        f"Expected a finite number. {kept or 'There is no checkpoint before it.'} The same settings would come here "
        "again: lower learning_rate, or limit the gradient with max_norm."
    )


@torch.inference_mode()
def predict_logits(module: nn.Module, batches: ImageBatches, *, mirrored: bool = False) -> torch.Tensor:
    """Return logits (N, C), float32, of every image (or its mirror image) in order, in eval mode.

    `ImageBatches.shared` batches are computed by all processes together; each gets the logits of every image.
    """
    module.eval()
    return batches.gather(torch.cat([module(inputs).float() for inputs, _ in batches.in_order(mirrored)]))


def predict(module: nn.Module, batches: ImageBatches, *, mirrored: bool = False) -> np.ndarray:
    """Return P(FAKE) of every image (or its mirror image) in order: float32, shape (N,)."""
    return predict_logits(module, batches, mirrored=mirrored).softmax(1)[:, 1].cpu().numpy()
