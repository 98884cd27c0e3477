"""Unpacking a download: archives in archives, damaged and hostile ones, and interruptions."""

import io
import random
import signal
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import py7zr
import pytest

from plant_pathology.core.errors import UserError
from plant_pathology.kaggle.archives import DamagedArchive
from plant_pathology.kaggle.unpack import DEEPEST, unpack

Content = dict[str, bytes]
IMAGES = {f"{number}.jpg": b"image %d" % number * 100 for number in range(30)}


def zipped(content: Content) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return file.getvalue()


def tarred(content: Content, mode: str = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, text in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return file.getvalue()


def seven_zipped(content: Content, password: str | None = None) -> bytes:
    file = io.BytesIO()
    with py7zr.SevenZipFile(file, "w", password=password) as archive:
        for name, text in content.items():
            archive.writestr(text, name)
    return file.getvalue()


def below(folder: str, content: Content) -> Content:
    return {f"{folder}/{name}": text for name, text in content.items()}


def files_below(folder: Path) -> Content:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def unpacked(root: Path, content: Content) -> Content:
    """Return what a download with this content becomes."""
    (root / "download.zip").write_bytes(zipped(content))
    unpack(root / "download.zip", root / "unpacked")
    assert sorted(path.name for path in root.iterdir()) == ["unpacked"]
    return files_below(root / "unpacked")


@pytest.mark.parametrize(
    "name, pack",
    [
        ("train.zip", zipped),
        ("train.tar", lambda content: tarred(content, "w")),
        ("train.tar.gz", tarred),
        ("train.TGZ", tarred),
        ("train.tar.bz2", lambda content: tarred(content, "w:bz2")),
        ("train.tar.xz", lambda content: tarred(content, "w:xz")),
        ("train.7z", seven_zipped),
    ],
)
def test_an_archive_becomes_the_folder_of_its_name(tmp_path, name, pack):
    expected = {"train.csv": b"id", **below("train", IMAGES)}
    for number, content in enumerate((IMAGES, below("train", IMAGES), below("./train", IMAGES))):
        root = tmp_path / str(number)
        root.mkdir()
        assert unpacked(root, {"train.csv": b"id", name: pack(content)}) == expected


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("train.csv.zip", {"train.csv": b"id"}, {"train.csv": b"id"}),
        ("labels.zip", {"labels.csv": b"id"}, {"labels.csv": b"id"}),
        ("imgs.zip", {"train/a": b"1", "test/b": b"2"}, {"imgs/train/a": b"1", "imgs/test/b": b"2"}),
        ("train.zip", {"images/a": b"1"}, {"train/images/a": b"1"}),
        ("train.zip", {"train/a": b"1", "train.csv": b"2"}, {"train/a": b"1", "train.csv": b"2"}),
        ("train.zip", {"train/a": b"1", "__MACOSX/train/._a": b"", "train/.DS_Store": b""}, {"train/a": b"1"}),
        ("train.zip", {"train\\cats\\a": b"1"}, {"train/cats/a": b"1"}),
        ("x.zip", {"x.zip": zipped({"a": b"1"})}, {"x/x/a": b"1"}),
        ("cat.zip", {"cat.0.jpg": b"1", "cat.1.jpg": b"2"}, {"cat/cat.0.jpg": b"1", "cat/cat.1.jpg": b"2"}),
        ("folder/part1.zip", {"a": b"1"}, {"folder/part1/a": b"1"}),
        ("model.npz", {"a": b"1"}, None),
    ],
)
def test_where_its_files_go(tmp_path, name, content, expected):
    packed = zipped(content)
    assert unpacked(tmp_path, {name: packed}) == (expected or {name: packed})


def test_archives_in_archives(tmp_path):
    tar = tarred(below("train-jpg", IMAGES), "w")
    parts = {f"train/{part}.zip": zipped(IMAGES) for part in "ab"}
    content = {"train-jpg.tar.7z": seven_zipped({"train-jpg.tar": tar}), "train.zip": zipped(parts)}
    expected = below("train-jpg", IMAGES) | below("train/a", IMAGES) | below("train/b", IMAGES)
    assert unpacked(tmp_path, content) == expected


def test_empty_folders_and_files_are_there(tmp_path):
    unpacked(tmp_path, {"train.zip": zipped({"train/empty/": b"", "train/none.jpg": b""})})
    assert (tmp_path / "unpacked/train/empty").is_dir() and (tmp_path / "unpacked/train/none.jpg").read_bytes() == b""


def test_what_needs_a_password_stays_packed(tmp_path, capsys):
    locked = seven_zipped({"stage2.csv": b"id"}, password="later")
    secret = bytearray(zipped({"a.jpg": b"image"}))
    secret[secret.index(b"PK\1\2") + 8] |= 1  # the flag in the list
    content = {"stage2.7z": locked, "test.zip": bytes(secret), "train.zip": zipped(IMAGES)}
    assert unpacked(tmp_path, content) == {
        "stage2.7z": locked,
        "test.zip": bytes(secret),
        **below("train", IMAGES),
    }
    error = capsys.readouterr().err
    assert "stage2.7z stays packed" in error and "test.zip stays packed" in error and "password" in error


