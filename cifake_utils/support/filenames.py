"""Names of files that others have made: which to leave out, how to show them, how to name a picture after them.

Such a name may be up to 255 bytes long, and may hold control characters for a terminal or bytes that are no text.
"""

import re
import unicodedata
from pathlib import Path

SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}
PICTURE_BYTES = 120  # of 255 that most file systems take: a temporary name beside it is longer


def is_ignored(name: str) -> bool:
    """Return whether a file or folder of this name is hidden or was put there by a file manager."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES


def escaped(text: Path | str) -> str:
    """Return a text with every character that can't be printed written as in Python source: ``\\x1b``, ``\\n``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shown(text: Path | str, most: int = 160) -> str:
    """Return a name or a path that fits into a table or a title: escaped, and without its middle if it is long."""
    text = escaped(text)
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def same(name: str) -> str:
    """Return a key that is equal for two names if any file system may take them for the same file.

    Such names differ only in upper and lower case, or in how their accented letters are composed.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def picture(name: str, taken: set[str]) -> str:
    """Return a name that every file system accepts for the PNG picture of a file, and add it to ``taken``.

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
