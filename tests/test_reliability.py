"""The datastore where things go wrong: a few of the trials that `python benchmarks/reliability.py` runs in full."""

import pytest

import trials
from faults import FAULTS


@pytest.mark.parametrize("kind", FAULTS)
def test_a_failing_network_loses_nothing(kind, s3, tmp_path):
    trials.meet_faults(tmp_path, s3, kind, rounds=1, seed=2, images=32, rate=0.12)


def test_a_killed_push_is_not_seen_and_the_next_one_completes_it(place, tmp_path):
    trials.kill_pushes(place, tmp_path, count=2, seed=1, images=160)


def test_a_killed_pull_leaves_nothing_that_looks_whole(place, tmp_path):
    trials.kill_pulls(place, tmp_path, count=1, seed=1, images=400)


def test_processes_that_push_at_once_lose_nothing(place, tmp_path):
    trials.push_at_once(place, tmp_path, pushers=4)


def test_pushes_removals_and_gcs_at_once_lose_nothing(place, tmp_path):
    trials.storm(place, tmp_path, seconds=1.5, seed=1)
