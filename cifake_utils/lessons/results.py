"""Tables of runs: reference runs beside the numbers of the paper, and the reader's own runs beside both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cifake_utils import data_sets, embedded, evaluation, records
from cifake_utils.catalogue import EXPERIMENTS, as_written, of_the_paper, short
from cifake_utils.data import LABELS
from cifake_utils.lessons.tables import Table
from cifake_utils.support.files import replacing

SCORES = ["accuracy", "f1_fake", "auroc", "ece"]
HEADINGS = {"f1_fake": "F1 (FAKE)", "auroc": "AUROC", "ece": "ECE"}  # headings of columns whose names are no words


def table() -> str:
    """Return the table of docs/results.md as Markdown: one row for every experiment with reference runs.

    The columns are means over the seeds, on test images: the accuracy with its 95 % Wilson interval, F1 of FAKE, AUROC
    and ECE.
    """
    frame = reference_scores(list(EXPERIMENTS)).dropna(subset="accuracy")
    frame["experiment"] = [f"`{name}`, {EXPERIMENTS[name].about}" for name in frame["experiment"]]
    frame["here: accuracy (95 % interval)"] = frame.apply(_with_interval, axis=1)
    columns = ["experiment", "paper", "here: accuracy (95 % interval)", "seeds", *SCORES[1:]]
    return Table(frame.loc[:, columns].rename(columns=HEADINGS), formats={"seeds": ".0f"}).markdown()


def recipes() -> Table:
    """Return the test accuracies of the paper's five models: in the paper, by its recipe as written, and by ours.

    Accuracies measured here are means over the seeds, with their 95 % Wilson intervals. A dash means *not measured*.
    """
    names = of_the_paper()
    written, ours = (reference_scores(found) for found in ([as_written(name) for name in names], [*names]))
    rows = [
        {
            "model": f"{number} {short(name)}",
            "paper": paper,
            "the paper's recipe, here": _with_interval(written.iloc[number - 1]),
            "our recipe, here": _with_interval(ours.iloc[number - 1]),
        }
        for number, (name, paper) in enumerate(names.items(), 1)
    ]
    return Table(rows, "Test accuracy on all of CIFAKE, means over the seeds (95 % interval)")


def detector() -> tuple[Table, Table]:
    """Return the tables of docs/detector.md: how good the detector that comes with the package is on CIFAKE's test
    images, and on changed ones. All was measured with its weights rounded to 8 bits (`tools/make_detector.py`).
    """
    facts, count = embedded.load().facts, len(embedded.load().record.labels["test"])
    scores, correct = facts["test"]["rounded"], facts["labelled_correctly"]
    rows = [("all", scores["accuracy"], count)]
    rows += [(name, share, count // (2 if name in LABELS else len(correct) - 2)) for name, share in correct.items()]
    labelled = [
        {"test images": name, "labelled correctly": share, "95 % interval": _wilson(share, number)}
        for name, share, number in rows
    ]
    changed = [
        {"change": name, "labelled correctly": share, "95 % interval": _wilson(share, facts["changed_images"])}
        for name, share in facts["changed"].items()
    ]
    return Table(labelled), Table(changed)


def _wilson(share: float, count: int) -> str:
    """Return the 95 % Wilson interval of a share of ``count`` images as text."""
    return "{:.4f} to {:.4f}".format(*evaluation.accuracy_interval(share, count))


def _with_interval(scores: pd.Series) -> str | None:
    """Return an accuracy with its interval as text, or None if it has not been measured."""
    return None if np.isnan(scores["accuracy"]) else f"{scores['accuracy']:.4f} ({scores['interval']})"


def reference(names: Sequence[str]) -> Table:
    """Return the scores of the named experiments on all of CIFAKE, for a lesson. The numbers are those of `table`.

    For experiments without reference runs, the caption says how to make them.
    """
    frame = reference_scores(names)
    caption = "All of CIFAKE, 20,000 test images, means over the seeds"
    for name in frame["experiment"][frame["accuracy"].isna()]:
        caption += f". Not yet measured: python -m cifake_utils --profile full train {name}"
    columns = ["experiment", "accuracy", "interval", "f1_fake", "auroc", "seeds"]
    columns += ["paper"] if bool(frame["paper"].notna().any()) else []
    frame = frame.loc[:, columns]
    return Table(
        frame.rename(columns={**HEADINGS, "interval": "95 % interval", "paper": "accuracy in the paper"}),
        caption,
        {"seeds": ".0f"},
    )


def reference_scores(names: Sequence[str]) -> pd.DataFrame:
    """Return the mean scores of the reference runs on test images, one row for every named experiment.

    Columns: ``experiment``; ``paper``, the accuracy in the paper; `SCORES`; ``interval``, the 95 % Wilson interval of
    the accuracy, as text; ``seeds``, the number of runs. What has not been measured is missing (NaN).
    """
    rows = []
    for name in names:
        runs = records.references(name)
        row = {"experiment": name, "paper": of_the_paper().get(name), "seeds": len(runs) or None}
        rows.append(row | (_scores(runs) if runs else {}))
    frame = pd.DataFrame(rows, columns=["experiment", "paper", *SCORES, "low", "high", "seeds"])
    frame["interval"] = _intervals(frame)
    return frame


def own(runs: Sequence[records.Record]) -> Table:
    """Return the table of a reader's own runs in one profile. The caption names the data.

    The columns are the accuracy on test images with its 95 % Wilson interval, F1 of FAKE and AUROC. If the data are
    CIFAKE, there are also the mean accuracy of the reference runs and the accuracy in the paper.
    """
    if not runs:
        return Table([], "There is no finished run yet.")
    frame = own_scores(runs)
    frame["95 % interval"] = _intervals(frame)
    columns = ["run", "accuracy", "95 % interval", "f1_fake", "auroc"]
    columns += ["reference", "paper"] if runs[0].data == "CIFAKE" else []
    return Table(frame.loc[:, columns].rename(columns=HEADINGS), title(runs[0]))


def title(run: records.Record) -> str:
    """Return a title that names the images on which a reader's run was scored."""
    return f"{data_sets.get(run.data).title}, {len(run.labels['test']):,} test images, profile {run.profile}"


