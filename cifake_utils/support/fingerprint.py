"""Fingerprints: 16 hexadecimal digits that identify the data, weights or settings behind a result."""

import hashlib
import json
from collections.abc import Iterable

import torch
import xxhash

from cifake_utils.support.verified import tensor_bytes

MISSING = "nothing"  # stands for a value that one of two recipes does not have


def content_hash(pieces: Iterable) -> str:
    """Return the fingerprint of pieces of bytes, one after the other: the first digits of their SHA-256."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()[:16]


def state_hash(state: dict[str, torch.Tensor]) -> str:
    """Return the fingerprint of named tensors: of names and values, sorted by name."""
    return content_hash(
        piece for name in sorted(state) for piece in (name.encode(), state[name].detach().cpu().contiguous().numpy())
    )


def recipe_hash(recipe: dict | list) -> str:
    """Return the fingerprint of a recipe, which lists all that a result depends on as JSON types and tensors.

    The order of a dictionary's keys does not matter, the order of a list does. Of a tensor the type, the shape and the
    values count.
    """
    return content_hash([json.dumps(recipe, sort_keys=True, default=_tensor).encode()])


def _tensor(value: object) -> list:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"A recipe holds JSON types and tensors; this is {value!r}.")
    return [str(value.dtype), list(value.shape), xxhash.xxh3_128(tensor_bytes(value).data).hexdigest()]


def differences(first: dict, second: dict, inside: str = "") -> dict[str, tuple]:
    """Return the entries in which two recipes differ: both values, by a name such as ``"training.learning_rate"``."""
    found = {}
    for key in sorted(first.keys() | second.keys()):
        one, other = first.get(key, MISSING), second.get(key, MISSING)
        if isinstance(one, dict) and isinstance(other, dict):
            found |= differences(one, other, f"{inside}{key}.")
        elif one != other:
            found[f"{inside}{key}"] = (one, other)
    return found
