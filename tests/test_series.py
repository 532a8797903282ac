import csv
import json

import nbformat
import pytest

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
