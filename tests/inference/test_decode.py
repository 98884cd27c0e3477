"""Decoding: every kind of image file becomes an upright RGB square, or an error that names the file."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from plant_pathology.inference.decode import ImageError, decode, decode_squares, decode_with_size


def picture(width=120, height=80):
    """Draw left half red, right half blue, top quarter white, so that any flip or rotation shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    pixels[: height // 4] = 255
    return Image.fromarray(pixels)


def test_every_mode_and_format_becomes_an_rgb_square(tmp_path):
    for mode, kind in [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG")]:
        path = tmp_path / f"{mode}.jpg"
        picture().convert(mode).save(path, kind)
        pixels = decode(path, 16)
        assert pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8
        assert pixels[:3].mean() > 200 > pixels[8:].mean(), f"{mode}: white belongs on top"


@pytest.mark.parametrize("mode, kind", [("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG")])
def test_colors_are_right_in_every_mode_and_format(tmp_path, mode, kind):
    """A CMYK JPEG holds inverted values, as Photoshop writes them; the others are PNGs with the suffix .jpg."""
    path = tmp_path / "leaf.jpg"
    picture().convert(mode).save(path, kind)
    if mode == "CMYK":
        assert b"Adobe" in path.read_bytes()[:200]
    pixels = decode(path, 16)[8:].astype(int)
    for half, channel in ((pixels[:, :6], 0), (pixels[:, 10:], 2)):
        others = [other for other in range(3) if other != channel]
        assert half[..., channel].mean() > 225 and half[..., others].mean() < 30


@pytest.mark.parametrize("colors", [1, 3])
def test_sixteen_bits_are_scaled_to_eight_and_not_clipped(tmp_path, colors):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)[None].repeat(64, axis=0)
    cv2.imwrite(str(tmp_path / "ramp.png"), ramp if colors == 1 else np.stack([ramp] * 3, axis=-1))
    pixels = decode(tmp_path / "ramp.png", 64).astype(int)
    assert np.abs(pixels - np.linspace(0, 255, 64)[None, :, None]).max() < 3


def test_the_returned_size_is_that_of_the_upright_original(tmp_path):
    exif = Image.Exif()
    for orientation, size in [(1, (1200, 800)), (3, (1200, 800)), (6, (800, 1200)), (8, (800, 1200))]:
        exif[0x0112] = orientation
        picture(1200, 800).save(tmp_path / "leaf.jpg", exif=exif)
        assert decode_with_size(tmp_path / "leaf.jpg", 16)[1] == size


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
    assert size == (1200, 1800)
    for side, square in zip(sides, squares, strict=True):
        np.testing.assert_array_equal(square, decode(tmp_path / "leaf.jpg", side))


def test_a_picture_with_exif_rotation_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # viewers rotate it by 90 degrees clockwise
    picture().rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    picture().save(tmp_path / "upright.jpg", quality=95)
    turned, upright = (decode(tmp_path / f"{name}.jpg", 16).astype(int) for name in ("turned", "upright"))
    assert np.abs(turned - upright).mean() < 5


def test_decoding_at_a_reduced_scale_is_close_to_full_decoding(tmp_path):
    noise = np.random.default_rng(0).normal(size=(30, 40, 3)).cumsum(0).cumsum(1)
    noise = (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
    big = Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC)
    big.save(tmp_path / "big.jpg", quality=95)
    full = np.asarray(Image.open(tmp_path / "big.jpg").resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(decode(tmp_path / "big.jpg", 64) - full).mean() < 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
def test_an_incomplete_image_raises_an_error_that_names_the_file(tmp_path, damage):
    path = tmp_path / "leaf.jpg"
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG")
    content = {"truncated": buffer.getvalue()[:600], "empty": b"", "text": b"<html>"}
    if damage in content:
        path.write_bytes(content[damage])
    with pytest.raises(ImageError, match=r"leaf\.jpg") as caught:
        decode(path, 16)
    assert caught.value.reason and str(tmp_path) not in caught.value.reason
