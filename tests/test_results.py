import csv
import dataclasses

from cifake_utils import records
from cifake_utils.__main__ import main
from cifake_utils.lessons import results


def test_the_command_prints_the_table(capsys):
    assert main(["results"]) == 0
    assert capsys.readouterr().out.strip() == results.table()


def test_every_reference_run_is_in_the_table():
    names = {path.stem.rsplit("-", 1)[0] for path in records.REFERENCE.glob("*-seed*.json")}
    rows = results.table().splitlines()[2:]
    assert {row.split("`")[1] for row in rows} == names
    (transfer,) = (row for row in rows if "`resnet50_transfer`" in row)
    assert "| 0.8123 | 0.8850 (" in transfer and "| 5 |" in transfer


def test_lines_show_what_there_is_and_how_to_get_the_rest(monkeypatch):
    runs = {"resnet50_transfer": records.references("resnet50_transfer")}
    monkeypatch.setattr(records, "references", lambda name: runs.get(name, []))
    titles, transfer, scratch = results.lines(["resnet50_transfer", "resnet50_scratch"]).splitlines()
    assert transfer.split() == ["resnet50_transfer", "0.8850", "0.8805", "to", "0.8893", "0.8842", "0.9515", "5"]
    assert (
        scratch == "resnet50_scratch   not yet measured: python -m cifake_utils --profile full train resnet50_scratch"
    )
    for title, value in (("accuracy", "0.8850"), ("95 %", "0.8805"), ("F1", "0.8842"), ("AUROC", "0.9515")):
        assert titles.index(title) == transfer.index(value)


def test_own_runs_stand_beside_the_reference_where_the_data_are_cifake(tmp_path):
    run = records.reference("resnet50_transfer", 1)
    means = dataclasses.replace(records.reference("resnet50_means"), seed=0)
    title, head, first, second = results.own([means, run]).splitlines()
    assert title == "CIFAKE, 20,000 test images, profile full"
    assert first.split()[0] == "resnet50_transfer-seed1" and first.split()[-2:] == ["0.8850", "0.8123"]
    assert second.split()[0] == "resnet50_means-seed0" and second.split()[-2:] == ["0.9438", "–"]
    assert head.index("paper") == first.index("0.8123") and head.index("AUROC") == first.index("0.95")
    results.write_csv([means, run], tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["resnet50_transfer-seed1", "resnet50_means-seed0"]
    assert float(rows[0]["accuracy"]) == run.metrics["test"]["accuracy"] and rows[1]["paper"] == ""


def test_numbers_of_the_sample_never_look_like_cifakes():
    run = dataclasses.replace(records.reference("resnet50_transfer"), data="sample", profile="sample")
    text = results.own([run])
    assert text.startswith("Embedded sample, NOT CIFAKE") and "0.8123" not in text and "paper" not in text
    assert results.beside([run]) == ({}, {})
    assert "no finished run" in results.own([])
