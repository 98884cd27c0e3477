"""Test the datastore in a folder and on a real S3 server over HTTP, which keep the same promises."""

import hashlib
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from plant_pathology.core.errors import DamagedError, UserError
from plant_pathology.core.hashes import content_hash, sealed
from plant_pathology.core.provenance import commit
from plant_pathology.datastore import open_store, open_version
from plant_pathology.store.keys import manifest_key, object_key
from support.commands import PROJECT, config, run_module, start_module
from support.stores import BUCKET, SECRET, BucketPlace, FolderPlace


@pytest.fixture
def prepared(tmp_path):
    """Write a folder as prepare does, and return it."""
    return write_folder(tmp_path / "data" / "prepared")


def write_folder(folder, seed=0):
    (folder / "shards").mkdir(parents=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 32, 32, 3), np.uint8)
    np.save(folder / "shards" / "images-00000.npy", pixels)
    (folder / "index.csv").write_text(f"image,labels\n{seed}.jpg,scab\n")
    (folder / "manifest.json").write_text('{"labels": ["scab"]}\n')
    (folder / "empty.txt").touch()
    return folder


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def datastore(root, *arguments, **environment):
    return run_module("datastore", *arguments, cwd=root, **environment)


def key_of(version, file):
    return object_key(version.files[file]["sha256"])


@pytest.mark.slow
def test_the_command_line_pushes_lists_shows_verifies_and_pulls(place, prepared, tmp_path):
    def run(verb, *overrides):
        done = datastore(tmp_path, verb, *place.overrides, *overrides)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout

    first = run("push", "store.note=five folds")
    assert first.startswith("plant-pathology:1: ") and ", new, " in first and first.count("\n") == 1
    pointer = json.loads((tmp_path / "datastore.json").read_text())
    assert f"store.uri={pointer['uri']}" == place.overrides[0]
    assert place.store().resolve("plant-pathology:1").lineage["commit"] == commit(PROJECT)["commit"]
    assert "plant-pathology:1: " in (again := run("push")) and ", there already, " in again
    (prepared / "index.csv").write_text("image,labels\n")
    assert "plant-pathology:2: " in run("push")

    header, *rows = [line.split() for line in run("ls").splitlines()]
    assert header == ["name", "version", "size", "created", "note"]
    assert [row[:2] for row in rows] == [["plant-pathology", "1"], ["plant-pathology", "2"]]
    shown = run("show", "data.ref=plant-pathology:1")
    assert all(words in shown for words in ("five folds", "shards/images-00000.npy", pointer["sha256"]))
    assert "plant-pathology:2: all 4 files" in run("verify")
    run("pull", "store.into=copy")
    assert contents(tmp_path / "copy") == contents(prepared)


def test_by_default_the_store_is_a_folder_beside_the_pointer(prepared, tmp_path):
    assert datastore(tmp_path, "push").returncode == 0
    assert (tmp_path / "store" / "versions" / "plant-pathology" / "1.json").exists()
    assert json.loads((tmp_path / "datastore.json").read_text())["uri"] == "file://./store"


