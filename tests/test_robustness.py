import contextlib
import hashlib
import io

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from cifake_utils import catalogue, evaluation, experiments, images, records
from cifake_utils.lessons import plots, robustness
from cifake_utils.profiles import Profile, notebooks
from cifake_utils.support import verified

LESSON = notebooks() / "08_comparison.ipynb"
PROFILE = Profile("sample", "sample", None, "offline", 1, cpu=True)


@pytest.fixture
def pictures():
    """Smooth colour gradients with a texture: uint8 (4, 3, 32, 32), far from black and white."""
    rows = torch.linspace(60, 120, 32)
    base = torch.stack([rows[:, None] + shift * rows.flip(0) / 4 for shift in range(3)]).expand(4, 3, 32, 32)
    texture = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 10
    return (base + texture).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("name", robustness.CORRUPTIONS)
def test_stronger_means_further_from_the_image(pictures, name):
    corruption = robustness.CORRUPTIONS[name]
    before = pictures.clone()
    changed = [corruption.change(pictures, strength) for strength in corruption.strengths]
    assert all(one.dtype == torch.uint8 and one.shape == pictures.shape for one in changed)
    assert torch.equal(pictures, before)
    distances = [(one.float() - pictures.float()).abs().mean().item() for one in changed]
    assert distances == sorted(distances) and distances[0] > 0
    assert torch.equal(corruption.change(pictures, corruption.strengths[0]), changed[0])  # the same at every call


def test_corruptions_do_what_their_units_say(pictures):
    difference = robustness.noise(torch.full((50, 3, 32, 32), 128, dtype=torch.uint8), 12).float() - 128
    assert difference.std().item() == pytest.approx(12, abs=0.1)
    assert torch.allclose(robustness.brightness(pictures, 0.5).float(), pictures.float() / 2, atol=1)
    point = torch.zeros(1, 3, 33, 33, dtype=torch.uint8)
    point[..., 16, 16] = 255
    spread = robustness.blur(point, 1.0)[0, 0].float()
    across = (spread.sum(0) * (torch.arange(33) - 16.0) ** 2).sum() / spread.sum()
    assert across.sqrt().item() == pytest.approx(1, abs=0.1)


def test_jpeg_of_quality_75_is_what_cifake_went_through(pictures):
    for picture, ours in zip(pictures, robustness.jpeg(pictures, 75), strict=True):
        file = images.encode(Image.fromarray(picture.permute(1, 2, 0).numpy()))
        assert torch.equal(ours, torch.from_numpy(np.array(Image.open(io.BytesIO(file)))).permute(2, 0, 1))


def test_battery_asks_for_every_strength_and_curves_score_the_answers(pictures):
    labels = np.array([0, 1, 0, 1])
    seen = []

    def predict(changed):
        seen.append(changed)
        brightness = changed.float().mean((1, 2, 3)).numpy() / 255
        return {"bright": brightness, "sure": labels * 0.9}

    answers = robustness.battery(predict, pictures)
    assert list(answers) == ["bright", "sure"] and list(answers["sure"]) == list(robustness.CORRUPTIONS)
    assert len(seen) == sum(len(corruption.strengths) for corruption in robustness.CORRUPTIONS.values())
    for name, corruption in robustness.CORRUPTIONS.items():
        assert answers["bright"][name].shape == (len(corruption.strengths), 4)
        assert answers["bright"][name].dtype == np.float16
    darker, brighter = answers["bright"]["darker"], answers["bright"]["brighter"]
    assert (darker[1] < darker[0]).all() and (brighter[1] > brighter[0]).all()

    curves = robustness.curves(answers["bright"], labels)
    assert curves["noise"]["auroc"][1] == roc_auc_score(labels, answers["bright"]["noise"][1])
    assert curves["noise"]["accuracy"][1] == evaluation.score(answers["bright"]["noise"][1], labels)["accuracy"]
    assert robustness.curves(answers["sure"], labels)["JPEG"] == {"accuracy": [1.0] * 5, "auroc": [1.0] * 5}


@pytest.fixture
def tiles(tmp_path, monkeypatch):
    """A second generator, declared: six images in a file that a list with its SHA-256 lies beside."""
    file = tmp_path / "tiles.npz"
    verified.save_arrays(file, images=np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), np.uint8))
    # The star is how `sha256sum --binary` writes it.
    (tmp_path / verified.SUMS).write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()} *{file.name}\n")
    monkeypatch.setitem(robustness.GENERATORS, "tiles", robustness.Generator(file, "random pixels"))


def test_a_new_file_that_is_not_listed_is_refused_with_the_way_to_list_it(tiles):
    file = robustness.GENERATORS["tiles"].file
    file.rename(file.with_name("new.npz"))
    with pytest.raises(verified.DamagedFile, match=r"new\.npz .* has no line for it; CONTRIBUTING\.md says how to add"):
        robustness.Generator(file.with_name("new.npz"), "the same, under a name that the list lacks").samples()


