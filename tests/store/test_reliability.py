"""Test the datastore under faults: a few of the trials that `python benchmarks/reliability.py` runs in full."""

import io
import os

import pytest

from support import trials
from support.commands import run_module
from support.faults import FAULTS, Faults, FaultyProxy
from support.prepared import leaves, prepare
from support.stores import SECRET, BucketPlace


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_network_faults_lose_no_data(kind, s3, tmp_path):
    trials.meet_faults(tmp_path, s3, kind, rounds=1, seed=2, images=32, rate=0.12)


class First:
    """Plan one fault, for the first request with a given method and part of the path."""

    def __init__(self, fault, method, part):
        self._fault, self._method, self._part, self.met = fault, method, part, False

    def meets(self, method, path):
        if not self.met and method == self._method and self._part in path:
            self.met = True
            return self._fault


@pytest.fixture
def through(s3, tmp_path):
    """Yield a store that is reached through a proxy, and the proxy, whose plan of faults can be set."""
    proxy = FaultyProxy(s3.url)
    place = BucketPlace(tmp_path, s3, url=proxy.url, timeout_s=5)
    yield place.store(), proxy
    proxy.close()


def test_a_push_whose_response_was_lost_recognizes_its_own_version(through, tmp_path):
    store, proxy = through
    proxy.faults = First("lost answer", "PUT", "/versions/")
    version, new = store.push("leaves", prepare(tmp_path / "data", leaves(0, 10)))
    assert proxy.faults.met and new and version.ref == "leaves:1" and store.used_numbers() == [("leaves", 1)]


@pytest.mark.parametrize("kind", ["objects", "versions", "claims"])
def test_a_corrupted_upload_is_sent_again(kind, through, tmp_path):
    store, proxy = through
    proxy.faults = First("corrupted upload", "PUT", f"/{kind}/")
    version, new = store.push("leaves", prepare(tmp_path / "data", leaves(0, 10)))
    assert proxy.faults.met and new and store.resolve("leaves") == version and version.find_damage() == []


@pytest.mark.parametrize("kind", ["objects", "versions"])
def test_a_corrupted_download_is_read_again(kind, through, tmp_path):
    store, proxy = through
    store.push("leaves", prepare(tmp_path / "data", leaves(0, 10)))
    proxy.faults = First("corrupted download", "GET", f"/{kind}/")
    assert store.resolve("leaves").find_damage() == [] and proxy.faults.met


def test_a_truncated_download_continues_where_it_ended(through, tmp_path):
    store, proxy = through
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "large").write_bytes(content := os.urandom(5_000_000))
    version, _ = store.push("leaves", tmp_path / "data")
    proxy.faults = First("truncated", "GET", "/objects/")
    store.backend.fetch(f"objects/{version.files['large']['sha256']}", target := io.BytesIO())
    assert proxy.faults.met and target.getvalue() == content


def test_expired_credentials_give_one_error_line_with_the_remedy(s3, tmp_path):
    proxy = FaultyProxy(s3.url)
    proxy.faults = Faults("expired", rate=1, seed=1)
    done = run_module("datastore", "ls", *BucketPlace(tmp_path, s3, url=proxy.url).overrides, cwd=tmp_path)
    proxy.close()
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "ExpiredToken to ListObjectsV2: renew the credentials" in done.stderr and SECRET not in done.stderr


@pytest.mark.slow
def test_a_killed_push_publishes_nothing_and_the_next_push_succeeds(place, tmp_path):
    trials.kill_pushes(place, tmp_path, count=2, seed=1, images=160)


@pytest.mark.slow
def test_a_killed_pull_leaves_no_partial_folder(place, tmp_path):
    trials.kill_pulls(place, tmp_path, count=1, seed=1, images=400)


@pytest.mark.slow
def test_simultaneous_pushes_lose_no_version(place, tmp_path):
    trials.push_at_once(place, tmp_path, pushers=4)


@pytest.mark.slow
def test_simultaneous_pushes_removals_and_gcs_lose_no_version(place, tmp_path):
    trials.storm(place, tmp_path, seconds=1.5, seed=1)
