"""Fingerprints: 16 hexadecimal digits that say which data, weights or settings a result was made from."""

import hashlib
import json
from collections.abc import Iterable

import torch
import xxhash

from cifake_utils.support.verified import tensor_bytes

MISSING = "nothing"  # in the place of a value that a recipe does not have


def content_hash(pieces: Iterable) -> str:
    """Return the fingerprint of pieces of content (anything with a buffer), one after the other: SHA-256."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()[:16]


def state_hash(state: dict[str, torch.Tensor]) -> str:
    """Return the fingerprint of named tensors: of their names and values, in the order of the names."""
    return content_hash(
        piece for name in sorted(state) for piece in (name.encode(), state[name].detach().cpu().contiguous().numpy())
    )


def recipe_hash(recipe: dict | list) -> str:
    """Return the fingerprint of a recipe: all that a result depends on, as JSON types and tensors.

    The order of a dictionary's keys does not matter, a list's does. A tensor counts with type, shape and values.
    """
    return content_hash([json.dumps(recipe, sort_keys=True, default=_tensor).encode()])


def _tensor(value: object) -> list:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"A recipe holds JSON types and tensors; this is {value!r}.")
    return [str(value.dtype), list(value.shape), xxhash.xxh3_128(tensor_bytes(value)).hexdigest()]


def differences(first: dict, second: dict, inside: str = "") -> dict[str, tuple]:
    """Return what differs between two recipes: both values, by a name such as ``"training.learning_rate"``."""
    found = {}
    for key in sorted(first.keys() | second.keys()):
        one, other = first.get(key, MISSING), second.get(key, MISSING)
        if isinstance(one, dict) and isinstance(other, dict):
            found |= differences(one, other, f"{inside}{key}.")
        elif one != other:
            found[f"{inside}{key}"] = (one, other)
    return found
