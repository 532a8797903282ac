"""Run the notebooks of the series in order, and store their outputs so that they can be compared strictly."""

import base64
import io
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from cifake_utils import CifakeError, catalogue, data, experiments, needs, profiles, records
from cifake_utils.lessons import exercises, navigation, plots, results
from cifake_utils.support.files import replacing, writable
from cifake_utils.support.strict import use_strict_environment

NOTEBOOKS = profiles.notebooks()

with needs("lessons"):
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError


def run_and_report() -> None:
    """Run the series in the active profile, print the scores of all finished runs, and write files among its runs.

    The files are the executed ``notebooks/``; ``timings.json`` with the seconds of each and the hardware;
    ``results.csv`` and ``results.png`` with the scores.
    """
    profile = profiles.active()
    writable(profile.runs)
    before, start = len(experiments.finished(profile)), time.perf_counter()
    seconds = run(profile.runs / "notebooks")
    total = time.perf_counter() - start
    print(f"{'in all':<40}{total:>7.1f} s")
    runs = experiments.finished(profile)
    timings = {
        "profile": profile.name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": profile.accelerator().device.type,
        "hardware": records.hardware(profile.accelerator().device),
        "cores": os.cpu_count(),
        "finished_runs_before": before,  # these were loaded, not trained
        "notebook_seconds": seconds,
        "seconds": total,
        "run_seconds": {record.name: record.seconds for record in runs},
    }
    records.save_summary("timings", timings)
    results.write_csv(runs, profile.runs / "results.csv")
    print(f"\n{results.own(runs)}\n")
    if runs:
        reference, paper = results.beside(runs)
        seeds = {name: [record for record in runs if record.experiment == name] for name in catalogue.EXPERIMENTS}
        seeds = {name: found for name, found in seeds.items() if found}
        figure = plots.comparison(seeds, results.title(runs[0]), paper, reference)
        with replacing(profile.runs / "results.png") as partial:
            figure.savefig(partial, dpi=120)
        plt.close(figure)
    print(f"Executed notebooks, records, results.csv, results.png and timings.json are in {profile.runs}")


def run(folder: Path, notebooks: Path | None = None) -> dict[str, float]:
    """Execute the lessons, write the results into ``folder``, and print and return the seconds by notebook name.

    ``notebooks`` is a folder of other notebooks to execute instead.

    A notebook that fails, loses its kernel or is stopped is written with the outputs that it has so far. Then a
    `CifakeError` says where it is.
    """
    seconds, notebooks = {}, notebooks or NOTEBOOKS
    for path in sorted(notebooks.glob("*.ipynb")):
        start = time.perf_counter()
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":  # what an earlier run has left there
                cell.outputs, cell.execution_count = [], None
        client = NotebookClient(
            notebook,
            timeout=None,
            kernel_name="python3",
            coalesce_streams=True,  # else printed text is split into pieces that differ from run to run
            resources={"metadata": {"path": notebooks}},
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
        try:
            client.execute()
            seconds[path.stem] = time.perf_counter() - start
        except CellExecutionError as error:
            raise CifakeError(
                f"{path.name} stopped with {error.ename}: {error.evalue.rstrip('.')}. "
                f"It is kept as far as it came in {folder / path.name}."
            ) from None
        except (KeyboardInterrupt, AssertionError):  # nbclient ends the kernel, and then misses it
            raise CifakeError(
                f"{path.name} was stopped. Run the same command again: finished trainings are loaded. The notebook is "
                f"kept as far as it came in {folder / path.name}."
            ) from None
        except RuntimeError as error:  # DeadKernelError, or a kernel that never answered
            cells = sum(bool(cell.source.strip()) for cell in notebook.cells if cell.cell_type == "code")
            raise CifakeError(
                f"{path.name} lost its kernel in code cell {client.code_cells_executed} of {cells} ({error}). Most "
                "often the memory ran out and the system ended the process. Close other programs or choose a smaller "
                "profile (CIFAKE_PROFILE=sample is the smallest), then run the same command again: finished trainings "
                f"are loaded. The notebook is kept as far as it came in {folder / path.name}."
            ) from None
        finally:
            tidy(notebook)
            with replacing(folder / path.name) as partial:
                nbformat.write(notebook, partial)
        print(f"{path.stem:<40}{seconds[path.stem]:>7.1f} s")
    return seconds


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Prepare a notebook for being stored, in place.

    Metadata that differ between runs or machines are dropped. ``metadata.cifake`` stays, which holds what tests must
    know about the lesson. `smaller` makes pictures smaller.
    """
    kept = {key: notebook.metadata[key] for key in ("cifake", "widgets") if notebook.metadata.get(key)}
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        | kept
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    for holder, key in _pictures(notebook):
        holder[key] = base64.b64encode(smaller(base64.b64decode(holder[key]))).decode()


def _pictures(notebook: nbformat.NotebookNode) -> Iterator[tuple[nbformat.NotebookNode, str]]:
    """Yield where the PNG pictures of a notebook lie, of outputs and of widgets: a mapping, and its key for base64."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", ()):
                yield output.data, "image/png"
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    for model in widgets.get("state", {}).values():
        if model["model_name"] == "ImageModel" and model["state"].get("format") == "png":
            yield from ((buffer, "data") for buffer in model.get("buffers", ()) if buffer["path"] == ["value"])


def smaller(png: bytes) -> bytes:
    """Return a PNG with a palette of at most 256 colours, or the same PNG if that would not make it smaller.

    A picture with at most 256 colours keeps every pixel. In others, such as photographs, each colour is replaced by the
    nearest of 256 that are chosen for this picture. Pictures with transparent pixels stay as they are.
    """
    with Image.open(io.BytesIO(png)) as picture:
        if picture.mode == "P" or picture.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            return png
        few = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, "PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)


def store() -> None:
    """Regenerate what is stored of the lessons: links, exercises, every output, and the picture of docs/results.md.

    This happens in the strict environment, with fresh caches. Outputs are stored when all notebooks have been executed.
    """
    with tempfile.TemporaryDirectory() as runs:
        use_strict_environment(os.environ, Path(runs))
        navigation.write(NOTEBOOKS)
        exercises.write(NOTEBOOKS)
        folders = {NOTEBOOKS: Path(runs) / "lessons", NOTEBOOKS / "solutions": Path(runs) / "solutions"}
        for folder, executed in folders.items():
            run(executed, folder)
        for folder, executed in folders.items():
            for path in executed.iterdir():
                with replacing(folder / path.name) as partial:
                    shutil.copyfile(path, partial)
        picture = plots.overview(
            data.load(), records.reference("resnet50_transfer"), catalogue.EXPERIMENTS["resnet50_transfer"].paper
        )
        with replacing(NOTEBOOKS / "overview.png") as partial:
            picture.savefig(partial, dpi=110, metadata={"Software": None})
