import csv
import dataclasses

from cifake_utils import records
from cifake_utils.__main__ import main
from cifake_utils.lessons import further, results


def test_the_command_prints_the_tables(capsys):
    assert main(["results"]) == 0
    others = [table.markdown() for table in (results.recipes(), *results.detector(), further.table())]
    assert capsys.readouterr().out == "\n\n".join([results.table(), *others]) + "\n"


def test_every_reference_run_is_in_the_table():
    names = {path.stem.rsplit("-", 1)[0] for path in records.REFERENCE.glob("*-seed*.json")}
    rows = results.table().splitlines()[2:]
    assert {row.split("`")[1] for row in rows} == names
    (transfer,) = (row for row in rows if "`resnet50_transfer`" in row)
    assert "| 0.8123 | 0.8850 (" in transfer and "| 5 |" in transfer


def test_a_lesson_sees_what_there_is_and_how_to_get_the_rest(monkeypatch):
    runs = {"resnet50_transfer": records.references("resnet50_transfer")}
    monkeypatch.setattr(records, "references", lambda name: runs.get(name, []))
    table = results.reference(["resnet50_transfer", "resnet50_scratch"])
    assert table.cells.loc["resnet50_transfer"].to_dict() == {
        "accuracy": "0.8850",
        "95 % interval": "0.8805 to 0.8893",
        "F1 (FAKE)": "0.8842",
        "AUROC": "0.9515",
        "seeds": "5",
        "accuracy in the paper": "0.8123",
    }
    assert table.cells.loc["resnet50_scratch"].tolist() == ["–"] * 5 + ["0.7149"]
    assert table.caption.endswith("Not yet measured: python -m cifake_utils --profile full train resnet50_scratch")
    assert "resnet50_scratch" not in results.table()


def test_own_runs_stand_beside_the_reference_where_the_data_are_cifake(tmp_path):
    run = records.reference("resnet50_transfer", 1)
    means = dataclasses.replace(records.reference("resnet50_means"), seed=0)
    table = results.own([means, run])
    assert table.caption == "CIFAKE, 20,000 test images, profile full"
    assert table.cells.index.tolist() == ["resnet50_transfer-seed1", "resnet50_means-seed0"]
    assert table.cells["reference"].tolist() == ["0.8850", "0.9438"] and table.cells["paper"].tolist() == [
        "0.8123",
        "–",
    ]
    assert table.cells["accuracy"].iloc[0] == f"{run.metrics['test']['accuracy']:.4f}"
    results.write_csv([means, run], tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["resnet50_transfer-seed1", "resnet50_means-seed0"]
    assert float(rows[0]["accuracy"]) == run.metrics["test"]["accuracy"] and rows[1]["paper"] == ""
    columns = (
        "run profile data data_hash weights test_images accuracy low high f1_fake auroc ece seconds reference paper"
    )
    assert list(rows[0]) == columns.split() and rows[0]["test_images"] == "20000"


def test_numbers_of_the_sample_never_look_like_cifakes():
    run = dataclasses.replace(records.reference("resnet50_transfer"), data="sample", profile="sample")
    text = str(results.own([run]))
    assert text.startswith("Embedded sample, NOT CIFAKE") and "0.8123" not in text and "paper" not in text
    assert results.beside([run]) == ({}, {})


def test_no_run_yet_is_said_and_written(tmp_path):
    assert str(results.own([])) == "There is no finished run yet."
    results.write_csv([], tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text(encoding="utf-8") == "run\n"
