"""Names of files that others have made: which to leave out, how to show them, how to name a picture after them.

A name may hold anything: characters that command a terminal, bytes that are no text, 255 bytes of it.
"""

import re
import unicodedata
from pathlib import Path

SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
PICTURE_BYTES = 120  # of 255 that most file systems take: a temporary name beside it is longer


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is none of the reader's: hidden, or left by a file manager."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def escaped(text: Path | str) -> str:
    """Return a text in which every character that can't be printed is written as in Python: ``\\x1b``, ``\\n``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shown(text: Path | str, most: int = 160) -> str:
    """Return a name or a path as a table or a title can show it: escaped, and its middle left out if it is long."""
    text = escaped(text)
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def same(name: str) -> str:
    """Return what two names have in common that some file system takes for one: case and composed letters."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def picture(name: str, taken: set[str]) -> str:
    """Return a name for the PNG picture of a file, one that every file system takes, and add it to ``taken``.

    Parameters
    ----------
    name : str
        The file's name, without its folder.
    taken : set of str
        What `same` returns for the names that are in use.
    """
    safe = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in name)
    safe = safe.encode()[:PICTURE_BYTES].decode(errors="ignore")
    # Windows reads CON.png as a device, whatever the suffix.
    safe = re.sub(r"^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", r"\1_", safe, flags=re.IGNORECASE)
    chosen, number = f"{safe}.png", 1
    while same(chosen) in taken:
        number += 1
        chosen = f"{safe}.{number}.png"
    taken.add(same(chosen))
    return chosen
