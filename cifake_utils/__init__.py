"""Helpers of the notebook series *From Real to Rendered*: telling photographs from AI-rendered images."""

from collections.abc import Iterator
from contextlib import contextmanager


class CifakeError(Exception):
    """An error that the reader can fix. The message says what was found, what was expected and what to do."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn the error of a failed import into a `CifakeError` that names the extra which installs the package."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CifakeError(
            f"The package {error.name} is not installed. It comes with the extra {extra!r}: "
            f'`python -m pip install "cifake-utils[{extra}]"`.'
        ) from error
