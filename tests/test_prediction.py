import dataclasses
import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifake_utils import CifakeError, data, experiments, explanation, familiarity, images, prediction, profiles
from cifake_utils.__main__ import main, print_error


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


def test_without_a_trained_model_the_command_that_trains_one_is_given(runs, tmp_path, capsys):
    image = str(save(tmp_path / "a.png"))
    assert main(["predict", image, "--model", "resnet50_transfer"]) == 1
    assert "python -m cifake_utils --profile sample train resnet50_transfer" in one_line(capsys.readouterr().err)
    assert main(["predict", image, "--model", "resnet51"]) == 1
    assert "resnet50_scratch" in capsys.readouterr().err
    with pytest.raises(CifakeError, match="control"):
        experiments.trained("resnet50_shuffled")
    unfinished = profiles.active().runs / "unfinished" / "resnet50_fractal-seed0.safetensors"
    unfinished.parent.mkdir(parents=True)
    unfinished.touch()
    with pytest.raises(CifakeError, match=r"stopped before its end; .* train resnet50_fractal`"):
        experiments.trained("resnet50_fractal")
    unfinished.rename(unfinished.with_name("resnet50_fractal-seed3-0123.safetensors"))
    with pytest.raises(CifakeError, match="train resnet50_fractal --seed 3`"):
        experiments.trained("resnet50_fractal")


def test_best_run_is_chosen_by_validation_among_those_that_fit(few, runs, monkeypatch):
    name = "resnet50_transfer"
    made = [experiments.train_or_load(name, seed)[1] for seed in (0, 1)]
    assert [run.name for run in experiments.finished()] == [run.name for run in made]
    better = dataclasses.replace(made[1], metrics={"val": {"accuracy": made[0].metrics["val"]["accuracy"] + 0.1}})
    with monkeypatch.context() as patch:
        patch.setattr(experiments, "_runs", lambda profile, name: ([(made[0], {}), (better, {})], {name: None}))
        patch.setattr(experiments, "_load", lambda record, path, start: None)
        assert experiments.trained(name)[1] is better
    monkeypatch.setattr(data, "load_hash", lambda profile=None: "other")
    assert not experiments.finished()
    with pytest.raises(CifakeError, match="other data"):
        experiments.trained(name)


MODEL = ["--model", "resnet50_fractal"]


def test_commands_score_what_can_be_read_and_report_the_rest(few, runs, tmp_path, capsys):
    experiments.train_or_load("resnet50_fractal")
    first, twin = save(tmp_path / "a.png"), save(tmp_path / "sub" / "a.png", 1, (1, 1))
    (tmp_path / "text.jpg").write_text("text")
    out = tmp_path / "out"
    assert main(["predict", str(first), str(twin), str(tmp_path / "text.jpg"), "--output", str(out), *MODEL]) == 1
    captured = capsys.readouterr()
    assert "text.jpg is not an image" in one_line(captured.err) and "not from CIFAKE" in one_line(captured.out)
    assert {path.name for path in out.iterdir()} == {"a.png.png", "a.png.2.png"}
    rows = [line for line in captured.out.splitlines() if line.startswith(str(tmp_path))]
    assert [row.split()[0] for row in rows] == [str(first), str(twin)]
    assert all(("looks " in row) != ("no verdict" in row) for row in rows)
    assert main(["predict", str(first), "--output", str(first), *MODEL]) == 1
    assert "is a file" in one_line(capsys.readouterr().err)

    assert main(["evaluate", "--fake", str(tmp_path / "sub"), *MODEL]) == 0
    captured = capsys.readouterr()
    real, printed = int((few.test.labels == 0).sum()), one_line(captured.out)
    assert "FAKE: 0 of 1 called FAKE (" in printed or "FAKE: 1 of 1 called FAKE (" in printed
    assert f" of {real} called FAKE (" in printed and "AUROC" in printed and "quality 75" in printed
    assert main(["evaluate", "--fake", str(tmp_path / "sub"), "--real", str(tmp_path), *MODEL]) == 1
    captured = capsys.readouterr()
    assert "text.jpg is not an image" in one_line(captured.err) and f"from {tmp_path}" in one_line(captured.out)


