"""Train small generators on the REAL images of CIFAKE's train split and keep images of each: FAKE of other kinds.

    CIFAKE_DATA=FOLDER python -m tools.make_generators --seconds 100 --out cifake_utils/assets/zoo
    CIFAKE_DATA=FOLDER python -m tools.make_generators --quality --out cifake_utils/assets/zoo

The first command needs the extra ``generators``, and a GPU to get far in 100 seconds for each network. Several of them
may run side by side, each with other names after ``--only``. The second command computes, on a CPU, how far the images
are from photographs. `KINDS` declares what is trained. No detector takes part in the training or in the choice of the
images: the first 1,000 drawn are kept. Some networks don't draw images but make photographs again; these are 1,000 of
the validation split and 1,000 of the train split, and their rows in the split are kept with the results.

Both commands list the checksums of the files in the folder, and the first draws a contact sheet of each file, which is
not to be kept: of re-renderings it would show photographs. The files in ``assets/zoo`` come from trainings that ran
side by side on one NVIDIA H100, for 27 to 160 seconds each (``seconds`` in the JSON files). So these are weak
generators: the diffusion models made about 500 steps.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from cifake_utils import CifakeError, data
from cifake_utils.lessons import zoo
from cifake_utils.support.files import writable
from tools.generators import quality
from tools.generators.adversarial import Dcgan, HingeGan
from tools.generators.autoencoders import UPSAMPLERS, Autoencoder, Vae
from tools.generators.diffusion import Ddpm, FlowMatching
from tools.generators.likelihood import Glow, PixelCnn
from tools.generators.training import Network, Plan, fit, rounded, scaled

AT_ONCE = 500
LICENCE = (
    "Made by a network that was trained on CIFAKE's REAL images alone. These are photographs of CIFAR-10. The images "
    "are under the MIT licence, as CIFAKE is."
)
LIBRARIES = ("torch", "torchvision", "diffusers", "normflows", "numpy", "pillow")


@dataclass(frozen=True)
class Kind:
    """A network, its training, and the files that it makes.

    Attributes
    ----------
    about : str
        What kind of generator it is.
    network : callable
        Makes the network, on the CPU.
    plan : Plan
    samples : bool
        Whether it draws images, which go into the file with the kind's name.
    renderings : dict of str to tuple
        By the name of a file, what is done to photographs in it, and a function of network and images that does it.
    """

    about: str
    network: Callable[[], Network]
    plan: Plan = field(default_factory=Plan)
    samples: bool = True
    renderings: dict[str, tuple[str, Callable[[Any, torch.Tensor], torch.Tensor]]] = field(default_factory=dict)


def _autoencoder(upsampler: str, size: int) -> Kind:
    name = f"autoencoder_{upsampler}_{size}"
    about = f"an autoencoder through {size} numbers, which enlarges maps by the method {upsampler!r}"
    return Kind(
        about,
        partial(Autoencoder, upsampler, size),
        Plan(rates=1e-3),
        samples=False,
        renderings={name: ("photographs after " + about, Autoencoder.render)},
    )


KINDS = {
    "ddpm": Kind(
        "denoising diffusion of pixels",
        Ddpm,
        renderings={
            "noised_third": (
                "photographs, noised by a third of the steps, denoised",
                partial(Ddpm.render, share=1 / 3),
            ),
            "noised_half": ("photographs, noised by half of the steps, denoised", partial(Ddpm.render, share=1 / 2)),
        },
    ),
    "flow_matching": Kind("flow matching of pixels", FlowMatching),
    "gan": Kind(
        "a DCGAN with the non-saturating loss", Dcgan, Plan(rates={"makes": 2e-4, "judges": 1e-4}, betas=(0.5, 0.999))
    ),
    "gan_hinge": Kind(
        "a GAN of residual blocks with the hinge loss and spectral norm",
        HingeGan,
        Plan(rates={"makes": 2e-4, "judges": 4e-4}, betas=(0.0, 0.9)),
    ),
    "normalising_flow": Kind("a normalising flow, Glow", Glow, Plan(batch=256)),
    "autoregressive": Kind("an autoregressive network, gated PixelCNN", PixelCnn, Plan(batch=64, rates=1e-3)),
    "vae": Kind("a variational autoencoder", Vae, Plan(rates=1e-3)),
} | {
    f"autoencoder_{upsampler}_{size}": _autoencoder(upsampler, size) for upsampler in UPSAMPLERS for size in (256, 1024)
}


@torch.no_grad()
def in_parts(compute: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, network: Network) -> torch.Tensor:
    """Return a function's images, computed from few at a time, as uint8 on the CPU."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=network.autocast):
        return torch.cat([rounded(compute(part)) for part in images.split(AT_ONCE)]).cpu()


