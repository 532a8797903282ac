"""Fixtures. The process that hands out tests reads this file too: torch, and what needs it, is imported by fixtures."""

import io
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifake_utils.support import memory
from tests import processes


def jpeg(seed: int, size=(32, 32), mode="RGB") -> bytes:
    """Return a JPEG (PNG for RGBA) of random pixels."""
    channels = {"RGB": (3,), "RGBA": (4,), "L": ()}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (*reversed(size), *channels), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG" if mode == "RGBA" else "JPEG", quality=75)
    return buffer.getvalue()


@pytest.fixture(scope="module", autouse=True)
def _memory():
    """What a file of tests has freed goes back to the system."""
    yield
    processes.end_server()
    memory.trim()


@pytest.fixture(autouse=True)
def _random_numbers():
    """A test draws the same random numbers whatever ran before it; the seed is one that nothing else uses."""
    import torch

    torch.manual_seed(20_261_125)


@pytest.fixture
def with_bfloat16(monkeypatch):
    """A processor that computes bfloat16. One that only emulates it is slow, but the networks of tests are small."""
    from cifake_utils import profiles

    monkeypatch.setattr(profiles, "_cpu_computes_bfloat16", lambda: True)


# Not of the whole session: while Playwright runs, its event loop would be in the way of the notebooks' kernels.
@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, the system's or Playwright's own."""
    from cifake_utils.check import BROWSERS

    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        executable = next(filter(None, map(shutil.which, BROWSERS)), playwright.chromium.executable_path)
        if not Path(executable).exists():
            pytest.skip("needs Chromium: apt-get install chromium, or python -m playwright install chromium")
        with playwright.chromium.launch(executable_path=executable) as browser:
            yield browser


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A fresh CIFAKE_RUNS folder."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("CIFAKE_RUNS", str(folder))
    monkeypatch.setenv("CIFAKE_PROFILE", "sample")  # put back afterwards, whatever the test's command line sets
    return folder


@pytest.fixture
def tree(tmp_path, monkeypatch, runs):
    """A small CIFAKE as a Kaggle tree, named by CIFAKE_DATA: 20 training and 4 test images of each label and class.

    It is the data set of a profile, both of which are called ``small``.
    """
    import dataclasses

    from cifake_utils import data, data_sets, profiles

    small = dataclasses.replace(data_sets.CIFAKE, name="small", counts={"train": 20, "test": 4})
    monkeypatch.setitem(data_sets.DATA_SETS, "small", small)
    profile = profiles.Profile("small", "small", None, "imagenet", 1, cpu=True)
    monkeypatch.setitem(profiles.PROFILES, "small", profile)
    root, seeds = tmp_path / "cifake", itertools.count()
    for part, count in small.counts.items():
        for label in data.LABELS:
            folder = root / part / label
            folder.mkdir(parents=True)
            for klass in range(10):
                for number in range(count):
                    suffix = f" ({klass + 1})" if klass else ""
                    (folder / f"{number:04d}{suffix}.jpg").write_bytes(jpeg(next(seeds)))
    monkeypatch.setenv("CIFAKE_DATA", str(root))
    return root


@pytest.fixture
def few(monkeypatch):
    """The sample with 12 images a split."""
    import torch

    from cifake_utils import data

    cifake = data.load("sample")
    small = {
        split: images.subset(torch.arange(0, len(images), len(images) // 12)[:12].numpy())
        for split, images in cifake.splits.items()
    }
    small = data.Cifake(**small, class_names=cifake.class_names, source="sample", hash="few")
    monkeypatch.setattr(data, "load", lambda profile=None: small)
    monkeypatch.setattr(data, "load_hash", lambda profile=None: small.hash)
    return small
