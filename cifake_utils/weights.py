"""Pre-trained ResNet50 weights: the offline backbone in ``assets/``, a local file, or torchvision's ImageNet ones."""

import pickle
import struct
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from cifake_utils import CifakeError, profiles, verified
from cifake_utils.fingerprint import state_hash

OFFLINE = Path(__file__).parent / "assets" / "backbone_cifar10_int8.safetensors"
SCALE = ".scale"  # suffix of the tensor that holds an int8 weight's scales

StateDict = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Weights:
    """A ResNet50 state dict in torchvision's layout, float32, without the last layer (``fc``).

    Attributes
    ----------
    state : dict of str to torch.Tensor
    name : str
        What a record calls them.
    hash : str
        16 hexadecimal digits of SHA-256 over names and values.
    """

    state: StateDict
    name: str
    hash: str


_named: set[str] = set()  # hashes of what `load` has printed already
NONE = Weights({}, "none (random initial values)", "none")


def quantise(state: StateDict) -> StateDict:
    """Return a state dict with every weight matrix or kernel as int8, one float32 scale an output channel.

    A weight w of channel c becomes round(w / s_c), s_c = max |w| / 127. Vectors (batch norm, biases) stay float32;
    counters (``num_batches_tracked``) stay as they are.
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
    """Return what `quantise` packed as float32 again."""
    return {
        name: value * state[name + SCALE].view(-1, *[1] * (value.ndim - 1)) if name + SCALE in state else value
        for name, value in state.items()
        if not name.endswith(SCALE)
    }


def read_file(path: Path) -> StateDict:
    """Return the state dict in a ``.safetensors`` or ``.pth`` file; nothing in the file is executed."""
    if not path.is_file():
        raise CifakeError(f"CIFAKE_WEIGHTS names {path}, and there is no such file. {WAYS_TO_WEIGHTS}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, pickle.UnpicklingError, struct.error, RuntimeError, EOFError, TypeError) as error:
        raise CifakeError(
            f"The weights in {path} can't be read as a state dict ({str(error).splitlines()[0]}). Expected a ResNet50 "
            f"state dict, saved by safetensors (.safetensors) or torch.save (.pth). {WAYS_TO_WEIGHTS}"
        ) from None


WAYS_TO_WEIGHTS = (
    "Set CIFAKE_WEIGHTS to a file with a torchvision-layout ResNet50 state dict, unset it to let torchvision "
    "download IMAGENET1K_V1, or use the embedded weights with CIFAKE_PROFILE=sample."
)


def _backbone_only(state: StateDict, origin: str) -> StateDict:
    """Return float32 copies of all but ``fc``, in torchvision's order; a `CifakeError` where keys or shapes differ."""
    with torch.device("meta"):
        expected = torchvision.models.resnet50().state_dict()
    expected = {name: value.shape for name, value in expected.items() if not name.startswith("fc.")}
    wrong = [name for name in expected if name not in state or state[name].shape != expected[name]]
    if wrong:
        raise CifakeError(
            f"{origin} does not hold a torchvision ResNet50: {len(wrong)} of {len(expected)} tensors are missing or "
            f"of another shape, {wrong[0]} the first. {WAYS_TO_WEIGHTS}"
        )
    return {name: state[name].float() if state[name].is_floating_point() else state[name] for name in expected}


def load_offline() -> Weights:
    """Return the offline backbone."""
    name = "offline backbone (ResNet50, CIFAR-10 object classes)"
    return _weights(dequantise(load_file(verified.shipped(OFFLINE))), name)


def _weights(state: StateDict, name: str) -> Weights:
    state = _backbone_only(state, name)
    return Weights(state, name, state_hash(state))


def load(profile: profiles.Profile) -> Weights:
    """Return the pre-trained weights of a profile, and print which they are, once in a process.

    ``sample`` takes the offline backbone. ``lesson`` and ``full`` take the file in ``CIFAKE_WEIGHTS``; without it
    torchvision downloads IMAGENET1K_V1. Raises `CifakeError` where neither is to be had.
    """
    local = profiles.folder_from("CIFAKE_WEIGHTS")
    if profile.pretrained == "offline":
        loaded = load_offline()
    elif local:
        loaded = _weights(read_file(local), local.name)
    else:
        name = "torchvision ResNet50 IMAGENET1K_V1"
        try:
            state = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.get_state_dict(
                progress=True, check_hash=True, weights_only=True
            )
        except (OSError, RuntimeError) as error:  # no network, a refused connection, or a damaged download
            raise CifakeError(f"{name} could not be downloaded ({error}). {WAYS_TO_WEIGHTS}") from error
        loaded = _weights(state, name)
    if loaded.hash not in _named:
        profile.accelerator().print(f"Pre-trained weights: {loaded.name}, hash {loaded.hash}")  # one process of several
        _named.add(loaded.hash)
    return loaded


def offline_metadata() -> dict[str, str]:
    """Return what the offline backbone's file says of itself: training data, accuracies, licence."""
    with safe_open(OFFLINE, "pt") as file:
        return file.metadata()
