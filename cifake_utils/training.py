"""One training loop for every model."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

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

VERSION = 1  # raise it when the results change: by the loop, schedules, batches, losses, turns or broken features

Loss = Callable[..., Any]  # to a scalar, or to a scalar and its named terms: see `fit`


def _cosine(optimizer: Optimizer, learning_rate: float, steps: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)


def _one_cycle(optimizer: Optimizer, learning_rate: float, steps: int) -> lr_scheduler.LRScheduler:
    return lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps)


SCHEDULES = {"cosine": _cosine, "one_cycle": _one_cycle}
CHECK_EVERY = 50  # steps; checking the losses makes the CPU wait for the device, so it is not done at each


@dataclass(frozen=True)
class Options:
    """Settings of `fit` that change the result.

    Attributes
    ----------
    learning_rate : float
        The highest learning rate of the schedule.
    weight_decay : float
        Weight decay of the module's parameters. The parameters of the loss don't decay.
    schedule : str
        With ``"cosine"`` the learning rate falls to zero along a cosine. With ``"one_cycle"`` it rises for three tenths
        of the steps, then falls.
    max_norm : float, optional
        A gradient with a larger norm is scaled down to this norm.
    patience : int, optional
        Training stops after this many epochs in a row with a higher validation loss than the lowest one, whose epoch's
        weights are kept. With None it goes on to the last epoch, whose weights are kept.
    coarse_share : float
        For this share of the epochs, rounded down, the maps of a `models.Detector` are half as wide as its layout says,
        which takes a quarter of the time (progressive resizing).
    smoothing : float
        Label smoothing of plain cross-entropy: this share of each label is spread evenly over the classes.
    mixup : float
        Images of a batch are mixed in pairs, and so is their loss, with a share from a Beta distribution whose two
        parameters are both this number (Zhang et al., *mixup: Beyond Empirical Risk Minimization*, ICLR 2018). With 0
        they are not.
    cutmix : float
        Likewise, but a square of one image is replaced by the same square of the other, and the share is that of the
        pixels (Yun et al., *CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features*,
        ICCV 2019).

    Raises
    ------
    CifakeError
        The schedule is unknown; a number is out of its range: `learning_rate` above 0, `weight_decay`, `mixup` and
        `cutmix` from 0, `max_norm` above 0, `patience` from 1, `coarse_share` and `smoothing` from 0 to below 1;
        `coarse_share` is combined with early stopping, or `mixup` with `cutmix`.
    """

    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    schedule: str = "cosine"
    max_norm: float | None = None
    patience: int | None = 5
    coarse_share: float = 0.0
    smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise CifakeError(f"There is no schedule {self.schedule!r}; choose one of: {', '.join(SCHEDULES)}.")
        if self.coarse_share and self.patience is not None:
            raise CifakeError(
                f"Early stopping (patience {self.patience}) can't be combined with coarse epochs: their losses are not "
                "to be compared with those of the others. Expected patience=None, or a share of coarse epochs of 0."
            )
        expected = {
            "learning_rate": ("above 0", self.learning_rate > 0),
            "weight_decay": ("at least 0", self.weight_decay >= 0),
            "max_norm": ("None, or above 0", self.max_norm is None or self.max_norm > 0),
            "patience": ("None, or at least 1", self.patience is None or self.patience >= 1),
            "coarse_share": ("at least 0 and less than 1", 0 <= self.coarse_share < 1),
            "smoothing": ("at least 0 and less than 1", 0 <= self.smoothing < 1),
            "mixup": ("at least 0", self.mixup >= 0),
            "cutmix": ("at least 0", self.cutmix >= 0),
        }
        for name, (range_, fits) in expected.items():
            if not fits:
                raise CifakeError(f"The option {name} is {getattr(self, name)}. Expected a value {range_}.")
        if self.mixup and self.cutmix:
            raise CifakeError(
                f"Images can be mixed in one way only. Found mixup={self.mixup} and cutmix={self.cutmix}; set one to 0."
            )

    def coarse_epochs(self, epochs: int) -> int:
        """Return how many of ``epochs``, which come first, are on maps of half the width."""
        return int(self.coarse_share * epochs)

    def recipe(self) -> dict:
        """Return everything here that the result of a training depends on, as JSON types."""
        made_from = asdict(self) | ({"kept": "last epoch"} if self.patience is None else {})
        for later in ("coarse_share", "smoothing", "mixup", "cutmix"):  # the first recipes don't have these options
            if not made_from[later]:
                del made_from[later]
        return made_from


@dataclass
class History:
    """Curves of a training. Each list has one value for each epoch.

    Attributes
    ----------
    train_loss : list of float
        Mean over the epoch, during which the weights change.
    val_loss, val_accuracy : list of float
        Taken at the end of the epoch. ``val_loss`` is plain cross-entropy, whatever the training loss is.
    learning_rate : list of float
        Taken at the start of the epoch.
    terms : dict of str to list of float
        Means over the epoch of the named terms of a `losses.CombinedLoss`; empty with plain cross-entropy.
    best_epoch : int
        The epoch whose weights are kept, counted from 0.
    seconds : float
        Wall time of the training.
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
    """Train the parameters of ``module`` that require a gradient, in place, and return the curves.

    The optimiser is AdamW, which is Adam where nothing decays. `Options.patience` says when the training stops, and
    which epoch's weights ``module`` has afterwards. Everything random depends only on ``seed`` and the epoch.

    In float16 the loss is scaled up, so that small gradients don't vanish (Micikevicius et al., *Mixed Precision
    Training*, ICLR 2018). If a gradient overflows, its step is skipped and the scale is halved. This is usual in the
    first few steps. The schedule counts skipped batches too, so that it always ends with the last epoch.

    Every process of a job (``accelerate launch``) calls this with the same arguments. Each process computes its share
    of every batch (`ImageBatches.shared`). The step is that of the whole batch, so that all processes end with the same
    weights and curves. On GPUs, batch norm takes its statistics over the whole batch as well. torch has no such batch
    norm for CPUs: there it takes them over the share, and the curves differ from those of a single process. The main
    process writes the checkpoint. Any number of processes can go on from it, except where batch norm saw shares.

    Parameters
    ----------
    module : nn.Module
        Maps the inputs of the batches to logits (N, C). For a `losses.CombinedLoss` it is called with
        ``with_features=True`` and returns logits and projected features (`models.Projection`).
    train, val : ImageBatches or FeatureBatches
        Every process gets all of the images.
    epochs : int
        Largest number of epochs, and the length of the schedule.
    accelerator : accelerate.Accelerator
        Device, precision and processes.
    options : Options
    seed : int
        Fixes order, flips and dropout.
    loss : callable
        A function of logits and labels that returns a scalar. Or an nn.Module of logits, labels and projected features
        that returns a scalar and its named terms; its parameters are trained too.
    checkpoint : Path, optional
        File that holds how far the training has come. It is rewritten after every epoch. If the file exists and the
        same call wrote it (same start weights, images and settings), training goes on from it. The result is then the
        same as without the interruption, on a GPU up to rounding, since each process chooses its kernels anew. The
        caller deletes the file.

    Raises
    ------
    CifakeError
        The loss, or at every scale the gradient, is not finite; the checkpoint is damaged; a `losses.CombinedLoss`
        gets labels other than 0 and 1; a batch has fewer than two images for each process; several processes share
        batches, and the loss has parameters of its own or images are mixed; cutmix is asked for without images; a
        checkpoint is asked for, and the loss is a function without a name of its own, such as a lambda.
    """
    run = _prepare(module, train, val, epochs, accelerator, options, seed, loss, checkpoint)
    history, done = run.history, len(run.history.val_loss)
    start = time.perf_counter() - history.seconds
    images = len(train.labels)
    extent = {"total": epochs * images, "initial": done * images, "shown": accelerator.is_main_process}
    devices = (
        [accelerator.device] if accelerator.device.type == "cuda" else []
    )  # else torch would save the random state of every GPU
    with progress.bar(desc="training", **extent) as bar, torch.random.fork_rng(devices):
        for epoch in range(done, epochs):
            if options.patience is not None and epoch - 1 - history.best_epoch >= options.patience:
                break
            torch.manual_seed(epoch_seed(seed, epoch))
            if options.coarse_share:
                backbone: Any = module.backbone  # of a `models.Detector`
                backbone.set_coarse(epoch < options.coarse_epochs(epochs))
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
                run.save(checkpoint)
    accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)  # afterwards the module no longer casts by itself
    if run.best:  # empty after zero epochs, and where the last epoch's weights are kept
        module.load_state_dict(run.best)
    return history


