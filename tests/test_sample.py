import itertools

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cifake_utils import CifakeError, data, models, sample, weights
from cifake_utils.batches import normalise


@pytest.fixture(scope="module")
def cifake():
    return data.load("sample")


def test_equal_counts(cifake):
    assert [len(images) for images in cifake.splits.values()] == [1200, 400, 400]
    for images in cifake.splits.values():
        assert (torch.bincount(images.labels * 10 + images.classes) == len(images) // 20).all()
    assert cifake.source == "sample" and len(cifake.class_names) == 10


def test_regions_do_not_touch():
    for name in sample.PHOTOGRAPHS:
        size = sample.photograph(name).size
        regions = [sample.region(size, part) for part in sample.REGIONS]
        for a, b in itertools.combinations(regions, 2):
            apart = max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3])
            assert apart >= sample.GAP
        for left, top, right, bottom in regions:
            assert min(right - left, bottom - top) >= max(sample.SIDES)
            assert left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1]


def test_made_the_same_way_twice(cifake, runs):
    assert data.load("sample").hash == cifake.hash


def test_both_labels_share_one_jpeg_setting(cifake):
    from cifake_utils.lessons.exploration import jpeg_settings

    counts = jpeg_settings(data.entries(sample.build())["train"])
    assert counts["REAL"] == counts["FAKE"] and len(counts["REAL"]) == 1


def test_missing_photograph_is_named(monkeypatch):
    monkeypatch.setitem(sample.SOURCES, "chelsea", ("skimage", "data/no_such.png"))
    with pytest.raises(CifakeError, match=r"chelsea .* skimage .*no_such.png.*constraints.txt"):
        sample.photograph("chelsea")


def test_neither_trivial_nor_hopeless(cifake):
    backbone = models.Backbone().eval()
    backbone.load_state_dict(weights.load_offline().state)
    features = {}
    with torch.inference_mode():
        for split in ("train", "test"):
            parts = cifake.splits[split].images.split(200)
            features[split] = torch.cat([backbone(normalise(x))["layer4"].mean((2, 3)) for x in parts]).numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    accuracy = probe.fit(features["train"], cifake.train.labels.numpy()).score(
        features["test"], cifake.test.labels.numpy()
    )
    assert 0.70 < accuracy < 0.97
