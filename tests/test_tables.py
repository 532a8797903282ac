from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from cifake_utils import CifakeError, data
from cifake_utils.lessons.tables import Table

ROWS = [
    {"model": "first", "accuracy": 0.98765, "images": 20_000, "frozen": True, "paper": None},
    {
        "model": "the second",
        "accuracy": np.float32(0.5),
        "images": np.int64(7),
        "frozen": np.bool_(False),
        "paper": 0.81,
    },
]


class Cells(HTMLParser):
    """Collects the parts of an HTML table: (tag, scope, text)."""

    def __init__(self, html: str):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag in ("th", "td", "caption"):
            self.found.append([tag, dict(attributes).get("scope"), ""])

    def handle_data(self, data):
        if self.found and data.strip():
            self.found[-1][2] += data


def test_values_are_shown_by_their_kind_or_their_format():
    table = Table(ROWS, formats={"paper": ".1f"})
    assert table.cells.loc["first"].tolist() == ["0.9877", "20,000", "yes", "–"]
    assert table.cells.loc["the second"].tolist() == ["0.5000", "7", "no", "0.8"]
    assert Table(ROWS, formats=".2f").cells.loc["the second"].tolist() == ["0.50", "7", "no", "0.81"]
    assert Table([{"stage": "stem", "shape": (4, 64)}]).cells.loc["stem"].tolist() == ["(4, 64)"]


def test_text_is_aligned_under_its_column_and_follows_the_caption():
    caption, head, first, second = str(Table(ROWS, "Two models")).splitlines()
    assert caption == "Two models" and head.startswith("model") and second.startswith("the second")
    for column, value in (("accuracy", "0.9877"), ("images", "20,000")):
        assert head.index(column) + len(column) == first.index(value) + len(value)
    assert len(head) == len(first) == len(second)


def test_html_has_a_caption_and_says_what_each_heading_is_of():
    html = Table(ROWS, "a < b")._repr_html_()
    caption, *cells = map(tuple, Cells(html).found)
    assert caption == ("caption", None, "a < b")
    assert cells[:5] == [("th", "col", name) for name in ROWS[0]]
    assert cells[5] == ("th", "row", "first") and cells[10] == ("th", "row", "the second")
    assert [cell[0] for cell in cells[6:10] + cells[11:]] == ["td"] * 8
    assert "caption" not in Table(ROWS)._repr_html_()


def test_long_and_many_cells_are_shown_whole():
    table = Table([{"number": number, "text": "<" + "x" * 200} for number in range(100)])
    cells = Cells(table._repr_html_()).found
    assert [cell[2] for cell in cells if cell[0] == "td"] == ["<" + "x" * 200] * 100
    assert str(table).count("x" * 200) == 100


def test_the_same_rows_give_the_same_html():
    assert Table(ROWS, "a")._repr_html_() == Table(pd.DataFrame(ROWS), "a")._repr_html_()


def test_markdown_keeps_markdown():
    text = Table([{"run": "`a`, first", "accuracy": 0.5}, {"run": "b", "accuracy": None}], "not shown").markdown()
    assert text.splitlines() == ["| run | accuracy |", "|---|---|", "| `a`, first | 0.5000 |", "| b | – |"]


def test_a_frame_stays_as_it_was():
    frame = pd.DataFrame({"name": ["a"], "value": [0.5]})
    Table(frame)
    assert frame.to_dict("list") == {"name": ["a"], "value": [0.5]}


def test_a_format_without_a_column_is_refused():
    with pytest.raises(CifakeError, match=r"lacks: acuracy\. Its columns are model, accuracy"):
        Table(ROWS, formats={"acuracy": ".3f"})


def test_info_counts_the_images_of_every_class_and_of_none(few):
    counts = data.info(few).set_index("object class")
    assert list(counts.index) == [*few.class_names, "all"]
    assert counts.loc["all"].sum() == 36 and counts.loc["all", "val FAKE"] == int(few.val.labels.sum())
    assert counts.iloc[:-1].sum().tolist() == counts.loc["all"].tolist()
    few.test.classes[:5] = data.UNKNOWN_CLASS
    counts = data.info(few).set_index("object class")
    assert counts.loc["unknown"].sum() == 5 and counts.loc["all"].sum() == 36