class _Steps:
    """The steps of an epoch: ``losses`` (steps, terms), ``images`` that this process computed, and learning ``rates``.

    The losses stay on the device, so that the CPU need not wait for it in the loop. They are written into one tensor: a
    tensor for each step would lie between the large ones, whose memory the C library could not use again once they are
    freed. On the CPU a training then took many gigabytes after a few epochs.
    """

    def __init__(self, count: int) -> None:
        self.count, self.losses = count, torch.empty(0)
        self.images: list[int] = []
        self.rates: list[float] = []

    def add(self, losses: torch.Tensor, images: int, rate: float) -> None:
        if not self.images:
            self.losses = losses.new_zeros(self.count, len(losses))
        self.losses[len(self.images)] = losses
        self.images.append(images)
        self.rates.append(rate)

    def __len__(self) -> int:
        return len(self.images)


def _train_epoch(run: "_Run", epoch: int, bar: tqdm) -> _Steps:
    """Train for one epoch and append its mean losses to the history."""
    train, history, scaler = run.train, run.history, run.scaler
    history.learning_rate.append(float(run.scheduler.get_last_lr()[0]))
    run.model.train()
    steps = _Steps(len(train))
    mixes = _mixes(run, epoch)
    for size, mix, (inputs, labels) in zip(train.sizes(), mixes, train.shuffled(run.seed, epoch), strict=True):
        total, terms = _loss(run, inputs, labels, mix)
        run.optimizer.zero_grad()
        # The step takes the plain mean over the processes, so each loss is weighted by its share of the images.
        scaler.scale(total * (len(labels) * train.processes / size)).backward()
        if run.options.max_norm is not None:
            scaler.unscale_(run.optimizer)
            nn.utils.clip_grad_norm_(run.optimizer.param_groups[0]["params"], run.options.max_norm)
        scaler.step(run.optimizer)
        scaler.update()
        steps.add(
            torch.stack([total.detach(), *terms.values()]),
            len(labels),
            run.scheduler.get_last_lr()[0],  # pyright: ignore[reportArgumentType]
        )
        run.scheduler.step()
        bar.update(size)
        if len(steps) % CHECK_EVERY == 0:
            _require_finite(run, epoch, steps)
    run.optimizer.zero_grad()  # frees their memory before the weights may be copied
    _require_finite(run, epoch, steps)
    if scaler.get_scale() < 1:
        found = "gradient overflows float16, however little the loss is scaled up,"
        _raise_not_finite(run, epoch, steps, len(steps) - 1, found)
    mean, *means = (_sums(steps, train, run.accelerator) / len(train.labels)).tolist()
    history.train_loss.append(mean)
    for name, value in zip(terms, means, strict=True):
        history.terms.setdefault(name, []).append(value)
    return steps


