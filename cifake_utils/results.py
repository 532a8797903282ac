"""The reference runs beside the paper's numbers, as the README's table."""

import numpy as np

from cifake_utils import evaluation, records
from cifake_utils.experiments import EXPERIMENTS

# Test accuracies the paper gives, with the digits it gives; its fourth model's is not taken up here.
PAPER = {"resnet50_transfer": 0.8123, "resnet50_fractal": 0.838, "resnet50_rotation": 0.959}


def table() -> str:
    """Return every experiment that has reference runs as a row of a Markdown table.

    Test images; the mean over the seeds of accuracy with its 95 % Wilson interval, F1 of FAKE, AUROC, ECE.
    """
    rows = [
        "| experiment | paper | here: accuracy (95 % interval) | seeds | F1 (FAKE) | AUROC | ECE |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, experiment in EXPERIMENTS.items():
        if not list(records.REFERENCE.glob(f"{name}-seed*.json")):
            continue
        runs = records.references(name)
        mean = {key: float(np.mean([run.metrics["test"][key] for run in runs])) for key in runs[0].metrics["test"]}
        low, high = evaluation.accuracy_interval(mean["accuracy"], len(runs[0].labels["test"]))
        rows.append(
            f"| `{name}`, {experiment.about} | {PAPER.get(name, '–')} "
            f"| {mean['accuracy']:.4f} ({low:.4f} to {high:.4f}) | {len(runs)} "
            f"| {mean['f1_fake']:.4f} | {mean['auroc']:.4f} | {mean['ece']:.4f} |"
        )
    return "\n".join(rows)
