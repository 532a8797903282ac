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
        f"{group}/{name}": tensor.detach().contiguous()
        for group, members in groups.items()
        for name, tensor in members.items()
    }
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"state": json.dumps(state)})


def load(path: Path) -> tuple[Groups, dict]:
    """Return what `save` wrote, tensors on the CPU. A group without tensors is not there."""
    groups: Groups = {}
    try:
        with safe_open(path, "pt") as file:
            for key in file.keys():
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = file.get_tensor(key)
            return groups, json.loads(file.metadata()["state"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CifakeError(
            f"The checkpoint {path} can't be read ({error}). Delete that file; training then starts from the beginning."
        ) from None
