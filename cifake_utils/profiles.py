"""Profiles say which data and which pre-trained weights are used, and for how many epochs models are trained.

A notebook chooses none of these itself.
"""

import os
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

import platformdirs
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import parse_flag_from_env

from cifake_utils import CifakeError


def _checkout(folder: Path) -> Path | None:
    """Return ``folder`` if it is a clone of this project, None if it is not (such as ``site-packages``)."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):  # no such file, or that of another project
        return None
    return folder if project == "cifake-utils" else None


PROJECT = _checkout(Path(__file__).resolve().parent.parent)  # None if the package was installed from a wheel


@dataclass(frozen=True)
class Profile:
    """One way to run the whole series.

    Attributes
    ----------
    name : str
        The value of ``CIFAKE_PROFILE`` that chooses it.
    data : str
        Name of the data set, as `data_sets.DATA_SETS` declares it: ``"sample"`` (embedded, offline) or ``"CIFAKE"``.
    sizes : tuple of int or None
        Number of images in the train, validation and test split; None takes all images.
    pretrained : str
        ``"offline"`` (the backbone in ``assets/``) or ``"imagenet"``.
    epochs : int
        Largest number of epochs for training a head, of which a preset may ask for a share. Early stopping may end the
        training sooner.
    cpu : bool
        Whether to compute on the CPU even if there is a GPU.
    epochs_full : int
        Epochs in which all layers learn to tell REAL from FAKE, after a pretext.
    epochs_pretext : int
        Epochs of the rotation pretext. A model without a pretext is trained for ``epochs_pretext + epochs_full``
        epochs, so that models whose layers all learn take the same number of steps, unless their preset asks for a
        share of these epochs.
    batch_size : int, optional
        Replaces the batch size of the preset where all layers learn. With few images, batches must be small to give
        enough steps.
    """

    name: str
    data: str
    sizes: tuple[int, int, int] | None
    pretrained: str
    epochs: int
    cpu: bool
    epochs_full: int = 1
    epochs_pretext: int = 1
    batch_size: int | None = None

    @property
    def runs(self) -> Path:
        """Folder for the records, trained weights and executed notebooks of this profile."""
        return runs_folder() / self.name

    def accelerator(self) -> Accelerator:
        """Return the accelerator, which knows the device, the precision and the processes.

        The precision is the first that `precisions` lists for the device. ``ACCELERATE_MIXED_PRECISION`` can choose
        another one of the list. (The value ``no`` chooses nothing, since ``accelerate launch`` and
        ``notebook_launcher`` always set it.) ``ACCELERATE_USE_CPU=true`` keeps every profile on the CPU.
        ``ACCELERATE_DYNAMO_BACKEND=inductor`` switches on `torch.compile`. On an Nvidia GPU, cuDNN tries its kernels at
        the first batch of each shape and keeps the fastest.

        Raises
        ------
        CifakeError
            The device does not support the precision; the process has already used another device or precision, which
            accelerate can't change within a process.
        """
        cpu = self.cpu or parse_flag_from_env("ACCELERATE_USE_CPU")
        # The timeout is long because the main process may have to decode images or wait for another job's training.
        state = PartialState(cpu=cpu, timeout=timedelta(days=7))
        device = torch.device("cpu") if cpu else state.default_device
        precision = _precision(device)
        kept = AcceleratorState().mixed_precision if is_initialized() else precision
        in_use = cast(torch.device, state.device)
        if (in_use.type, kept) != (device.type, precision):
            raise CifakeError(
                f"The profile {self.name} needs the device {device.type} with mixed precision {precision!r}. This "
                f"process already uses {in_use.type} with {kept!r}, and accelerate can't change them within a "
                "process. Start a new process; in a notebook, restart the kernel."
            )
        torch.backends.cudnn.benchmark = device.type == "cuda"  # all batches but the last of an epoch have one shape
        one_copy = DistributedDataParallelKwargs(
            gradient_as_bucket_view=True
        )  # of the gradients, where there would be two
        return Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[one_copy])


def precisions(device: torch.device) -> list[str]:
    """Return the precisions, under accelerate's names, that can be chosen on a device. The first is the default.

    ``no`` is float32. Nvidia GPUs compute bfloat16 (``bf16``) from compute capability 8 on; on older ones torch only
    emulates it. GPUs of capability 7, such as the T4 of Colab and Kaggle, compute float16 (``fp16``), for which
    `training.fit` scales the loss. CPUs offer bfloat16 where oneDNN computes it (x86: with AVX-512 or more). On any
    other device only float32 is offered.
    """
    if device.type == "cpu":
        return ["no", "bf16"] if _cpu_computes_bfloat16() else ["no"]
    capability = torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0
    if capability >= 8:
        return ["bf16", "fp16"]
    return ["fp16"] if capability == 7 else ["no"]


def _cpu_computes_bfloat16() -> bool:
    """Whether this processor's bfloat16 is of use: one that only emulates it took 55 times as long as with float32."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # torch without oneDNN does not say
    return supported is None or supported()


