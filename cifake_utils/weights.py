"""Pre-trained ResNet50 weights: from the offline backbone in ``assets/``, a local file, or torchvision."""

import hashlib
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from cifake_utils import CifakeError, profiles
from cifake_utils.support import verified
from cifake_utils.support.fingerprint import state_hash

OFFLINE = Path(__file__).parent / "assets" / "backbone_cifar10_int8.safetensors"
IMAGENET = torchvision.models.ResNet50_Weights.IMAGENET1K_V1
SCALE = ".scale"  # suffix of the tensor that holds an int8 weight's scales

StateDict = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Weights:
    """A ResNet50 state dict in torchvision's layout, float32, without the last layer (``fc``).

    Attributes
    ----------
    state : dict of str to torch.Tensor
    name : str
        The name under which records list them.
    hash : str
        Fingerprint of names and values, 16 hexadecimal digits (`fingerprint.state_hash`).
    """

    state: StateDict
    name: str
    hash: str


_named: set[str] = set()  # hashes of the weights that `load` has named in this process
NONE = Weights({}, "none (random initial values)", "none")


def quantise(state: StateDict) -> StateDict:
    """Return a state dict with every weight matrix or kernel as int8 and one float32 scale for each output channel.

    A weight w of channel c becomes ``round(w / s_c)``, ``s_c = max |w| / 127``. Vectors (batch norm, biases) stay
    float32; counters (``num_batches_tracked``) stay as they are.
    """
    quantised = {}
    for name, value in state.items():
        if value.ndim < 2:
            quantised[name] = value.clone()
            continue
        scale = value.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
        quantised[name + SCALE] = scale
        quantised[name] = (value / scale.view(-1, *[1] * (value.ndim - 1))).round().to(torch.int8).contiguous()
    return quantised


def dequantise(state: StateDict) -> StateDict:
    """Return the float32 state dict of what `quantise` returned, up to rounding."""
    scaled = {name for name, value in state.items() if value.dtype == torch.int8}
    return {
        name: value * state[name + SCALE].view(-1, *[1] * (value.ndim - 1)) if name in scaled else value
        for name, value in state.items()
        if name.removesuffix(SCALE) not in scaled or name in scaled
    }


WAYS_TO_WEIGHTS = (
    "Set CIFAKE_WEIGHTS to a file with a torchvision-layout ResNet50 state dict, unset it to let torchvision "
    "download IMAGENET1K_V1, or use the embedded weights with CIFAKE_PROFILE=sample."
)


def read_file(path: Path) -> StateDict:
    """Return the state dict in a ``.safetensors`` or ``.pth`` file; nothing in the file is executed.

    The prefix that `torch.nn.DataParallel` puts before names (``module.conv1.weight``) is removed.

    Raises
    ------
    CifakeError
        The file is missing or unreadable, holds anything but tensors, or would run code when it is loaded.
    """
    if not path.is_file():
        what = "that is a folder, not a file" if path.is_dir() else "there is no such file"
        raise CifakeError(f"CIFAKE_WEIGHTS names {path}, and {what}. {WAYS_TO_WEIGHTS}")
    try:
        if path.suffix.lower() == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # any other kind of file can raise any kind of error
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise CifakeError(
                f"The weights in {path} were not loaded: the file holds more than tensors, and loading it would run "
                f"code ({code[1]}). Expected a state dict alone, as torch.save(model.state_dict(), …) writes it. "
                f"{WAYS_TO_WEIGHTS}"
            ) from None
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, pickle.UnpicklingError) or "weights_only" in reason:  # torch advises to execute the file
            reason = "torch.save did not write it, or it holds more than tensors"
        raise CifakeError(
            f"The weights in {path} can't be read as a state dict ({reason}). Expected a ResNet50 "
            f"state dict, saved by safetensors (.safetensors) or torch.save (.pth). {WAYS_TO_WEIGHTS}"
        ) from None
    return _tensors_only(state, path)


def _tensors_only(state: object, path: Path) -> StateDict:
    """Return what was read from ``path`` where it is a dict of names and tensors, else raise a `CifakeError`."""
    if not isinstance(state, dict):
        found = f"a {type(state).__name__}"
    elif inner := [key for key, value in state.items() if isinstance(value, dict)]:
        found = f"dicts inside a dict, called {', '.join(map(repr, inner))}; save only the one with the weights"
    elif odd := [key for key, value in state.items() if not (isinstance(key, str) and _is_plain(value))]:
        found = f"more than names with dense real tensors (the first is {odd[0]!r})"
    else:
        state = dict(state)
        consume_prefix_in_state_dict_if_present(state, "module.")
        return state
    raise CifakeError(
        f"{path} holds {found}. Expected a ResNet50 state dict alone, a dict of names and tensors as "
        f"torch.save(model.state_dict(), …) writes it. {WAYS_TO_WEIGHTS}"
    )


