"""Shards return the rows they were written from, with a bounded number of open files."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plant_pathology.data.shards import OPEN, SUFFIXES, Shards, encode, shard_name, write_shard


def images(count, side=16):
    coarse = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return coarse.repeat(side // 4, axis=1).repeat(side // 4, axis=2)


def write(folder, encoding, pixels, shards=1):
    """Write the same images to each of `shards` shards; return their names."""
    names = [shard_name(number, encoding) for number in range(shards)]
    for name in names:
        write_shard(folder / name, [encode(image, encoding, quality=95) for image in pixels], pixels.shape[1])
    return names


def test_raw_rows_are_exact_and_jpeg_rows_are_close(tmp_path):
    pixels = images(5)
    for encoding, error in (("raw", 0), ("jpeg", 4)):
        [name] = write(tmp_path, encoding, pixels)
        read = np.stack(list(Shards(tmp_path.joinpath).pixels([name] * 5, [4, 3, 2, 1, 0])))
        assert np.abs(read.astype(int) - pixels[::-1]).mean() <= error


@pytest.mark.parametrize("encoding", SUFFIXES)
def test_the_bytes_of_a_row_are_those_written(tmp_path, encoding):
    pixels = images(3)
    [name] = write(tmp_path, encoding, pixels)
    assert Shards(tmp_path.joinpath).bytes(name, 1) == encode(pixels[1], encoding, quality=95)


@pytest.mark.parametrize("encoding", SUFFIXES)
def test_equal_rows_make_equal_files(tmp_path, encoding):
    first, second = write(tmp_path, encoding, images(3), shards=2)
    assert (tmp_path / first).read_bytes() == (tmp_path / second).read_bytes()


def test_a_jpeg_shard_is_a_plain_zip_file(tmp_path):
    [name] = write(tmp_path, "jpeg", images(3))
    with zipfile.ZipFile(tmp_path / name) as shard:
        assert shard.namelist() == ["00000.jpg", "00001.jpg", "00002.jpg"]
        assert Image.open(shard.open("00001.jpg")).size == (16, 16)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
@pytest.mark.parametrize("encoding", SUFFIXES)
def test_the_number_of_open_files_is_bounded(tmp_path, encoding):
    names = write(tmp_path, encoding, images(2), shards=2 * OPEN)
    shards, before = Shards(tmp_path.joinpath), len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert len(list(shards.pixels(names, [1] * len(names)))) == len(names)
    assert len(os.listdir("/proc/self/fd")) - before <= OPEN