def _validate(run: "_Run", epoch: int, steps: _Steps) -> None:
    """Append loss and accuracy on the validation images to the history."""
    logits = predict_logits(run.model, run.val)
    loss = F.cross_entropy(logits, run.val.labels).item()
    run.history.val_loss.append(loss)
    run.history.val_accuracy.append((logits.argmax(1) == run.val.labels).float().mean().item())
    if not math.isfinite(loss):  # the weights became non-finite in the last step
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
    """Return the state of a training: a new one, or that of the checkpoint if the same call wrote it."""
    if isinstance(loss, CombinedLoss):
        require_two_classes(train.labels)
        if options.smoothing or options.mixup or options.cutmix:
            raise CifakeError(
                "Label smoothing, mixup and cutmix are for plain cross-entropy. Expected 0 for all three with a "
                "CombinedLoss."
            )
    if options.cutmix and train.inputs.ndim != 4:
        raise CifakeError(
            f"cutmix replaces squares of images. Found inputs of shape {tuple(train.inputs.shape)}. Expected images "
            "(N, 3, H, W), or cutmix=0."
        )
    own = loss.to(accelerator.device) if isinstance(loss, nn.Module) else nn.Module()
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [{"params": learning}, {"params": list(own.parameters()), "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True)
    scheduler = SCHEDULES[options.schedule](optimizer, options.learning_rate, epochs * len(train))
    scaler = torch.amp.GradScaler(accelerator.device.type, enabled=accelerator.mixed_precision == "fp16")
    settings = [VERSION, MEAN, STD, epochs, options.recipe(), seed, accelerator.mixed_precision]
    shares = train.shared(accelerator), val.shared(accelerator)
    processes = shares[0].processes
    if any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()) and processes > 1:
        settings.append(batch_norm_shares(accelerator))
    key = _key(settings, module, loss, train, val) if checkpoint else ""
    model = module
    if processes > 1:
        _require_shares(shares[0], loss, options)
        if accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    model = accelerator.prepare(model)
    run = _Run(
        module, model, *shares, loss, own, optimizer, scheduler, scaler, options, accelerator, seed, checkpoint, key
    )
    if checkpoint and checkpoint.exists():
        run.restore(checkpoint)
    return run


def computation(accelerator: Accelerator) -> dict:
    """Return how a training of all layers is computed, as far as this changes its result, as JSON types."""
    return {"precision": accelerator.mixed_precision, "batch_norm_shares": batch_norm_shares(accelerator)}


def batch_norm_shares(accelerator: Accelerator) -> int:
    """Return into how many parts a batch is divided for batch norm: one where processes share its statistics."""
    return 1 if accelerator.device.type == "cuda" else accelerator.num_processes


def _require_shares(train: ImageBatches, loss: Loss, options: Options) -> None:
    """Raise a `CifakeError` if the processes can't share batches."""
    if min(train.sizes()) < 2 * train.processes:
        raise CifakeError(
            f"There is a batch of {min(train.sizes())} images for {train.processes} processes. Expected at least two "
            "images for each process, since batch norm can't train on a single image. Start fewer processes."
        )
    if isinstance(loss, nn.Module):
        raise CifakeError(
            f"{type(loss).__name__} compares the images of a whole batch and has parameters of its own, but "
            f"{train.processes} processes hold a share of each batch. Train on cached features (FeatureBatches), "
            "which every process gets in full, or start a single process."
        )
    if options.mixup or options.cutmix:
        raise CifakeError(
            f"{'mixup' if options.mixup else 'cutmix'} mixes the images of a whole batch in pairs, but "
            f"{train.processes} processes hold a share of each batch. Start a single process, or set it to 0."
        )


def _mixes(run: "_Run", epoch: int) -> list[tuple[float, float, float]]:
    """Return for each batch of an epoch how its images are mixed with others.

    The first number is the share that an image keeps. The others are the row and the column of the middle of cutmix's
    square, both from 0 to 1.
    """
    count, parameter = len(run.train), run.options.mixup or run.options.cutmix
    if not parameter:
        return [(1.0, 0.0, 0.0)] * count
    generator = np.random.default_rng(epoch_seed(run.seed, epoch))
    shares = generator.beta(parameter, parameter, count)
    return list(zip(shares.tolist(), *generator.random((2, count)).tolist(), strict=True))


def cutmix(
    images: torch.Tensor, others: torch.Tensor, share: float, row: float, column: float
) -> tuple[torch.Tensor, float]:
    """Replace a square of each image by the same square of another one (see `Options.cutmix`).

    Parameters
    ----------
    images, others : torch.Tensor
        (N, C, H, W).
    share : float
        About how much of an image is kept, from 0 to 1.
    row, column : float
        Where the middle of the square lies, from 0 (first row, first column) to 1. What lies outside is left out.

    Returns
    -------
    mixed : torch.Tensor
        (N, C, H, W).
    share : float
        The share of the pixels that are kept.
    """
    height, width = images.shape[2:]
    half = math.sqrt(1 - share) / 2
    top, bottom = (round(height * min(1, max(0, end))) for end in (row - half, row + half))
    left, right = (round(width * min(1, max(0, end))) for end in (column - half, column + half))
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _loss(
    run: "_Run", inputs: torch.Tensor, labels: torch.Tensor, mix: tuple[float, float, float]
) -> tuple[torch.Tensor, dict]:
    """Return the loss of a batch, and its named terms. `_mixes` says how every image is mixed with another."""
    loss, smoothing, share = run.loss, run.options.smoothing, mix[0]
    if isinstance(loss, nn.Module):
        logits, features = run.model(inputs, with_features=True)
        return loss(logits, labels, features)
    named = {"label_smoothing": smoothing} if smoothing else {}
    if share == 1:
        return loss(run.model(inputs), labels, **named), {}
    others = inputs.flip(0)
    if run.options.cutmix:
        mixed, share = cutmix(inputs, others, *mix)
    else:
        mixed = share * inputs + (1 - share) * others
    logits = run.model(mixed)
    return share * loss(logits, labels, **named) + (1 - share) * loss(logits, labels.flip(0), **named), {}


@dataclass
class _Run:
    """The state of a training: what `fit` works with, and everything that changes meanwhile."""

    module: nn.Module
    model: nn.Module  # the module as accelerate has prepared it
    train: ImageBatches  # as this process shares them
    val: ImageBatches  # likewise
    loss: Loss
    own: nn.Module  # the loss if it has parameters, else an empty module
    optimizer: Optimizer
    scheduler: lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    options: Options
    accelerator: Accelerator
    seed: int
    checkpoint: Path | None
    key: str  # fingerprint of everything that the result depends on
    history: History = field(default_factory=History)
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    def keep(self, state: dict[str, torch.Tensor]) -> None:
        """Copy these weights as the best ones."""
        for name, value in state.items():
            if name in self.best:
                self.best[name].copy_(value)
            else:
                self.best[name] = value.clone()

    def save(self, path: Path) -> None:
        """Write the state in place of the file ``path``."""
        optimizer = self.optimizer.state_dict()
        moments = {f"{row}/{name}": value for row, state in optimizer["state"].items() for name, value in state.items()}
        checkpoints.save(
            path,
            {
                "module": self.module.state_dict(),
                "best": self.best,
                "loss": self.own.state_dict(),
                "optimizer": moments,
            },
            {
                "key": self.key,
                "history": asdict(self.history),
                "schedule": self.scheduler.state_dict(),
                "scaler": self.scaler.state_dict(),
                "optimizer": optimizer["param_groups"],
            },
        )

    def restore(self, path: Path) -> None:
        """Restore the state that `save` wrote, if the same call of `fit` wrote it."""
        tensors, state = checkpoints.load(path)
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
            if value.shape == like.shape:  # the fused step relies on the memory layout of the parameter
                value = torch.empty_like(like, dtype=value.dtype).copy_(value)
            else:
                value = value.clone()  # else it would stay mapped from the file, which is replaced during the training
            moments.setdefault(int(row), {})[name] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["optimizer"]})
        self.scheduler.load_state_dict(state["schedule"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])


