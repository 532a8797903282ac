import dataclasses
import io
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifake_utils import CifakeError, batches, data, experiments, images, prediction, profiles
from cifake_utils.__main__ import main, print_error
from cifake_utils.lessons import plots


def save(path, seed=0, size=(48, 40)):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


def one_line(text: str) -> str:
    """What a command prints without its line breaks."""
    return " ".join(text.split())


@pytest.fixture
def few(few, monkeypatch, runs):
    """The sample with 12 images a split, and two epochs of training."""
    short = dataclasses.replace(profiles.PROFILES["sample"], epochs=2)
    monkeypatch.setitem(profiles.PROFILES, "sample", short)
    return few


@pytest.mark.parametrize("name", ["resnet50_transfer", "resnet50_fractal_loss"])
def test_grad_cam_passes_a_frozen_backbone_and_shows_both_sides(name):
    model = experiments.build(name, "sample").eval()
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
    assert [run.experiment for run in experiments.finished()] == sorted(made)
    accuracies = {"resnet50_transfer": 0.6, "resnet50_fractal": 0.7, "resnet50_shuffled": 0.9}
    found = [dataclasses.replace(made[name], metrics={"val": {"accuracy": a}}) for name, a in accuracies.items()]

    def runs_of(profile, name=None):
        return [(run, {}) for run in found if name in (None, run.experiment)], dict.fromkeys(made)

    with monkeypatch.context() as patch:
        patch.setattr(experiments, "_runs", runs_of)
        patch.setattr(experiments, "_load", lambda record, path, start: None)
        assert experiments.trained()[1].experiment == "resnet50_fractal"
        assert experiments.trained("resnet50_transfer")[1].experiment == "resnet50_transfer"
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
    assert main(["evaluate", "--fake", str(tmp_path / "sub"), "--real", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "text.jpg is not an image" in one_line(captured.err) and f"in {tmp_path}" in captured.out


@pytest.fixture
def brightness(monkeypatch, runs):
    """In place of a trained model one that takes the mean brightness for P(FAKE)."""
    record = types.SimpleNamespace(
        name="brightness",
        data="sample",
        metrics={"val": {"accuracy": 0.5}},
        hyperparameters={},
        probabilities={"val": np.array([0.2, 0.7, 0.6])},
        labels={"val": np.array([0, 1, 0])},
    )
    monkeypatch.setattr(experiments, "trained", lambda name, profile: (None, record))
    monkeypatch.setattr(
        experiments,
        "predict_images",
        lambda detectors, pixels, accelerator: {"brightness": pixels.float().mean((1, 2, 3)).numpy() / 255},
    )
    monkeypatch.setattr(prediction, "grad_cam", lambda *arguments: torch.zeros(8, 8))


def test_a_row_is_written_when_its_image_is_done(brightness, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "_draw", lambda *arguments: None)
    paths = [save(tmp_path / f"{number}.png", number) for number in range(5)]
    (tmp_path / "text.png").write_text("text")
    paths.insert(2, tmp_path / "text.png")
    together, happened, read_all = [], [], images.read_all
    assert "text.png" in prediction.predict(paths, write=together.append)[0]
    monkeypatch.setattr(prediction, "AT_ONCE", 2)
    monkeypatch.setattr(images, "read_all", lambda part: happened.extend(part) or read_all(part))
    problems = prediction.predict([*paths, str(paths[0])], write=happened.append)
    lines = [line for line in happened if isinstance(line, str)]
    assert lines == together and len(problems) == 1
    order = "".join("line " if isinstance(what, str) else "read " for what in happened).split()
    header, end = ["line"] * 3, ["line"] * 2
    read = ["read"] * 2
    assert order == [*read, *header, "line", "line", *read, "line", *read, "line", "line", *end]


def test_without_one_sound_image_there_is_no_report(brightness, tmp_path):
    lines = []
    assert "no file" in prediction.predict([tmp_path / "nowhere.png"], write=lines.append)[0] and not lines


def test_pictures_never_replace_an_image_that_is_scored(brightness, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "_draw", lambda picture, *others: picture.write_text("picture"))
    folder = tmp_path / "there"
    paths = [save(folder / "a.png", 0), save(folder / "a.png.png", 1)]
    before = [path.read_bytes() for path in paths]
    prediction.predict(paths, folder=tmp_path / "there" / ".." / "there", write=lambda line: None)
    assert [path.read_bytes() for path in paths] == before
    assert {path.name for path in folder.iterdir()} == {"a.png", "a.png.png", "a.png.2.png", "a.png.png.png"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_of_any_kind_get_a_row_and_a_picture(brightness, tmp_path, capsys):
    names = [r"$\frac{1$.png", "\x1b[2Ja.png", "\udcff.png", "a\nb.png", "q" * 251 + ".png", "я×.png", "猫.png"]
    image = save(tmp_path / "image.png").read_bytes()
    for name in names:
        (tmp_path / name).write_bytes(image)
    out = tmp_path / "out"
    assert main(["predict", *(str(tmp_path / name) for name in names), "--output", str(out)]) == 0
    captured = capsys.readouterr()
    rows = [line for line in captured.out.splitlines() if line.startswith(str(tmp_path))]
    assert len(rows) == len(names) == len(list(out.iterdir())) and not captured.err
    assert all(row.isprintable() and Path(row.split()[-1]).is_file() for row in rows)


def test_errors_do_not_command_the_terminal(capsys):
    print_error("a\x1b[2J\udcff is\n not there")
    assert capsys.readouterr().err == "a\\x1b[2J\\udcff is not there\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1251", "cp932"])
def test_what_a_redirected_output_can_not_encode_is_escaped(monkeypatch, encoding):
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["results"]) == 0
    print("32×32 – \udcff")
    output.flush()
    text = output.buffer.getvalue().decode(encoding)
    assert "resnet50_scratch" in text and r"\udcff" in text


def test_prediction_shows_image_evidence_and_dimensions_in_their_places():
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    evidence = torch.zeros(8, 8)
    evidence[0, 0], evidence[7, 7] = 2, -1
    figure = prediction.picture(image, evidence, torch.full((22, 22), 2.5), r"$\frac{1$ and $x$")
    figure.savefig(io.BytesIO())  # would raise if it were read as a formula
    plain, overlay, rough = figure.axes[:3]
    assert plain.images[0].get_array().shape == (32, 32, 3)
    grey, shown = overlay.images
    assert shown.get_extent() == grey.get_extent() and shown.get_clim() == (-2, 2)
    assert shown.get_cmap()(1.0)[:3] == pytest.approx(plots.COLOURS["FAKE"], abs=0.01)
    assert list(rough.images[0].get_extent()) == [4.5, 26.5, 26.5, 4.5]
    assert {panel.get_xlim() for panel in (plain, overlay, rough)} == {(-0.5, 31.5)}
