"""Profiles: which data, which pre-trained weights, how long. A notebook chooses none of these itself."""

import os
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import platformdirs
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.state import AcceleratorState, is_initialized
from accelerate.utils import parse_flag_from_env

from cifake_utils import CifakeError


def _checkout(folder: Path) -> Path | None:
    """Return ``folder`` where it is a clone of this project, None where it is not (``site-packages``, say)."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):  # no such file, or another program's
        return None
    return folder if project == "cifake-utils" else None


PROJECT = _checkout(Path(__file__).resolve().parent.parent)  # None where the package was installed from a wheel


@dataclass(frozen=True)
class Profile:
    """One way to run the whole series.

    Attributes
    ----------
    name : str
        What ``CIFAKE_PROFILE`` calls it.
    data : str
        Name of the data set, as `data.DATA_SETS` declares it: ``"sample"`` (embedded, offline) or ``"CIFAKE"``.
    sizes : tuple of int or None
        Images in the train, validation and test split; None takes all there are.
    pretrained : str
        ``"offline"`` (the backbone in ``assets/``) or ``"imagenet"``.
    epochs : int
        Upper limit for training a head; early stopping may end sooner.
    cpu : bool
        Stay on the CPU even where there is a GPU.
    epochs_full : int
        Epochs in which all layers learn to tell REAL from FAKE, after a pretext.
    epochs_pretext : int
        Epochs of the rotation pretext. A model without a pretext learns for ``epochs_pretext + epochs_full``, so
        that all fully trained models take as many steps.
    batch_size : int, optional
        Where all layers learn, in place of the preset's: few images need small batches to make enough steps.
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
        """Where this profile's records, trained weights and executed notebooks go."""
        return runs_folder() / self.name

    def accelerator(self) -> Accelerator:
        """Return accelerate's view of device, precision and processes.

        Of the precisions that `precisions` lists for the device, the first; ``ACCELERATE_MIXED_PRECISION`` asks for
        another of them. (``no`` asks for nothing: ``accelerate launch`` and ``notebook_launcher`` always set it.)
        ``ACCELERATE_USE_CPU=true`` keeps every profile on the CPU, ``ACCELERATE_DYNAMO_BACKEND=inductor`` asks for
        `torch.compile`. On a GPU of Nvidia, cuDNN tries its kernels at the first batch of a shape and keeps the
        fastest.

        Raises
        ------
        CifakeError
            A precision that the device doesn't have. Another device or precision than this process has used before:
            accelerate keeps one of each for the life of a process.
        """
        cpu = self.cpu or parse_flag_from_env("ACCELERATE_USE_CPU")
        # The others wait for the main process while it decodes, or waits for another job's training.
        state = PartialState(cpu=cpu, timeout=timedelta(days=7))
        device = torch.device("cpu") if cpu else state.default_device
        precision = _precision(device)
        kept = AcceleratorState().mixed_precision if is_initialized() else precision
        if (state.device.type, kept) != (device.type, precision):
            raise CifakeError(
                f"The profile {self.name} needs the device {device.type} with mixed precision {precision!r}. This "
                f"process already uses {state.device.type} with {kept!r}, and accelerate can't change them within a "
                "process. Start a new process; in a notebook, restart the kernel."
            )
        torch.backends.cudnn.benchmark = device.type == "cuda"  # batches have one shape, the last of an epoch excepted
        one_copy = DistributedDataParallelKwargs(gradient_as_bucket_view=True)  # of the gradients, not two
        return Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[one_copy])


def precisions(device: torch.device) -> list[str]:
    """Return the precisions of accelerate to choose from on a device, the one that is taken by default first.

    ``no`` is float32. bfloat16 (``bf16``) is computed by GPUs of Nvidia from compute capability 8 on; before, torch
    only imitates it. Those of capability 7 (such as the T4 that Colab and Kaggle lend) compute float16 (``fp16``),
    whose gradients `training.fit` scales. On other devices than these and CPUs only float32 has been thought through.
    """
    if device.type == "cpu":
        return ["no", "bf16"]
    capability = torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 0
    if capability >= 8:
        return ["bf16", "fp16"]
    return ["fp16"] if capability == 7 else ["no"]


def _precision(device: torch.device) -> str:
    """Return the precision that the environment asks for, the device's default where it asks for none."""
    available, wish = precisions(device), os.environ.get("ACCELERATE_MIXED_PRECISION") or "no"
    if wish not in ("no", *available):
        raise CifakeError(
            f"ACCELERATE_MIXED_PRECISION is {wish!r}, which can't be used on this device ({device.type}). Set it to "
            f"one of: {', '.join(available)}; or unset it, which gives {available[0]}. (`no` is float32.)"
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
    """Return the profile called ``name``; an unknown name is a `CifakeError` that lists the known ones."""
    if name not in PROFILES:
        raise CifakeError(f"There is no profile {name!r}. Set CIFAKE_PROFILE to one of: {', '.join(PROFILES)}.")
    return PROFILES[name]


def active() -> Profile:
    """Return the profile that ``CIFAKE_PROFILE`` names, ``sample`` where it is unset, empty or nothing but spaces."""
    return get(os.environ.get("CIFAKE_PROFILE", "").strip() or "sample")


def resolve(profile: str | Profile | None) -> Profile:
    """Return a profile given itself or its name, the active one where None is given."""
    return get(profile) if isinstance(profile, str) else profile or active()


def folder_from(variable: str) -> Path | None:
    """Return the path an environment variable holds, None where it is unset, empty or nothing but spaces.

    In a clone a relative path starts at the project's folder, so that it means the same in a terminal and in a
    notebook; where the package was installed from a wheel it starts at the current folder.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        return None
    try:
        return (PROJECT or Path.cwd()) / Path(value).expanduser()
    except RuntimeError:
        raise CifakeError(f"{variable} is {value!r}: there is no such user. Set it to an absolute path.") from None


def runs_folder() -> Path:
    """Return the folder for everything that running the series makes: ``CIFAKE_RUNS``.

    By default ``runs/`` in a clone, and the user's cache folder where the package was installed from a wheel.
    """
    default = PROJECT / "runs" if PROJECT else platformdirs.user_cache_path("cifake", appauthor=False)
    return folder_from("CIFAKE_RUNS") or default


def notebooks() -> Path:
    """Return the folder of the lessons; a `CifakeError` where the package was installed from a wheel, without them."""
    if PROJECT is None:
        raise CifakeError(
            "The lessons are not part of the installed package. To run them, clone the repository and start there: "
            "`pip install -r requirements.txt -c constraints.txt`, then `python -m cifake_utils run`."
        )
    return PROJECT / "notebooks"
