import csv
import json

from cifake_utils import experiments, profiles, records, series
from cifake_utils.__main__ import main


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
