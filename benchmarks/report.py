"""The measured numbers as the tables of `docs/speed.md`, and as a figure."""

import json
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
PARTS = ("frozen", "step", "loading", "growth", "choices", "box_counting", "series")
STAGES = ("decode", "augment", "forward", "backward", "optimiser")
COLOURS = ("#E69F00", "#F0E442", "#0072B2", "#56B4E9", "#009E73")  # Okabe and Ito's, safe for the colour-blind


def read(part: str) -> dict | None:
    """Return what was measured of a part, None where nothing was yet."""
    path = FOLDER / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def tables() -> str:
    """Return the measurements as Markdown: that of `docs/speed.md`. Box counting has a section of its own there."""
    writers = {
        "frozen": frozen,
        "step": step,
        "loading": loading,
        "growth": growth,
        "choices": choices,
        "series": series,
    }
    paragraphs = []
    for part, write in writers.items():
        document = read(part)
        paragraphs.append(f"## {write.__doc__.rstrip('.')}")
        if document is None:
            paragraphs.append(f"This is not yet measured. `python -m benchmarks {part}` measures it.")
        else:
            when = f"{document['date']}, {document['machine']}, torch {document['versions']['torch']}"
            paragraphs.append(f"Measured on {when}.\n\n{write(document)}")
    return "\n\n".join(paragraphs)


def table(titles: list[str], rows: list[list[str]]) -> str:
    head, *body = ["| " + " | ".join(cells) + " |" for cells in (titles, *rows)]
    return "\n".join([head, "|" + "---|" * len(titles), *body])


