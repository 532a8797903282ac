"""Train a small GAN on the REAL images of CIFAKE's train split and keep 500 of its images: FAKE of another kind.

    CIFAKE_DATA=FOLDER python tools/make_gan_samples.py

writes ``cifake_utils/assets/gan_samples.npz``, which takes about ten minutes on two cores. The network
is that of Radford, Metz & Chintala, *Unsupervised Representation Learning with Deep Convolutional Generative
Adversarial Networks*, ICLR 2016, for 32×32 pixels. No detector takes part in the training or in the choice of the
images, which are the first 500 drawn.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from cifake_utils import data, images
from cifake_utils.lessons import robustness
from cifake_utils.support.files import replacing

EPOCHS, BATCH, RATE, BETAS, LATENT = 6, 128, 2e-4, (0.5, 0.999), 100


def generator() -> nn.Sequential:
    """Return a network from latent vectors (N, LATENT, 1, 1) to images (N, 3, 32, 32), -1 to 1."""
    layers = [nn.ConvTranspose2d(LATENT, 256, 4, bias=False), nn.BatchNorm2d(256), nn.ReLU()]
    for inputs, outputs in ((256, 128), (128, 64)):
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())


def discriminator() -> nn.Sequential:
    """Return a network from images (N, 3, 32, 32), -1 to 1, to logits (N, 1): positive for photographs."""
    layers = [nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2)]
    for inputs, outputs in ((64, 128), (128, 256)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(256, 1, 4), nn.Flatten())


def start(module: nn.Module) -> None:
    """Give a layer the paper's initial values."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


def main() -> None:
    cifake = data.load("full")
    photographs = cifake.train.images[cifake.train.labels == data.REAL]
    torch.manual_seed(0)
    makes, judges = (
        network.apply(start).to(memory_format=torch.channels_last) for network in (generator(), discriminator())
    )
    optimizers = {
        network: torch.optim.Adam(network.parameters(), RATE, betas=BETAS, fused=True) for network in (makes, judges)
    }

    def step(network: nn.Sequential, loss: torch.Tensor) -> None:
        optimizers[network].zero_grad()
        loss.backward()
        optimizers[network].step()

    def verdict(images: torch.Tensor, real: bool) -> torch.Tensor:
        logits = judges(images)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    for epoch in range(EPOCHS):
        for rows in tqdm(torch.randperm(len(photographs)).split(BATCH), desc=f"epoch {epoch + 1}", mininterval=5):
            real = photographs[rows].float() / 127.5 - 1
            fake = makes(torch.randn(len(rows), LATENT, 1, 1))
            on_real, on_fake = verdict(real, True), verdict(fake.detach(), False)
            step(judges, on_real + on_fake)
            step(makes, verdict(fake, True))
        print(
            f"discriminator's loss in the last step: {on_real:.3f} on photographs, {on_fake:.3f} on its rival's images"
        )

    makes.eval()
    with torch.inference_mode():
        drawn = makes(torch.randn(500, LATENT, 1, 1, generator=torch.Generator().manual_seed(1)))
    drawn = robustness.jpeg(((drawn + 1) * 127.5).round().to(torch.uint8), images.ENCODER["quality"])
    with replacing(robustness.GENERATORS["GAN"].file) as partial, partial.open("wb") as file:
        np.savez_compressed(file, images=drawn.numpy(), data_hash=np.array(cifake.hash))


if __name__ == "__main__":
    main()