@pytest.mark.parametrize(
    "name", ["../a.jpg", "train/../../a.jpg", "/tmp/a.jpg", "C:\\a.jpg", "..\\..\\a.jpg", "//h/s/a"]
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path, name, pack):
    suffix = {zipped: "zip", tarred: "tgz"}[pack]
    before = set(tmp_path.parent.iterdir())
    with pytest.raises(UserError, match=f"train.{suffix} holds .*leads out of the folder"):
        unpacked(tmp_path, {f"train.{suffix}": pack({"train/b.jpg": b"image", name: b"image"})})
    assert list(files_below(tmp_path / "unpacked")) == [f"train.{suffix}"], "nothing of it was unpacked"
    assert set(tmp_path.parent.iterdir()) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("train/a.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(UserError, match="a link or device"):
        unpacked(tmp_path, {"train.tar": file.getvalue()})


def test_a_link_in_a_zip_is_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        member = zipfile.ZipInfo("train/a.jpg")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match="a link or device"):
        unpacked(tmp_path, {"train.zip": file.getvalue()})


def test_archives_nested_without_end_are_refused(tmp_path):
    content = b"image"
    for _ in range(DEEPEST + 1):
        content = zipped({"a.zip": content})
    with pytest.raises(UserError, match="one in another"):
        unpacked(tmp_path, {"a.zip": content})


def test_a_tar_of_more_than_the_disk_is_refused_before_it_is_read(tmp_path):
    member = tarfile.TarInfo("train/zeros")
    member.size = 2**50
    with pytest.raises(UserError, match="more than the whole disk"):
        unpacked(tmp_path, {"train.tar": member.tobuf() + bytes(10240)})


def test_a_zip_that_holds_more_than_it_lists_is_damaged(tmp_path):
    packed = bytearray(zipped({"train/a.jpg": bytes(10**7)}))
    entry = packed.index(b"PK\1\2")
    packed[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    with pytest.raises(DamagedArchive, match="train.zip is damaged"):
        unpacked(tmp_path, {"train.zip": bytes(packed)})
    assert not (tmp_path / "unpacked/train/a.jpg").exists()


@pytest.mark.parametrize("pack, name", [(zipped, "a.zip"), (tarred, "a.tgz"), (seven_zipped, "a.7z")])
def test_damage_is_found_wherever_it_is_and_named(tmp_path, pack, name):
    rng, whole = random.Random(0), pack(below("a", IMAGES))
    found = 0
    for number in range(40):
        root, packed = tmp_path / str(number), bytearray(whole)
        root.mkdir()
        if number % 2:
            packed[rng.randrange(len(packed))] ^= 255
        else:
            del packed[rng.randrange(len(packed)) :]
        try:
            unpacked(root, {name: bytes(packed)})
        except (DamagedArchive, UserError) as error:
            assert name in str(error)
            found += 1
        for path, text in files_below(root / "unpacked/a").items():
            assert path not in IMAGES or text == IMAGES[path], "no file has other bytes"
    assert found > 30, "the others are damaged in a time or a flag"


def test_a_tar_with_a_damaged_header_is_damaged(tmp_path):
    packed = bytearray(tarred(IMAGES, "w"))
    packed[packed.index(b"7.jpg")] ^= 1  # Python's tarfile would take this for the end
    with pytest.raises(DamagedArchive, match="a.tar is damaged"):
        unpacked(tmp_path, {"a.tar": bytes(packed)})


# Unpacks, and kills itself when it is about to begin, to place or to delete a file for the n-th time.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from plant_pathology.kaggle.unpack import unpack

left = int(sys.argv[3])

def hook(event, arguments):
    global left
    if event in ("os.rename", "os.remove") or event == "open" and str(arguments[0]).endswith("part"):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_again_and_again_it_ends_complete_and_right(tmp_path):
    rng = random.Random(0)
    images = {f"{number}.jpg": rng.randbytes(rng.randrange(2000)) for number in range(40)}
    parts = {f"part{part}.zip": zipped(images) for part in range(2)}
    content = {
        "train.csv": b"id",
        "test.tgz": tarred(images),
        "more.7z": seven_zipped(images),
        "train.zip": zipped(parts),
    }
    expected = {"train.csv": b"id"}
    for folder in ("test", "more", "train/part0", "train/part1"):
        expected |= below(folder, images)
    download, folder = tmp_path / "download.zip", tmp_path / "unpacked"
    download.write_bytes(zipped(content))
    kills = 0
    while True:
        moment = str(rng.randrange(3, 45))
        done = subprocess.run([sys.executable, "-c", PROGRAM, download, folder, moment], capture_output=True, text=True)
        for name, text in files_below(folder).items():
            assert name not in expected or text == expected[name], f"{name} is there before all of it is"
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
    assert kills > 8 and files_below(folder) == expected and not download.exists()
