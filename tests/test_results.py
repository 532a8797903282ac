from cifake_utils import profiles, records, results
from cifake_utils.__main__ import main

README = (profiles.PROJECT / "README.md").read_text(encoding="utf-8")


def test_readme_shows_what_the_reference_runs_say(capsys):
    """Where this fails, put what `python -m cifake_utils results` prints in place of the README's table."""
    assert main(["results"]) == 0
    assert capsys.readouterr().out.strip() == results.table()
    assert results.table() in README


def test_every_reference_run_is_in_the_table():
    names = {path.stem.rsplit("-", 1)[0] for path in records.REFERENCE.glob("*-seed*.json")}
    rows = results.table().splitlines()[2:]
    assert {row.split("`")[1] for row in rows} == names
    (transfer,) = (row for row in rows if "`resnet50_transfer`" in row)
    assert "| 0.8123 | 0.8850 (" in transfer and "| 5 |" in transfer
