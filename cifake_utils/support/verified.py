"""Write and read files of tensors, arrays and JSON that carry a checksum.

Reading returns exactly what was written, or raises `DamagedFile`. The checksum is XXH3 with 128 bits, which is computed
faster than memory can be read. Reading a file never executes anything in it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import save_file

from cifake_utils import CifakeError
from cifake_utils.support.files import replacing

CHECKSUM, HEAD_CHECKSUM, RECIPE = "checksum", "head_checksum", "recipe"  # names of what is kept beside the contents
SUMS = "SHA256SUMS"  # lists files that come with the package, as the program sha256sum writes and checks it
PACKAGE = Path(__file__).parent.parent
Tensors = dict[str, torch.Tensor]


class DamagedFile(CifakeError):
    """A file does not hold what was written to it.

    A caller that can make the file again does so. Otherwise the message tells the reader which file to delete.
    """

    def __init__(self, path: Path, reason: object) -> None:
        self.path, self.reason = path, str(reason)
        self.found = f"{path} can't be used: {reason}."
        if PACKAGE in path.parents:
            remedy = (
                f"Install the package again, or in a clone run `git checkout -- {path.name}` in that folder. If you "
                f"have replaced it on purpose, write its new checksum into {SUMS} (docs/commands.md)."
            )
        else:
            remedy = "Delete it; the next run makes it again."
        super().__init__(f"{self.found} Expected what this package wrote there. {remedy}")

    def __reduce__(self) -> tuple:
        return DamagedFile, (self.path, self.reason)  # so that it can be sent from one process to another


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn any error that a library raises on a damaged file into a `DamagedFile`.

    A missing file still raises `FileNotFoundError`.
    """
    try:
        with path.open("rb"):  # safetensors hides that a file may not be opened behind an error of its own
            pass
        yield
    except (FileNotFoundError, DamagedFile):
        raise
    except PermissionError as error:
        raise CifakeError(
            f"{path} can't be read: {error.strerror}. Ask its owner for the right to read it, or set CIFAKE_RUNS to a "
            "folder of your own."
        ) from None
    except Exception as error:  # every library raises errors of its own
        raise DamagedFile(path, str(error) or type(error).__name__) from None


def file_checksum(path: Path) -> str:
    """Return the checksum of a file's bytes: 32 hexadecimal digits. The file is memory-mapped, which is faster."""
    content = np.memmap(path, np.uint8, "r").data if path.stat().st_size else b""
    return xxhash.xxh3_128(content).hexdigest()


def tensor_bytes(tensor: torch.Tensor) -> np.ndarray:
    """Return the bytes of a tensor of any type and layout in the order of its shape: uint8, one dimension."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _json_checksum(document: object) -> str:
    """Return the checksum of a document of JSON types, in the form in which a file gives it back."""
    return xxhash.xxh3_128(json.dumps(json.loads(json.dumps(document)), sort_keys=True).encode()).hexdigest()


def _tensors_checksum(tensors: Tensors, metadata: Mapping[str, str]) -> str:
    described = [[name, str(tensors[name].dtype), list(tensors[name].shape)] for name in sorted(tensors)]
    checksum = xxhash.xxh3_128(_json_checksum([described, dict(metadata)]).encode())
    for name, *_ in described:
        checksum.update(tensor_bytes(tensors[name]).data)
    return checksum.hexdigest()


def save_tensors(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None, recipe: str = "") -> str:
    """Write named tensors as a safetensors file in place of ``path``; return its checksum.

    Parameters
    ----------
    path : Path
    tensors : dict of str to torch.Tensor
    metadata : mapping of str to str, optional
        Further text to keep in the file.
    recipe : str
        Fingerprint of what the contents were made from.
    """
    metadata = dict(metadata or {}) | {RECIPE: recipe}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    checksum = _tensors_checksum(tensors, metadata)
    sums = {CHECKSUM: checksum, HEAD_CHECKSUM: _json_checksum(metadata)}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata | sums)
    return checksum


def load_tensors(path: Path, recipe: str = "", expected: str | None = None) -> tuple[Tensors, dict[str, str]]:
    """Return tensors, mapped from their file, and metadata as `save_tensors` wrote them.

    Raises
    ------
    DamagedFile
        The file holds anything else; its contents were made from another recipe; its checksum differs from
        ``expected``, where one is given.
    """
    with _reading(path):
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        checksum = metadata.pop(CHECKSUM, None)
        metadata.pop(HEAD_CHECKSUM, None)
        if checksum is None:
            raise DamagedFile(path, "it carries no checksum")
        if _tensors_checksum(tensors, metadata) != checksum:
            raise DamagedFile(path, "its contents don't have the checksum that it carries")
        if metadata.pop(RECIPE) != recipe:
            raise DamagedFile(path, "it was made from something else than its name says")
        if expected not in (None, checksum):
            raise DamagedFile(path, "it belongs to another run than the record beside it")
    return tensors, metadata


def load_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file that `save_tensors` wrote, without reading its tensors.

    Only the metadata are verified. The result is empty where they are damaged or the file is missing.
    """
    with suppress(FileNotFoundError, CifakeError), _reading(path), safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
        metadata.pop(CHECKSUM)
        if metadata.pop(HEAD_CHECKSUM) == _json_checksum(metadata):
            return metadata
    return {}