def _described(loss: Loss) -> list | str:
    """Return what tells a loss from others: its class and options, or the name of a function in a module."""
    if options := getattr(loss, "options", None):
        return [type(loss).__name__, options()]
    name = getattr(loss, "__qualname__", "<no name>")
    if "<" in name:
        raise CifakeError(
            f"The loss is {name}, which can't be told from others of its kind. With a checkpoint, expected a function "
            "at the top of a module, or an object with a method `options` that returns its settings."
        )
    return f"{loss.__module__}.{name}"


def _key(settings: list, module: nn.Module, loss: Loss, train: ImageBatches, val: ImageBatches) -> str:
    """Return the fingerprint of everything that the result of a call depends on."""
    own = loss.state_dict() if isinstance(loss, nn.Module) else {}
    parts = [settings, str(module), _described(loss), module.state_dict(), own]
    for batches in (train, val):
        drawn = [batches.batch_size, batches.stratified, batches.shift]
        parts += [type(batches).__name__, *drawn, batches.inputs, batches.labels]
    return recipe_hash(parts)


def _sums(steps: _Steps, train: ImageBatches, accelerator: Accelerator) -> np.ndarray:
    """Return the sums of the loss and its terms over the images of an epoch: float64 (T,), the same in every process.

    The CPU adds the steps up, since an Apple GPU has no float64.
    """
    values = steps.losses.cpu().numpy().astype(np.float64)
    sums = np.zeros(values.shape[1])
    for row, count in zip(values, steps.images, strict=True):
        sums += row * count
    if train.processes == 1:
        return sums
    reduced = accelerator.reduce(torch.from_numpy(sums).to(accelerator.device), "sum")
    return cast(torch.Tensor, reduced).cpu().numpy()


