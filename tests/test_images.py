import io
import os
import random
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFile, TiffImagePlugin

from cifake_utils import CifakeError, images, sources
from cifake_utils.support import memory

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


def test_malformed_exif_turns_nothing(tmp_path):
    half_red().save(tmp_path / "plain.png")
    expected = images.read(tmp_path / "plain.png")
    sound = Image.Exif()
    sound[0x0112] = 6
    sound = sound.tobytes()
    half_red().save(tmp_path / "turned.png", exif=sound)
    assert not torch.equal(images.read(tmp_path / "turned.png"), expected)
    for number, exif in enumerate(
        (b"Exif\0\0nonsense", b"MM", sound[:20], sound.replace(b"\x01\x12\0\x03", b"\x01\x12\0\x02"))
    ):
        half_red().save(tmp_path / f"{number}.png", exif=exif)
        assert torch.equal(images.read(tmp_path / f"{number}.png"), expected)


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


@pytest.mark.parametrize("size", [(330, 330), (97, 41), (41, 97)])
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGBA"), ("a.jpg", "RGB"), ("a.tif", "CMYK")])
def test_large_images_get_the_same_means_row_by_row(tmp_path, monkeypatch, size, turn, name, mode):
    """No conversion sees more than a row of the result covers."""
    smooth = Image.effect_noise((8, 8), 200).resize(size, Image.Resampling.BICUBIC)
    image = Image.merge(
        "RGB", [smooth, smooth.transpose(Image.Transpose.FLIP_LEFT_RIGHT), half_red(size).getchannel(1)]
    )
    exif = Image.Exif()
    exif[0x0112] = turn
    image.convert(mode).save(tmp_path / name, exif=exif)
    with Image.open(tmp_path / name) as opened:
        expected = np.asarray(images._square(opened), int)
    converted, convert = [], images._rgb
    monkeypatch.setattr(images, "_rgb", lambda part, of: converted.append(part.size) or convert(part, of))
    monkeypatch.setattr(images, "PIXELS_AT_ONCE", 100)
    with Image.open(tmp_path / name) as opened:
        assert np.abs(np.asarray(images._square(opened), int) - expected).max() <= 1
    assert len(converted) == 32 and max(height for _, height in converted) <= min(size) / 32 + 2


def test_the_decoder_reduces_large_jpeg_files(tmp_path, monkeypatch):
    half_red((4200, 4100)).save(tmp_path / "a.jpg")
    expected = images.read(tmp_path / "a.jpg")
    monkeypatch.setattr(images, "PIXELS_AT_ONCE", 10**7)
    sizes, convert = [], images._rgb
    monkeypatch.setattr(images, "_rgb", lambda part, of: sizes.append(part.size) or convert(part, of))
    assert (images.read(tmp_path / "a.jpg").float() - expected.float()).abs().max() <= 2
    assert sizes == [(2100, 2050)]


def test_threads_share_the_room_for_pixels(monkeypatch):
    monkeypatch.setattr(memory, "trim", lambda: None)
    room, inside, most = images._Room(100), [], []

    def work(pixels):
        with room.of(pixels):
            inside.append(min(pixels, 100))
            most.append(sum(inside))
            inside.remove(min(pixels, 100))

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (60, 500, 40, 60, 100, 1, 500) * 20]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(most) == len(threads) and max(most) <= 100 and room.free == 100


def test_as_many_images_are_decoded_at_once_as_there_is_room_for(tmp_path, monkeypatch):
    for number in range(6):
        half_red().save(tmp_path / f"{number}.png")
    monkeypatch.setattr(memory, "trim", lambda: None)
    decoding, most, both, pixels_of, patience = [], [], threading.Event(), images._pixels, 10

    def watched(image):
        decoding.append(1)
        most.append(len(decoding))
        if len(decoding) > 1:
            both.set()
        both.wait(patience)
        try:
            return pixels_of(image)
        finally:
            decoding.pop()

    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(images, "_pixels", watched)
    images.read_folder(tmp_path)
    assert max(most) > 1
    most.clear()
    both.clear()
    patience = 0.02
    monkeypatch.setattr(images, "PIXELS_AT_ONCE", 64 * 64)
    images.read_folder(tmp_path)
    assert max(most) == 1


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


@pytest.mark.parametrize(
    "error",
    [NotImplementedError("odd"), RuntimeError("\x1b[2J"), MemoryError(), IndexError(), KeyError(3), RecursionError()],
)
def test_whatever_pillow_raises_is_said_of_that_file(tmp_path, monkeypatch, error):
    half_red((32, 32)).save(tmp_path / "a.png")
    half_red((32, 32)).save(tmp_path / "b.jpg")
    load, entry = ImageFile.ImageFile.load, sources.Entry("REAL/a.png", "a.png", str(tmp_path / "a.png"))

    def odd(image):
        if image.format == "PNG":
            raise error
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", odd)
    _, names, (problem,) = images.read_folder(tmp_path)
    assert names == ["b.jpg"] and str(tmp_path / "a.png") in problem and problem.isprintable()
    assert "is damaged: " in sources._attempt(entry)


def written() -> dict[tuple[str, str], bytes]:
    """A small image in every format that Pillow writes, in the first mode that each takes."""
    Image.init()
    files = {}
    for file_format in sorted(Image.SAVE.keys() - {"PDF", "EPS", "PALM"}):  # not read, or by another program
        for mode in ("RGB", "L", "F", "1", "P"):
            buffer = io.BytesIO()
            try:
                half_red((32, 32)).convert(mode).save(buffer, file_format)
            except (OSError, ValueError):
                continue
            files[file_format] = buffer.getvalue()
            break
    return files


