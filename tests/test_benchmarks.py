import copy
import json
import time

import pytest
import torch

from benchmarks import choices, frozen, loading, measuring, report, sources
from cifake_utils import data, profiles
from cifake_utils.batches import ImageBatches

ABOUT = {"date": "2026-01-02", "machine": "a machine, 2 threads", "versions": {"torch": "2.9"}}
MEASURED = {
    "frozen": {
        "images": {"train": 8000},
        "epochs": 10,
        "usual": {"seconds": {"all": 120.0}},
        "ours": {"seconds": {"images": 1.0, "features": 18.0, "training": 1.0}},
        "further_run": 1.0,
        "gains": {"end to end": 6.0, "further run": 120.0},
        "largest_difference": 2e-5,
    },
    "step": {
        "batch": 128,
        "multiply_adds": {"forward": 8e7, "step": 2.4e8},
        "differences": {"loss": 0.0, "gradient": 1e-5},
        "peak": {"float32": 1.2e11, "bfloat16": 2e11},
        "usual": 200.0,
        "ours": 300.0,
        "stages": {
            "usual": dict.fromkeys(report.STAGES, 0.001),
            "ours": dict.fromkeys(report.STAGES[1:], 0.001),
        },
        "candidates": [
            {"what": "… with torch.compile", "batch": 128, "first step": 60.0, "step": 0.32},
            {"what": "… with both", "batch": 128, "error": "RuntimeError: no compiler"},
        ],
    },
    "loading": {"images": 120_000, "ways": {"ImageFolder": {"seconds": 20.0, "peak": 9e8}}},
    "growth": {
        "sizes": [
            {
                "size": 12_000,
                "seconds": {"decode": 2.5, "load": 0.2, "features": 20.0, "epoch": 0.3},
                "anonymous": {"load": 1e8, "features": 3e8, "epoch": 2e8},
                "checks": {"images": 0.01, "features": 0.03},
                "images": 36_864_000,
                "features": 98_304_000,
            }
        ],
        "limit": 200_000_000,
        "limited": {"mapped": "finished"},
    },
    "choices": {
        "images": {"train": 8000, "val": 4000},
        "precision": "bf16",
        "epochs": 4,
        "tuning": 2,
        "one turn": {"turns": 0.5, "real_fake": 0.75},
        "four turns": {"turns": 0.25, "real_fake": 0.625},
        "resnet50_scratch": {"5.0": 0.875, "None": 0.8},
        "resnet50_finetuned": {"5.0": 0.9, "None": 0.95},
    },
    "series": {
        "profiles": {
            "sample": {"01_explore_cifake": 20.0, "02_box_counting": 30.0},
            "lesson": {"01_explore_cifake": 25.0, "02_box_counting": 35.0},
        }
    },
}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    for part, document in MEASURED.items():
        (tmp_path / f"{part}.json").write_text(json.dumps(ABOUT | document))
    return tmp_path


def test_speed_page_shows_what_was_measured():
    """Where this fails, put what `python -m benchmarks` prints at its end in place of the tables of docs/speed.md."""
    assert report.tables() in (profiles.PROJECT / "docs" / "speed.md").read_text(encoding="utf-8")


def test_what_is_not_measured_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    assert report.tables().count("not yet measured") == 6


def test_tables(measured):
    text = report.tables()
    assert "| end to end | 120 | 20 | 6.0× |" in text
    assert "| every further run: another seed, head or control | 120 | 1 | 120× |" in text
    assert "| 128 | 300 | 60% |" in text and "| 128 | 400 | 80% |" in text and "| 128 | does not run | – |" in text
    assert "| ImageFolder | 20 | 900 MB |" in text
    assert "| 12,000 | 2.5 | 0.2 | 20 | 0.3 | 37 MB | 98 MB | 300 MB |" in text
    assert "takes 10 ms, 5% of loading them, and for their features 30 ms, 10% of the first epoch" in text
    assert "| from scratch: gradient limited to a length of 5 (here) or not | 0.875 | 0.800 |" in text
    assert "| all | 50 | 60 |" in text
    assert text.count("2026-01-02, a machine, 2 threads, torch 2.9") == 6


def test_picture(measured, tmp_path):
    report.draw_step(tmp_path / "step.png")
    assert (tmp_path / "step.png").stat().st_size > 1000


def test_the_usual_loop_gets_the_order_and_flips_of_our_batches():
    images = torch.arange(10 * 3 * 4, dtype=torch.uint8).view(10, 3, 1, 4)
    (ours, labels), *_ = ImageBatches(images, torch.arange(10), 10).shuffled(3, 2)
    order, flips = sources.drawn(10, 3, 2)
    assert labels.tolist() == order
    flipped = torch.stack([images[row].flip(2) if flips[row] else images[row] for row in order])
    (again, _), *_ = ImageBatches(flipped, torch.arange(10), 10).in_order()
    assert torch.equal(again, ours)


def test_four_turns_stand_together_in_a_batch():
    images = torch.arange(10 * 3 * 4, dtype=torch.uint8).view(10, 3, 2, 2)
    batches = choices.FourTurns(images, 8)
    inputs, labels = map(torch.cat, zip(*batches.shuffled(0, 0), strict=True))
    assert labels.tolist() == [0, 1, 2, 3] * 10
    groups = inputs.unflatten(0, (10, 4))
    for turn in range(4):
        assert torch.equal(groups[:, turn], groups[:, 0].rot90(turn, (2, 3)))
    assert len(groups[:, 0].flatten(1).unique(dim=0)) == 10


def test_a_part_of_cifake_as_a_tree(tree, runs, tmp_path):
    counts = {"train": 100, "val": 40, "test": 20}
    sources.write_tree(tmp_path / "part", counts)
    with sources.source(tmp_path / "part", runs):
        cifake = data.load(sources.PROFILE)
    assert {split: len(images) for split, images in cifake.splits.items()} == counts
    assert not set(cifake.train.names) & set(cifake.val.names)


def test_imagefolder_gives_the_same_pixels(tree, runs):
    assert loading.ours(tree, runs)["digest"] == loading.usual(tree, 0)["digest"]


def test_difference_of_losses():
    one = {"train_loss": [1.0, 0.5], "val_loss": [1.0, 0.75]}
    other = copy.deepcopy(one)
    other["val_loss"][1] = 0.5
    assert frozen.difference(one, one) == 0
    assert frozen.difference(one, other) == 0.25


@pytest.mark.skipif(not measuring.STATUS.exists(), reason="only Linux counts memory by its kinds, in /proc")
def test_anonymous_memory_is_seen():
    with measuring.AnonymousPeak() as peak:
        before = peak.bytes
        block = torch.ones(50_000_000, dtype=torch.uint8)
        time.sleep(0.2)
    assert peak.bytes - before > 0.9 * len(block)
