import numpy as np
import pytest
import torch
from PIL import Image

from cifake_utils import data, images
from cifake_utils.lessons import zoo


def drawn(count):
    """Return random images, smooth enough for JPEG: uint8 (N, 3, 32, 32)."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return (255 * torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")).to(torch.uint8)


def test_images_come_back_as_cifakes_encoder_leaves_them(tmp_path):
    made, rows = drawn(5), torch.tensor([3, 5, 8, 13, 21])
    path = tmp_path / "some.npz"
    zoo.write(path, {zoo.VALIDATION: (made, rows), zoo.TRAINING: (made[:2], rows[:2])}, {"kind": "some"})
    read = zoo.read(path)
    assert list(read) == [zoo.VALIDATION, zoo.TRAINING]
    again, places = read[zoo.VALIDATION]
    assert places.tolist() == rows.tolist() and read[zoo.TRAINING][0].equal(again[:2])
    first = images.encode(Image.fromarray(made[0].permute(1, 2, 0).numpy()))
    (tmp_path / "first.jpg").write_bytes(first)
    assert again[0].equal(images.read(tmp_path / "first.jpg"))
    assert zoo.read_about(path) == {"kind": "some"}


def test_the_photographs_that_are_made_again_are_real_and_always_the_same():
    labels = torch.tensor([data.REAL, data.FAKE] * 20)
    split = data.ImageSet(drawn(40), labels, labels, [str(row) for row in range(40)])
    rows = zoo.chosen(split, 7)
    assert rows.tolist() == sorted(set(rows.tolist())) == zoo.chosen(split, 7).tolist() and len(rows) == 7
    assert (labels[rows] == data.REAL).all()


def test_a_contact_sheet_holds_the_first_images_row_by_row():
    shown = drawn(6)
    sheet = np.asarray(zoo.sheet(shown, side=2))
    assert sheet.shape == (128, 128, 3)
    assert (sheet[64:128:2, 0:64:2] == shown[2].permute(1, 2, 0).numpy()).all()


class TestGenerators:
    @pytest.fixture(autouse=True)
    def libraries(self):
        for module in ("diffusers", "normflows"):
            pytest.importorskip(module, reason="needs the extra `generators`: pip install -e '.[generators]'")

    def test_the_autoregressive_network_sees_only_earlier_pixels(self):
        from tools.generators import likelihood, training

        torch.manual_seed(0)
        network = likelihood.PixelCnn(layers=3, channels=8)
        seen = training.scaled(drawn(1))
        changed = seen.clone()
        changed[:, :, 9, 7:] = changed[:, :, 10:] = 0.5
        with torch.no_grad():
            one, other = (network.along(kind, network.above(kind))[0] for kind in (seen, changed))
            assert one[:, :9].equal(other[:, :9]) and one[:, 9, :8].equal(other[:, 9, :8])
            assert not one[:, 9, 8].equal(other[:, 9, 8])
            window = changed[:, :, 9 - 5 : 10]  # what drawing looks at: as many rows above as there are layers, and two
            above = [taken[:, :, -1:] for taken in network.above(window)]
            assert torch.allclose(network.along(changed[:, :, 9:10], above)[0, :, 0, 7], one[:, 9, 7], atol=1e-5)

    def test_probabilities_of_all_levels_add_up_to_one(self):
        from tools.generators import likelihood

        torch.manual_seed(0)
        parameters = torch.randn(1, 10, 1, 1)
        parameters[:, 7:] = 0  # the colours are independent of each other
        some, every = torch.tensor([100, 0, 255]) / 127.5 - 1, torch.arange(256) / 127.5 - 1

        def likelihood_of(pixels):
            return likelihood.log_likelihood(pixels[..., None, None], parameters.expand(len(pixels), -1, -1, -1), 1)

        sums = []
        for colour in range(3):
            pixels = some.repeat(256, 1)
            pixels[:, colour] = every
            sums.append(likelihood_of(pixels).flatten().logsumexp(0))  # log of the probability of both other levels
        assert torch.allclose(sum(sums), 2 * likelihood_of(some[None]).flatten(), atol=1e-4)

    def test_a_normalising_flow_can_be_inverted(self):
        from tools.generators import likelihood, training

        torch.manual_seed(0)
        network = likelihood.Glow(blocks=2, hidden=8)
        seen = training.scaled(drawn(4))
        ((_, loss),) = network.losses(seen)
        assert 0 < loss < 9
        with torch.no_grad():
            hidden, _ = network.flow.inverse_and_log_det(seen / 2)
            again, _ = network.flow.forward_and_log_det(hidden)
        assert torch.allclose(again, seen / 2, atol=1e-4)

    def test_a_training_ends_in_time_and_keeps_its_losses(self):
        from tools.generators import autoencoders, training

        torch.manual_seed(0)
        network = autoencoders.Autoencoder("nearest", 256)
        network.network = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3, padding=1))
        course = training.fit(network, drawn(50), training.Plan(batch=8, rates=1e-2), seconds=60, steps=60)
        assert course.steps == 60 and course.curve[-1]["step"] == 60
        assert course.curve[-1]["network"] < course.curve[0]["network"]
        assert training.fit(network, drawn(50), training.Plan(batch=8), seconds=0.2).seconds < 5

    def test_the_distance_of_gaussians_is_the_known_one(self):
        from tools.generators import quality

        torch.manual_seed(0)
        one = torch.randn(400, 3, dtype=torch.float64)
        assert quality.frechet_distance(one, one) == pytest.approx(0, abs=1e-4)
        assert quality.frechet_distance(one, 3 * one + 1) == pytest.approx(
            4 * float(one.var(0).sum()) + float((2 * one.mean(0) + 1).square().sum())
        )

    def test_every_kind_makes_files_with_names_of_their_own(self):
        from tools.make_generators import KINDS

        files = [name for name, kind in KINDS.items() if kind.samples]
        files += [name for kind in KINDS.values() for name in kind.renderings]
        assert len(files) == len(set(files))
        for kind in KINDS.values():
            assert kind.samples or kind.renderings
