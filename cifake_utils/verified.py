"""Files that the package writes and reads back: tensors, arrays, JSON. A reader gets what was written or a named error.

Tensors and JSON carry a checksum (XXH3, 128 bits, which is faster than memory is read); the arrays of an NPZ file have
those of the ZIP format. Nothing in these files is executed when it is read.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cifake_utils import CifakeError
from cifake_utils.files import replacing

CHECKSUM = "checksum"
Tensors = dict[str, torch.Tensor]


class DamagedFile(CifakeError):
    """A file is not what was written there. Whoever can make it again does; to a reader it says what to delete."""

    def __init__(self, path: Path, reason: object, remedy: str = "Delete it; the next run makes it again.") -> None:
        self.found = f"{path} can't be used: {reason}."
        super().__init__(f"{self.found} Expected what this package wrote there. {remedy}")


def file_checksum(path: Path) -> str:
    """Return 32 hexadecimal digits over the bytes of a file. It is mapped, which is faster than reading it."""
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else b""
    return xxhash.xxh3_128(content).hexdigest()


def tensor_bytes(tensor: torch.Tensor) -> np.ndarray:
    """Return the bytes of a tensor of any type and layout in the order of its shape: uint8, one dimension."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _tensors_checksum(tensors: Tensors, metadata: Mapping[str, str]) -> str:
    described = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in sorted(tensors)]
    checksum = xxhash.xxh3_128(json.dumps([described, dict(metadata)], sort_keys=True).encode())
    for name, *_ in described:
        checksum.update(tensor_bytes(tensors[name]))
    return checksum.hexdigest()


def save_tensors(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> str:
    """Write named tensors, and metadata, as a safetensors file in place of ``path``; return its checksum."""
    metadata = dict(metadata or {})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    checksum = _tensors_checksum(tensors, metadata)
    with replacing(path) as partial:
        save_file(tensors, partial, metadata | {CHECKSUM: checksum})
    return checksum


def load_tensors(path: Path, expected: str | None = None) -> tuple[Tensors, dict[str, str]]:
    """Return tensors, mapped from their file, and metadata as `save_tensors` wrote them.

    Raises `DamagedFile` for anything else, and, with ``expected``, for a file of another checksum than that.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, UnicodeDecodeError, ValueError) as error:
        raise DamagedFile(path, error) from None
    checksum = metadata.pop(CHECKSUM, None)
    if checksum is None:
        raise DamagedFile(path, "it carries no checksum")
    if _tensors_checksum(tensors, metadata) != checksum:
        raise DamagedFile(path, "its contents don't have the checksum that it carries")
    if expected not in (None, checksum):
        raise DamagedFile(path, "it belongs to another run than the record beside it")
    return tensors, metadata


def load_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file that `save_tensors` wrote without reading it whole; none where there are none."""
    with suppress(OSError, SafetensorError, UnicodeDecodeError, ValueError), safe_open(path, "pt") as file:
        return file.metadata() or {}
    return {}


def is_whole(path: Path, say: str = "") -> bool:
    """Whether a file is there and what `save_tensors` wrote. With ``say`` a line tells of a damaged one.

    For caches, whose owner makes them again; ``say`` is a sentence about that.
    """
    try:
        load_tensors(path)
    except FileNotFoundError:
        return False
    except DamagedFile as error:
        if say:
            print(f"{error.found} {say}")
        return False
    return True


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays as a compressed NPZ file in place of ``path``."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return what `save_arrays` wrote; raises `DamagedFile` for anything else."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, KeyError, AttributeError) as error:
        raise DamagedFile(path, error or type(error).__name__) from None
    except (NotImplementedError, RuntimeError, MemoryError) as error:  # a compression or encryption that isn't there
        raise DamagedFile(path, error or type(error).__name__) from None


def save_json(path: Path, document: dict) -> None:
    """Write a document of JSON types in place of ``path``."""
    text = json.dumps(document | {CHECKSUM: _json_checksum(document)}, indent=1)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8", newline="\n")


def load_json(path: Path) -> dict:
    """Return what `save_json` wrote; raises `DamagedFile` for anything else. Spaces and line ends don't matter."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        checksum = document.pop(CHECKSUM)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = "it carries no checksum" if isinstance(error, KeyError) else f"it is no JSON document ({error})"
        raise DamagedFile(path, reason) from None
    if _json_checksum(document) != checksum:
        raise DamagedFile(path, "its contents don't have the checksum that it carries")
    return document


def _json_checksum(document: dict) -> str:
    return xxhash.xxh3_128(json.dumps(document, sort_keys=True).encode()).hexdigest()


def shipped(path: Path) -> Path:
    """Return the path of a file that comes with the package; raises `DamagedFile` where it is not the one listed.

    The list is ``SHA256SUMS`` beside it, as the program ``sha256sum`` writes and checks it.
    """
    listed = dict(reversed(line.split()) for line in (path.parent / "SHA256SUMS").read_text("utf-8").splitlines())
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != listed[path.name]:
        remedy = f"Install the package again, or in a clone run `git checkout -- {path.name}` in that folder."
        raise DamagedFile(path, "its SHA-256 is not the one in SHA256SUMS beside it", remedy)
    return path
