import base64
import csv
import io
import json

import nbformat
import numpy as np
import pytest
from PIL import Image

from cifake_utils import CifakeError, experiments, profiles, records
from cifake_utils.__main__ import main
from cifake_utils.lessons import series


def test_run_leaves_a_table_a_figure_and_its_timings(runs, monkeypatch, capsys):
    run = records.reference("resnet50_transfer")
    monkeypatch.setattr(series, "run", lambda folder: {"01_explore_cifake": 1.5})
    monkeypatch.setattr(experiments, "finished", lambda profile: [run])
    assert main(["run"]) == 0
    folder = profiles.active().runs
    assert {path.name for path in folder.iterdir()} == {"results.csv", "results.png", "timings.json"}
    timings = json.loads((folder / "timings.json").read_text(encoding="utf-8"))
    assert timings["notebook_seconds"] == {"01_explore_cifake": 1.5} and timings["device"] == "cpu"
    assert timings["run_seconds"] == {run.name: run.seconds} and timings["date"].endswith("+00:00")
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == [run.name]
    assert "0.8123" in capsys.readouterr().out


def test_a_notebook_whose_kernel_dies_is_named_and_kept(tmp_path, monkeypatch):
    cells = [nbformat.v4.new_code_cell(source) for source in ("6 * 7", "import os; os._exit(1)", "8")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "dies.ipynb")
    monkeypatch.setattr(series, "NOTEBOOKS", tmp_path)
    with pytest.raises(CifakeError) as caught:
        series.run(tmp_path / "executed")
    kept = tmp_path / "executed" / "dies.ipynb"
    assert "dies.ipynb lost its kernel in code cell 2 of 3" in str(caught.value)
    assert "memory" in str(caught.value) and str(kept) in str(caught.value)
    assert nbformat.read(kept, as_version=4).cells[0].outputs[0].data["text/plain"] == "42"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("1 / 0", "stops.ipynb stopped with ZeroDivisionError: division by zero. It is kept"),
        ("import os, signal; os.kill(os.getppid(), signal.SIGINT); input", "stops.ipynb was stopped. Run the same"),
    ],
)
def test_a_notebook_that_stops_keeps_no_outputs_of_an_earlier_run(tmp_path, cell, message):
    old = [nbformat.v4.new_output("stream", text="old")]
    cells = [nbformat.v4.new_code_cell(source, outputs=old, execution_count=9) for source in ("6 * 7", cell, "8")]
    cells[1].source += "\nimport time; time.sleep(60)" if "kill" in cell else ""
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "stops.ipynb")
    with pytest.raises(CifakeError, match=message):
        series.run(tmp_path / "executed", tmp_path)
    first, _, last = nbformat.read(tmp_path / "executed" / "stops.ipynb", as_version=4).cells
    assert first.outputs[0].data["text/plain"] == "42" and not last.outputs and last.execution_count is None


def test_outputs_are_stored_when_all_notebooks_have_been_executed(tmp_path, monkeypatch):
    for name, source in (("1.ipynb", "6 * 7"), ("solutions/1.ipynb", "1 / 0")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / name)
    monkeypatch.setattr(series, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(series, "use_strict_environment", lambda *_: None)
    monkeypatch.setattr(series.navigation, "write", lambda _: None)
    monkeypatch.setattr(series.exercises, "write", lambda _: None)
    before = (tmp_path / "1.ipynb").read_bytes()
    with pytest.raises(CifakeError, match="ZeroDivisionError"):
        series.store()
    assert (tmp_path / "1.ipynb").read_bytes() == before
    notebook.cells = [nbformat.v4.new_code_cell("1")]
    nbformat.write(notebook, tmp_path / "solutions/1.ipynb")
    series.store()
    assert nbformat.read(tmp_path / "1.ipynb", as_version=4).cells[0].outputs[0].data["text/plain"] == "42"
    assert (tmp_path / "overview.png").stat().st_size > 10_000


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_few_colours_are_kept_and_many_come_close():
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (256, 3), np.uint8)[rng.integers(0, 256, (100, 100))]
    assert len(series.smaller(png(few))) < 0.5 * len(png(few))
    assert (pixels_of(series.smaller(png(few))) == few).all()
    ramp = np.linspace(0, 200, 100)
    noise = rng.integers(0, 50, (100, 100, 3))
    many = (noise + np.stack([*np.meshgrid(ramp, ramp), ramp * np.ones((100, 1))], -1)).astype(np.uint8)
    difference = pixels_of(series.smaller(png(many))) - many
    assert len(series.smaller(png(many))) < 0.5 * len(png(many))
    assert 0 < np.sqrt((difference**2).mean()) < 12


def test_transparent_pictures_and_palettes_are_left_alone():
    transparent = png(np.zeros((50, 50, 4), np.uint8))
    assert series.smaller(transparent) == transparent
    palette = series.smaller(png(np.random.default_rng(0).integers(0, 4, (50, 50, 3), np.uint8)))
    assert Image.open(io.BytesIO(palette)).mode == "P" and series.smaller(palette) == palette


def test_tidy_keeps_widgets_and_own_metadata_with_smaller_pictures():
    picture = base64.b64encode(png(np.random.default_rng(0).integers(0, 4, (64, 64, 3), np.uint8))).decode()
    state = {
        "image": {
            "model_name": "ImageModel",
            "state": {"format": "png"},
            "buffers": [{"data": picture, "encoding": "base64", "path": ["value"]}],
        },
        "label": {"model_name": "LabelModel", "state": {}},
    }
    widgets = {"application/vnd.jupyter.widget-state+json": {"state": state}}
    output = nbformat.v4.new_output("display_data", {"image/png": picture, "text/plain": "x"})
    cell = nbformat.v4.new_code_cell(outputs=[output], metadata={"execution": {}, "cellView": "form"})
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": widgets, "cifake": {"a": 1}, "other": 2})
    notebook = nbformat.from_dict(notebook)
    series.tidy(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info", "widgets", "cifake"}
    assert notebook.cells[0].metadata == {"cellView": "form"}
    stored = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"].state.image.buffers[0].data
    assert len(stored) < len(picture) and notebook.cells[0].outputs[0].data == {"image/png": stored, "text/plain": "x"}
    assert (pixels_of(base64.b64decode(stored)) == pixels_of(base64.b64decode(picture))).all()
