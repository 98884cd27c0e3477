"""Test incremental pushes: they upload what changed and reuse the shards of the previous version."""

import numpy as np
import pandas as pd
import pytest

from plant_pathology.core.errors import DamagedError, UserError
from plant_pathology.data.index import ARRAY, open_array, read_table
from plant_pathology.data.shards import Shards, encode, shard_name
from plant_pathology.datastore import describe
from plant_pathology.store.folder import FolderBackend
from plant_pathology.store.incremental import find_places
from plant_pathology.store.store import Store
from support.prepared import leaves, picture, prepare


@pytest.fixture
def store(tmp_path):
    return Store(FolderBackend(tmp_path / "store"))


def shards_of(version):
    return {file: entry["sha256"] for file, entry in version.files.items() if file.startswith("images-")}


def assert_holds(version, images, encoding="jpeg"):
    """Check that index and shards agree and hold exactly these images and labels, each in a row of its own."""
    table, array = read_table(version.open("index.csv")), open_array(version.open(ARRAY))
    assert table["image"].tolist() == [name.decode() for name in array["image"]] == list(images)
    assert table["labels"].tolist() == [labels for _, labels in images.values()]
    for column in ("shard", "row"):
        assert table[column].tolist() == array[column].tolist()
    assert not table[["shard", "row"]].duplicated().any()
    assert {shard_name(number, encoding) for number in table["shard"]} == shards_of(version).keys()
    shards = Shards(version.open)
    for name, shard, row in table[["image", "shard", "row"]].itertuples(index=False):
        assert shards.bytes(shard_name(shard, encoding), row) == encode(picture(images[name][0]), encoding, 95)
    assert version.find_damage() == []


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_a_push_after_added_images_uploads_only_these_and_the_index(encoding, store, tmp_path):
    before, after = leaves(0, 95), leaves(0, 50) | leaves(200, 205) | leaves(50, 95)
    first, _ = store.push("leaves", prepare(tmp_path / "a", before, encoding))
    stored = set(store.backend.keys("objects"))
    second, new = store.push("leaves", prepare(tmp_path / "b", after, encoding))
    assert new and second.ref == "leaves:2"
    assert_holds(second, after, encoding)
    assert shards_of(second).items() > shards_of(first).items()
    added = sum(store.backend.size(key) for key in set(store.backend.keys("objects")) - stored)
    index = sum(second.files[file]["size"] for file in ("index.csv", ARRAY))
    own = sum(len(encode(picture(f"{number}.jpg"), encoding, 95)) for number in range(200, 205))
    assert added - index < 1.5 * own
    assert {k: second.lineage[k] for k in ("parent", "added", "removed", "changed")} == {
        "parent": 1, "added": 5, "removed": 0, "changed": 0,
    }  # fmt: skip


def test_a_push_after_changed_labels_uploads_only_the_index(store, tmp_path):
    before = leaves(0, 40)
    after = before | {"7.jpg": ("7.jpg", "rust scab")}
    first, _ = store.push("leaves", prepare(tmp_path / "a", before))
    stored = set(store.backend.keys("objects"))
    second, _ = store.push("leaves", prepare(tmp_path / "b", after))
    assert_holds(second, after)
    assert shards_of(second) == shards_of(first)
    assert len(set(store.backend.keys("objects")) - stored) == 2
    assert (second.lineage["added"], second.lineage["removed"], second.lineage["changed"]) == (0, 0, 1)


def test_show_reports_where_a_version_comes_from(store, tmp_path):
    store.push("leaves", prepare(tmp_path / "a", leaves(0, 40), competition="apples"))
    folder = prepare(tmp_path / "b", leaves(1, 43), competition="apples")
    version, _ = store.push("leaves", folder, commit={"commit": "c0ffee", "uncommitted": ["conf/params.yaml"]})
    shown = dict(describe(version))
    assert shown["parent"] == "leaves:1: 3 added, 1 removed, 0 changed"
    assert shown["commit"] == "c0ffee and 1 uncommitted files"
    assert (shown["competition"], shown["encoding"], shown["quality"], shown["image_size"]) == (
        "apples", "jpeg", "95", "32",
    )  # fmt: skip


def test_replaced_and_removed_images_are_counted_and_stored_correctly(store, tmp_path):
    before = leaves(0, 60)
    after = leaves(3, 60) | {"9.jpg": ("another", "rust")}
    store.push("leaves", prepare(tmp_path / "a", before))
    second, _ = store.push("leaves", prepare(tmp_path / "b", after))
    assert_holds(second, after)
    assert (second.lineage["added"], second.lineage["removed"], second.lineage["changed"]) == (0, 3, 1)


def test_the_same_picture_under_several_names_has_one_row_per_name(store, tmp_path):
    before = {f"{n}.jpg": ("one", "rust") for n in range(5)} | leaves(10, 30)
    after = {f"{n}.jpg": ("one", "rust") for n in range(3, 9)} | leaves(10, 30)
    store.push("leaves", prepare(tmp_path / "a", before))
    second, _ = store.push("leaves", prepare(tmp_path / "b", after))
    assert_holds(second, after)


