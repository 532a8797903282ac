"""Cells of a lesson, run without a kernel."""

import ast
import contextlib
import io
import re

import matplotlib.pyplot as plt
import nbformat

from cifake_utils.lessons import exercises

NUMBER = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\w])|(?<![\w.,])\d+\.\d+|(?<![\w.,×/])\d{3,}(?![\w,.]\d)")


def run(source: str, names: dict) -> str:
    """Run a cell in these names; return what it prints and, as text, the value of its last line."""
    body = ast.parse(source)
    last = ast.Expression(body.body.pop().value) if body.body and isinstance(body.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(body, "cell", "exec"), names)
        value = eval(compile(last, "cell", "eval"), names) if last else None
    plt.close("all")
    return output.getvalue() + ("" if value is None else repr(value))


def stored(cell) -> str:
    """Return the same of a cell's stored outputs."""
    texts = {"stream": lambda output: output.text, "execute_result": lambda output: output.data["text/plain"]}
    return "".join(texts[output.output_type](output) for output in cell.outputs if output.output_type in texts)


def numbers_of(path) -> list[str]:
    """Return the numbers in the text of a lesson, without its exercises, formulas, links and lists of references."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown" and exercises.TAG not in cell.metadata.get("tags", []):
            text = re.sub(r"\$\$?.+?\$\$?|`[^`]*`|\]\([^)]*\)", " ", cell.source, flags=re.S)
            found += [number.rstrip(".,") for number in NUMBER.findall(text)]
    return found


def in_no_output(path, numbers: list[str]) -> list[str]:
    """Return those of the numbers that no output of a lesson holds, not even with more digits."""
    shown = " ".join(stored(cell) for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    known = [number.replace(",", "") for number in re.findall(r"\d[\d,]*(?:\.\d+)?", shown)]

    def is_shown(number):
        plain = number.replace(",", "")
        digits = len(plain.partition(".")[2])
        return plain in known or any(f"{float(other):.{digits}f}" == plain for other in known if "." in other)

    return [number for number in numbers if not is_shown(number)]
