"""The interactive parts of the lessons in JupyterLab, worked with mouse and eyes of a headless Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat.sign import NotebookNotary

from cifake_utils.data import FAKE, REAL
from cifake_utils.lessons import series

if TYPE_CHECKING:
    from playwright import sync_api

pytestmark = pytest.mark.browser

START_SECONDS, RUN_SECONDS, REACTION_SECONDS = 120, 300, 30  # generous: for a machine that is busy with other work
PAUSE = 500  # milliseconds; longer than widgets.PAUSE, in which a second click does not count
DESKTOP = {"width": 1280, "height": 1000}  # pixels
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, wherever it is scrolled to
}
FINISHED = """() => {
    const cells = [...document.querySelectorAll(".jp-CodeCell")];
    const ran = cells.filter(cell => /[0-9]/.test(cell.querySelector(".jp-InputPrompt").textContent));
    const error = document.querySelector("[data-mime-type='application/vnd.jupyter.error']");
    return error !== null || (cells.length > 0 && ran.length === cells.length);
}"""
CONTENT = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
}"""
IS_ANOTHER = f"""async (image, content) => {{
    const found = await ({CONTENT})(image).catch(() => content);  // a picture may go while it is read
    return found !== content;
}}"""


def expect(locator: sync_api.Locator) -> sync_api.LocatorAssertions:
    """Return Playwright's assertions. Imported here: it takes 46 MB in every process that reads this file."""
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * REACTION_SECONDS)
    return expect(locator)


def copy_without_outputs(source: Path, target: Path, last: str) -> None:
    """Copy a notebook up to the first cell that holds ``last``, with no cell hidden, and without outputs.

    Whatever the browser shows was made by the run.
    """
    notebook = nbformat.read(source, as_version=4)
    end = next(number for number, cell in enumerate(notebook.cells, 1) if last in cell.source)
    notebook.cells = notebook.cells[:end]
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("jupyter", None)
    nbformat.write(notebook, target)


def write_notebook(path: Path, sources: Iterable[str]) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_it_answers(address: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return urllib.request.urlopen(address, timeout=START_SECONDS).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")
            time.sleep(0.1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab on an empty folder with settings of its own: the folder, and the address of what it serves."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    for name, settings in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
    }
    port, token = free_port(), "lessons"
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    options += ["--ServerApp.ip=127.0.0.1", "--no-browser", "--allow-root"]
    log = folder / "log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options, str(folder / "notebooks")],
            cwd=folder,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}/api/status?token={token}", server, log)
        yield folder / "notebooks", f"http://127.0.0.1:{port}/{{}}?token={token}"
    finally:
        server.terminate()
        server.wait(timeout=60)


def kernels(address: str) -> set[str]:
    """Return the addresses of the notebooks' sessions, each of which has a kernel."""
    with urllib.request.urlopen(address.format("api/sessions")) as sessions:
        return {address.format(f"api/sessions/{session['id']}") for session in json.load(sessions)}


@contextmanager
def new_page(browser: sync_api.Browser, address: str):
    """Open a page of the browser; all kernels that it starts end with it."""
    before, page = kernels(address), browser.new_page(viewport=DESKTOP)
    yield page
    page.close()
    for kernel in kernels(address) - before:  # a kernel holds most of a gigabyte
        urllib.request.urlopen(urllib.request.Request(kernel, method="DELETE")).close()


def open_notebook(page: sync_api.Page, address: str, name: str) -> None:
    """Open a notebook in JupyterLab and wait for its kernel."""
    page.goto(f"{address.format(f'lab/tree/{name}')}&reset", timeout=1000 * START_SECONDS)
    expect(page.get_by_text(re.compile(r"^Python 3.* \| Idle$"))).to_be_visible(timeout=1000 * START_SECONDS)


def run_notebook(page: sync_api.Page, address: str, name: str) -> sync_api.Page:
    """Open a notebook, run all of it, and return the page when that is done."""
    open_notebook(page, address, name)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(FINISHED, timeout=1000 * RUN_SECONDS)
    errors = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    assert not errors.all_inner_texts()
    return page


