"""Compare detectors by P(FAKE) of the same images: which is better, and on which images."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import ttest_1samp

from cifake_utils import needs, records
from cifake_utils.data import Cifake
from cifake_utils.lessons import exploration
from cifake_utils.support import verified

with needs("lessons"):
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.multitest import multipletests

TEST_IMAGES = records.REFERENCE / "test_images.npz"


@dataclass(frozen=True)
class ImageFacts:
    """What is known about CIFAKE's 20,000 test images besides their labels. Rows are in the order of the sorted names.

    Attributes
    ----------
    classes : np.ndarray
        uint8 (N,), object class 0 to 9.
    class_names : list of str
    duplicate : np.ndarray
        bool (N,); whether an image of the training or validation split has the same pixels.
    """

    classes: np.ndarray
    class_names: list[str]
    duplicate: np.ndarray


def save_image_facts(cifake: Cifake, path: Path = TEST_IMAGES) -> None:
    """Write the `ImageFacts` of a data set. The file for all of CIFAKE ships with the project."""
    verified.save_arrays(
        path,
        classes=cifake.test.classes.numpy().astype(np.uint8),
        class_names=np.array(cifake.class_names),
        duplicate=exploration.exact_duplicates([cifake.train, cifake.val], cifake.test),
    )


def image_facts(path: Path = TEST_IMAGES) -> ImageFacts:
    """Return what `save_image_facts` wrote."""
    arrays = verified.load_arrays(path)
    return ImageFacts(arrays["classes"], arrays["class_names"].tolist(), arrays["duplicate"])


@dataclass(frozen=True)
class PairedTest:
    """The comparison of two detectors on the same images.

    Attributes
    ----------
    first, second : str
    only_first, only_second : int
        Number of images that only the first or only the second labels correctly.
    difference, low, high : float
        Accuracy of the first minus accuracy of the second, and its 95 % interval (from the paired differences).
    p, p_holm : float
        p-value of the exact McNemar test that both are equally accurate, without and with Holm's correction for all
        pairs that are compared.
    """

    first: str
    second: str
    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def correct(probabilities: np.ndarray, labels: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Return which images a detector labels correctly, from P(FAKE) (N,) and labels (N,): bool (N,)."""
    return (np.asarray(probabilities) > threshold) == (np.asarray(labels) == 1)


def paired_tests(right: dict[str, np.ndarray]) -> list[PairedTest]:
    """Compare every pair of detectors.

    Parameters
    ----------
    right : dict of str to np.ndarray
        For each detector, which images it labels correctly: bool (N,), for the same images in the same order.

    Returns
    -------
    list of PairedTest
        One for each pair. McNemar, *Note on the sampling error of the difference between correlated
        proportions*, 1947. Holm, *A simple sequentially rejective multiple test procedure*, 1979.
    """
    pairs = list(combinations(right, 2))
    p_values = []
    for a, b in pairs:
        disagreements = [[0, (right[a] & ~right[b]).sum()], [(right[b] & ~right[a]).sum(), 0]]
        p_values.append(float(mcnemar(disagreements, exact=True).pvalue))  # pyright: ignore[reportAttributeAccessIssue]
    # `multipletests` collects garbage, which takes longer than the test. A single p-value needs no correction.
    corrected = np.asarray(multipletests(p_values, method="holm")[1]) if len(pairs) > 1 else p_values
    tests = []
    for (a, b), p, p_holm in zip(pairs, p_values, corrected, strict=True):
        differences = right[a].astype(float) - right[b].astype(float)
        low, high = ttest_1samp(differences, 0).confidence_interval(0.95) if differences.any() else (0.0, 0.0)
        tests.append(
            PairedTest(
                first=a,
                second=b,
                only_first=int((differences > 0).sum()),
                only_second=int((differences < 0).sum()),
                difference=float(differences.mean()),
                low=float(low),
                high=float(high),
                p=p,
                p_holm=float(p_holm),
            )
        )
    return tests
