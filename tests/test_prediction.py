import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from cifake_utils import CifakeError, batches, data, experiments, models, prediction, profiles
from cifake_utils.__main__ import main


def save(path, seed=0, size=(48, 40)):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


def one_line(text: str) -> str:
    """What a command prints without its line breaks."""
    return " ".join(text.split())


@pytest.fixture
def few(monkeypatch, runs):
    """The sample with 12 images a split, and two epochs of training."""
    cifake = data.load("sample")
    small = {
        split: images.subset(np.arange(0, len(images), len(images) // 12)[:12])
        for split, images in cifake.splits.items()
    }
    small = data.Cifake(**small, class_names=cifake.class_names, source="sample", hash="few")
    monkeypatch.setattr(data, "load", lambda profile=None: small)
    monkeypatch.setattr(data, "load_hash", lambda profile=None: small.hash)
    short = dataclasses.replace(profiles.PROFILES["sample"], epochs=2)
    monkeypatch.setitem(profiles.PROFILES, "sample", short)
    return small


@pytest.mark.parametrize("name", ["resnet50_transfer", "resnet50_fractal_loss"])
def test_grad_cam_passes_a_frozen_backbone_and_shows_both_sides(name):
    model = models.build(name, "sample").eval()
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    there = prediction.grad_cam(model, image)
    assert there.shape == (8, 8) and not there.requires_grad and there.min() < 0 < there.max()
    maps = {}
    hook = model.backbone.layer1.register_forward_hook(lambda _module, _inputs, output: maps.update(layer1=output))
    inputs = batches.normalise(image[None]).requires_grad_()
    odds = model(inputs).diff(dim=1).sum()
    (gradient,) = torch.autograd.grad(odds, maps["layer1"])
    hook.remove()
    expected = (gradient.mean((2, 3), keepdim=True) * maps["layer1"]).sum(1)[0]
    assert torch.allclose(there, expected, atol=1e-5)
    both = prediction.grad_cam(model, image, mirror_average=True)
    back = prediction.grad_cam(model, image.flip(2)).flip(1)
    assert torch.allclose(both, (there + back) / 2, atol=1e-5)


def test_without_a_trained_model_the_command_that_trains_one_is_given(runs, tmp_path, capsys):
    image = str(save(tmp_path / "a.png"))
    assert main(["predict", image]) == 1
    assert "python -m cifake_utils --profile sample train resnet50_transfer" in capsys.readouterr().err.replace(
        "\n", " "
    )
    assert main(["predict", image, "--model", "resnet51"]) == 1
    assert "resnet50_scratch" in capsys.readouterr().err
    with pytest.raises(CifakeError, match="control"):
        experiments.trained("resnet50_shuffled")
    unfinished = profiles.active().runs / "unfinished" / "resnet50_fractal-seed0.safetensors"
    unfinished.parent.mkdir(parents=True)
    unfinished.touch()
    with pytest.raises(CifakeError, match="stopped before its end"):
        experiments.trained("resnet50_fractal")


def test_best_run_is_chosen_by_validation_among_those_that_fit(few, runs, monkeypatch):
    made = {}
    for name in ("resnet50_transfer", "resnet50_fractal", "resnet50_shuffled"):
        _, made[name] = experiments.train_or_load(name)
    assert [run.model for run in experiments.finished()] == sorted(made)
    accuracies = {"resnet50_transfer": 0.6, "resnet50_fractal": 0.7, "resnet50_shuffled": 0.9}
    found = [dataclasses.replace(made[name], metrics={"val": {"accuracy": a}}) for name, a in accuracies.items()]
    with monkeypatch.context() as patch:
        patch.setattr(experiments, "_runs", lambda profile: ([(run, []) for run in found], dict.fromkeys(made)))
        patch.setattr(experiments, "_load", lambda record, path, start: None)
        assert experiments.trained()[1].model == "resnet50_fractal"
        assert experiments.trained("resnet50_transfer")[1].model == "resnet50_transfer"
    monkeypatch.setattr(data, "load_hash", lambda profile=None: "other")
    assert not experiments.finished()
    with pytest.raises(CifakeError, match="other data"):
        experiments.trained()


def test_commands_score_what_can_be_read_and_report_the_rest(few, runs, tmp_path, capsys):
    experiments.train_or_load("resnet50_fractal")
    first, twin = save(tmp_path / "a.png"), save(tmp_path / "sub" / "a.png", 1, (1, 1))
    (tmp_path / "text.jpg").write_text("text")
    out = tmp_path / "out"
    assert main(["predict", str(first), str(twin), str(tmp_path / "text.jpg"), "--output", str(out)]) == 1
    captured = capsys.readouterr()
    assert "text.jpg is not an image" in one_line(captured.err) and "not CIFAKE" in one_line(captured.out)
    assert {path.name for path in out.iterdir()} == {"a.png.png", "a.png.2.png"}
    rows = [line.split() for line in captured.out.splitlines() if line.startswith(str(tmp_path))]
    assert [row[0] for row in rows] == [str(first), str(twin)]
    assert all(0 <= float(row[1]) <= 1 and (float(row[2]) > 0.5) == (row[3] == "FAKE") for row in rows)
    assert main(["predict", str(first), "--output", str(first)]) == 1
    assert "is a file" in one_line(capsys.readouterr().err)

    assert main(["evaluate", "--fake", str(tmp_path / "sub")]) == 0
    captured = capsys.readouterr()
    real = int((few.test.labels == 0).sum())
    assert "1 FAKE images called FAKE" in captured.out and f"{real} REAL images called FAKE" in captured.out
    assert "AUROC" in captured.out and "quality 75" in one_line(captured.out)
    assert main(["evaluate", "--fake", str(tmp_path / "sub"), "--real", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "text.jpg is not an image" in one_line(captured.err) and f"in {tmp_path}" in captured.out
