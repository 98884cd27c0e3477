"""Decoding: every kind of image file becomes an upright RGB square, or an error that names the file."""

import numpy as np
import pytest
from PIL import Image

from plant_pathology.inference.decode import TURNS, ImageError, decode, decode_squares, decode_with_original
from support import images


def picture(width=120, height=80):
    """Draw left half red, right half blue, top quarter white, so that any flip or rotation shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    pixels[: height // 4] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", images.COLOR)
def test_colors_are_right_in_every_mode_and_format(tmp_path, name):
    images.COLOR[name](tmp_path / name)
    pixels = decode(tmp_path / name, images.SIDE).astype(int)
    off = np.abs(pixels - np.asarray(images.color()))
    assert np.median(off) <= 2 and off.mean() < 8, "but for the borders, that JPEG blurs"


@pytest.mark.parametrize("name", images.GRAY)
def test_every_depth_of_gray_is_scaled_to_8_bits(tmp_path, name):
    images.GRAY[name](tmp_path / name)
    pixels, original = decode_with_original(tmp_path / name, images.SIDE)
    assert np.abs(pixels - 255 * images.gray()[..., None]).max() <= 1
    assert original.deep == ("16" in name or "float" in name)


@pytest.mark.parametrize("name", images.REFUSED)
def test_what_cannot_be_decoded_rightly_is_refused_by_name(tmp_path, name):
    write, words = images.REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(ImageError) as caught:
        decode(tmp_path / name, images.SIDE)
    assert words in caught.value.reason and str(tmp_path) not in caught.value.reason
    assert caught.value.path == tmp_path / name


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_by_each_of_the_eight_orientations(tmp_path, kind, orientation):
    exif, upright = Image.Exif(), images.color().resize((40, 24), Image.Resampling.NEAREST)
    exif[0x0112] = orientation
    undo = {None: None, Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270}
    undo |= {Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90}
    turn = TURNS.get(orientation)
    stored = upright.transpose(undo.get(turn, turn)) if turn is not None else upright
    stored.save(tmp_path / "turned", kind, exif=exif, quality=98)
    pixels, original = decode_with_original(tmp_path / "turned", 24)
    expected = np.asarray(upright.resize((24, 24), Image.Resampling.BICUBIC, reducing_gap=2.0)).astype(int)
    assert np.median(np.abs(pixels - expected)) <= 4 and original[:2] == (40, 24)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_metadata_of_noise_never_refuses_a_picture(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "noise.jpg"
    for number in range(100):
        head = b"Exif\0\0" + (b"II*\0\x08\0\0\0" if number % 2 else b"MM\0*\0\0\0\x08")
        images.color().save(path, "JPEG", exif=head + rng.bytes(int(rng.integers(0, 300))))
        assert decode(path, 16).shape == (16, 16, 3)


@pytest.mark.parametrize("size", [(1, 1), (6000, 1), (1, 6000), (3, 2)])
def test_pictures_of_any_shape_become_a_square(tmp_path, size):
    Image.new("RGB", size, (9, 90, 200)).save(tmp_path / "thin.png")
    assert np.abs(decode(tmp_path / "thin.png", 16).astype(int) - (9, 90, 200)).max() <= 1


def test_the_returned_size_is_that_of_the_upright_original(tmp_path):
    exif = Image.Exif()
    for orientation, size in [(1, (1200, 800)), (3, (1200, 800)), (6, (800, 1200)), (8, (800, 1200))]:
        exif[0x0112] = orientation
        picture(1200, 800).save(tmp_path / "leaf.jpg", exif=exif)
        assert decode_with_original(tmp_path / "leaf.jpg", 16)[1][:2] == size


@pytest.mark.parametrize("mode, kind", [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG")])
def test_decoding_several_sides_at_once_gives_the_same_bytes_as_each_alone(tmp_path, mode, kind):
    """96 and 112 px come from an eighth of the JPEG, 160 px from a quarter, 700 px from the whole."""
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (160, 240, 3), dtype=np.uint8)
    big = Image.fromarray(noise).resize((1800, 1200), Image.Resampling.BICUBIC)
    big.convert(mode).save(tmp_path / "leaf.jpg", kind, exif=exif)
    sides = [96, 112, 160, 700]
    squares, size = decode_squares(tmp_path / "leaf.jpg", sides)
    assert size[:2] == (1200, 1800)
    for side, square in zip(sides, squares, strict=True):
        np.testing.assert_array_equal(square, decode(tmp_path / "leaf.jpg", side))


def test_decoding_at_a_reduced_scale_is_close_to_full_decoding(tmp_path):
    noise = np.random.default_rng(0).normal(size=(30, 40, 3)).cumsum(0).cumsum(1)
    noise = (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
    big = Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC)
    big.save(tmp_path / "big.jpg", quality=95)
    full = np.asarray(Image.open(tmp_path / "big.jpg").resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(decode(tmp_path / "big.jpg", 64) - full).mean() < 2
