"""The reference runs beside the paper's numbers, as tables."""

from collections.abc import Sequence

import numpy as np

from cifake_utils import evaluation, records
from cifake_utils.experiments import EXPERIMENTS

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


def _means(runs: list[records.Record]) -> tuple[float, ...]:
    """Return accuracy, F1 of FAKE, AUROC and ECE on test images, means over the runs, and the accuracy's interval."""
    means = [
        float(np.mean([run.metrics["test"][key] for run in runs])) for key in ("accuracy", "f1_fake", "auroc", "ece")
    ]
    return *means, *evaluation.accuracy_interval(means[0], len(runs[0].labels["test"]))
