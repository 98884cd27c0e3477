"""Test rm and gc: a number is never used again, and gc deletes nothing that a version or a running push uses."""

import os
import threading
import time
from dataclasses import replace

import pytest

from plant_pathology.core.errors import BusyError, UserError
from plant_pathology.store import claims
from plant_pathology.store.claims import claim
from plant_pathology.store.garbage import GcResult, gc, rm
from plant_pathology.store.keys import manifest_key
from support.commands import run_module
from support.prepared import leaves, prepare
from support.stores import FolderPlace


@pytest.fixture
def three(store, tmp_path):
    """Push three versions that share most of their shards, and return them."""
    for number in range(3):
        store.push("leaves", prepare(tmp_path / str(number), leaves(0, 40 + 5 * number)))
    return store.versions()


def objects(store):
    return set(store.backend.keys("objects"))


def used(*versions):
    return {f"objects/{entry['sha256']}" for version in versions for entry in version.files.values()}


@pytest.mark.slow
def test_the_command_line_removes_a_version_and_gc_frees_the_objects_that_only_it_used(place, store, three, tmp_path):
    def run(*arguments):
        return run_module("datastore", *arguments, *place.overrides, cwd=tmp_path)

    removed = run("rm", "data.ref=leaves:2")
    assert removed.returncode == 0 and removed.stdout.startswith("leaves:2 is removed")
    assert objects(store) == used(*three)
    assert [line.split()[1] for line in run("ls").stdout.splitlines()[1:]] == ["1", "3"]
    alone = used(three[1]) - used(three[0], three[2])
    freed = run("gc")
    assert freed.returncode == 0 and f": {len(alone)} objects\n" in freed.stdout and not freed.stderr
    assert objects(store) == used(three[0], three[2]) and not store.backend.keys("claims")
    assert three[0].find_damage() == three[2].find_damage() == []
    again = run("rm", "data.ref=leaves:2")
    assert again.returncode == 1 and again.stderr.count("\n") == 1
    assert "leaves:1, leaves:3, and not leaves:2 (it was removed)" in again.stderr


@pytest.mark.parametrize(
    "ref, message",
    [("leaves", "name the one to remove, such as data.ref=leaves:3"), ("../up:1", "no version"), ("leaves:9", "holds")],
)
def test_rm_needs_the_full_reference_of_a_version(ref, message, store, three):
    with pytest.raises(UserError, match=message):
        rm(store, ref)
    assert store.versions() == three


def test_a_removed_number_is_never_used_again(store, three, tmp_path):
    rm(store, "leaves:3")
    assert store.push("leaves", tmp_path / "2")[0].ref == "leaves:4"
    assert store.push("leaves", tmp_path / "1")[0].ref == "leaves:2"
    for ref in ("leaves:1", "leaves:2", "leaves:4"):
        rm(store, ref)
    assert store.versions() == [] and store.refs() == []
    gc(store)
    assert objects(store) == set()
    version, _ = store.push("leaves", tmp_path / "0")
    assert version.ref == "leaves:5" and version.find_damage() == [] and version.lineage["parent"] is None


def test_a_late_push_cannot_take_the_number_of_a_removed_version(store, three, tmp_path):
    rm(store, "leaves:3")
    assert not store.backend.create(manifest_key("leaves", 3), b"{}")


def test_gc_does_not_delete_unknown_files(place, store, three):
    store.backend.create("objects/README", b"ours")
    assert gc(store) == GcResult(0, 0, 0)
    assert "objects/README" in objects(store)


def test_gc_deletes_nothing_if_a_manifest_is_damaged(place, store, three):
    rm(store, "leaves:2")
    place.replace(manifest_key("leaves", 1), b"{}")
    with pytest.raises(UserError, match="1.json is damaged"):
        gc(store)
    assert objects(store) == used(*three) and not store.backend.keys("claims")


