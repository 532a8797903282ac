import pytest

from cifake_utils.support import filenames


@pytest.mark.parametrize("name", [".hidden", "._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini"])
def test_what_file_managers_leave_is_ignored(name):
    assert filenames.is_ignored(name) and not filenames.is_ignored("a" + name)


def test_names_are_shown_without_commands_to_the_terminal():
    assert filenames.escaped("a\x1b[2J\n\udcff\u202e.png") == r"a\x1b[2J\n\udcff\u202e.png"
    assert filenames.escaped("кот $x$ ×.png") == "кот $x$ ×.png"
    long = filenames.shown("a" * 300 + ".png", most=60)
    assert len(long) <= 60 and long.startswith("aaa") and "…" in long and long.endswith("a.png")


@pytest.mark.parametrize(
    "name",
    ["\x1b[2J.png", "\udcff.png", "я" * 127, "a" * 255, 'a<b>:"c|?*\\.png', "CON.png", "aux"],
    ids=["escape", "bytes", "long letters", "long", "windows", "device", "device without suffix"],
)
def test_pictures_have_names_that_every_file_system_takes(tmp_path, name):
    chosen = filenames.picture(name, set())
    assert len(chosen.encode()) <= 200 and chosen.isprintable() and not set(chosen) & set('<>:"/\\|?*')
    assert chosen.partition(".")[0].lower() not in ("con", "aux")
    (tmp_path / chosen).touch()


def test_no_picture_has_the_name_of_another():
    given = [
        "a.png",
        "a.png",
        "a.png.2",
        "A.PNG",
        "a\x1b.png",
        "a\x07.png",
        "a_.png",
        "é",
        "e\u0301",
        "x" * 200,
        "x" * 201,
    ]
    taken = set()
    chosen = [filenames.picture(name, taken) for name in given]
    assert len({filenames.same(name) for name in chosen}) == len(given) == len(taken)
    assert chosen[:4] == ["a.png.png", "a.png.2.png", "a.png.2.2.png", "A.PNG.3.png"]