def test_damaged_files_of_every_format_are_an_image_or_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**4)  # what a damaged header asks for is refused sooner
    chance, file, outcomes, files = random.Random(0), tmp_path / "a.img", set(), written()
    assert {"PNG", "JPEG", "GIF", "TIFF", "BMP", "ICO", "PPM", "TGA", "DDS"} <= files.keys()
    for content in files.values():
        for turn in range(12):
            damaged = bytearray(content)
            for _ in range(1 + turn % 3):
                damaged[chance.randrange(min(len(damaged), 200 if turn % 2 else len(damaged)))] = chance.randrange(256)
            file.write_bytes(damaged[: chance.randrange(len(damaged))] if turn % 4 == 0 else damaged)
            (result,) = images.read_all([file])
            if isinstance(result, str):
                assert result.startswith(str(file)) and "Expected" in result and result.isprintable()
            else:
                assert result.shape == (3, 32, 32)
            assert isinstance(sources._attempt(sources.Entry("REAL/a", "a", str(file))), (str, np.ndarray))
            outcomes.add(type(result))
    assert outcomes == {str, torch.Tensor}


def test_size_is_that_of_the_upright_image(tmp_path):
    turned = half_red((64, 40)).getexif()
    for orientation, expected in ((1, (64, 40)), (3, (64, 40)), (6, (40, 64)), (8, (40, 64))):
        turned[0x0112] = orientation
        half_red((64, 40)).save(tmp_path / "a.jpg", exif=turned)
        assert images.size(tmp_path / "a.jpg") == expected


@pytest.mark.parametrize(("tags", "reason"), [({258: 12}, "of 12 bits"), ({262: 0}, "with 0 for white")])
def test_greys_of_a_tiff_whose_white_is_not_65535_are_refused(tmp_path, monkeypatch, tags, reason):
    grey = Image.fromarray(np.full((40, 40), 4095, np.uint16))
    grey.save(tmp_path / "a.tif")
    assert images.read(tmp_path / "a.tif").float().mean() == pytest.approx(4095 / 257, abs=1)
    get = TiffImagePlugin.ImageFileDirectory_v2.get
    values = {tag: (value,) if tag == 258 else value for tag, value in tags.items()}
    monkeypatch.setattr(
        TiffImagePlugin.ImageFileDirectory_v2, "get", lambda self, tag, *other: values.get(tag, get(self, tag, *other))
    )
    with pytest.raises(CifakeError, match=reason):
        images.read(tmp_path / "a.tif")


def test_the_transparent_level_of_a_png_of_16_bit_greys_is_white(tmp_path):
    grey = np.full((40, 40), 20_000, np.uint16)
    grey[:, :20] = 30_000
    Image.fromarray(grey).save(tmp_path / "a.png", transparency=20_000)
    found = images.read(tmp_path / "a.png").float()
    assert found[:, :, :14].mean() == pytest.approx(30_000 / 257, abs=2) and found[:, :, 18:].mean() > 253


def test_a_file_without_the_right_to_read_it_is_not_called_damaged(tmp_path, monkeypatch):
    half_red().save(tmp_path / "a.png")

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", refused)
    with pytest.raises(CifakeError, match=r"no right to.*Change its permissions"):
        images.read(tmp_path / "a.png")


def test_decompression_bombs(tmp_path, monkeypatch, recwarn):
    half_red((64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # below twice the limit Pillow only warns
    assert_left_is_red(images.read(tmp_path / "a.png"))
    assert images.size(tmp_path / "a.png") == (64, 64)
    assert not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(CifakeError, match="decompression bomb"):
        images.read(tmp_path / "a.png")
    half_red((64, 64)).save(tmp_path / "b.bmp")
    with pytest.raises(ValueError, match="far too many pixels"):
        sources.decode(str(tmp_path / "b.bmp"))


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


def test_what_is_hidden_is_left_out_and_what_is_no_file_is_named(tmp_path):
    half_red().save(tmp_path / "a.png")
    for hidden in (".git", "sub/.cache"):
        (tmp_path / hidden).mkdir(parents=True)
        half_red().save(tmp_path / hidden / "a.png")
    for name in ("Thumbs.db", "desktop.ini", "._a.png", "sub/.DS_Store"):
        (tmp_path / name).touch()
    _, names, problems = images.read_folder(tmp_path)
    assert names == ["a.png"] and not problems


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right that few have there")
def test_links_that_lead_nowhere_are_named(tmp_path):
    half_red().save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe")
    _, names, problems = images.read_folder(tmp_path)
    assert names == ["a.png"] and len(problems) == 3
    for name, reason in (("b.png", "not there"), ("loop", "link to a folder"), ("pipe", "neither a file")):
        assert any(name in problem and reason in problem for problem in problems)


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    half_red().save(tmp_path / "a.png")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def closed(folder):
        if "closed" in str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", closed)
    _, names, (problem,) = images.read_folder(tmp_path)
    assert names == ["a.png"] and "closed" in problem and "Permission denied" in problem
    with pytest.raises(CifakeError, match="Permission denied"):
        images.read_folder(tmp_path / "closed")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_of_any_bytes_are_read_and_shown(tmp_path):
    for name in ("\x1b[2J.png", "\udcff.png", "a\nb.png"):
        half_red().save(tmp_path / name, "PNG")
        (tmp_path / f"{name}.txt").write_text("text")
    _, names, problems = images.read_folder(tmp_path)
    assert len(names) == len(problems) == 3 and all(problem.isprintable() for problem in problems)
    with pytest.raises(CifakeError, match="too long"):
        images.read(tmp_path / ("a" * 300))