@pytest.fixture
def brightness(monkeypatch, runs):
    """In place of a trained model one that takes the mean brightness for P(FAKE), and knows images up to 0.95."""
    p, labels = np.array([0.02, 0.97, 0.6, 0.01]), np.array([0, 1, 0, 0])
    record = types.SimpleNamespace(
        name="brightness",
        data="CIFAKE",
        metrics={"test": {"accuracy": 0.75}},
        hyperparameters={},
        probabilities={"test": p},
        labels={"test": labels},
    )
    known = familiarity.Familiarity(torch.zeros(1), torch.ones(1), torch.zeros(0, 1), torch.zeros(0), 1.0, 0.95)
    model = types.SimpleNamespace(backbone=None, statistics={})
    asked = prediction.Asked(model, record, 1.0, known, "a model of brightness", 0.75)
    monkeypatch.setattr(prediction, "ask", lambda name, profile: asked)
    monkeypatch.setattr(
        experiments,
        "predict_images",
        lambda detectors, pixels, accelerator: {asked.name: pixels.float().mean((1, 2, 3)).numpy() / 255},
    )
    monkeypatch.setattr(
        familiarity, "features_of", lambda backbone, pixels: pixels.float().mean((1, 2, 3))[:, None] / 255
    )
    monkeypatch.setattr(explanation, "grad_cam", lambda *arguments: torch.zeros(8, 8))


def plain(path, brightness):
    """Save an image of one grey."""
    Image.fromarray(np.full((32, 32, 3), round(255 * brightness), np.uint8)).save(path)
    return path


def test_a_verdict_needs_a_familiar_image_and_a_model_that_is_sure(brightness, tmp_path):
    greys = {"dark.png": 0.03, "middle.png": 0.5, "light.png": 0.94, "white.png": 1.0}
    paths = [plain(tmp_path / name, grey) for name, grey in greys.items()]
    Image.open(paths[0]).resize((5, 4)).save(tmp_path / "small.png")
    paths.append(tmp_path / "small.png")
    lines = []
    assert not prediction.predict(paths, write=lines.append)
    rows = [" ".join(line.split()) for line in lines if line.startswith(str(tmp_path))]
    expected = ["32×32 looks REAL 3 %", "32×32 no verdict: not sure enough 50 %", "32×32 looks FAKE 94 %"]
    expected += ["32×32 no verdict: unlike the images it knows –", "5×4 no verdict: smaller than 32×32 pixels –"]
    assert [row.split(" ", 1)[1].rsplit(" ", 1)[0] for row in rows] == expected
    report = one_line(" ".join(lines))
    assert "labels 75.0 % correctly" in report and "99 of 100" in report
    assert report.index("learned from CIFAKE") < report.index("looks REAL")  # what it knows comes first


def test_scripts_get_one_json_document(brightness, tmp_path, capsys):
    (tmp_path / "text.png").write_text("text")
    paths = [plain(tmp_path / "light.png", 0.94), plain(tmp_path / "white.png", 1.0), tmp_path / "text.png"]
    assert main(["predict", "--json", *map(str, paths)]) == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert [image["verdict"] for image in document["images"]] == ["FAKE", None]
    assert document["images"][0]["p_fake"] == pytest.approx(0.94, abs=0.01)
    assert document["images"][1]["p_fake"] is None and "unlike" in document["images"][1]["in_words"]
    assert Path(document["images"][0]["picture"]).is_file() and document["model"]["test_accuracy"] == 0.75
    assert "text.png" in document["problems"][0] and "text.png" in captured.err
    assert main(["predict", "--json", str(tmp_path / "text.png")]) == 1
    assert json.loads(capsys.readouterr().out)["images"] == []


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
    header, end = ["line"] * 5, ["line"] * 4
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
    print_error("a  b\x1b[2J\udcff is\n not there")
    assert capsys.readouterr().err == "a  b\\x1b[2J\\udcff is not there\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1251", "cp932"])
def test_what_a_redirected_output_can_not_encode_is_escaped(monkeypatch, encoding):
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["results"]) == 0
    print("32×32 – \udcff")
    output.flush()
    text = output.buffer.getvalue().decode(encoding)
    assert "resnet50_scratch" in text and r"\udcff" in text