def short(value: float) -> str:
    """Return three digits that count: 0.123, 1.23, 12.3, 123, 1,230."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.3g}"


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def frozen(document: dict) -> str:
    """A frozen ResNet50, cached features against the usual loop."""
    count, gains = document["images"]["train"], document["gains"]
    usual = document["usual"]["seconds"]["all"]
    ours = document["ours"]["seconds"]
    rows = [
        ["end to end", short(usual), short(sum(ours.values())), f"{gains['end to end']:.1f}×"],
        [
            "every further run: another seed, head or control",
            short(usual),
            short(document["further_run"]),
            f"{gains['further run']:,.0f}×",
        ],
    ]
    titles = [f"{count:,} images, {document['epochs']} epochs", "usual loop, s", "cached features, s", "gain"]
    parts = ", ".join(f"{stage} {short(value)} s" for stage, value in ours.items())
    return (
        f"{table(titles, rows)}\n\nThe time end to end with cached features is the sum of {parts}. The losses of the "
        "two ways, on training and validation images, differ by at most "
        f"{document['largest_difference']:.1g} in any epoch."
    )


def step(document: dict) -> str:
    """A training step of all layers of ResNet50 at 32×32."""
    peak, step_cost = document["peak"]["float32"], document["multiply_adds"]["step"]

    def rate(images: float) -> list[str]:
        return [short(images), f"{images * step_cost / peak:.0%}"]

    size = str(document["batch"])
    rows = [
        ["**usual pipeline**: ImageFolder, DataLoader, default layout, AdamW", size, *rate(document["usual"])],
        ["**here**: `training.fit`, all that it does included", size, *rate(document["ours"])],
    ]
    for row in document["candidates"]:
        numbers = ["does not run", "–"] if "error" in row else rate(row["batch"] / row["step"])
        rows.append([f"step alone: {row['what']}", str(row["batch"]), *numbers])
    compiled = [row["first step"] for row in document["candidates"] if "compile" in row["what"] and "error" not in row]
    notes = [
        f"The gain of the second row over the first is {document['ours'] / document['usual']:.2f}×.",
        f"An image takes {short(document['multiply_adds']['forward'] / 1e6)} million multiply-adds forward and "
        f"{short(step_cost / 1e6)} million in a whole step. The float32 peak of this machine, measured with a matrix "
        f"product, is {short(peak / 1e9)} billion multiply-adds a second; in bfloat16 it is "
        f"{short(document['peak']['bfloat16'] / 1e9)} billion. All shares are of the float32 peak.",
        "On the same images and weights, in float64, the gradients of the usual pipeline and of the one here differ "
        f"by {document['differences']['gradient']:.1g} of their length.",
    ]
    if compiled:
        notes.append(f"`torch.compile` takes {short(max(compiled))} s before its first step.")
    usual, ours = (short(1000 * sum(seconds.values())) for seconds in document["stages"].values())
    picture = (
        f"![Bars with the milliseconds that an image takes in each stage of a training step: {usual} in all in the "
        f"usual pipeline, {ours} here. Forward and backward take most of it.](../benchmarks/step.png)"
    )
    return f"{table(['', 'batch', 'images/s', 'share of float32 peak'], rows)}\n\n{' '.join(notes)}\n\n{picture}"


def loading(document: dict) -> str:
    """Loading all images to pixels."""
    rows = [[way, short(value["seconds"]), megabytes(value["peak"])] for way, value in document["ways"].items()]
    titles = [f"{document['images']:,} JPEGs", "s", "peak memory"]
    return f"{table(titles, rows)}\n\nAll rows give the same pixels."


def growth(document: dict) -> str:
    """Growth with the number of images."""
    stages = ("decode", "load", "features", "epoch")
    titles = ["images", "decode once, s", "load, s", "features, s", "epoch of a head, s"]
    titles += ["pixels", "mapped features", "other memory, largest"]
    rows = []
    for row in document["sizes"]:
        other = max(row["anonymous"].values())
        sizes = [row["images"], row["features"], other]
        rows.append([f"{row['size']:,}", *(short(row["seconds"][stage]) for stage in stages), *map(megabytes, sizes)])
    outcomes = " ".join(
        f"With features {name}: `{outcome.rstrip('.')}`." for name, outcome in document["limited"].items()
    )
    last = document["sizes"][-1]
    checks, times = last["checks"], last["seconds"]
    return (
        f"{table(titles, rows)}\n\nEvery load compares files with their checksums. For {last['size']:,} images that "
        f"takes {short(1000 * checks['images'])} ms, {checks['images'] / times['load']:.0%} of loading them, and for "
        f"their features {short(1000 * checks['features'])} ms, {checks['features'] / times['epoch']:.0%} of the first "
        "epoch that reads them.\n\n"
        f"In a last trial, an epoch on {last['size']:,} images could allocate no more than "
        f"{megabytes(document['limit'])} (`RLIMIT_DATA`). {outcomes}"
    )


def choices(document: dict) -> str:
    """Choices of the recipes, accuracy on validation images."""
    one, four = document["one turn"], document["four turns"]
    ways = {
        "rotation pretext, share of turns told right: one random turn of an image an epoch (here) or all four": (
            one["turns"],
            four["turns"],
        ),
        "those two networks, fine-tuned on REAL and FAKE": (one["real_fake"], four["real_fake"]),
        "from scratch: gradient limited to a length of 5 (here) or not": document["resnet50_scratch"].values(),
        "fine-tuned from ImageNet: gradient limited to a length of 5 (here) or not": document[
            "resnet50_finetuned"
        ].values(),
    }
    rows = [[what, *(f"{accuracy:.3f}" for accuracy in values)] for what, values in ways.items()]
    counts = document["images"]
    return (
        f"{table(['', 'as here', 'other'], rows)}\n\n{counts['train']:,} training images, {counts['val']:,} validation "
        f"images, one seed, precision {document['precision']}. The pretext and the training from scratch take as many "
        f"steps as {document['epochs']} epochs, fine-tuning as many as {document['tuning']}. These are single runs, so "
        "a small difference proves nothing."
    )


def series(document: dict) -> str:
    """Lessons 01 to 08, with all trainings."""
    seconds = document["profiles"]
    rows = [[name, *(short(times[name]) for times in seconds.values())] for name in seconds["sample"]]
    rows.append(["all", *(short(sum(times.values())) for times in seconds.values())])
    titles = ["lesson", *(f"profile {profile}, s" for profile in seconds)]
    return f"{table(titles, rows)}\n\nThe profile `sample` ran on one thread, as in the tests."


def draw_step(path: Path = FOLDER / "step.png") -> None:
    """Draw where the time of a training step goes, where it was measured."""
    document = read("step")
    if document is None:
        return
    ways = document["stages"]
    with matplotlib.rc_context({"font.size": 11}):
        figure = Figure(figsize=(8, 2.4), layout="constrained")
        axes, left = figure.subplots(), dict.fromkeys(ways, 0.0)
        for stage, colour in zip(STAGES, COLOURS, strict=True):
            widths = {way: 1000 * values.get(stage, 0) for way, values in ways.items()}
            axes.barh(
                list(ways), widths.values(), left=list(left.values()), color=colour, edgecolor="black", label=stage
            )
            left = {way: left[way] + width for way, width in widths.items()}
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds an image, one stage after the other")
        figure.legend(loc="outside upper center", ncols=len(STAGES), frameon=False)
        figure.savefig(path, dpi=110, metadata={"Software": None})
