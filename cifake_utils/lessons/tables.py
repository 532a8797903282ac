"""Tables that show the same text in a notebook, on the command line and in Markdown."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isnan
from numbers import Integral, Real

import numpy as np
import pandas as pd

from cifake_utils import CifakeError


class Table:
    """Rows under named columns, with a caption. A notebook shows it as HTML, ``print`` as aligned text.

    Parameters
    ----------
    rows : sequence of mappings from str, or pd.DataFrame
        Values by column, the same columns in every row. The first column names the rows.
    caption : str
        Says what the numbers are, and on which images they were measured.
    formats : str or mapping of str to str
        A format specification (``".3f"``, ``"+.2f"``, ``".0%"``) for all fractional numbers, or one by column.
        Without one, fractional numbers get four digits after the point, and whole numbers separators of thousands.
        Missing values are shown as –.

    Attributes
    ----------
    cells : pd.DataFrame
        The shown values as text. The index holds the names of the rows.
    caption : str

    Raises
    ------
    CifakeError
        `formats` names a column that is not there.
    """

    def __init__(
        self, rows: Sequence[Mapping] | pd.DataFrame, caption: str = "", formats: str | Mapping[str, str] = ".4f"
    ):
        fractional, formats = (formats, {}) if isinstance(formats, str) else (".4f", formats)
        frame = pd.DataFrame(rows, dtype=object)
        if unknown := set(formats) - set(frame.columns):
            raise CifakeError(
                f"There are formats for columns that the table lacks: {', '.join(sorted(unknown))}. "
                f"Its columns are {', '.join(frame.columns)}."
            )
        for name in frame:
            frame[name] = [_text(value, fractional, formats.get(name)) for value in frame[name]]
        if len(frame.columns):  # the name of the first column goes where the others have theirs
            frame = frame.set_index(frame.columns[0]).rename_axis(index=None, columns=frame.columns[0])
        self.cells, self.caption = frame, caption

    def __repr__(self) -> str:
        text = self.cells.to_string() if len(self.cells) else ""
        return "\n".join(part for part in (self.caption, text) if part)

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            html = self.cells.to_html(border=0, max_rows=None)
        # A screen reader reads a heading aloud with its cells if the heading has a scope. pandas writes none.
        head, body = html.split("<tbody>")
        head = head.replace("<th>", '<th scope="col">')
        body = body.replace("<th>", '<th scope="row">')
        if self.caption:
            head = head.replace("<thead>", f"<caption>{escape(self.caption)}</caption>\n  <thead>")
        return f"{head}<tbody>{body}"

    def markdown(self) -> str:
        """Return the table as Markdown, without the caption. Markdown in the cells is not escaped."""
        rows = [[self.cells.columns.name, *self.cells.columns], *self.cells.reset_index().to_numpy()]
        head, *body = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def _text(value: object, fractional: str, spec: str | None) -> str:
    """Return a cell's text: a number in the format `spec`, or else in one that suits its kind."""
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, Real) and isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, Real):
        return format(value, spec or ("," if isinstance(value, Integral) else fractional))
    return str(value)
