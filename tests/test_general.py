"""The general detector: its file, what was measured with heads like it, and its answers in a fresh clone."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from cifake_utils import batches, data, evaluation, experiments, familiarity, general, profiles, weights
from cifake_utils.__main__ import main
from cifake_utils.images import read as read_image
from cifake_utils.lessons import unseen, zoo
from tools import make_general

STAGES = ("stem", "layer1")


def drawn(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), generator=generator).to(torch.uint8)


def test_a_head_comes_back_rounded(tmp_path):
    torch.manual_seed(0)
    head = general.Head(640, 8)
    head.mean.normal_()
    head.scale.uniform_(0.5, 2)
    features = torch.randn(50, 640)
    known = familiarity.fit(features, features)
    path = tmp_path / "head.safetensors"
    familiarity.save(path, head.state_dict(), known, {"stages": list(STAGES), "temperature": 1.5})
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    found = general.load(path)
    assert found.facts["temperature"] == 1.5 and not found.model.training
    rounded = weights.dequantise(weights.quantise(head.state_dict()))
    assert all(torch.equal(value, rounded[name]) for name, value in found.model.head.state_dict().items())
    assert found.familiarity.distances(features) == pytest.approx(known.distances(features), rel=1e-2)
    images = drawn(2)
    seen = found.model.features(batches.normalise(images))
    assert torch.equal(seen, familiarity.features_of(found.model.backbone, images, STAGES))
    assert found.model(batches.normalise(images)).shape == (2, 2)


def test_one_head_says_the_mean_of_several():
    torch.manual_seed(0)
    heads = [general.Head(6, width) for width in (3, 4)]
    features = torch.randn(5, 6)
    expected = (heads[0](features) + heads[1](features)) / 2
    assert torch.allclose(general.averaged(heads)(features), expected, atol=1e-6)


def test_features_far_out_count_as_if_they_lay_at_the_limit():
    head = general.Head(2, 3)
    far = torch.tensor([[1e6, -1e6]])
    assert torch.equal(head(far), head(general.LIMIT * far.sign()))


def test_what_was_measured_keeps_what_the_project_promises():
    found = general.load()
    facts, ways = found.facts, unseen.ways().set_index("way").loc[make_general.TWINLESS]
    assert general.FILE.stat().st_size < 3_000_000
    assert facts["backbone"] == weights.load_offline().hash == found.record.weights_hash
    assert facts["unseen"] == pytest.approx({kind: ways[kind] for kind in unseen.KINDS})
    assert facts["unseen_mean"] > 0.75 and min(facts["unseen"].values()) > 0.6
    assert facts["test"]["auroc"] > 0.95 and ways["cifake"] > 0.95
    assert abs(ways["again"] - 0.5) < 0.03  # it does not call photographs FAKE for being encoded twice
    for split in ("val", "test"):
        again = evaluation.score(found.record.probabilities[split].astype(float), found.record.labels[split])
        assert again["accuracy"] == pytest.approx(found.record.metrics[split]["accuracy"], abs=2e-3)


def test_it_knows_the_kinds_that_it_learned_from():
    found = general.load()
    accelerator = profiles.PROFILES["sample"].accelerator()
    for kind in ("ddpm", "vae"):
        images = zoo.read(zoo.FOLDER / f"{kind}.npz")[zoo.SAMPLES][0][:40]
        p = experiments.predict_images({"it": (found.model, found.record)}, images, accelerator)["it"]
        assert np.median(p) > 0.9
        with torch.no_grad():
            assert p == pytest.approx(found.model(batches.normalise(images)).softmax(1)[:, 1].numpy(), abs=1e-4)
        unlike = found.familiarity.distances(familiarity.features_of(found.model.backbone, images))
        assert (unlike > found.familiarity.threshold).mean() < 0.2


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_predict_answers_in_a_fresh_clone_in_every_profile(profile, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("CIFAKE_DATA", raising=False)
    image = zoo.read(zoo.FOLDER / "gan.npz")[zoo.SAMPLES][0][0]
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "drawn.png")
    arguments = ["--profile", profile, "predict", "--model", general.NAME, "--json", str(tmp_path / "drawn.png")]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"]["name"] == f"{general.NAME}-seed0"
    assert "seven kinds of small generators" in document["model"]["limits"]
    (answer,) = document["images"]
    found, read = general.load(), read_image(tmp_path / "drawn.png")[None]
    one = {general.NAME: (found.model, found.record)}
    p = experiments.predict_images(one, read, profiles.resolve(profile).accelerator())[general.NAME]
    expected = evaluation.with_temperature(p, found.facts["temperature"])[0]
    assert answer["p_fake"] == pytest.approx(expected, abs=1e-3) and 0 < expected < 1


def test_evaluate_prints_its_limits_first(runs, tmp_path, capsys):
    fakes = zoo.read(zoo.FOLDER / "normalising_flow.npz")[zoo.SAMPLES][0][:25]
    reals = data.load("sample").test
    reals = reals.images[reals.labels == data.REAL][:25]
    for name, images in (("fake", fakes), ("real", reals)):
        (tmp_path / name).mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / name / f"{number}.png")
    folders = ["--fake", str(tmp_path / "fake"), "--real", str(tmp_path / "real")]
    assert main(["evaluate", "--model", general.NAME, *folders]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("Asked: the general detector that comes with this package. Its limits: it learned from")
    assert "These generators are weak" in printed and "right less often" in printed
    assert "of 25 called FAKE" in printed


def test_the_page_says_what_was_measured():
    page = (profiles.PROJECT / "docs" / "detector.md").read_text(encoding="utf-8")
    for _, row in unseen.ways().iterrows():
        lowest = f"{row['lowest']:.3f} ({row['lowest_kind']})"
        assert f"| {row['way']} | {row['mean']:.3f} | {lowest} | {row['cifake']:.3f} |" in page
    facts = general.load().facts
    strict = unseen.ways().set_index("way").loc[make_general.STRICT]
    # `predict --model general` says so in words.
    assert strict["lowest_kind"] == "vae" and strict["lowest"] == pytest.approx(facts["unseen_strict"])
    assert len(facts["unseen"]) == 7 and facts["called_fake"]["blurred"] > 0.5
    for kind, auroc in facts["unseen"].items():
        assert f"| {kind} | {auroc:.3f} |" in page
    for photographs, share in facts["called_fake"].items():
        assert f"| {photographs} | {100 * share:.1f} % |" in page


class TestTool:
    def test_no_head_learns_from_the_network_that_it_is_tested_on(self):
        for kind in unseen.KINDS:
            shares = make_general.shares_without(kind)
            assert kind not in shares.kinds and len(shares.kinds) == len(unseen.KINDS) - 1
        noised = {"noised_half", "noised_third"}
        assert noised.isdisjoint(make_general.shares_without("ddpm").renderings)
        assert noised <= set(make_general.shares_without("vae").renderings)
        for kind in unseen.TWINS:
            shares = make_general.shares_without(*make_general.twins(kind))
            assert shares.kinds == tuple(k for k in unseen.KINDS if k not in unseen.TWINS)
            assert noised.isdisjoint(shares.renderings)
        assert make_general.twins("gan") == ("gan",)
        strict = make_general.shares_without("vae", made_by=make_general.RELATIVES)
        assert set(strict.renderings) == noised

    def test_half_of_the_weight_is_on_real_images_and_the_rest_is_shared_evenly(self):
        named = make_general.Shares(("gan", "vae"), ("noised_half",), cifake=True).weights()
        assert sum(named.values()) == pytest.approx(1)
        assert sum(make_general.REAL_WEIGHTS.values()) == pytest.approx(0.5)
        assert named["gan"] == pytest.approx(1 / 12) and named["noised_half"] == pytest.approx(1 / 6)
        assert named["train_fake"] == pytest.approx(1 / 6)

    def test_heads_learn_from_features(self, monkeypatch):
        drawn = {"train_real": 0.0, "train_again": 0.0, "train_fake": 3.0, "other": -3.0}
        kept = {name: torch.randn(300, 4) + mean for name, mean in drawn.items()}
        monkeypatch.setattr(make_general, "features", lambda name, stages: kept[name])
        settings = make_general.Settings(("layer1",), hidden=16, seeds=2, epochs=10, rate=1e-2)
        head = make_general.fitted(make_general.Shares(("other",), cifake=True).weights(), settings)
        real = make_general.said(head, settings, "train_real")
        for kind in ("train_fake", "other"):  # one on either side of REAL, which no linear head could tell from both
            assert make_general.against(real, make_general.said(head, settings, kind)) > 0.95

    def test_photographs_changed_by_hand_stay_images(self):
        images = drawn(2)
        for change in make_general.CHANGES.values():
            changed = change(images)
            assert changed.dtype == torch.uint8 and changed.shape == images.shape and not changed.equal(images)
