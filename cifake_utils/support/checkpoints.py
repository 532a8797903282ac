"""Save how far a training has come, in one file: tensors as safetensors, everything else as JSON in its header.

Because it is one file, tensors and state always belong together. A process that is killed while it writes leaves the
old file untouched.
"""

import json
from pathlib import Path

import torch

from cifake_utils.support import verified
from cifake_utils.support.files import clear_leftovers

Groups = dict[str, dict[str, torch.Tensor]]


def save(path: Path, groups: Groups, state: dict, recipe: str = "") -> None:
    """Write named groups of named tensors, and a state of JSON types, in place of the file ``path``.

    ``recipe`` is the fingerprint of what they were made from.
    """
    clear_leftovers(path.parent, path.name)
    tensors = {
        f"{group}/{name}": tensor.detach() for group, members in groups.items() for name, tensor in members.items()
    }
    # safetensors wants memory in the order of the shape, which kernels in channels_last have as (out, H, W, in).
    moved = [key for key, tensor in tensors.items() if tensor.ndim == 4 and not tensor.is_contiguous()]
    tensors |= {key: tensors[key].permute(0, 2, 3, 1) for key in moved}
    metadata = {"state": json.dumps(state), "channels_last": json.dumps(moved)}
    verified.save_tensors(path, tensors, metadata, recipe)


def load(path: Path, recipe: str = "") -> tuple[Groups, dict]:
    """Return what `save` wrote, with tensors that are memory-mapped from the file.

    A group that had no tensors is missing from the result. Raises `verified.DamagedFile` for any other file.
    """
    groups: Groups = {}
    tensors, metadata = verified.load_tensors(path, recipe)
    if "channels_last" not in metadata:
        raise verified.DamagedFile(path, "it is no checkpoint")
    moved = set(json.loads(metadata["channels_last"]))
    for key, tensor in tensors.items():
        group, name = key.split("/", 1)
        groups.setdefault(group, {})[name] = tensor.permute(0, 3, 1, 2) if key in moved else tensor
    return groups, json.loads(metadata["state"])
