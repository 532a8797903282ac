"""The experiments of the series. Each is one declaration that says what is trained, and how.

Everything else follows from the declaration: the model (`experiments.build`), the run and its record
(`experiments.train_or_load`), the drawing (`lessons.plots.architecture`) and the row in the tables (`lessons.results`).
A new model is a new entry of `EXPERIMENTS`. A new measure of maps is a new entry of `models.STATISTICS`, which an
experiment then names.
"""

from dataclasses import dataclass, replace

from cifake_utils import CifakeError
from cifake_utils.models import Architecture, Layout, LinearWithFeatures, Projection, linear, standardised_linear
from cifake_utils.training import Options


@dataclass(frozen=True)
class Preset:
    """How to train.

    Attributes
    ----------
    name : str
        The name under which records list it.
    batch_size : int
        Number of images in a batch.
    options : training.Options
    epochs_share : float, optional
        Share of the profile's epochs that a model is trained for, which may be above 1; None means all of them.
    mirror_average : bool
        Whether P(FAKE) is the mean over an image and its mirror image, in validation and in test.
    shift : int
        By how many pixels at most training images are moved, up or down and left or right. A head on a frozen backbone
        learns from unmoved images, whose features are kept.

    Raises
    ------
    CifakeError
        `epochs_share` is not above 0.
    """

    name: str
    batch_size: int
    options: Options
    epochs_share: float | None = None
    mirror_average: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        if self.epochs_share is not None and not self.epochs_share > 0:
            raise CifakeError(
                f"The preset {self.name} has epochs_share={self.epochs_share}. Expected a number above 0."
            )


# The paper states Adam at 1e-4, a learning-rate schedule and early stopping. The batch size of 64, the cosine and the
# patience are assumptions of this series.
PAPER = Preset("paper", 64, Options(learning_rate=1e-4, patience=5))
# AdamW with one cycle that is never stopped early. `max_norm` helps models that are trained from scratch, and makes no
# difference to fine-tuning (`benchmarks/choices.py`).
STRONG = Preset(
    "strong",
    128,
    Options(learning_rate=5e-4, weight_decay=0.01, schedule="one_cycle", max_norm=5.0, patience=None),
    mirror_average=True,
)
# The same training with moved images, and with maps of half the width in the first epochs or at full width throughout.
# On validation images, ResNet50 on images enlarged four times had an accuracy of 0.9867 and 0.9875 after nine epochs
# of each, and 0.9874 after eighteen of the former (`benchmarks/strong.py`, and the record of `resnet50_strong_long`).
PROGRESSIVE = replace(STRONG, name="progressive", options=replace(STRONG.options, coarse_share=0.6), shift=2)
PROGRESSIVE_LONG = replace(PROGRESSIVE, name="progressive_long", epochs_share=2.0)
FULL_WIDTH = replace(STRONG, name="full_width", shift=2)
# For heads on a frozen backbone: fewer and larger steps. On 16,000 images held out of the training split, model 3 had
# an accuracy of 0.933 with `paper`. With this preset it had the same in less than half the time, and 0.943 with mirror
# images. A weight decay of 0.3 made no difference (model 4 with cross-entropy on validation images: 0.9623 without,
# 0.9627 with).
STRONG_HEAD = Preset("strong_head", 256, Options(learning_rate=1e-3, patience=5), epochs_share=0.4, mirror_average=True)

DIMENSIONS = ("stem_dimension", "layer1_dimension")
MEANS = ("stem_mean", "layer1_mean")  # means of the same maps
VARIOGRAMS = ("stem_variogram", "layer1_variogram")
DEVIATIONS = ("stem_deviation", "layer1_deviation")
MAXIMA = ("stem_maximum", "layer1_maximum")
SHARES = ("stem_share", "layer1_share")  # of the pixels above the thresholds of the dimensions