def _precision(device: torch.device) -> str:
    """Return the precision that the environment chooses, or the default of the device."""
    available, wish = precisions(device), os.environ.get("ACCELERATE_MIXED_PRECISION") or "no"
    if wish not in ("no", *available):
        float32 = " (`no` is float32.)" if "no" in available else ""
        raise CifakeError(
            f"ACCELERATE_MIXED_PRECISION is {wish!r}, which can't be used on this device ({device.type}). Set it to "
            f"one of: {', '.join(available)}; or unset it, which gives {available[0]}.{float32}"
        )
    return available[0] if wish == "no" else wish


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("sample", "sample", None, "offline", 200, cpu=True, batch_size=32),
        Profile("lesson", "CIFAKE", (8_000, 2_000, 2_000), "imagenet", 20, cpu=False, epochs_full=3, epochs_pretext=3),
        Profile("full", "CIFAKE", None, "imagenet", 20, cpu=False, epochs_full=4, epochs_pretext=5),
    )
}


def get(name: str) -> Profile:
    """Return the profile called ``name``; for an unknown name, raise a `CifakeError` that lists the known ones."""
    if name not in PROFILES:
        raise CifakeError(f"There is no profile {name!r}. Set CIFAKE_PROFILE to one of: {', '.join(PROFILES)}.")
    return PROFILES[name]


def active() -> Profile:
    """Return the profile that ``CIFAKE_PROFILE`` names, or ``sample`` if it is unset or blank."""
    return get(os.environ.get("CIFAKE_PROFILE", "").strip() or "sample")


def resolve(profile: str | Profile | None) -> Profile:
    """Return the profile that is given itself or by its name, or the active one for None."""
    return get(profile) if isinstance(profile, str) else profile or active()


def folder_from(variable: str) -> Path | None:
    """Return the path that an environment variable holds, or None if it is unset or blank.

    In a clone, a relative path starts at the project's folder, so that it means the same in a terminal and in a
    notebook. If the package was installed from a wheel, it starts at the current folder. Raises `CifakeError` for
    ``~`` with an unknown user.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        return None
    try:
        return (PROJECT or Path.cwd()) / Path(value).expanduser()
    except RuntimeError:
        raise CifakeError(f"{variable} is {value!r}: there is no such user. Set it to an absolute path.") from None


def runs_folder() -> Path:
    """Return the folder for all files that the series writes: ``CIFAKE_RUNS``.

    The default is ``runs/`` in a clone, and the user's cache folder if the package was installed from a wheel.
    """
    default = PROJECT / "runs" if PROJECT else platformdirs.user_cache_path("cifake", appauthor=False)
    return folder_from("CIFAKE_RUNS") or default


def notebooks() -> Path:
    """Return the folder of the lessons; raise a `CifakeError` if the package was installed from a wheel."""
    if PROJECT is None:
        raise CifakeError(
            "The lessons are not part of the installed package. To run them, clone the repository and start there: "
            "`pip install -r requirements.txt -c constraints.txt`, then `python -m cifake_utils run`."
        )
    return PROJECT / "notebooks"