def test_a_folder_store_does_not_import_boto3(prepared, tmp_path):
    done = datastore(tmp_path, "push", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and "import time" in done.stderr and "boto" not in done.stderr


@pytest.mark.parametrize("arguments, status", [([], 2), (["psuh"], 2), (["--help"], 0), (["-h"], 0)])
def test_the_usage_names_the_verbs(arguments, status, tmp_path):
    done = datastore(tmp_path, *arguments)
    assert done.returncode == status
    usage = done.stderr if status else done.stdout
    assert all(f"\n  {verb} " in usage for verb in ("push", "ls", "show", "pull", "verify", "rm", "gc"))
    assert ("psuh" in usage) == ("psuh" in arguments)


def test_the_same_content_in_another_folder_is_the_same_version(store, prepared, tmp_path):
    version, new = store.push("leaves", prepared, "first")
    elsewhere = write_folder(tmp_path / "elsewhere")
    assert new and store.push("leaves", elsewhere, "second") == (version, False)
    assert store.refs() == [("leaves", 1)]


def test_older_content_pushed_again_returns_its_old_version(store, prepared, tmp_path):
    store.push("leaves", prepared)
    store.push("leaves", write_folder(tmp_path / "other", seed=1))
    version, new = store.push("leaves", prepared)
    assert version.ref == "leaves:1" and not new


def test_the_content_hash_is_the_same_on_any_machine():
    files = {"b.npy": {"sha256": "0" * 64, "size": 1}, "a/ü.csv": {"size": 2, "sha256": "f" * 64}}
    assert content_hash(files) == "9ce9b33c9d48d9c9cb65aa228e4af0833a2a92f96fb9d15d913f69572589b916"


def test_a_push_after_a_small_change_uploads_only_the_changed_file(place, store, prepared):
    store.push("leaves", prepared)
    before = place.writes()
    (prepared / "index.csv").write_text("image,labels\n0.jpg,rust\n")
    version, _ = store.push("leaves", prepared)
    written = [key for key, mark in place.writes().items() if mark != before.get(key) and "objects/" in key]
    assert len(written) == 1 and written[0].endswith(key_of(version, "index.csv"))


def test_training_maps_shards_read_only_into_memory(store, prepared):
    version, _ = store.push("leaves", prepared)
    shard = np.load(version.open("shards/images-00000.npy"), mmap_mode="r")
    np.testing.assert_array_equal(shard, np.load(prepared / "shards" / "images-00000.npy"))
    assert not os.stat(version.open("index.csv")).st_mode & 0o222
    assert version.open("empty.txt").read_bytes() == b""
    with pytest.raises(UserError, match="no missing.npy"):
        version.open("missing.npy")


def test_opening_a_file_of_a_folder_store_copies_nothing(prepared, tmp_path):
    place = FolderPlace(tmp_path)
    store = open_store(config(*place.overrides, f"store.cache={tmp_path / 'cache'}"))
    version, _ = store.push("leaves", prepared)
    assert version.open("index.csv") == place.root / key_of(version, "index.csv")
    assert not (tmp_path / "cache").exists()


def test_a_file_in_s3_is_fetched_once_for_all_runs_on_a_machine(prepared, tmp_path, s3):
    place = BucketPlace(tmp_path, s3)
    version, _ = open_store(config(*place.overrides)).push("leaves", prepared)
    path = version.open("index.csv")
    place.replace(key_of(version, "index.csv"), b"never fetched again")
    assert open_store(config(*place.overrides)).resolve("leaves").open("index.csv") == path
    assert path.read_bytes() == (prepared / "index.csv").read_bytes()


def test_a_cached_file_of_the_wrong_size_is_fetched_again(prepared, tmp_path, s3):
    version, _ = BucketPlace(tmp_path, s3).store().push("leaves", prepared)
    path = version.open("index.csv")
    path.chmod(0o644)
    path.write_bytes(b"cut")
    assert version.open("index.csv").read_bytes() == (prepared / "index.csv").read_bytes()


def test_every_object_in_s3_is_encrypted_as_configured(prepared, tmp_path, s3):
    place = BucketPlace(tmp_path, s3)
    open_store(config(*place.overrides, "store.sse=AES256")).push("leaves", prepared)
    stored = s3.client.list_objects_v2(Bucket=BUCKET, Prefix=place.prefix)["Contents"]
    assert len(stored) == 5
    for entry in stored:
        assert s3.client.head_object(Bucket=BUCKET, Key=entry["Key"])["ServerSideEncryption"] == "AES256"


def test_a_store_with_more_objects_than_one_listing_holds_is_read_completely(prepared, tmp_path, s3, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    place = BucketPlace(tmp_path, s3)
    version, _ = place.store().push("leaves", prepared)
    for seed in (1, 2):
        place.store().push("leaves", write_folder(tmp_path / str(seed), seed))
    before = place.writes()
    (prepared / "more").touch()
    place.store().push("leaves", prepared)
    written = [path for path, count in place.writes().items() if before.get(path) != count and "/objects/" in path]
    assert written == [] and len(place.store().refs()) == 4 and version.find_damage() == []


def test_verify_finds_corrupted_objects_and_pull_refuses_them(place, store, prepared, tmp_path):
    version, _ = store.push("leaves", prepared)
    table, shard = (prepared / "index.csv").read_bytes(), (prepared / "shards" / "images-00000.npy").read_bytes()
    place.replace(key_of(version, "index.csv"), b"X" + table[1:])
    place.replace(key_of(version, "shards/images-00000.npy"), shard[:-1])
    verify = datastore(tmp_path, "verify", "data.ref=leaves:1", *place.overrides)
    assert verify.returncode == 1 and "2 of 4 files" in verify.stderr
    assert "index.csv of leaves:1" in verify.stderr and "shards/images-00000.npy of leaves:1" in verify.stderr
    pull = datastore(tmp_path, "pull", "data.ref=leaves:1", "store.into=copy", *place.overrides)
    assert pull.returncode == 1 and "push the same folder again" in pull.stderr
    assert not list(tmp_path.glob("*copy*"))


def test_a_damaged_file_is_never_opened(place, store, prepared):
    version, _ = store.push("leaves", prepared)
    place.replace(key_of(version, "index.csv"), b"short")
    with pytest.raises(DamagedError, match="index.csv"):
        version.open("index.csv")


def test_pushing_again_repairs_a_truncated_object(place, store, prepared):
    version, _ = store.push("leaves", prepared)
    place.replace(key_of(version, "index.csv"), b"short")
    assert store.push("leaves", prepared) == (version, False)
    assert version.find_damage() == []


class Simultaneous:
    """Wrap a backend so that its first `create` of a manifest waits until all pushers are about to create theirs."""

    def __init__(self, objects, barrier):
        self._objects, self._barriers = objects, [barrier]

    def __getattr__(self, name):
        return getattr(self._objects, name)

    def create(self, key, content):
        while self._barriers and key.startswith("versions/"):
            self._barriers.pop().wait(10)
        return self._objects.create(key, content)


def push_at_once(store, folders):
    barrier = threading.Barrier(len(folders))
    stores = [replace(store, backend=Simultaneous(store.backend, barrier)) for _ in folders]
    with ThreadPoolExecutor(len(folders)) as pool:
        return list(pool.map(lambda store, folder: store.push("leaves", folder), stores, folders))


def test_concurrent_pushers_get_different_versions_and_none_is_lost(store, tmp_path):
    folders = [write_folder(tmp_path / str(seed), seed) for seed in range(6)]
    pushed = push_at_once(store, folders)
    assert sorted(version.version for version, _ in pushed) == [1, 2, 3, 4, 5, 6]
    for folder, (version, new) in zip(folders, pushed, strict=True):
        assert new and store.resolve(version.ref).sha256 == version.sha256
        assert version.open("index.csv").read_bytes() == (folder / "index.csv").read_bytes()


def test_concurrent_pushers_of_the_same_content_share_one_version(store, prepared):
    pushed = push_at_once(store, [prepared] * 4)
    assert [version.ref for version, _ in pushed] == ["leaves:1"] * 4 and sum(new for _, new in pushed) == 1
    assert store.refs() == [("leaves", 1)]


@pytest.mark.slow
def test_a_killed_push_leaves_no_version_and_the_next_one_completes(place, store, prepared, tmp_path):
    large = prepared / "large.npy"
    large.touch()
    os.truncate(large, 1 << 32)  # sparse: quick to make, seconds to hash
    with start_module("datastore", "push", *place.overrides, cwd=tmp_path) as push:
        while not store.backend.keys("objects"):
            assert push.poll() is None
        push.send_signal(signal.SIGKILL)
    assert push.returncode == -signal.SIGKILL
    assert store.refs() == [] and not (tmp_path / "datastore.json").exists()
    os.truncate(large, 1000)
    version, _ = store.push("leaves", prepared)
    assert version.ref == "leaves:1" and version.find_damage() == []


def test_a_file_that_changes_during_a_push_is_not_stored_under_its_old_hash(store, tmp_path):
    (tmp_path / "file").write_bytes(b"after")
    before = hashlib.sha256(b"before").hexdigest()
    with pytest.raises(UserError, match="changed while it was pushed"):
        store.backend.put(object_key(before), tmp_path / "file", before)
    assert store.backend.keys("objects") == []


@pytest.mark.parametrize("name", ["../up", "/root", "", "..", ".hidden", "a/b", "a\\b", "a\nb", "Leaves", "a:1"])
def test_a_version_name_that_leaves_the_store_is_refused(name, store, prepared):
    with pytest.raises(UserError, match="store.name"):
        store.push(name, prepared)
    with pytest.raises(UserError):
        store.resolve(f"{name}:1")
    assert store.backend.keys("objects") == []


def test_a_file_name_that_other_systems_do_not_allow_is_refused_before_any_upload(store, prepared):
    for name in ("line\nbreak", "back\\slash", "C:drive"):
        (prepared / name).touch()
        with pytest.raises(UserError, match="cannot be stored"):
            store.push("leaves", prepared)
        (prepared / name).unlink()
    (prepared / "link").symlink_to(prepared.parent)
    with pytest.raises(UserError, match="replace the link"):
        store.push("leaves", prepared)
    assert store.backend.keys("") == []


@pytest.mark.parametrize("file", ["../up", "/root", "", ".", "a/../../b", "a//b", "a/", "a\nb", "a\\..\\b", "C:a"])
def test_a_manifest_with_paths_that_leave_the_folder_is_refused(file, store):
    forge(store, {file: {"sha256": "0" * 64, "size": 1}})
    with pytest.raises(UserError, match="1.json is damaged"):
        store.resolve("leaves:1")


@pytest.mark.parametrize("sha256", ["../../secret", "0" * 63, "0" * 63 + "\n", None])
def test_a_manifest_with_an_invalid_hash_is_refused(sha256, store):
    forge(store, {"a": {"sha256": sha256, "size": 1}})
    with pytest.raises(UserError, match="1.json is damaged"):
        store.resolve("leaves:1")


@pytest.mark.parametrize("change", [{"version": 2}, {"name": "roots"}, {"sha256": "0" * 64}, {"files": []}, None])
def test_a_manifest_that_does_not_match_its_place_or_hash_is_refused(change, store):
    forge(store, {"a": {"sha256": "0" * 64, "size": 1}}, change)
    with pytest.raises(UserError, match="1.json is damaged"):
        store.resolve("leaves:1")


def test_a_manifest_with_one_changed_byte_is_refused(place, store, prepared):
    store.push("leaves", prepared, "five folds")
    content = place.raw("versions")[manifest_key("leaves", 1)]
    place.replace(manifest_key("leaves", 1), content.replace(b"five", b"four"))
    with pytest.raises(UserError, match="1.json is damaged"):
        store.resolve("leaves:1")


def forge(store, files, change=(), number=1):
    manifest = {"name": "leaves", "version": number, "created": "", "note": "", "files": files}
    manifest |= {"sha256": content_hash(files), "identity": f"{number}", "lineage": {"parent": None}}
    content = b"" if change is None else sealed(manifest | dict(change))
    assert store.backend.create(manifest_key("leaves", number), content)


def test_a_note_of_several_lines_is_refused(store, prepared):
    with pytest.raises(UserError, match="store.note must be one line"):
        store.push("leaves", prepared, "two\nlines")


def test_an_unknown_version_is_an_error_that_lists_the_known_ones(store, prepared, tmp_path):
    with pytest.raises(UserError, match="holds no version at all"):
        store.resolve("leaves")
    store.push("leaves", prepared)
    store.push("leaves", write_folder(tmp_path / "other", seed=1))
    for ref in ("leaves:3", "roots", "roots:1"):
        with pytest.raises(UserError, match="leaves:1, leaves:2, and not " + ref):
            store.resolve(ref)
    assert store.resolve("leaves").ref == "leaves:2"
    assert store.resolve("leaves:1").ref == "leaves:1"


def test_version_ten_comes_after_version_nine(store, prepared):
    for number in range(1, 11):
        forge(store, {"a": {"sha256": "0" * 64, "size": number}}, number=number)
    assert store.resolve("leaves").ref == "leaves:10"
    assert [version.version for version in store.versions()] == list(range(1, 11))
    assert store.push("leaves", prepared)[0].ref == "leaves:11"


@pytest.mark.slow
def test_training_opens_the_version_of_data_ref_or_else_of_the_pointer(place, store, prepared, tmp_path):
    cfg = [*place.overrides, f"paths.root={tmp_path}"]
    with pytest.raises(UserError, match="datastore push"):
        open_version(config(*cfg))
    assert datastore(tmp_path, "push", *place.overrides).returncode == 0
    store.push("plant-pathology", write_folder(tmp_path / "other", seed=1))
    assert open_version(config(*cfg)).ref == "plant-pathology:1"
    assert open_version(config(*cfg, "data.ref=plant-pathology:2")).ref == "plant-pathology:2"
    assert open_version(config(*cfg, "data.ref=plant-pathology")).ref == "plant-pathology:2"


def test_a_pointer_to_another_store_is_an_error_that_names_that_store(prepared, tmp_path):
    def cfg(store):
        return config(f"store.uri=file://{tmp_path / store}", f"paths.root={tmp_path}")

    assert datastore(tmp_path, "push", f"store.uri=file://{tmp_path / 'first'}").returncode == 0
    with pytest.raises(UserError, match="points to plant-pathology:1 in .*/first"):
        open_version(cfg("second"))
    open_store(cfg("second")).push("plant-pathology", write_folder(tmp_path / "other", seed=1))
    with pytest.raises(UserError, match="another plant-pathology:1, in .*/first"):
        open_version(cfg("second"))


def test_an_unfinished_folder_of_prepare_is_not_pushed(prepared, tmp_path):
    (prepared / "manifest.json").unlink()
    done = datastore(tmp_path, "push")
    assert done.returncode == 1 and "run `python -m plant_pathology.prepare`" in done.stderr
    assert not (tmp_path / "store").exists()


def test_pull_needs_a_target_and_never_overwrites_a_folder_that_holds_files(prepared, tmp_path):
    assert datastore(tmp_path, "push").returncode == 0
    assert "store.into" in datastore(tmp_path, "pull").stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").touch()
    done = datastore(tmp_path, "pull", "store.into=mine")
    assert done.returncode == 1 and "mine holds files already" in done.stderr
    assert list(contents(tmp_path / "mine")) == ["thesis"]


@pytest.mark.parametrize(
    "overrides, environment, remedy",
    [
        (["store.uri=s3://nowhere/x"], {}, "NoSuchBucket to ListObjectsV2: make the bucket, or set store.uri"),
        ([], {"AWS_ACCESS_KEY_ID": "", "AWS_EC2_METADATA_DISABLED": "true"}, "aws configure"),
        ([], {"AWS_PROFILE": "nobody"}, "set AWS_PROFILE"),
        (["store.endpoint_url=http://127.0.0.1:9"], {}, "check store.uri, store.endpoint_url and the network"),
        (["store.endpoint_url=127.0.0.1:9"], {}, "write http(s)://<host>:<port>"),
        ([f"store.uri=s3://key:{SECRET}@team/x"], {}, "store.uri must be file://<folder> or s3://<bucket>/<prefix>"),
        (["store.uri=???"], {}, "store.uri is not set"),
    ],
)
def test_an_unreachable_store_gives_one_error_line_with_remedy_and_no_secret(
    overrides, environment, remedy, s3, tmp_path
):
    place = BucketPlace(tmp_path, s3)
    done = datastore(tmp_path, "ls", *place.overrides, *overrides, **environment)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert remedy in done.stderr
    assert SECRET not in done.stdout + done.stderr