def is_whole(path: Path, recipe: str = "", say: str = "") -> bool:
    """Return whether a file exists and holds what `save_tensors` wrote for this recipe.

    This is for caches, which can be made again. For a damaged file the reason is printed, followed by the sentence
    ``say``; without ``say`` nothing is printed.
    """
    try:
        load_tensors(path, recipe)
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
        checked = {**arrays, CHECKSUM: np.array(_arrays_checksum(arrays))}
        np.savez_compressed(file, **checked)  # pyright: ignore[reportArgumentType]


def load_arrays(path: Path, expected: str | None = None) -> dict[str, np.ndarray]:
    """Return what `save_arrays` wrote; raises `DamagedFile` for anything else.

    The checksum to compare is ``expected`` where it is given. Otherwise it is the one in `SUMS` beside the file, and
    where that list does not name the file, the one that the file itself carries.
    """
    with _reading(path):
        if expected and file_checksum(path) != expected:
            raise DamagedFile(path, "it does not have the checksum that the record beside it gives")
        listed = not expected and path.name in _sums(path.parent)
        if listed:
            shipped(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        checksum = arrays.pop(CHECKSUM, None)
        if not (expected or listed or str(checksum) == _arrays_checksum(arrays)):
            raise DamagedFile(path, "its contents don't have the checksum that it carries")
    return arrays


def _arrays_checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the checksum of named arrays. The checksums of the ZIP format don't cover which arrays there are."""
    described = [[name, arrays[name].dtype.str, list(arrays[name].shape)] for name in sorted(arrays)]
    checksum = xxhash.xxh3_128(_json_checksum(described).encode())
    for name, *_ in described:
        checksum.update(np.ascontiguousarray(arrays[name]).tobytes())
    return checksum.hexdigest()


def save_json(path: Path, document: dict) -> None:
    """Write a document of JSON types in place of ``path``."""
    text = json.dumps(document | {CHECKSUM: _json_checksum(document)}, indent=1)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8", newline="\n")


def load_json(path: Path) -> dict:
    """Return what `save_json` wrote; raises `DamagedFile` for anything else. Spaces and line ends may differ."""
    with _reading(path):
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or CHECKSUM not in document:
            raise DamagedFile(path, "it carries no checksum")
        if document.pop(CHECKSUM) != _json_checksum(document):
            raise DamagedFile(path, "its contents don't have the checksum that it carries")
    return document


def shipped(path: Path) -> Path:
    """Return the path of a file that comes with the package, after comparing its SHA-256 with the one in `SUMS`.

    Raises `DamagedFile` where they differ, or where the list has no line for the file.
    """
    with _reading(path):
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        listed = _sums(path.parent)
        if path.name not in listed:
            raise DamagedFile(path, f"{SUMS} beside it has no line for it; CONTRIBUTING.md says how to add a new file")
        if found != listed[path.name]:
            raise DamagedFile(path, f"its SHA-256 is not the one in {SUMS} beside it")
    return path


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that `SUMS` of a folder lists, by name; empty where there is no such list."""
    try:
        lines = (folder / SUMS).read_text("utf-8").splitlines()
        return {name.removeprefix("*"): found for found, name in (line.split() for line in lines)}
    except FileNotFoundError:
        return {}
    except ValueError:
        raise DamagedFile(folder / SUMS, "it is no list of checksums and names") from None
