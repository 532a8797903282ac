"""Generators that turn noise into an image in many steps: denoising diffusion, and flow matching."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F

from tools.generators.training import Network

TIMES = 1000  # steps in which the training of the diffusion model divides the way from image to noise
STEPS = 50  # of sampling


def unet() -> UNet2DModel:
    """Return a network from (noisy images, times from 0 to `TIMES`) to a prediction of the images' shape."""
    return UNet2DModel(
        sample_size=32,
        block_out_channels=(64, 128, 192, 192),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        attention_head_dim=64,
    )


class Ddpm(Network):
    """Denoising diffusion: Ho, Jain & Abbeel, *Denoising Diffusion Probabilistic Models*, NeurIPS 2020.

    The noise follows a cosine (Nichol & Dhariwal, *Improved Denoising Diffusion Probabilistic Models*, ICML 2021), and
    the network predicts the velocity (Salimans & Ho, *Progressive Distillation for Fast Sampling of Diffusion Models*,
    ICLR 2022). Sampling is that of Song, Meng & Ermon, *Denoising Diffusion Implicit Models*, ICLR 2021, without noise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unet = unet()
        self.noising = DDPMScheduler(TIMES, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
        self.denoising = DDIMScheduler.from_config(self.noising.config, timestep_spacing="trailing")
        self.denoising.set_timesteps(STEPS)

    def losses(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        noise = torch.randn_like(images)
        times = torch.randint(TIMES, (len(images),), device=images.device)
        predicted = self.unet(self.noising.add_noise(images, noise, times), times).sample
        yield "unet", F.mse_loss(predicted.float(), self.noising.get_velocity(images, noise, times))

    def _denoise(self, images: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        for time in times:
            predicted = self.unet(images, time.to(images.device)).sample.float()
            images = self.denoising.step(predicted, int(time), images).prev_sample
        return images

    def sample(self, count: int) -> torch.Tensor:
        return self._denoise(torch.randn(count, 3, 32, 32, device=self.device), self.denoising.timesteps)

    def render(self, images: torch.Tensor, share: float) -> torch.Tensor:
        """Return images that were noised by this share of the steps, and denoised again.

        This is the method of Meng et al., *SDEdit: Guided Image Synthesis and Editing with Stochastic Differential
        Equations*, ICLR 2022.
        """
        times = self.denoising.timesteps[self.denoising.timesteps < share * TIMES]
        first = times[:1].to(images.device).expand(len(images))
        return self._denoise(self.noising.add_noise(images, torch.randn_like(images), first), times)


class FlowMatching(Network):
    """Flow matching along straight lines from noise to image.

    Lipman et al., *Flow Matching for Generative Modeling*, ICLR 2023, and Liu, Gong & Liu, *Flow Straight and Fast:
    Learning to Generate and Transfer Data with Rectified Flow*, ICLR 2023. Sampling integrates the velocity with Heun's
    method.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unet = unet()

    def _velocity(self, images: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        return self.unet(images, times * TIMES).sample.float()

    def losses(self, images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        noise = torch.randn_like(images)
        times = torch.rand(len(images), device=images.device)
        between = torch.lerp(noise, images, times[:, None, None, None])
        yield "unet", F.mse_loss(self._velocity(between, times), images - noise)

    def sample(self, count: int) -> torch.Tensor:
        images = torch.randn(count, 3, 32, 32, device=self.device)
        times = torch.linspace(0, 1, STEPS // 2 + 1, device=self.device)  # a step of Heun's asks the network twice
        for now, later in pairwise(times):
            velocity = self._velocity(images, now)
            corrected = self._velocity(images + (later - now) * velocity, later)
            images = images + (later - now) * (velocity + corrected) / 2
        return images
