"""Which of the packages that this project needs are missing, or older than ``pyproject.toml`` allows.

Imports the standard library alone at first, so that it can speak where everything else is missing.
"""

import sys
from importlib import metadata

PROJECT = "cifake-utils"
OLDEST_PYTHON = (3, 11)
INSTALL = (
    "`python -m pip install -r requirements.txt -c constraints.txt` in the project's folder installs what is needed"
)


def unusable() -> str | None:
    """Return why this environment can't run the package, and what to do; None where it can."""
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return f"Python {sys.version.split()[0]} runs this. Expected {oldest} or newer: make a new environment with it."
    try:
        missing = [problem for problem in problems() if "is not installed" in problem]
    except (metadata.PackageNotFoundError, ModuleNotFoundError) as error:
        return f"The package {error.name} is not installed. {INSTALL}."
    return f"{' '.join(missing)} {INSTALL}." if missing else None


def extras() -> list[str]:
    """Return the names of the optional sets of packages."""
    return metadata.metadata(PROJECT).get_all("Provides-Extra") or []


def problems(extra: str | None = None) -> list[str]:
    """Return a sentence for every package that is missing or too old.

    Parameters
    ----------
    extra : str, optional
        Of the packages that only this extra needs; default: of those that are always needed.
    """
    from packaging.requirements import Requirement

    sentences = []
    for requirement in map(Requirement, metadata.requires(PROJECT) or []):
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        wanted = always if extra is None else not always and marker is not None and marker.evaluate({"extra": extra})
        if not wanted:
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            sentences.append(f"{requirement.name} is not installed; expected {requirement.specifier}.")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            sentences.append(f"{requirement.name} {found} is installed; expected {requirement.specifier}.")
    return sentences
