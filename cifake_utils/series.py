"""Run the notebooks of the series, in order, and keep their stored outputs fit for strict comparison."""

import os
import tempfile
import time
from collections.abc import MutableMapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from cifake_utils import CifakeError, data, plots, profiles, records, results
from cifake_utils.files import replacing

NOTEBOOKS = profiles.PROJECT / "notebooks"


def use_strict_environment(environment: MutableMapping[str, str], runs: Path) -> None:
    """Change an environment so that every machine gives the outputs that are stored in the notebooks.

    The sample profile, nothing from the caller's own data or runs, one thread a maths library, no progress bars.
    """
    for variable in ("CIFAKE_DATA", "CIFAKE_WEIGHTS", "ACCELERATE_MIXED_PRECISION"):
        environment.pop(variable, None)
    environment |= {
        "CIFAKE_PROFILE": "sample",
        "CIFAKE_RUNS": str(runs),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        "PYTHONHASHSEED": "0",
    }


def run(folder: Path) -> dict[str, float]:
    """Execute every notebook in the current environment and write the results into ``folder``.

    Prints the seconds each took, and returns them by its name. A notebook that fails is written as far as it came,
    and a `CifakeError` says where to look.
    """
    seconds = {}
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        start = time.perf_counter()
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            resources={"metadata": {"path": NOTEBOOKS}},
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
        try:
            client.execute()
        except CellExecutionError as error:
            raise CifakeError(
                f"{path.name} stopped with {error.ename}: {error.evalue} "
                f"It is kept as far as it came in {folder / path.name}."
            ) from None
        finally:
            tidy(notebook)
            with replacing(folder / path.name) as partial:
                nbformat.write(notebook, partial)
        seconds[path.stem] = time.perf_counter() - start
        print(f"{path.stem:<40}{seconds[path.stem]:>7.1f} s")
    return seconds


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Drop from a notebook, in place, what differs from run to run or from machine to machine."""
    widgets = notebook.metadata.get("widgets")
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    if widgets:
        notebook.metadata.widgets = widgets
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def store() -> None:
    """Regenerate what is stored in ``notebooks/``: every output, and the README's picture.

    In the strict environment, with fresh caches.
    """
    with tempfile.TemporaryDirectory() as runs:
        use_strict_environment(os.environ, Path(runs))
        run(NOTEBOOKS)
        picture = plots.overview(
            data.load(), records.reference("resnet50_transfer"), results.PAPER["resnet50_transfer"]
        )
        picture.savefig(NOTEBOOKS / "overview.png", dpi=110, metadata={"Software": None})