@dataclass(frozen=True)
class Broken:
    """Statistics that are made to say nothing about their image, in training and in test.

    Attributes
    ----------
    way : str
        A key of `features.BREAKS`.
    statistics : tuple of str
        Those of the experiment's statistics that are broken. If they are shuffled, an image gets all of them from the
        same other image.
    """

    way: str
    statistics: tuple[str, ...]

    def recipe(self) -> dict:
        """Return the entries for a record's hyper-parameters, as JSON types."""
        if self.statistics == DIMENSIONS:  # records of the first controls, which broke these, have this form
            return {"dimensions": self.way}
        return {"broken": {"way": self.way, "statistics": list(self.statistics)}}


@dataclass(frozen=True, kw_only=True)
class Experiment(Architecture):
    """A model and its training. The attributes of `models.Architecture` come in addition.

    Attributes
    ----------
    about : str
        One line that describes the experiment.
    preset : Preset
    pretext : Preset
        How the rotation pretext is trained, where ``start`` is ``"rotation"``.
    combined_loss : dict, optional
        Options of `losses.CombinedLoss`, which replaces plain cross-entropy. Batches are stratified then.
    broken : Broken, optional
        Statistics that are shuffled or replaced by noise.
    paper : float, optional
        Test accuracy that the paper states.

    Raises
    ------
    CifakeError
        `broken` names a statistic that the experiment does not have; a preset has something that would be ignored
        (moved images for a frozen backbone; these, or a share of the epochs, for the pretext), or that a frozen
        backbone can't have (coarse epochs, cutmix).
    """

    about: str
    preset: Preset = PAPER
    pretext: Preset = STRONG
    combined_loss: dict | None = None
    broken: Broken | None = None
    paper: float | None = None

    def __post_init__(self) -> None:
        if self.broken and not {*self.broken.statistics} <= {*self.statistics}:
            raise CifakeError(
                f"Found the broken statistics {', '.join(self.broken.statistics)}. Expected some of those that the "
                f"experiment has: {', '.join(self.statistics)}."
            )
        self._require_default(self.preset, ["shift"] if self.frozen else [])
        if self.frozen and (self.preset.options.coarse_share or self.preset.options.cutmix):
            raise CifakeError(
                f"The preset {self.preset.name} has coarse epochs or cutmix, which need images, but a head on a frozen "
                "backbone learns from features. Expected a preset without them."
            )
        if self.start == "rotation":
            self._require_default(self.pretext, ["epochs_share", "shift"])

    def _require_default(self, preset: Preset, ignored: list[str]) -> None:
        for name in ignored:
            if (found := getattr(preset, name)) != getattr(Preset, name):
                raise CifakeError(
                    f"The preset {preset.name} has {name}={found}, which would be ignored in this training. Expected "
                    "a preset without it."
                )


SCRATCH = Experiment(about="model 1 of the paper", start="random", preset=STRONG, paper=0.7149)
TRANSFER = Experiment(about="model 2 of the paper", frozen=True, paper=0.8123)
FRACTAL = Experiment(
    about="model 3 of the paper",
    frozen=True,
    statistics=("pooled", *DIMENSIONS),
    head=standardised_linear,
    preset=STRONG_HEAD,
    paper=0.8381,
)
FRACTAL_LOSS = Experiment(
    about="model 4 of the paper",
    frozen=True,
    statistics=("pooled", *DIMENSIONS),
    head=Projection,
    combined_loss={},
    preset=STRONG_HEAD,
    paper=0.8475,
)
ROTATION = Experiment(
    about="model 5 of the paper: pretext and fine-tuning", start="rotation", preset=STRONG, paper=0.9591
)


def _changed(model: Experiment, about: str, **changes) -> Experiment:
    """Return one of the paper's models with changes. The paper has no accuracy for it."""
    return replace(model, about=about, paper=None, **changes)


ENLARGED = _changed(
    ROTATION,
    "beyond the paper: ImageNet weights fine-tuned on images enlarged four times",
    start="pretrained",
    layout=Layout(enlarge=4),
    preset=FULL_WIDTH,
)

