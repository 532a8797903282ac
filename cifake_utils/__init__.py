"""Helpers of the notebook series *From Real to Rendered*: telling photographs from AI-rendered images."""

from collections.abc import Iterator
from contextlib import contextmanager


class CifakeError(Exception):
    """Something the reader can put right: the message says what was found, what was expected, what to do."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Let an import of what only ``extra`` of the package brings fail with a `CifakeError` that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CifakeError(
            f"The package {error.name} is not installed. It comes with the extra {extra!r}: "
            f'`python -m pip install "cifake-utils[{extra}]"`.'
        ) from error