def _require_finite(run: _Run, epoch: int, steps: _Steps) -> None:
    """Check the losses of the last steps; raise a `CifakeError` for the first that is not finite."""
    first = max(0, len(steps) - CHECK_EVERY)
    losses = steps.losses[first : len(steps), 0]
    bad = (~losses.isfinite()).nonzero().flatten().tolist()
    if bad:
        _raise_not_finite(run, epoch, steps, first + bad[0], f"loss is {losses[bad[0]]}")


def _raise_not_finite(run: _Run, epoch: int, steps: _Steps, step: int, found: str) -> None:
    kept = f"The last good checkpoint, of epoch {epoch}, is {run.checkpoint}." if run.checkpoint and epoch else ""
    raise CifakeError(
        f"The {found} at step {step + 1} of {len(run.train)} in epoch {epoch + 1}, learning rate "
        f"{steps.rates[step]:.3g}. Expected a finite number. {kept or 'There is no checkpoint before it.'} The same "
        "settings would fail again. Lower learning_rate, or limit the gradient with max_norm."
    )


@torch.inference_mode()
def predict_logits(module: nn.Module, batches: ImageBatches, *, mirrored: bool = False) -> torch.Tensor:
    """Return the logits of every image in order, or of every mirror image: float32 (N, C). The module is in eval mode.

    With batches from `ImageBatches.shared` the processes share the work, and each gets the logits of every image.
    """
    module.eval()
    return batches.gather(torch.cat([module(inputs).float() for inputs, _ in batches.in_order(mirrored)]))


def predict(module: nn.Module, batches: ImageBatches, *, mirrored: bool = False) -> np.ndarray:
    """Return P(FAKE) of every image in order, or of every mirror image: float32 (N,). See `predict_logits`."""
    return predict_logits(module, batches, mirrored=mirrored).softmax(1)[:, 1].cpu().numpy()