def make(
    name: str, cifake: data.Cifake, device: torch.device, seconds: float, steps: int | None, seed: int, out: Path
) -> None:
    """Train the network of a kind, and write the files that it makes into the folder ``out``."""
    kind = KINDS[name]
    torch.manual_seed(seed)
    network = kind.network().to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    photographs = cifake.train.images[cifake.train.labels == data.REAL].to(device)
    course = fit(network, photographs, kind.plan, seconds, steps)
    shared = {
        "network": name,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "plan": asdict(kind.plan),
        "steps": course.steps,
        "seconds": round(course.seconds, 1),
        "photographs_per_second": round(course.steps * kind.plan.batch / course.seconds, 1),
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "data_hash": cifake.hash,
        "versions": {library: metadata.version(library) for library in LIBRARIES},
        "licence": LICENCE,
        "quality": None,
    }
    count = zoo.COUNT if steps is None else min(zoo.COUNT, 20)
    made: dict[str, tuple[str, dict[str, tuple[torch.Tensor, torch.Tensor | None]], float]] = {}
    if kind.samples:
        torch.manual_seed(seed + 1)
        start = time.monotonic()
        numbers = torch.arange(count, device=device)
        drawn = in_parts(lambda part: network.sample(len(part)), numbers, network)
        made[name] = (kind.about, {zoo.SAMPLES: (drawn, None)}, time.monotonic() - start)
    for rendering, (about, render) in kind.renderings.items():
        torch.manual_seed(seed + 1)
        start, parts = time.monotonic(), {}
        for part in (zoo.VALIDATION, zoo.TRAINING):
            rows = zoo.chosen(cifake.splits[part], count)
            before = scaled(cifake.splits[part].images[rows].to(device))
            parts[part] = (in_parts(partial(render, network), before, network), rows)
        made[rendering] = (about, parts, time.monotonic() - start)
    for file, (about, parts, spent) in made.items():
        described = {"kind": file, "about": about} | shared
        described |= {"seconds_of_drawing": round(spent, 1), "loss": course.curve}
        zoo.write(out / f"{file}.npz", parts, described)
        first = next(iter(parts.values()))[0]
        (out / f"{file}.png").write_bytes(zoo.to_file(zoo.sheet(first)))
    losses = {part: value for part, value in course.curve[-1].items() if part not in ("step", "seconds")}
    drawing = ", ".join(f"{file} drawn in {spent:.1f} s" for file, (_, _, spent) in made.items())
    print(
        f"{name}: {course.steps:,} steps in {course.seconds:.1f} s, last loss {losses}, "
        f"{shared['photographs_per_second']:,} photographs per second; {drawing}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--seconds", type=float, default=100, help="the time of each training (default: 100)")
    parser.add_argument("--steps", type=int, help="end each training after so many steps, and keep only 20 images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the files")
    parser.add_argument("--quality", action="store_true", help="train nothing, but measure the files in the folder")
    options = parser.parse_args()
    if unknown := [name for name in options.only if name not in KINDS]:
        raise CifakeError(f"There is no kind {unknown[0]!r}. Expected some of: {', '.join(KINDS)}.")
    writable(options.out)
    cifake = data.load("full")
    if options.quality:
        quality.measure(options.out, cifake)
        zoo.write_sums(options.out)
    else:
        torch.set_float32_matmul_precision("high")
        for name in options.only:
            make(name, cifake, torch.device(options.device), options.seconds, options.steps, options.seed, options.out)
            zoo.write_sums(options.out)  # so that a training that is stopped leaves the files before it in order


if __name__ == "__main__":
    main()
