"""Test the cache that all runs on a machine share: its size limit, failed fetches, and simultaneous ones."""

import multiprocessing
import os
import time

import pytest

from plant_pathology.store.cache import Cache


def content(letter):
    return lambda target: target.write(letter.encode() * 1000)


def is_whole(path):
    return path.stat().st_size == 1000


def no_fetch(target):
    raise AssertionError("the object is in the cache already")


def held(cache):
    return sorted(path.name for path in (cache.root / "objects").iterdir())


def test_a_cached_object_is_not_fetched_again(tmp_path):
    cache = Cache(tmp_path, limit=1e6)
    path = cache.open("objects/aa", is_whole, 1000, content("a"))
    assert path.read_bytes() == b"a" * 1000 and not os.stat(path).st_mode & 0o222
    assert cache.open("objects/aa", is_whole, 1000, no_fetch) == path


def test_a_full_cache_deletes_the_object_that_was_used_longest_ago(tmp_path):
    cache = Cache(tmp_path, limit=3000)
    for age, letter in enumerate("abc"):
        path = cache.open(f"objects/{letter}", is_whole, 1000, content(letter))
        os.utime(path, (time.time() - 60 + age,) * 2)
    cache.open("objects/a", is_whole, 1000, no_fetch)
    cache.open("objects/d", is_whole, 1000, content("d"))
    assert held(cache) == ["a", "c", "d"]


def test_an_open_object_stays_readable_after_the_cache_deletes_it(tmp_path):
    cache = Cache(tmp_path, limit=1000)
    with cache.open("objects/a", is_whole, 1000, content("a")).open("rb") as file:
        cache.open("objects/b", is_whole, 1000, content("b"))
        assert held(cache) == ["b"] and file.read() == b"a" * 1000


def test_a_failed_fetch_leaves_no_partial_object(tmp_path):
    def broken(target):
        target.write(b"half")
        raise ConnectionError("cut")

    cache = Cache(tmp_path, limit=1e6)
    with pytest.raises(ConnectionError):
        cache.open("objects/aa", is_whole, 1000, broken)
    assert held(cache) == [] and list((tmp_path / "incoming").iterdir()) == []
    assert cache.open("objects/aa", is_whole, 1000, content("a")).stat().st_size == 1000


def test_partial_files_of_a_killed_process_are_deleted_after_a_day(tmp_path):
    cache = Cache(tmp_path, limit=1e6)
    (tmp_path / "incoming").mkdir()
    for name, age in (("old", 48), ("young", 1)):
        (tmp_path / "incoming" / name).touch()
        os.utime(tmp_path / "incoming" / name, (time.time() - age * 3600,) * 2)
    cache.open("objects/aa", is_whole, 1000, content("a"))
    assert [path.name for path in (tmp_path / "incoming").iterdir()] == ["young"]


def open_slowly(root, barrier):
    def slow(target):
        with (root / "fetches").open("a") as log:
            log.write("x")
        time.sleep(0.3)
        target.write(b"a" * 1000)

    barrier.wait(30)
    Cache(root, limit=1e6).open("objects/aa", is_whole, 1000, slow)


def test_processes_that_open_the_same_object_at_once_fetch_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    processes = [context.Process(target=open_slowly, args=(tmp_path, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "fetches").read_text() == "x"
