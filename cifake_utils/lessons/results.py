"""Runs as tables: the reference runs beside the paper's numbers, and the reader's own beside both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cifake_utils import data_sets, evaluation, records
from cifake_utils.catalogue import EXPERIMENTS, of_the_paper
from cifake_utils.lessons.tables import Table
from cifake_utils.support.files import replacing

SCORES = ["accuracy", "f1_fake", "auroc", "ece"]
HEADINGS = {"f1_fake": "F1 (FAKE)", "auroc": "AUROC", "ece": "ECE"}  # of the columns whose names are no words


def table() -> str:
    """Return every experiment that has reference runs as a row of a Markdown table: the README's.

    Test images; the mean over the seeds of accuracy with its 95 % Wilson interval, F1 of FAKE, AUROC, ECE.
    """
    frame = reference_scores(list(EXPERIMENTS)).dropna(subset="accuracy")
    frame["experiment"] = [f"`{name}`, {EXPERIMENTS[name].about}" for name in frame["experiment"]]
    frame["here: accuracy (95 % interval)"] = [f"{row.accuracy:.4f} ({row.interval})" for row in frame.itertuples()]
    columns = ["experiment", "paper", "here: accuracy (95 % interval)", "seeds", *SCORES[1:]]
    return Table(frame[columns].rename(columns=HEADINGS), formats={"seeds": ".0f"}).markdown()


def reference(names: Sequence[str]) -> Table:
    """Return what the named experiments score on all of CIFAKE, for a lesson: the numbers of `table`.

    The caption says how to make the reference runs of those that have none.
    """
    frame = reference_scores(names)
    caption = "All of CIFAKE, 20,000 test images, means over the seeds"
    for name in frame["experiment"][frame["accuracy"].isna()]:
        caption += f". Not yet measured: python -m cifake_utils --profile full train {name}"
    frame = frame[["experiment", "accuracy", "interval", "f1_fake", "auroc", "seeds", "paper"]]
    return Table(
        frame.rename(columns={**HEADINGS, "interval": "95 % interval", "paper": "accuracy in the paper"}),
        caption,
        {"seeds": ".0f"},
    )


def reference_scores(names: Sequence[str]) -> pd.DataFrame:
    """Return the means of the scores of the reference runs on test images, a row for every named experiment.

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
    """Return a reader's own runs of one profile, with a caption that says on which data.

    Test images: accuracy with its 95 % Wilson interval, F1 of FAKE, AUROC; beside them, where the data are CIFAKE, the
    mean accuracy of the reference runs and the paper's.
    """
    if not runs:
        return Table([], "There is no finished run yet.")
    frame = own_scores(runs)
    frame["95 % interval"] = _intervals(frame)
    columns = ["run", "accuracy", "95 % interval", "f1_fake", "auroc"]
    columns += ["reference", "paper"] if runs[0].data == "CIFAKE" else []
    return Table(frame[columns].rename(columns=HEADINGS), title(runs[0]))


def title(run: records.Record) -> str:
    """Return which images the numbers of a reader's run are of."""
    return f"{data_sets.get(run.data).title}, {len(run.labels['test']):,} test images, profile {run.profile}"


def write_csv(runs: Sequence[records.Record], path: Path) -> None:
    """Write `own_scores` as a CSV file with a header line."""
    with replacing(path) as partial:
        own_scores(runs).to_csv(partial, index=False, lineterminator="\n")


def beside(runs: Sequence[records.Record]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the accuracies of reference runs (means over their seeds) and of the paper, for these runs' experiments.

    Both are empty where the data are not CIFAKE: those numbers are about CIFAKE alone.
    """
    names = dict.fromkeys(run.experiment for run in runs if run.data == "CIFAKE")
    measured = {name: records.references(name) for name in names}
    reference = {name: _scores(found)["accuracy"] for name, found in measured.items() if found}
    return reference, {name: value for name, value in of_the_paper().items() if name in names}


def own_scores(runs: Sequence[records.Record]) -> pd.DataFrame:
    """Return a reader's own runs, a row each, in the order of `EXPERIMENTS`: the numbers, and what they were made from.

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
    return [None if np.isnan(row.low) else f"{row.low:.4f} to {row.high:.4f}" for row in frame.itertuples()]
