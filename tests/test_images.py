import io

import numpy as np
import pytest
from PIL import Image

from plant_pathology.images import ImageError, decode


def picture(width=120, height=80):
    """Left half red, right half blue, the top row of blocks white: any turn or mirror shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    pixels[: height // 4] = 255
    return Image.fromarray(pixels)


def test_every_mode_and_format_becomes_a_colour_square(tmp_path):
    for mode, kind in [("RGB", "JPEG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG")]:
        path = tmp_path / f"{mode}.jpg"
        picture().convert(mode).save(path, kind)
        pixels = decode(path, 16)
        assert pixels.shape == (16, 16, 3) and pixels.dtype == np.uint8
        assert pixels[:3].mean() > 200 > pixels[8:].mean(), f"{mode}: white belongs on top"


def test_a_picture_stored_on_its_side_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right to see it upright
    picture().rotate(90, expand=True).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    picture().save(tmp_path / "upright.jpg", quality=95)
    turned, upright = (decode(tmp_path / f"{name}.jpg", 16).astype(int) for name in ("turned", "upright"))
    assert np.abs(turned - upright).mean() < 5


def test_decoding_at_scale_is_close_to_decoding_in_full(tmp_path):
    noise = np.random.default_rng(0).normal(size=(30, 40, 3)).cumsum(0).cumsum(1)
    noise = (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)
    big = Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC)
    big.save(tmp_path / "big.jpg", quality=95)
    full = np.asarray(Image.open(tmp_path / "big.jpg").resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(decode(tmp_path / "big.jpg", 64) - full).mean() < 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
def test_what_is_no_whole_image_is_an_error_that_names_the_file(tmp_path, damage):
    path = tmp_path / "leaf.jpg"
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG")
    content = {"truncated": buffer.getvalue()[:600], "empty": b"", "text": b"<html>"}
    if damage in content:
        path.write_bytes(content[damage])
    with pytest.raises(ImageError, match=r"leaf\.jpg"):
        decode(path, 16)
