"""Runs as tables: the reference runs beside the paper's numbers, and the reader's own beside both."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cifake_utils import data_sets, evaluation, records
from cifake_utils.experiments import EXPERIMENTS
from cifake_utils.support.files import replacing

# Test accuracies the paper gives for its five models.
PAPER = {
    "resnet50_scratch": 0.7149,
    "resnet50_transfer": 0.8123,
    "resnet50_fractal": 0.8381,
    "resnet50_fractal_loss": 0.8475,
    "resnet50_rotation": 0.9591,
}


def table() -> str:
    """Return every experiment that has reference runs as a row of a Markdown table: the README's.

    Test images; the mean over the seeds of accuracy with its 95 % Wilson interval, F1 of FAKE, AUROC, ECE.
    """
    rows = [
        "| experiment | paper | here: accuracy (95 % interval) | seeds | F1 (FAKE) | AUROC | ECE |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, experiment in EXPERIMENTS.items():
        runs = records.references(name)
        if runs:
            accuracy, f1, auroc, ece, low, high = _means(runs)
            rows.append(
                f"| `{name}`, {experiment.about} | {PAPER.get(name, '–')} | {accuracy:.4f} ({low:.4f} to {high:.4f}) "
                f"| {len(runs)} | {f1:.4f} | {auroc:.4f} | {ece:.4f} |"
            )
    return "\n".join(rows)


def lines(names: Sequence[str]) -> str:
    """Return what the named experiments score on all of CIFAKE as plain text, a line each, for a lesson.

    The numbers of `table`. An experiment that has not been measured yet gets the command that makes its reference run.
    """
    width = max(map(len, names))
    rows = [f"{'':<{width}}  accuracy  95 % interval     F1 (FAKE)  AUROC   seeds"]
    for name in names:
        runs = records.references(name)
        if runs:
            accuracy, f1, auroc, _, low, high = _means(runs)
            values = f"{accuracy:.4f}    {low:.4f} to {high:.4f}  {f1:.4f}     {auroc:.4f}  {len(runs)}"
        else:
            values = f"not yet measured: python -m cifake_utils --profile full train {name}"
        rows.append(f"{name:<{width}}  {values}")
    return "\n".join(rows)


def own(runs: Sequence[records.Record]) -> str:
    """Return a reader's own runs of one profile as plain text, a line each, with a title that says on which data.

    Test images: accuracy with its 95 % Wilson interval, F1 of FAKE, AUROC; beside them, where the data are CIFAKE, the
    mean accuracy of the reference runs and the paper's.
    """
    rows = _own_rows(runs)
    if not rows:
        return "There is no finished run yet."
    width = max(len(row["run"]) for row in rows)
    head = f"{'':<{width}}  accuracy  95 % interval     F1 (FAKE)  AUROC"
    lines = [title(runs[0]), head + ("   reference  paper" if runs[0].data == "CIFAKE" else "")]
    for row in rows:
        interval = f"{row['low']:.4f} to {row['high']:.4f}"
        numbers = f"{row['accuracy']:.4f}    {interval}  {row['f1_fake']:.4f}     {row['auroc']:.4f}"
        others = [f"{row[key]:.4f}" if row[key] else "–" for key in ("reference", "paper")]
        tail = f"  {others[0]:<9}  {others[1]}" if runs[0].data == "CIFAKE" else ""
        lines.append(f"{row['run']:<{width}}  {numbers}{tail}")
    return "\n".join(lines)


def title(run: records.Record) -> str:
    """Return which images the numbers of a reader's run are of."""
    return f"{data_sets.get(run.data).title}, {len(run.labels['test']):,} test images, profile {run.profile}"


def write_csv(runs: Sequence[records.Record], path: Path) -> None:
    """Write the numbers of `own`, and what each run was made from, as a CSV file with a header line."""
    rows = _own_rows(runs)
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0] if rows else ["run"])
        writer.writeheader()
        writer.writerows(rows)


def beside(runs: Sequence[records.Record]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the accuracies of reference runs (means over their seeds) and of the paper, for these runs' experiments.

    Both are empty where the data are not CIFAKE: those numbers are about CIFAKE alone.
    """
    names = dict.fromkeys(run.model for run in runs if run.data == "CIFAKE")
    measured = {name: records.references(name) for name in names}
    reference = {name: _means(found)[0] for name, found in measured.items() if found}
    return reference, {name: PAPER[name] for name in names if name in PAPER}


def _own_rows(runs: Sequence[records.Record]) -> list[dict]:
    """Return a row of `write_csv` for every run, in the order of `EXPERIMENTS`; None where there is no number."""
    reference, paper = beside(runs)
    rows = []
    for run in sorted(runs, key=lambda run: (list(EXPERIMENTS).index(run.model), run.seed)):
        accuracy, f1, auroc, ece, low, high = _means([run])
        rows.append(
            {
                "run": run.name,
                "profile": run.profile,
                "data": run.data,
                "data_hash": run.data_hash,
                "weights": run.weights,
                "test_images": len(run.labels["test"]),
                "accuracy": accuracy,
                "low": low,
                "high": high,
                "f1_fake": f1,
                "auroc": auroc,
                "ece": ece,
                "seconds": round(sum(run.seconds.values()), 1),
                "reference": reference.get(run.model),
                "paper": paper.get(run.model),
            }
        )
    return rows


def _means(runs: list[records.Record]) -> tuple[float, ...]:
    """Return accuracy, F1 of FAKE, AUROC and ECE on test images, means over the runs, and the accuracy's interval."""
    means = [
        float(np.mean([run.metrics["test"][key] for run in runs])) for key in ("accuracy", "f1_fake", "auroc", "ece")
    ]
    return *means, *evaluation.accuracy_interval(means[0], len(runs[0].labels["test"]))
