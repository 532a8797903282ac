import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from cifake_utils import CifakeError, images

RED = torch.tensor([254, 0, 0])[:, None, None].float()


def half_red(size=(64, 64), mode="RGB") -> Image.Image:
    """A white image whose left half is red."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2 - 1, size[1]), "red")
    return image.convert(mode)


def decoded(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)), float)


def assert_left_is_red(pixels: torch.Tensor) -> None:
    assert pixels.dtype == torch.uint8 and pixels.shape == (3, 32, 32)
    assert (pixels[:, :, :12].float() - RED).abs().max() < 12
    assert (pixels[:, :, 20:].float() - 255).abs().max() < 12


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.png", "RGB"),
        ("a.png", "RGBA"),
        ("a.png", "P"),
        ("a.jpg", "RGB"),
        ("a.jpg", "CMYK"),
        ("a.webp", "RGB"),
        ("a.gif", "P"),
        ("a.tif", "CMYK"),
    ],
)
def test_colours_survive_every_format(tmp_path, name, mode):
    half_red(mode=mode).save(tmp_path / name)
    assert_left_is_red(images.read(tmp_path / name))


def test_the_square_in_the_middle_is_kept(tmp_path):
    for size in ((640, 200), (200, 640)):
        wide = Image.new("RGB", size, "blue")
        wide.paste(half_red((200, 200)), ((size[0] - 200) // 2, (size[1] - 200) // 2))
        wide.save(tmp_path / "wide.png")
        assert_left_is_red(images.read(tmp_path / "wide.png"))


def test_exif_turns_the_image(tmp_path):
    turned = half_red().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    turned.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert_left_is_red(images.read(tmp_path / "a.jpg"))


def test_what_is_transparent_is_white(tmp_path):
    half_red().save(tmp_path / "a.png")
    clear = half_red((64, 64), "RGBA")
    ImageDraw.Draw(clear).rectangle((32, 0, 64, 64), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert torch.equal(images.read(tmp_path / "clear.png"), images.read(tmp_path / "a.png"))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name):
    Image.fromarray(np.full((40, 40), 128 * 257, np.uint16)).save(tmp_path / name)
    assert (images.read(tmp_path / name).float() - 128).abs().max() <= 1


def test_grey_one_pixel_and_animation(tmp_path):
    Image.new("L", (1, 1), 77).save(tmp_path / "tiny.png")
    assert (images.read(tmp_path / "tiny.png").float() - 77).abs().max() <= 1
    half_red().save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (64, 64), "blue")])
    assert_left_is_red(images.read(tmp_path / "a.gif"))


def test_every_pixel_is_the_mean_of_what_it_covers(tmp_path):
    means = np.random.default_rng(0).integers(50, 200, (32, 32, 3), np.uint8)
    checks = np.where(np.indices((320, 320)).sum(0) % 2, 50, -50)[..., None]  # of mean 0 in every 10×10 block
    Image.fromarray((means.repeat(10, 0).repeat(10, 1) + checks).astype(np.uint8)).save(tmp_path / "a.png")
    expected = decoded(images.encode(Image.fromarray(means)))
    assert np.array_equal(images.read(tmp_path / "a.png").permute(1, 2, 0), expected)


def test_cifake_files_are_taken_as_they_are(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    file = tmp_path / "a.jpg"
    file.write_bytes(images.encode(noise))
    assert np.array_equal(images.read(file).permute(1, 2, 0), decoded(file.read_bytes()))
    noise.save(file, quality=90)
    assert not np.array_equal(images.read(file).permute(1, 2, 0), decoded(file.read_bytes()))


def test_the_encoder_writes_cifakes_tables():
    """The first entries of the two tables are those lesson 01 found in all of CIFAKE."""
    with Image.open(io.BytesIO(images.encode(half_red((32, 32))))) as image:
        tables = "; ".join(" ".join(map(str, table[:4])) for table in image.quantization.values())
    assert tables == "8 6 5 8; 9 9 12 24"


def bad(folder):
    """Write files that are no images and return what `read` should say of each."""
    png = io.BytesIO()
    half_red().save(png, "PNG")
    (folder / "text.png").write_bytes(b"this is text")
    (folder / "truncated.png").write_bytes(png.getvalue()[:100])
    jpeg = images.encode(half_red())
    (folder / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "empty.jpg").touch()
    Image.new("F", (4, 4)).save(folder / "float.tif")
    return {
        "text.png": "not an image",
        "truncated.png": "can't be read",
        "truncated.jpg": "truncated",
        "empty.jpg": "empty",
        "float.tif": "mode F",
    }


def test_bad_files_are_named(tmp_path):
    for name, reason in bad(tmp_path).items():
        with pytest.raises(CifakeError, match=reason) as caught:
            images.read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value) and "Expected" in str(caught.value)
    with pytest.raises(CifakeError, match="There is no file"):
        images.read(tmp_path / "nowhere.png")
    with pytest.raises(CifakeError, match="is a folder"):
        images.read(tmp_path)


def test_decompression_bombs(tmp_path, monkeypatch, recwarn):
    half_red((64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # below twice the limit Pillow only warns
    assert_left_is_red(images.read(tmp_path / "a.png"))
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(CifakeError, match="decompression bomb"):
        images.read(tmp_path / "a.png")


def test_folder_reads_what_it_can_and_reports_the_rest(tmp_path):
    reasons = bad(tmp_path)
    with pytest.raises(CifakeError, match="None of the 5 files"):
        images.read_folder(tmp_path)
    (tmp_path / "sub").mkdir()
    half_red().save(tmp_path / "sub" / "b.png")
    half_red().save(tmp_path / "a.webp")
    (tmp_path / ".hidden").touch()
    pixels, names, problems = images.read_folder(tmp_path)
    assert names == ["a.webp", "sub/b.png"] and pixels.shape == (2, 3, 32, 32) and len(problems) == len(reasons)
    assert_left_is_red(pixels[1])


def test_folders_that_are_none(tmp_path):
    with pytest.raises(CifakeError, match="does not exist"):
        images.read_folder(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(CifakeError, match="is a file"):
        images.read_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CifakeError, match="holds no files"):
        images.read_folder(tmp_path / "empty")