def write_csv(runs: Sequence[records.Record], path: Path) -> None:
    """Write `own_scores` as a CSV file with a header line."""
    with replacing(path) as partial:
        own_scores(runs).to_csv(partial, index=False, lineterminator="\n")


def beside(runs: Sequence[records.Record]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the accuracies of the reference runs (means over seeds) and of the paper for the experiments of runs.

    Both are empty if the data are not CIFAKE, because those numbers are about CIFAKE only.
    """
    names = dict.fromkeys(run.experiment for run in runs if run.data == "CIFAKE")
    measured = {name: records.references(name) for name in names}
    reference = {name: _scores(found)["accuracy"] for name, found in measured.items() if found}
    return reference, {name: value for name, value in of_the_paper().items() if name in names}


def own_scores(runs: Sequence[records.Record]) -> pd.DataFrame:
    """Return the scores and origins of a reader's own runs, one row for each, in the order of `EXPERIMENTS`.

    Columns: ``run``, ``profile``, ``data``, ``data_hash``, ``weights``; ``test_images``, their number; `SCORES` of the
    test images, with ``low`` and ``high``, the 95 % Wilson interval of the accuracy; ``seconds``; ``reference`` and
    ``paper``, see `beside`. What there is no number for is missing (NaN).
    """
    reference, paper = beside(runs)
    rows = [
        {
            "run": run.name,
            "profile": run.profile,
            "data": run.data,
            "data_hash": run.data_hash,
            "weights": run.weights,
            "test_images": len(run.labels["test"]),
            **_scores([run]),
            "seconds": round(sum(run.seconds.values()), 1),
            "reference": reference.get(run.experiment),
            "paper": paper.get(run.experiment),
        }
        for run in sorted(runs, key=lambda run: (list(EXPERIMENTS).index(run.experiment), run.seed))
    ]
    return pd.DataFrame(rows, columns=None if rows else ["run"])


def _scores(runs: list[records.Record]) -> dict[str, float]:
    """Return `SCORES` on test images, means over the runs, and ``low`` and ``high``, the accuracy's interval."""
    accuracy, *others = (float(np.mean([run.metrics["test"][score] for run in runs])) for score in SCORES)
    low, high = evaluation.accuracy_interval(accuracy, len(runs[0].labels["test"]))
    return {"accuracy": accuracy, "low": low, "high": high, **dict(zip(SCORES[1:], others, strict=True))}


def _intervals(frame: pd.DataFrame) -> list[str | None]:
    """Return the accuracy's interval as text, by row."""
    return [
        None if np.isnan(low) else f"{low:.4f} to {high:.4f}"
        for low, high in zip(frame["low"], frame["high"], strict=True)
    ]
