"""The datastore where things go wrong: a few of the trials that `python benchmarks/reliability.py` runs in full."""

import pytest

import trials
from conftest import run_module
from faults import FAULTS, Faults, FaultyProxy
from prepared import leaves, prepare
from stores import SECRET, BucketPlace


@pytest.mark.parametrize("kind", FAULTS)
def test_a_failing_network_loses_nothing(kind, s3, tmp_path):
    trials.meet_faults(tmp_path, s3, kind, rounds=1, seed=2, images=32, rate=0.12)


class LosesFirstAnswer:
    """A plan: the server's first answer about keys of one kind is lost."""

    def __init__(self, method, part):
        self._method, self._part, self._left = method, part, 1

    def meets(self, method, path):
        if self._left and method == self._method and self._part in path:
            self._left = 0
            return "lost answer"


def test_a_push_whose_answer_was_lost_knows_its_own_version(s3, tmp_path):
    proxy = FaultyProxy(s3.url)
    proxy.faults = LosesFirstAnswer("PUT", "/versions/")
    store = BucketPlace(tmp_path, s3, url=proxy.url, timeout_s=5).store()
    version, new = store.push("leaves", prepare(tmp_path / "data", leaves(0, 10)))
    proxy.close()
    assert proxy.faults._left == 0
    assert new and version.ref == "leaves:1" and store.taken() == [("leaves", 1)]


def test_expired_credentials_are_one_line_that_says_so(s3, tmp_path):
    proxy = FaultyProxy(s3.url)
    proxy.faults = Faults("expired", rate=1, seed=1)
    done = run_module("datastore", "ls", *BucketPlace(tmp_path, s3, url=proxy.url).overrides, cwd=tmp_path)
    proxy.close()
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "ExpiredToken to ListObjectsV2: renew the credentials" in done.stderr and SECRET not in done.stderr


def test_a_killed_push_is_not_seen_and_the_next_one_completes_it(place, tmp_path):
    trials.kill_pushes(place, tmp_path, count=2, seed=1, images=160)


def test_a_killed_pull_leaves_nothing_that_looks_whole(place, tmp_path):
    trials.kill_pulls(place, tmp_path, count=1, seed=1, images=400)


def test_processes_that_push_at_once_lose_nothing(place, tmp_path):
    trials.push_at_once(place, tmp_path, pushers=4)


def test_pushes_removals_and_gcs_at_once_lose_nothing(place, tmp_path):
    trials.storm(place, tmp_path, seconds=1.5, seed=1)