EXPERIMENTS = {
    "resnet50_scratch": SCRATCH,
    "resnet50_transfer": TRANSFER,
    "resnet50_fractal": FRACTAL,
    "resnet50_fractal_loss": FRACTAL_LOSS,
    "resnet50_rotation": ROTATION,
    "resnet50_rotation_fractal_loss": _changed(
        FRACTAL_LOSS,
        "the paper's future work: model 4 on the frozen rotation backbone (of seed 0)",
        start="rotation",
    ),
    "resnet50_finetuned": _changed(
        ROTATION,
        "control: ImageNet weights fine-tuned as long as model 5 in all",
        start="pretrained",
    ),
    "resnet50_rotation_frozen": _changed(
        TRANSFER,
        "control: what the rotation backbone (of seed 0) knows by itself",
        start="rotation",
    ),
    # Do the dimensions explain the gain of model 3? Controls: its head alone, means of the same maps, the dimensions of
    # another image, noise.
    "resnet50_standardised": _changed(
        FRACTAL,
        "control: head of model 3, pooled features only",
        statistics=("pooled",),
    ),
    "resnet50_means": _changed(
        FRACTAL,
        "control: means of the stem and layer1 maps instead of their dimensions",
        statistics=("pooled", *MEANS),
    ),
    "resnet50_means_fractal": _changed(
        FRACTAL,
        "control: means and dimensions of the stem and layer1 maps",
        statistics=("pooled", *DIMENSIONS, *MEANS),
    ),
    # Is the dimension special, or does any second statistic of the same maps help beside their means?
    "resnet50_means_deviation": _changed(
        FRACTAL,
        "control: means and standard deviations of the stem and layer1 maps",
        statistics=("pooled", *MEANS, *DEVIATIONS),
    ),
    "resnet50_means_share": _changed(
        FRACTAL,
        "control: means of the stem and layer1 maps, and their shares of pixels above the threshold",
        statistics=("pooled", *MEANS, *SHARES),
    ),
    "resnet50_means_maximum": _changed(
        FRACTAL,
        "control: means and maxima of the stem and layer1 maps",
        statistics=("pooled", *MEANS, *MAXIMA),
    ),
    "resnet50_shuffled": _changed(
        FRACTAL,
        "control: dimensions of another image of the split",
        broken=Broken("shuffled", DIMENSIONS),
    ),
    "resnet50_noise": _changed(
        FRACTAL,
        "control: Gaussian noise instead of the dimensions",
        broken=Broken("noise", DIMENSIONS),
    ),
    "resnet50_variogram": _changed(
        FRACTAL,
        "beyond the paper: variogram dimensions beside those of model 3",
        statistics=("pooled", *DIMENSIONS, *VARIOGRAMS),
    ),
    # Does the loss explain the gain of model 4? Controls with its head: {nothing, means, dimensions} beside the pooled
    # features × {cross-entropy, combined loss}.
    "resnet50_projection": _changed(
        FRACTAL_LOSS,
        "control: projection head, pooled features only, cross-entropy",
        statistics=("pooled",),
        combined_loss=None,
    ),
    "resnet50_projection_loss": _changed(
        FRACTAL_LOSS,
        "control: projection head, pooled features only, combined loss",
        statistics=("pooled",),
    ),
    "resnet50_means_projection": _changed(
        FRACTAL_LOSS,
        "control: projection head, means of the maps, cross-entropy",
        statistics=("pooled", *MEANS),
        combined_loss=None,
    ),
    "resnet50_means_loss": _changed(
        FRACTAL_LOSS,
        "control: projection head, means of the maps, combined loss",
        statistics=("pooled", *MEANS),
    ),
    "resnet50_fractal_projection": _changed(
        FRACTAL_LOSS,
        "control: model 4 with cross-entropy",
        combined_loss=None,
    ),
    "resnet50_loss_as_printed": _changed(
        FRACTAL_LOSS,
        "control: model 4 with the sign of equation 4 as printed",
        combined_loss={"sign": "as_printed"},
    ),
    # How were the floors of the weights chosen? Model 4 has 0.8, 0.1 and 0.05.
    "resnet50_loss_low_floors": _changed(
        FRACTAL_LOSS,
        "control: model 4 with floors of 0.5, 0.1 and 0.05 for α, β and γ",
        combined_loss={"floors": (0.5, 0.1, 0.05)},
    ),
    "resnet50_loss_high_floors": _changed(
        FRACTAL_LOSS,
        "control: model 4 with floors of 0.9, 0.05 and 0.025 for α, β and γ",
        combined_loss={"floors": (0.9, 0.05, 0.025)},
    ),
    # How far does a ResNet50 get on these images?
    "resnet50_strong": ENLARGED,
    "resnet50_strong_progressive": _changed(
        ENLARGED,
        "control: resnet50_strong with coarse epochs first",
        preset=PROGRESSIVE,
    ),
    "resnet50_strong_long": _changed(
        ENLARGED,
        "control: resnet50_strong with coarse epochs first, and twice as many epochs",
        preset=PROGRESSIVE_LONG,
    ),
    "resnet50_embedded": _changed(
        ROTATION,
        "the detector that comes with the package: embedded weights fine-tuned, twice the resolution inside",
        start="embedded",
        layout=Layout(stem_stride=1),
        preset=PROGRESSIVE,
    ),
    # What does the paper's own recipe give? Adam at 1e-4, a linear head on what the paper puts there, α, β and γ as
    # plain parameters, no average over mirror images. Model 2 is trained like this anyway.
    "resnet50_scratch_as_written": _changed(
        SCRATCH,
        "control: model 1 with the paper's recipe as written",
        preset=PAPER,
    ),
    "resnet50_fractal_as_written": _changed(
        FRACTAL,
        "control: model 3 with the paper's recipe as written",
        head=linear,
        preset=PAPER,
    ),
    "resnet50_fractal_loss_as_written": _changed(
        FRACTAL_LOSS,
        "control: model 4 with the paper's recipe as written",
        head=LinearWithFeatures,
        combined_loss={"naive": True},
        preset=PAPER,
    ),
    "resnet50_rotation_as_written": _changed(
        ROTATION,
        "control: model 5 with the paper's recipe as written",
        preset=PAPER,
        pretext=PAPER,
    ),
}