def test_measured_answers_can_be_read_again(few, runs, tiles):
    names = ["resnet50_transfer", "resnet50_standardised"]
    robustness.measure(names, profile=PROFILE)
    for name in names:
        # The profile has one epoch, of which the second model gets 40 %: still one.
        assert len(experiments.train_or_load(name, profile=PROFILE)[1].curves["val_loss"]) == 1
        answers, generated = robustness.read(robustness.path(name, PROFILE.runs))
        assert answers["JPEG"].shape == (5, len(few.test))
        declared = robustness.GENERATORS.items()
        assert {name: len(p) for name, p in generated.items()} == {name: len(it.samples()) for name, it in declared}
        again = experiments.predict_images(
            {name: experiments.train_or_load(name, profile=PROFILE)},
            robustness.blur(few.test.images, 0.5),
            PROFILE.accelerator(),
        )
        assert np.allclose(answers["blur"][0], again[name], atol=1e-3)


@pytest.mark.parametrize("name", robustness.GENERATORS)
def test_samples_of_a_generator_are_images_no_two_alike(name):
    samples = robustness.GENERATORS[name].samples()
    assert samples.dtype == torch.uint8 and samples.shape == (len(samples), 3, 32, 32)
    assert samples.float().std() > 30  # not one grey
    assert len(samples.flatten(1).unique(dim=0)) == len(samples)


def test_what_is_no_longer_declared_is_not_read(tmp_path, monkeypatch):
    file = tmp_path / "answers.npz"
    asked = {"noise, strengths": np.array([4, 12]), "blur, strengths": np.array([0.5, 2])}  # the second has changed
    rows = dict.fromkeys(("noise", "blur", "brighter"), np.zeros((2, 3)))
    verified.save_arrays(file, **rows, **asked, GAN=np.zeros(4), old=np.zeros(5))
    corrupted, generated = robustness.read(file)
    assert list(corrupted) == ["noise"] and list(generated) == ["GAN"]


def test_a_corruption_that_was_not_measured_has_no_line():
    scores = {"model": {"noise": {"accuracy": [0.9, 0.8], "auroc": [0.95, 0.9]}}}
    figure = plots.robustness(scores, {"model": {"accuracy": 0.95, "auroc": 0.99}})
    lines = {axes.get_title(): len(axes.lines) for axes in figure.axes[: len(robustness.CORRUPTIONS)]}
    plt.close(figure)
    assert lines == {name: 1 + (name == "noise") for name in robustness.CORRUPTIONS}


def test_lesson_08_shows_every_generator_that_is_declared(tiles, monkeypatch):
    """The committed answers know nothing of the second one."""
    monkeypatch.setattr(plt, "show", lambda: None)
    cells = [cell.source for cell in nbformat.read(LESSON, as_version=4).cells if cell.cell_type == "code"]
    names = {"labels": records.reference("resnet50_transfer").labels["test"]}
    with contextlib.redirect_stdout(io.StringIO()) as output:
        for source in cells:
            if "MODELS = " in source or "robustness.read" in source or "GENERATORS" in source:
                exec(source, names)
    titles = [plt.figure(number).axes[0].get_title() for number in plt.get_fignums()]
    plt.close("all")
    assert "tiles: random pixels" in titles
    printed = output.getvalue()
    assert "500 images of the GAN" in printed and "6 images of the tiles" in printed
    measured = {row["generator"]: row["95 % interval"] != "not measured" for row in names["rows"]}
    assert measured == {"GAN": True, "tiles": False}


# Models with the paper's recipe as written only show what that recipe gives, and those with other floors how the floors
# were chosen. The detector's answers are in its file. The network of `resnet50_strong` was not asked before it was
# gone: the two that differ from it in coarse epochs were.
ASKED = [
    name
    for name in catalogue.EXPERIMENTS
    if records.references(name) and not name.endswith(("_as_written", "_floors", "_embedded", "_strong"))
]


@pytest.mark.parametrize("name", ASKED)
def test_every_reference_run_has_answers_of_its_own(name):
    record = records.reference(name)
    answers, generated = robustness.read(robustness.path(name))
    assert {corruption: len(rows) for corruption, rows in answers.items()} == {
        name: len(corruption.strengths) for name, corruption in robustness.CORRUPTIONS.items()
    }
    assert all(rows.shape[1] == len(record.labels["test"]) for rows in answers.values())
    assert generated["GAN"].shape == (500,)
    mildest = robustness.curves(answers, record.labels["test"])["JPEG"]["accuracy"][0]
    assert abs(mildest - record.metrics["test"]["accuracy"]) < 0.15  # rows in the record's order, from such a model
