"""What is kept of detectors on unseen kinds of generators, and the numbers that are computed from it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cifake_utils import CifakeError, embedded
from cifake_utils.lessons import unseen
from cifake_utils.lessons.unseen import CIFAKE, KINDS, PHOTOGRAPHS
from cifake_utils.support import verified


def test_auroc_counts_pairs_and_ties():
    generator = np.random.default_rng(0)
    labels, p = generator.integers(0, 2, 200), generator.integers(0, 20, 200) / 20
    assert unseen.auroc(labels, p) == pytest.approx(roc_auc_score(labels, p))
    assert unseen.auroc(np.array([0, 1]), np.array([0.5, 0.5])) == 0.5


def test_the_matrix_is_that_of_the_kept_probabilities():
    matrix, kept = unseen.matrix(), unseen.scores()[unseen.SUBSETS]
    assert list(matrix.index) == [*KINDS, unseen.OTHERS, unseen.RENDERINGS, CIFAKE]
    assert list(matrix.columns) == [*KINDS, CIFAKE]
    assert matrix.notna().all(axis=None)
    for row, column in (("gan", "vae"), ("vae", CIFAKE), (CIFAKE, "ddpm"), (unseen.RENDERINGS, "gan")):
        real, fake = kept[row][PHOTOGRAPHS], kept[row][column]
        expected = roc_auc_score(np.repeat([0, 1], [len(real), len(fake)]), np.concatenate([real, fake]))
        assert matrix.loc[row, column] == pytest.approx(expected)
    assert all(matrix.loc[kind, kind] > 0.9 for kind in KINDS)  # every kind is learned, by a head that saw its like
    without = "+".join(kind for kind in KINDS if kind != "gan")
    real, fake = kept[without][PHOTOGRAPHS], kept[without]["gan"]
    expected = roc_auc_score(np.repeat([0, 1], [len(real), len(fake)]), np.concatenate([real, fake]))
    assert matrix.loc[unseen.OTHERS, "gan"] == pytest.approx(expected)


def test_the_curve_has_all_sets_of_kinds_and_meets_the_matrix_at_both_ends():
    curve, matrix = unseen.curve().set_index("number"), unseen.matrix()
    assert list(curve.index) == [1, 2, 3, 4, 5, 6]
    assert list(curve["draws"]) == [42, 105, 140, 105, 42, 7]
    single = matrix.loc[list(KINDS), list(KINDS)].to_numpy()
    assert curve.loc[1, "auroc"] == pytest.approx(single[~np.eye(len(KINDS), dtype=bool)].mean())
    assert curve.loc[6, "auroc"] == pytest.approx(matrix.loc[unseen.OTHERS, list(KINDS)].mean())
    assert (curve["low"] <= curve["auroc"]).all() and (curve["auroc"] <= curve["high"]).all()


def test_twins_are_compared_over_all_sets_of_other_kinds():
    found = unseen.twins().set_index(["kind", "number"])
    kept = unseen.read(unseen.SUBSETS)

    def scored(trained, kind):
        real, fake = kept["+".join(trained)][PHOTOGRAPHS], kept["+".join(trained)][kind]
        return roc_auc_score(np.repeat([0, 1], [len(real), len(fake)]), np.concatenate([real, fake]))

    assert found.loc[("ddpm", 1), "with_twin"] == pytest.approx(scored(["flow_matching"], "ddpm"))
    without = [kind for kind in KINDS if kind not in unseen.TWINS]
    for kind in unseen.TWINS:
        assert found.loc[(kind, 5), "without_twin"] == pytest.approx(scored(without, kind))
        alone = [scored([other], kind) for other in without]
        assert found.loc[(kind, 1), "without_twin"] == pytest.approx(np.mean(alone))


def test_the_detector_that_comes_with_the_package_is_the_one_that_was_asked():
    asked = unseen.about()["alone"]["resnet50_embedded"]["file"]
    assert asked == verified.file_checksum(embedded.FILE), "CONTRIBUTING.md: Replace the detector"


def test_detectors_of_cifake_alone_call_images_of_other_generators_real():
    alone = unseen.alone().set_index(["detector", "kind"])
    for detector in {name for name, _ in alone.index}:
        assert alone.loc[(detector, CIFAKE), "auroc"] > 0.99
        assert alone.loc[detector].loc[list(KINDS), "auroc"].mean() < 0.5
    assert (alone["low"] <= alone["auroc"]).all() and (alone["auroc"] <= alone["high"]).all()


def test_ways_have_the_numbers_of_each_kind():
    ways = unseen.ways().set_index("way")
    assert list(ways.index) == unseen.about()["ways"]
    each = ways[list(KINDS)]
    pd.testing.assert_series_equal(ways["mean"], each.mean(axis=1), check_names=False)
    pd.testing.assert_series_equal(ways["lowest"], each.min(axis=1), check_names=False)
    assert (each.idxmin(axis=1) == ways["lowest_kind"]).all()
    assert ((ways["low"] < ways["mean"]) & (ways["mean"] < ways["high"])).all()
    real, fake = unseen.spread("CIFAKE alone", "vae")
    expected = roc_auc_score(np.repeat([0, 1], [len(real), len(fake)]), np.concatenate([real, fake]))
    assert ways.loc["CIFAKE alone", "vae"] == pytest.approx(expected)


def test_an_unknown_way_is_answered_with_the_known_ones():
    with pytest.raises(CifakeError, match="CIFAKE alone"):
        unseen.spread("by luck", "gan")


def test_what_is_kept_is_small_and_within_bounds():
    assert sum(path.stat().st_size for path in unseen.FOLDER.iterdir()) < 3_000_000
    for answers in unseen.scores().values():
        for row in answers.values():
            assert all(((p >= 0) & (p <= 1)).all() and len(p) >= 500 for p in row.values())