@pytest.fixture
def page(lab, browser):
    with new_page(browser, lab[1]) as page:
        yield page


@pytest.fixture
def run(lab, page):
    """Function that runs a lesson up to a cell, and returns the page when that is done."""
    folder, address = lab

    def run(name: str, last: str) -> sync_api.Page:
        copy_without_outputs(series.NOTEBOOKS / name, folder / name, last)
        return run_notebook(page, address, name)

    return run


class Widget:
    """The smallest part of the page around a control that has a picture too.

    Attributes
    ----------
    box : Locator
        All of it.
    picture : Locator
        Its image.
    """

    def __init__(self, control: sync_api.Locator):
        self.box = control.locator("xpath=ancestor::*[.//img[contains(@class, 'widget-image')]][1]")
        self.picture = self.box.locator("img.widget-image").first

    def seen(self) -> str:
        """Return the bytes of the picture as a hexadecimal number."""
        return self.picture.evaluate(CONTENT)

    def expect_another_picture(self, seen: str) -> None:
        """Wait until the picture has other bytes."""
        deadline = time.monotonic() + REACTION_SECONDS
        while not self.picture.evaluate(IS_ANOTHER, seen):  # `wait_for_function` would not wait for what it promises
            assert time.monotonic() < deadline, "the picture stayed the same"
            self.picture.page.wait_for_timeout(50)


def find_slider(part: sync_api.Locator, description: str) -> sync_api.Locator:
    """Return the first slider with this description in a part of the page."""
    label = part.page.locator("label.widget-label").get_by_text(description, exact=True)
    return part.locator(".widget-slider").filter(has=label).first


def readout(slider: sync_api.Locator) -> int:
    """Return the number beside a slider."""
    return int(slider.locator(".widget-readout").inner_text())


