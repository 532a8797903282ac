"""Train the autoencoder that renders the sample's FAKE tiles, on the REAL images of CIFAKE's train split.

    CIFAKE_DATA=FOLDER python tools/make_sample_renderer.py

writes ``cifake_utils/assets/sample_renderer.safetensors``, which takes a few minutes on two cores.
"""

import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from tqdm import tqdm

from cifake_utils import data, sample
from cifake_utils.support.files import replacing

EPOCHS, BATCH, PEAK = 4, 128, 2e-3


def main() -> None:
    cifake = data.load("full")
    photographs, held = (part.images[part.labels == data.REAL] for part in (cifake.train, cifake.val))
    torch.manual_seed(0)
    renderer = sample.Renderer().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(renderer.parameters())
    steps = len(photographs) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, epochs=EPOCHS, steps_per_epoch=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(photographs))
        for rows in tqdm(order[: steps * BATCH].split(BATCH), mininterval=5):
            images = (photographs[rows].float() / 255).contiguous(memory_format=torch.channels_last)
            loss = F.mse_loss(renderer(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.inference_mode():
            images = held[:2000].float() / 255
            print(f"validation mean squared error {F.mse_loss(renderer(images), images):.5f}", flush=True)
    weights = {name: value.half().contiguous() for name, value in renderer.state_dict().items()}
    trained_on = f"REAL images of CIFAKE's train split (CIFAR-10), data hash {cifake.hash}"
    with replacing(sample.ASSET) as partial:
        save_file(weights, partial, {"trained_on": trained_on, "epochs": str(EPOCHS)})


if __name__ == "__main__":
    main()