def test_gc_ends_with_an_error_while_a_push_is_running(store, three):
    rm(store, "leaves:2")
    with claim(store.backend, "push", rival="gc"), pytest.raises(BusyError, match="a push that began at"):
        gc(store)
    assert objects(store) == used(*three) and not store.backend.keys("claims")


def test_a_push_waits_until_gc_ends(store, three, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(claims, "POLL_S", 0.05)
    folder = prepare(tmp_path / "new", leaves(100, 120))
    with claim(store.backend, "gc", rival="push"):
        thread = threading.Thread(target=store.push, args=("leaves", folder))
        thread.start()
        time.sleep(0.5)
        assert len(store.versions()) == 3 and objects(store) == used(*three)
    thread.join(10)
    assert store.resolve("leaves").ref == "leaves:4"
    assert "waiting: " in (told := capsys.readouterr().err) and told.count("waiting: ") == 1


class Sleeping:
    """Wrap a backend so that a push sleeps once, after it has uploaded all its objects."""

    def __init__(self, objects, sleep):
        self._objects, self._sleeps, self._looks = objects, [sleep], 0

    def __getattr__(self, name):
        return getattr(self._objects, name)

    def keys(self, prefix):
        self._looks += prefix == "versions/leaves"
        if self._looks == 2 and self._sleeps:
            self._sleeps.pop()()
        return self._objects.keys(prefix)


def test_a_push_that_lost_its_claim_checks_its_objects_again_before_it_publishes(store, three, tmp_path):
    """A gc that assumes that a sleeping push was killed deletes its objects; the push then uploads them again."""
    collected = []

    def past_its_life():
        for key in store.backend.keys("claims"):
            store.backend.delete(key)
        collected.append(gc(store).objects)

    sleepy = replace(store, backend=Sleeping(store.backend, past_its_life))
    version, new = sleepy.push("leaves", prepare(tmp_path / "new", leaves(100, 120)))
    assert collected[0] > 0
    assert new and version.ref == "leaves:4" and store.resolve("leaves").find_damage() == []


def test_an_expired_claim_is_not_held(store, monkeypatch):
    with claim(store.backend, "push", rival="gc") as mine:
        assert mine.is_held()
        monkeypatch.setitem(claims.LIFETIME_S, "push", 0.01)
        time.sleep(0.01)
        assert not mine.is_held()


def test_claims_of_killed_processes_expire(store, three, tmp_path, monkeypatch):
    for kind in ("push", "gc"):
        store.backend.create(f"claims/{kind}/dead", b"dead")
        monkeypatch.setitem(claims.LIFETIME_S, kind, 1.0)
    time.sleep(2.1)
    monkeypatch.setitem(claims.LIFETIME_S, "gc", 600)
    monkeypatch.setitem(claims.LIFETIME_S, "push", 1.0)
    rm(store, "leaves:2")
    assert gc(store).objects > 0
    assert store.backend.keys("claims") == ["claims/gc/dead"]
    monkeypatch.setitem(claims.LIFETIME_S, "gc", 1.0)
    monkeypatch.setitem(claims.LIFETIME_S, "push", 600)
    store.push("leaves", prepare(tmp_path / "new", leaves(100, 120)))
    assert store.backend.keys("claims") == []


def test_gc_stops_before_its_claim_expires_and_reports_the_rest(store, three, monkeypatch):
    rm(store, "leaves:2")
    monkeypatch.setattr(claims.Claim, "is_fresh", lambda claim: False)
    freed = gc(store)
    assert freed.objects == 0 and freed.left > 0 and objects(store) == used(*three)


def test_gc_deletes_partial_files_of_killed_pushes(tmp_path):
    store = FolderPlace(tmp_path).store()
    store.push("leaves", prepare(tmp_path / "data", leaves(0, 10)))
    incoming = tmp_path / "store" / "incoming"
    for name, age in (("old", 7 * 3600), ("new", 60)):
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, (time.time() - age,) * 2)
    assert gc(store) == GcResult(1, 4, 0)
    assert [path.name for path in incoming.iterdir()] == ["new"]
