"""The detector that comes with the package: its file, what was measured with it, and its answers in a fresh clone."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from cifake_utils import batches, catalogue, embedded, experiments, familiarity, models, profiles, weights
from cifake_utils.__main__ import main


def test_a_detector_comes_back_rounded(tmp_path, monkeypatch):
    monkeypatch.setitem(catalogue.EXPERIMENTS, embedded.EXPERIMENT, SMALL)
    model = SMALL.build(weights.NONE).eval()
    images = torch.randint(0, 256, (80, 3, 32, 32), dtype=torch.uint8)
    known, path = familiarity.of(model.backbone, images, images), tmp_path / "detector.safetensors"
    familiarity.save(path, model.state_dict(), known, {"temperature": 1.5})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  {path.name}\n")
    found = embedded.load(path)
    assert found.facts == {"temperature": 1.5} and not found.model.training
    rounded = weights.dequantise(weights.quantise(model.state_dict()))
    assert all(torch.equal(value, rounded[name]) for name, value in found.model.state_dict().items())
    features = familiarity.features_of(model.backbone, images)
    assert found.familiarity.distances(features) == pytest.approx(known.distances(features), rel=1e-2)
    assert found.familiarity.threshold == pytest.approx(known.threshold)


SMALL = catalogue.Experiment(
    about="a small one", start="random", layout=models.Layout(blocks=(1, 1, 1, 1), stem_stride=1)
)


def test_what_was_measured_keeps_what_the_project_promises():
    facts, record = embedded.load().facts, embedded.load().record
    assert embedded.FILE.stat().st_size < 26_000_000
    before, rounded = facts["test"]["before_rounding"], facts["test"]["rounded"]["accuracy"]
    assert before == record.metrics["test"]["accuracy"] and min(before, rounded) >= 0.970
    assert record.data == "CIFAKE" and "offline backbone" in record.weights  # owes nothing to lent weights
    assert facts["unlike"]["CIFAKE's test images"] == pytest.approx(familiarity.FALSE_ALARMS, abs=0.005)


def test_the_shipped_detector_averages_over_mirror_images_as_its_record_says():
    found = embedded.load()
    images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    accelerator = profiles.PROFILES["sample"].accelerator()
    p = experiments.predict_images({"it": (found.model, found.record)}, images, accelerator)["it"]
    assert p.shape == (4,) and np.isfinite(p).all() and found.record.hyperparameters["mirror_average"]
    with torch.no_grad():
        sides = [found.model(batches.normalise(side)).softmax(1)[:, 1] for side in (images, images.flip(3))]
    assert p == pytest.approx(torch.stack(sides).mean(0).numpy(), abs=1e-5)


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_predict_answers_in_a_fresh_clone_in_every_profile(profile, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CIFAKE_DATA", raising=False)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert main(["--profile", profile, "predict", "--json", str(tmp_path / "noise.png")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"]["name"] == f"{embedded.EXPERIMENT}-seed0"
    assert document["images"][0]["verdict"] is None and "unlike" in document["images"][0]["in_words"]


def test_evaluate_needs_no_training(runs, tmp_path, capsys):
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        for folder in ("fake", "real"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    assert main(["evaluate", "--fake", str(tmp_path / "fake"), "--real", str(tmp_path / "real")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "3 of the 3 are unlike the images that the model knows" in printed
        and "fewer than 20" in printed
        and "AUROC 0.5000" in printed
    )
    assert "of 3 called FAKE" in printed