def _is_plain(value: object) -> bool:
    """Whether this is a tensor of real numbers with memory of its own: dense, neither quantised nor complex."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not (value.is_quantized or value.is_complex() or value.is_meta)
    )


def _backbone_only(state: StateDict, origin: str) -> StateDict:
    """Return float32 copies of all but ``fc``, in torchvision's order.

    A missing counter of batches becomes 0, as in torch itself; files of torch before 0.4.1 have none. Raises
    `CifakeError` where other names are missing, shapes differ, or weights are integers, infinite or NaN.
    """
    with torch.device("meta"):
        expected = torchvision.models.resnet50().state_dict()
    expected = {name: value for name, value in expected.items() if not name.startswith("fc.")}
    counters = {name for name in expected if name.endswith(".num_batches_tracked")}
    state = {name: torch.tensor(0) for name in counters} | state
    wrong = [name for name in expected if name not in state or state[name].shape != expected[name].shape]
    if wrong:
        raise CifakeError(
            f"{origin} does not hold a torchvision ResNet50: {len(wrong)} of {len(expected)} tensors are missing or "
            f"of another shape; the first is {wrong[0]}. {WAYS_TO_WEIGHTS}"
        )
    whole = [name for name in expected if name not in counters and not state[name].is_floating_point()]
    if whole:
        raise CifakeError(
            f"{origin} holds {len(whole)} weights of type {state[whole[0]].dtype}; the first is {whole[0]}. Expected "
            f"floating-point numbers. {WAYS_TO_WEIGHTS}"
        )
    state = {name: state[name].float() if state[name].is_floating_point() else state[name] for name in expected}
    infinite = [name for name, value in state.items() if not value.sum().isfinite()]  # faster than value by value
    if infinite:
        raise CifakeError(
            f"{origin} holds values that are infinite or NaN in {len(infinite)} of {len(expected)} tensors; the first "
            f"is {infinite[0]}. The file is damaged, or its training diverged. Use another copy. "
            f"{WAYS_TO_WEIGHTS}"
        )
    return state


def load_offline() -> Weights:
    """Return the offline backbone."""
    name = "offline backbone (ResNet50, CIFAR-10 object classes)"
    return _weights(dequantise(load_file(verified.shipped(OFFLINE))), name)


def _weights(state: StateDict, name: str) -> Weights:
    state = _backbone_only(state, name)
    return Weights(state, name, state_hash(state))


def load(profile: profiles.Profile) -> Weights:
    """Return the pre-trained weights of a profile. Their name is printed once in a process.

    The profile ``sample`` uses the offline backbone. ``lesson`` and ``full`` use the file that ``CIFAKE_WEIGHTS``
    names; where the variable is unset, torchvision downloads IMAGENET1K_V1. Raises `CifakeError` where the weights
    can't be read or downloaded.
    """
    local = profiles.folder_from("CIFAKE_WEIGHTS")
    if profile.pretrained == "offline":
        loaded = load_offline()
    elif local:
        loaded = _weights(read_file(local), local.name)
    else:
        name = "torchvision ResNet50 IMAGENET1K_V1"
        loaded = _weights(_downloaded(name), name)
    if loaded.hash not in _named:
        profile.accelerator().print(f"Pre-trained weights: {loaded.name}, hash {loaded.hash}")  # one process of several
        _named.add(loaded.hash)
    return loaded


def downloaded_file() -> Path:
    """Return where torchvision's IMAGENET1K_V1 is kept when it has been downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / IMAGENET.url.rpartition("/")[2]


def _downloaded(name: str) -> StateDict:
    """Return torchvision's IMAGENET1K_V1 from the cache of `torch.hub`, which it is downloaded into first if needed."""
    kept = downloaded_file()
    if kept.exists():  # torchvision checks what it downloads, but not what it finds; the name ends with the hash
        with kept.open("rb") as file:
            intact = hashlib.file_digest(file, "sha256").hexdigest().startswith(kept.stem.rpartition("-")[2])
        if not intact:
            raise CifakeError(
                f"{kept} is damaged: its SHA-256 does not start with the digits at the end of its name. Delete that "
                "file; the next run downloads it again."
            )
    try:
        return IMAGENET.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # no network, a refused connection, a proxy's page, a full disk
        raise CifakeError(f"{name} could not be downloaded to {kept} ({error}). {WAYS_TO_WEIGHTS}") from error
