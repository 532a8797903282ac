"""What no test on a CPU can see: `python -m tests.gpu` compares a GPU with the CPU on the embedded sample.

It trains one model of each kind on the GPU for a few steps, lets the CPU ask the same models about the same images,
stops a training and goes on, and trains in float16. It prints each difference as soon as it is known, and ends with 1
where one is larger than it may be. Without a GPU it says so.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cifake_utils import catalogue, data, experiments, fractal, profiles, training
from cifake_utils.batches import ImageBatches
from cifake_utils.support.strict import use_strict_environment

# Frozen with dimensions, with the combined loss, all layers, with the pretext before, with enlarged images and coarse
# epochs.
NAMES = (
    "resnet50_fractal",
    "resnet50_fractal_loss",
    "resnet50_scratch",
    "resnet50_rotation",
    "resnet50_strong_progressive",
)


def profile() -> profiles.Profile:
    """Return the sample's profile, shortened, which uses a GPU and, if ``CIFAKE_WEIGHTS`` names some, its weights."""
    weights = "imagenet" if os.environ.get("CIFAKE_WEIGHTS") else "offline"
    short = replace(profiles.get("sample"), cpu=False, pretrained=weights, epochs=5, epochs_full=2, epochs_pretext=1)
    return replace(short, name="gpu")


def answers() -> dict[str, np.ndarray]:
    """Return P(FAKE) of the test images from every finished run, computed on this process's device."""
    images, chosen = data.load(profile()).test.images, profile()
    detectors = {name: experiments.trained(name, chosen) for name in NAMES}
    return experiments.predict_images(detectors, images, chosen.accelerator())


def of_another_process(folder: Path, **environment: str) -> np.ndarray:
    """Return what this script, started with ``--answers``, writes in an environment with these changes."""
    file = folder / "answers.npz"
    command = [sys.executable, "-m", "tests.gpu", "--answers", str(file)]
    subprocess.run(command, env=os.environ | environment, check=True)
    return np.load(file, allow_pickle=False)


class Stopped(Exception):
    pass


def curves_of_a_stopped_training(folder: Path) -> tuple[list[float], list[float]]:
    """Return the validation losses of a training that went through, and of one that was stopped and went on."""
    cifake, accelerator = data.load(profile()), profile().accelerator()
    batches = [ImageBatches(split.images, split.labels, 32, accelerator.device) for split in (cifake.train, cifake.val)]

    def trained(checkpoint: Path | None) -> list[float]:
        model = experiments.build("resnet50_scratch", profile())
        options = training.Options(patience=None)
        fitted = training.fit(
            model, *batches, epochs=3, accelerator=accelerator, options=options, checkpoint=checkpoint
        )
        return fitted.val_loss

    save = training._Run.save

    def save_and_stop(self, path: Path) -> None:
        save(self, path)
        raise Stopped

    training._Run.save = save_and_stop
    try:
        trained(folder / "checkpoint.safetensors")
    except Stopped:
        training._Run.save = save
    through, epochs = trained(None), []
    train_epoch = training._train_epoch
    training._train_epoch = lambda *arguments: epochs.append(arguments) or train_epoch(*arguments)
    stopped = trained(folder / "checkpoint.safetensors")
    training._train_epoch = train_epoch
    if len(epochs) != 2:
        raise RuntimeError(f"The stopped training went on for {len(epochs)} epochs. Expected the last 2 of 3.")
    return through, stopped


def difference_of_dimensions(device: torch.device) -> float:
    """Return how far the dimensions of random maps differ between a device and the CPU."""
    layer = fractal.FractalDimension(64)
    maps = torch.rand(32, 64, 16, 16, generator=torch.Generator().manual_seed(0))
    layer.fit([maps])
    on_cpu = layer(maps)
    return (layer.to(device)(maps.to(device)).cpu() - on_cpu).abs().max().item()


def report(name: str, value: float, allowed: float) -> bool:
    """Print a difference and the largest that is allowed; return whether it is larger, or no number."""
    print(f"{'ok ' if value <= allowed else 'BAD'}  {value:.2e} (at most {allowed:.0e})  {name}", flush=True)
    return not value <= allowed


def compare(folder: Path) -> bool:
    """Print all differences; return whether one is larger than it may be."""
    chosen = profile()
    device = chosen.accelerator().device
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {chosen.accelerator().mixed_precision}")
    for name in NAMES:
        record = experiments.train_or_load(name, profile=chosen)[1]
        seconds, accuracy = record.seconds["training"], record.metrics["test"]["accuracy"]
        print(f"{name}: trained in {seconds:.1f} s, accuracy {accuracy:.3f}", flush=True)
    bad = [report("dimensions of random maps, GPU and CPU", difference_of_dimensions(device), 1e-4)]
    here, cpu = answers(), of_another_process(folder, ACCELERATE_USE_CPU="true")
    torch.backends.cudnn.allow_tf32 = False
    exact = answers()
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    for name in NAMES:
        gaps, exact_gaps = (np.abs(found[name] - cpu[name]) for found in (here, exact))
        if catalogue.get(name).frozen:  # its features are in bfloat16 on the GPU; on an H200 0.04 was the largest gap
            bad.append(report(f"P(FAKE) of {name}, GPU and CPU", float(gaps.max()), 1e-1))
            bad.append(report(f"P(FAKE) of {name}, GPU and CPU, mean", float(gaps.mean()), 1e-2))
        else:
            bad.append(report(f"P(FAKE) of {name}, GPU and CPU", float(gaps.max()), 1e-2))
            bad.append(report(f"P(FAKE) of {name}, GPU without TF32 and CPU", float(exact_gaps.max()), 1e-4))
    through, stopped = curves_of_a_stopped_training(folder)
    print("validation loss:", [round(value, 5) for value in through], [round(value, 5) for value in stopped])
    gap = max(abs(a - b) for a, b in zip(through, stopped, strict=True))
    bad.append(report("validation loss, stopped and not", gap, 5e-2))
    environment = {"ACCELERATE_MIXED_PRECISION": "fp16", "CIFAKE_RUNS": str(folder / "float16")}
    in_float16 = of_another_process(folder, **environment)
    missing = float(np.mean([~np.isfinite(in_float16[name]) for name in NAMES]))
    bad.append(report("share of P(FAKE) that is not finite in float16", missing, 0.0))
    return any(bad)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answers:
        for name in NAMES:
            if "float16" in os.environ["CIFAKE_RUNS"]:
                experiments.train_or_load(name, profile=profile())
        np.savez(options.answers, **answers())
        return 0
    if not torch.cuda.is_available():
        print("There is no Nvidia GPU here. Nothing was compared.")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        weights = os.environ.get("CIFAKE_WEIGHTS")
        use_strict_environment(os.environ, Path(folder))
        if weights:
            os.environ["CIFAKE_WEIGHTS"] = weights
        return int(compare(Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