def test_a_folder_pushed_again_returns_its_version_whatever_was_pushed_in_between(store, tmp_path):
    folders = [prepare(tmp_path / str(n), leaves(0, 40 + 5 * n)) for n in range(3)]
    versions = [store.push("leaves", folder)[0] for folder in folders]
    assert [store.push("leaves", folder) for folder in folders] == [(version, False) for version in versions]
    again = prepare(tmp_path / "smaller shards of the same rows", leaves(0, 45), shard_rows=7)
    assert store.push("leaves", again) == (versions[1], False)


def test_ten_pushes_in_a_row_keep_every_image_intact(store, tmp_path):
    for n in range(10):
        images = leaves(n, 40 + 2 * n)
        version, _ = store.push("leaves", prepare(tmp_path / str(n), images))
        assert_holds(version, images)
    assert version.lineage["parent"] == 9


def test_unused_shards_are_left_out_and_mostly_unused_ones_are_packed_again(store, tmp_path):
    first, _ = store.push("leaves", prepare(tmp_path / "a", leaves(0, 60)))
    table = read_table(first.open("index.csv"))
    names = table.loc[table["shard"] != 2, "image"]
    without_one_shard = {name: pair for name, pair in leaves(0, 60).items() if name in set(names)}
    second, _ = store.push("leaves", prepare(tmp_path / "b", without_one_shard))
    assert_holds(second, without_one_shard)
    assert shards_of(second).keys() == shards_of(first).keys() - {"images-000002.zip"}
    third, _ = store.push("leaves", prepare(tmp_path / "c", leaves(0, 20)))
    assert_holds(third, leaves(0, 20))
    assert len(shards_of(third)) == 2


@pytest.mark.parametrize("setting", [{"quality": 50}, {"shard_mb": 1}])
def test_rows_prepared_with_other_settings_are_never_mixed(setting, store, tmp_path):
    store.push("leaves", prepare(tmp_path / "a", leaves(0, 40)))
    second, new = store.push("leaves", prepare(tmp_path / "b", leaves(0, 41), **setting))
    assert new and second.open("index.csv").read_bytes() == (tmp_path / "b" / "index.csv").read_bytes()


def test_a_shard_that_the_store_lost_is_not_reused(store, tmp_path):
    first, _ = store.push("leaves", prepare(tmp_path / "a", leaves(0, 40)))
    store.backend.delete(f"objects/{first.files['images-000001.zip']['sha256']}")
    second, _ = store.push("leaves", prepare(tmp_path / "b", leaves(0, 45)))
    assert_holds(second, leaves(0, 45))


def test_pushing_again_repairs_a_version_with_reused_shards(store, tmp_path):
    store.push("leaves", prepare(tmp_path / "a", leaves(0, 40)))
    second, _ = store.push("leaves", prepare(tmp_path / "b", leaves(0, 55)))
    for file in ("images-000001.zip", max(shards_of(second)), ARRAY):
        store.backend.delete(f"objects/{second.files[file]['sha256']}")
    assert len(second.find_damage()) == 3
    assert store.push("leaves", tmp_path / "b") == (second, False)
    assert_holds(second, leaves(0, 55))


def test_damage_that_the_folder_cannot_repair_is_an_error_with_the_remedy(store, tmp_path):
    store.push("leaves", prepare(tmp_path / "a", leaves(0, 40)))
    second, _ = store.push("leaves", prepare(tmp_path / "b", leaves(5, 40)))
    store.backend.delete(f"objects/{second.files['images-000000.zip']['sha256']}")
    with pytest.raises(DamagedError, match="rm data.ref=leaves:2"):
        store.push("leaves", tmp_path / "b")


@pytest.mark.parametrize("absent", ["images-000001.zip", "shard_mb"])
def test_an_incomplete_prepared_folder_is_refused(absent, store, tmp_path):
    folder = prepare(tmp_path / "a", leaves(0, 40))
    (folder / "images-000001.zip").unlink()
    if absent == "shard_mb":
        (folder / "manifest.json").write_text('{"image_size": 32, "encoding": "jpeg", "quality": 95}')
    with pytest.raises(UserError, match=f"{absent}.*run prepare again"):
        store.push("leaves", folder)
    assert store.refs() == []


@pytest.mark.slow
def test_places_of_a_million_rows_are_found():
    pixels = np.char.add(np.arange(1_000_000).astype(str), "0" * 58)
    theirs = pd.DataFrame({"pixels": pixels, "shard": np.arange(1_000_000) // 100, "row": np.arange(1_000_000) % 100})
    mine = pd.DataFrame({"pixels": np.insert(pixels[::-1], 500_000, "new")})
    places = find_places(mine, theirs)
    expected = np.insert(np.arange(1_000_000)[::-1], 500_000, -100)
    np.testing.assert_array_equal(places["shard"], np.maximum(expected // 100, -1))
    assert places["row"][500_000] == -1
