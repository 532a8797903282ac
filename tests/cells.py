"""Cells of a lesson, run without a kernel."""

import ast
import contextlib
import dataclasses
import io

import matplotlib.pyplot as plt

from cifake_utils import evaluation


def run(source: str, names: dict) -> str:
    """Run a cell in these names; return what it prints and, as text, the value of its last line."""
    body = ast.parse(source)
    last = ast.Expression(body.body.pop().value) if body.body and isinstance(body.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(body, "cell", "exec"), names)
        value = eval(compile(last, "cell", "eval"), names) if last else None
    plt.close("all")
    return output.getvalue() + ("" if value is None else repr(value))


def scored_anew(record, **changes):
    """Return a record whose scores are computed from its P(FAKE) alone, with other changes."""
    splits = record.probabilities
    scores = {split: evaluation.score(splits[split], record.labels[split]) for split in splits}
    return dataclasses.replace(record, metrics=scores, **changes)


def stored(cell) -> str:
    """Return the same of a cell's stored outputs."""
    texts = {"stream": lambda output: output.text, "execute_result": lambda output: output.data["text/plain"]}
    return "".join(texts[output.output_type](output) for output in cell.outputs if output.output_type in texts)
