"""Where a run stands, in one file: tensors as safetensors, everything else as JSON in that file's own header.

One file is either the old one or the new one, whenever the process is killed; tensors and state never disagree.
Nothing in it is executed when it is read.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cifake_utils import CifakeError
from cifake_utils.files import clear_leftovers, replacing

Groups = dict[str, dict[str, torch.Tensor]]


def save(path: Path, groups: Groups, state: dict) -> None:
    """Write named groups of named tensors, and a state of JSON types, in place of what ``path`` held before."""
    clear_leftovers(path)
    tensors = {
        f"{group}/{name}": tensor.detach() for group, members in groups.items() for name, tensor in members.items()
    }
    # safetensors wants memory in the order of the shape, which kernels in channels_last have as (out, H, W, in).
    moved = [key for key, tensor in tensors.items() if tensor.ndim == 4 and not tensor.is_contiguous()]
    tensors |= {key: tensors[key].permute(0, 2, 3, 1) for key in moved}
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"state": json.dumps(state), "channels_last": json.dumps(moved)})


def load(path: Path) -> tuple[Groups, dict]:
    """Return what `save` wrote, tensors on the CPU. A group without tensors is not there."""
    groups: Groups = {}
    try:
        with safe_open(path, "pt") as file:
            moved = set(json.loads(file.metadata().get("channels_last", "[]")))
            for key in file.keys():
                group, name = key.split("/", 1)
                tensor = file.get_tensor(key)
                groups.setdefault(group, {})[name] = tensor.permute(0, 3, 1, 2) if key in moved else tensor
            return groups, json.loads(file.metadata()["state"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CifakeError(
            f"The checkpoint {path} can't be read ({error}). Delete that file; training then starts from the beginning."
        ) from None