def get(name: str) -> Experiment:
    """Return the experiment called ``name``; for an unknown name, raise a `CifakeError` that lists the known ones."""
    if name not in EXPERIMENTS:
        raise CifakeError(f"There is no experiment {name!r}; choose one of: {', '.join(EXPERIMENTS)}.")
    return EXPERIMENTS[name]


def require_own_statistics(name: str) -> None:
    """Raise a `CifakeError` for a control with broken statistics, whose P(FAKE) depends on other images too."""
    if broken := get(name).broken:
        raise CifakeError(
            f"{name} is a control. It gets other values in place of an image's own {', '.join(broken.statistics)}, so "
            "its P(FAKE) is not about that image alone. Choose a model that is no control, such as resnet50_fractal."
        )


def short(name: str) -> str:
    """Return an experiment's name for narrow columns: without the backbone, which nearly all experiments share."""
    return name.removeprefix("resnet50_")


def as_written(name: str) -> str:
    """Return the name of the experiment that trains one of the paper's models by the paper's recipe as written."""
    return f"{name}_as_written" if f"{name}_as_written" in EXPERIMENTS else name


def of_the_paper() -> dict[str, float]:
    """Return the test accuracies that the paper states, by the experiment's name."""
    return {name: experiment.paper for name, experiment in EXPERIMENTS.items() if experiment.paper is not None}