@contextmanager
def dragged(page: sync_api.Page, slider: sync_api.Locator):
    """Press the mouse on a slider's handle and move it to the further end; release it afterwards."""
    handle = slider.locator(".noUi-handle")
    handle.scroll_into_view_if_needed()
    start, track = handle.bounding_box(), slider.locator(".noUi-base").bounding_box()
    x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    left, right = track["x"], track["x"] + track["width"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(left if x - left > right - x else right, y, steps=10)
    yield
    page.mouse.up()


def test_quiz(run):
    page = run("01_explore_cifake.ipynb", "real_or_rendered(")
    buttons = {REAL: page.get_by_role("button", name="photograph"), FAKE: page.get_by_role("button", name="rendered")}
    quiz = Widget(buttons[REAL])
    message = quiz.box.get_by_text(" right")
    expect(message).to_have_text("Image 1 of 10, 0 right so far.")

    # The images differ from run to run, and half of them are photographs.
    for answered in range(1, 10):
        before = quiz.seen()
        page.wait_for_timeout(PAUSE)
        buttons[REAL].click()
        expect(message).to_have_text(re.compile(rf"Image {answered + 1} of 10, \d right so far\."))
        quiz.expect_another_picture(before)

    page.wait_for_timeout(PAUSE)
    buttons[REAL].click()
    expect(message).to_contain_text("5 of 10 right.")
    expect(message).to_contain_text("Wrong: 0 of 5 REAL, 5 of 5 FAKE.")
    for button in buttons.values():
        expect(button).to_be_disabled()

    page.get_by_role("button", name="new images").click()
    expect(message).to_have_text("Image 1 of 10, 0 right so far.")
    expect(buttons[REAL]).to_be_enabled()


def test_a_prediction(lab, page):
    codes = [cell.source for cell in nbformat.read(series.NOTEBOOKS / "01_explore_cifake.ipynb", as_version=4).cells]
    prediction = next(code for code in codes if "questions.predict(" in code and "[" in code)
    write_notebook(lab[0] / "prediction.ipynb", ["from cifake_utils.lessons import questions", prediction])
    asked = run_notebook(page, lab[1], "prediction.ipynb").locator(".jp-CodeCell").nth(1)

    radios = asked.get_by_role("radio")
    for choice in (0, 1):  # a reader may decide again, without starting anything anew
        radios.nth(choice).check()
        expect(asked.get_by_text("You predict")).to_contain_text(asked.locator("label").nth(choice).inner_text())


def test_a_stored_widget_is_a_picture_until_the_notebook_is_trusted(lab, page):
    folder, address = lab
    path = folder / "stored.ipynb"
    shutil.copy(series.NOTEBOOKS / "01_explore_cifake.ipynb", path)
    cell = page.locator(".jp-CodeCell").filter(has_text="real_or_rendered(")
    picture, widget = cell.locator(".jp-RenderedImage img"), cell.locator("img.widget-image")

    open_notebook(page, address, path.name)
    expect(picture).to_be_visible()
    expect(widget).to_have_count(0)

    NotebookNotary(data_dir=str(folder.parent / "data")).sign(nbformat.read(path, as_version=4))
    open_notebook(page, address, path.name)
    expect(widget).to_be_visible()
    expect(picture).to_have_count(0)


def test_which_is_rougher_reveals_after_a_choice(run):
    page = run("02b_other_dimensions.ipynb", "which_is_rougher()")
    choice = page.get_by_role("button", name="A is rougher")
    game = Widget(choice)
    before = game.seen()
    choice.click()
    game.expect_another_picture(before)
    expect(choice).to_be_disabled()
    expect(game.box.get_by_text(re.compile(r"[01] of 1 right so far"))).to_be_visible()
    page.get_by_role("button", name="new pair").click()
    expect(choice).to_be_enabled()


def test_box_size_slider_on_a_small_screen(run, page):
    page.set_viewport_size({"width": 1024, "height": 600})
    run("02_box_counting.ipynb", "box_counting_explorer()")
    slider = find_slider(page.locator("body"), "box size")
    explorer = Widget(slider)
    slider.scroll_into_view_if_needed()
    control, image = slider.bounding_box(), explorer.picture.bounding_box()
    # The picture stands beside the controls, and all of it is seen.
    assert control["x"] + control["width"] <= image["x"]
    assert image["y"] <= control["y"] < image["y"] + image["height"] and image["height"] < 400
    message = explorer.box.get_by_text(re.compile(r"[0-9,]+ boxes of "))

    def count(size: int) -> int:
        """Return how many boxes of a size the message reports, when it has come to report that size."""
        expect(message).to_contain_text(f" boxes of {size}×{size} pixels")
        return int(message.inner_text().split()[0].replace(",", ""))

    before, picture = readout(slider), explorer.seen()
    count_before = count(before)
    with dragged(page, slider):  # the widget is to follow while the mouse is still down
        after = readout(slider)
        count_after = count(after)
        explorer.expect_another_picture(picture)

    assert before != after
    assert (count_after < count_before) == (after > before), (before, count_before, after, count_after)


SETUP = """\
import numpy as np
import torch
from torch.nn.functional import avg_pool2d
from cifake_utils import batches, data, fractal
from cifake_utils.lessons import beyond, beyond_plots, fractal_widgets, further, questions, widgets
cifake = data.load()
labels = cifake.test.labels.numpy()
P = np.clip(0.2 + 0.6 * labels + np.random.default_rng(0).normal(0, 0.2, len(labels)), 0, 1)
# The maps are the images themselves, made smaller: a widget of them is shown without a network.
def backbone(images):
    return {"stem": avg_pool2d(images, 2), "layer1": avg_pool2d(torch.cat([images, -images], 1), 4)}
maps = backbone(batches.normalise(cifake.train.images[:100]))
layers = {stage: fractal.FractalDimension(of_stage.shape[1]).fit([of_stage]) for stage, of_stage in maps.items()}
kinds = {"DDPM": "ddpm", "VAE": "vae"}
powers = {beyond.PHOTOGRAPHS: beyond.read().spectra[beyond.PHOTOGRAPHS]}
powers |= {name: beyond.spectra(beyond.images(kind)) for name, kind in kinds.items()}
of_kinds = {name: np.linspace(0, 1, 50) ** power for power, name in enumerate(powers, 1)}
"""
WIDGETS = {
    "questions": 'questions.quiz("01")',
    "maps": "fractal_widgets.inside_the_network(backbone, layers, cifake)",
    "turns": "widgets.which_way_up(cifake.test, count=4)",
    "thresholds": "widgets.threshold_explorer({'one': (P, labels)})",
    "game": "widgets.against_the_models(cifake.test, {'one': P}, count=2)",
    "prices": "further.cost_explorer()",
    "generators": "beyond_plots.generator_explorer(powers, of_kinds)",
    "alarms": "beyond_plots.alarm_explorer({'good': (0.99, 0.01), 'poor': (0.2, 0.03)})",
}


@pytest.fixture(scope="module")
def widget_cells(lab, browser):
    """The cells of a notebook with the widgets that need no lesson before them, by name.

    One kernel runs them all. It stays until the last test of this file, so tests with kernels of their own come before.
    """
    folder, address = lab
    write_notebook(folder / "widgets.ipynb", [SETUP, *WIDGETS.values()])
    with new_page(browser, address) as page:
        run_notebook(page, address, "widgets.ipynb")
        yield {name: page.locator(".jp-CodeCell").nth(number) for number, name in enumerate(WIDGETS, 1)}


def test_the_questions_at_the_end(widget_cells):
    quiz = widget_cells["questions"]
    quiz.get_by_role("radio").first.check()
    expect(quiz.get_by_text(re.compile(r"[01] of 1 right at the first try"))).to_be_visible()
    expect(quiz.get_by_text(re.compile(r"^(✓ Right|✗ No)"))).to_be_visible()


def boxes_reported(message: sync_api.Locator) -> dict[str, list[int]]:
    """Return for each label how many boxes the map widget reports, smallest boxes first."""
    found = re.findall(r"(\w+): boxes ([\d, ]+), dimension \d", message.inner_text())
    return {label: [int(count) for count in counts.split(", ")] for label, counts in found}


def test_threshold_and_channels_of_the_maps(widget_cells):
    cell = widget_cells["maps"]
    page = cell.page
    slider = find_slider(cell, "threshold")
    widget = Widget(slider)
    message = widget.box.get_by_text(re.compile("REAL: boxes .*; FAKE: boxes "))
    image, stage = (widget.box.get_by_label(name, exact=True) for name in ("image of", "stage"))
    channel = widget.box.get_by_role("spinbutton")

    picture, before = widget.seen(), boxes_reported(message)
    assert [len(counts) for counts in before.values()] == [4, 4]  # boxes of 1, 2, 4 and 8 pixels
    with dragged(page, slider):  # a higher threshold leaves fewer pixels, and so never more boxes
        widget.expect_another_picture(picture)
        after = boxes_reported(message)
        end = slider.locator(".widget-readout")
        expect(end).to_have_text(re.compile(r"2\.00$"))
        low, high = (before, after) if end.inner_text() == "2.00" else (after, before)
    assert low.keys() == high.keys() == {"REAL", "FAKE"}
    for label, counts in high.items():
        assert all(fewer <= more for fewer, more in zip(counts, low[label], strict=True)), (label, low, high)
    assert sum(counts[0] for counts in high.values()) < sum(counts[0] for counts in low.values())

    page.wait_for_timeout(PAUSE)  # until the last picture of the dragging is there
    for change in (
        lambda: image.select_option(index=1),
        lambda: stage.select_option("layer1"),
        lambda: channel.fill("5"),  # the last one
    ):
        picture = widget.seen()
        change()
        channel.press("Tab")
        widget.expect_another_picture(picture)
    three = r"boxes (\d+, ){2}\d+, dimension"  # boxes of 1, 2 and 4 pixels
    expect(message).to_have_text(re.compile(f"REAL: {three}.*; FAKE: {three}"))

    channel.fill("6")  # there is none
    channel.press("Tab")
    expect(channel).to_have_value("5")
    stage.select_option("stem")  # has three
    expect(channel).to_have_value("2")
    expect(message).to_have_text(re.compile(r"REAL: boxes (\d+, ){3}\d+, dimension"))


def test_turns(widget_cells):
    turns = widget_cells["turns"]
    page = turns.page
    expect(turns.get_by_text("Image 1 of 4")).to_be_visible()
    turns.get_by_role("button", name="left (90°)").dblclick()  # answers once
    expect(turns.get_by_text("Image 2 of 4")).to_be_visible()
    page.wait_for_timeout(PAUSE)
    expect(turns.get_by_text("Image 2 of 4")).to_be_visible()
    field = turns.get_by_placeholder("click here, then press 1 to 4")
    for number in (3, 4):
        field.press("1")
        expect(turns.get_by_text(f"Image {number} of 4")).to_be_visible()
        page.wait_for_timeout(PAUSE)
    field.press("4")
    expect(turns.get_by_text(re.compile(r"[0-4] of 4 right\."))).to_be_visible()


def test_thresholds_on_a_narrow_screen(widget_cells):
    explorer = widget_cells["thresholds"]
    page, slider = explorer.page, find_slider(explorer, "threshold")
    widget = Widget(slider)
    before = widget.seen()
    with dragged(page, slider):
        widget.expect_another_picture(before)
    for text in ("cost of a miss", "threshold"):  # no label is cut
        label = explorer.locator("label.widget-label").get_by_text(text, exact=True)
        assert label.evaluate("found => found.scrollWidth <= found.clientWidth")
    sentence = explorer.get_by_text(re.compile(r"would cost 0\.\d{4} an image\."))
    page.set_viewport_size({"width": 800, "height": 900})
    assert sentence.evaluate("found => found.scrollWidth <= found.clientWidth")

    page.set_viewport_size(DESKTOP)


def test_the_game_against_the_models(widget_cells):
    game = widget_cells["game"]
    answer = game.get_by_role("button", name="photograph")
    for text in ("Image 2 of 2", "1 of 2 right."):
        game.page.wait_for_timeout(PAUSE)
        answer.click()
        expect(game.get_by_text(text)).to_be_visible()
    expect(answer).to_be_disabled()


def test_prices_follow_the_choice_of_width_and_epochs(widget_cells):
    cell = widget_cells["prices"]
    slider = find_slider(cell, "epochs")
    widget = Widget(slider)
    message = cell.get_by_text("multiply-adds")
    expect(message).to_contain_text("enlarged twice 0.98")
    before = widget.seen()
    cell.locator("select").first.select_option("enlarged four times")
    expect(message).to_contain_text("enlarged four times 0.98")
    widget.expect_another_picture(before)
    before = widget.seen()
    with dragged(cell.page, slider):
        widget.expect_another_picture(before)
        expect(message).to_contain_text("No accuracy has been measured here.")
    for text in ("inside the network", "at half the width", "average over"):  # no label is cut
        label = cell.locator("label.widget-label").get_by_text(text, exact=True)
        assert label.evaluate("found => found.scrollWidth <= found.clientWidth")


def test_generators(widget_cells):
    generators = widget_cells["generators"]
    choice = generators.get_by_role("combobox")
    widget = Widget(choice)
    before = widget.seen()
    expect(generators.get_by_text(re.compile("^DDPM: 1 times the photographs' power"))).to_be_visible()
    choice.select_option("VAE")
    widget.expect_another_picture(before)
    expect(generators.get_by_text(re.compile("^VAE: 0.0[0-9]+ times the photographs' power"))).to_be_visible()


def test_alarms(widget_cells):
    alarms = widget_cells["alarms"]
    slider = find_slider(alarms, "FAKE")
    widget = Widget(slider)
    before = widget.seen()
    expect(alarms.get_by_text("9.0% of the alarms are right")).to_be_visible()
    with dragged(alarms.page, slider):  # to the left end, where every second image is FAKE
        widget.expect_another_picture(before)
    expect(alarms.get_by_text("99.0% of the alarms are right")).to_be_visible()
    before = widget.seen()
    alarms.get_by_role("combobox").select_option("poor")
    widget.expect_another_picture(before)
    expect(alarms.get_by_text("Cheapest: call every image FAKE")).to_be_visible()
