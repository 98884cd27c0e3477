import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from plant_pathology.core.errors import UserError
from plant_pathology.data import duplicates
from plant_pathology.data.duplicates import (
    apply_policy,
    bits_apart,
    connected_groups,
    find_duplicates,
    join_groups,
    near_first,
)
from plant_pathology.data.near_pairs import MOST_TABLES, bucket_bits, sampled_pairs, tables_needed


def random_hashes(rng, count):
    return rng.integers(0, 2**64, (count, 4), np.uint64)


def changed(rng, hashes, least, most):
    """Return the hashes with `least` to `most` random bits of each flipped."""
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    place = rng.random(bits.shape).argsort(axis=1).argsort(axis=1)
    return np.packbits(bits ^ (place < rng.integers(least, most + 1, (len(bits), 1))), axis=1).view(np.uint64)


def numbers(pairs, count):
    """Return each pair as one number."""
    return pairs[0] * count + pairs[1]


def near_pairs(hashes, distance):
    """Return all pairs within a distance as `sampled_pairs` does, by comparing each hash with every other."""
    apart = bits_apart(hashes, hashes)
    first, second = np.nonzero(np.triu(apart <= distance, k=1))
    return first, second, apart[first, second]


def brute_force(hashes, distance):
    """Return each hash's group, its distance from the group's first, and whether it is near another one's first."""
    bits = np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8), axis=1).astype(int)
    begin, first, apart = [], [], []
    for own in range(len(bits)):
        distances = [(int((bits[own] != bits[other]).sum()), other) for other in begin]
        nearest = min(distances, default=(distance + 1, own))
        if nearest[0] > distance:
            begin, nearest = [*begin, own], (0, own)
        first.append(nearest[1])
        apart.append(nearest[0])
    between = [sum((row != bits[other]).sum() <= distance for other in begin) > 1 for row in bits]
    return first, apart, between


@pytest.mark.parametrize("limit", [2000, 10])
def test_groups_are_those_of_a_plain_loop_for_chains_crowds_and_copies(monkeypatch, limit):
    rng = np.random.default_rng(0)
    chain = random_hashes(rng, 1)
    for _ in range(300):
        chain = np.concatenate([chain, changed(rng, chain[-1:], 1, 12)])
    crowd = changed(rng, np.repeat(random_hashes(rng, 1), 200, axis=0), 1, 20)
    hashes = np.concatenate([chain, crowd, chain[50:60], random_hashes(rng, 100)])
    hashes = hashes[rng.permutation(len(hashes))]
    monkeypatch.setattr(duplicates, "EXACT", limit)
    near = near_first(hashes, 40)
    first, apart, between = brute_force(hashes, 40)
    assert near.first.tolist() == first and near.bits.tolist() == apart and near.between.tolist() == between
    assert near.bits.max() <= 40 and near.between.any()
    sizes = np.bincount(near.first)
    assert np.sort(sizes)[-1] >= 200 and 10 < np.sort(sizes)[-2] < 100, "the crowd is one group, the chain is several"


@pytest.mark.slow
def test_sampling_finds_nearly_all_pairs_of_random_hashes_and_their_copies():
    rng = np.random.default_rng(0)
    hashes = random_hashes(rng, 3000)
    hashes = np.concatenate([hashes, changed(rng, hashes, 1, 40), changed(rng, hashes, 40, 40)])
    hashes = hashes[rng.permutation(len(hashes))]
    true, found = near_pairs(hashes, 40), sampled_pairs(hashes, 40)
    assert (np.diff(numbers(found, len(hashes))) > 0).all() and (found[0] < found[1]).all(), "each pair once"
    assert set(zip(*found, strict=True)) <= set(zip(*true, strict=True)), "and none that is not near"
    hit = np.isin(numbers(true, len(hashes)), numbers(found, len(hashes)))
    assert len(hit) > 6000
    assert hit.mean() > 0.99
    assert hit[true[2] == 40].mean() > 0.98
    assert hit[true[2] <= 16].all()
    assert not hit.all(), "the search is not exact; if it is, it compares too much"


@pytest.mark.parametrize("clusters, size, recall", [(300, 20, 0.99), (100, 50, 0.98)])
def test_sampling_finds_nearly_all_pairs_of_clusters(clusters, size, recall):
    rng = np.random.default_rng(0)
    hashes = changed(rng, np.repeat(random_hashes(rng, clusters), size, axis=0), 1, 20)
    true, found = near_pairs(hashes, 40), sampled_pairs(hashes, 40)
    hit = np.isin(numbers(true, len(hashes)), numbers(found, len(hashes)))
    assert hit.mean() > recall and hit[true[2] <= 16].mean() > 0.999
    assert (connected_groups(*found[:2], len(hashes)) == np.arange(len(hashes)) // size * size).all()


def test_a_crowd_is_one_group_without_comparing_all_its_pairs():
    rng = np.random.default_rng(0)
    crowd = np.unique(changed(rng, np.repeat(random_hashes(rng, 1), 5000, axis=0), 1, 20), axis=0)
    hashes = np.concatenate([random_hashes(rng, 5000), crowd])
    first, second, bits = sampled_pairs(hashes, 40)
    group = connected_groups(first, second, len(hashes))
    assert (group[:5000] == np.arange(5000)).all() and (group[5000:] == 5000).all()
    assert len(first) < 200 * len(hashes), "of 12 million pairs"


def test_more_hashes_than_the_limit_are_sampled_and_equal_ones_are_grouped_with_the_first(monkeypatch):
    rng = np.random.default_rng(0)
    hashes = random_hashes(rng, 2000)
    hashes[5:1500:2] = hashes[5]
    hashes[1999] = changed(rng, hashes[5:6], 7, 7)[0]
    for limit in (2000, 100):
        monkeypatch.setattr(duplicates, "EXACT", limit)
        near = near_first(hashes, 40)
        expected = np.arange(2000)
        expected[5:1500:2] = expected[1999] = 5
        assert near.first.tolist() == expected.tolist() and not near.between.any()
        assert np.flatnonzero(near.bits).tolist() == [1999] and near.bits[1999] == 7
    assert len(near_first(hashes[:0], 40).first) == 0


def test_only_hashes_beyond_the_limit_are_sampled(monkeypatch):
    rng = np.random.default_rng(0)
    hashes = random_hashes(rng, 1000)
    hashes = np.concatenate([hashes, changed(rng, hashes, 40, 40)])
    monkeypatch.setattr("plant_pathology.data.near_pairs.MISSED", 0.5)
    assert len(np.unique(near_first(hashes, 40).first)) == 1000
    monkeypatch.setattr(duplicates, "EXACT", 1999)
    assert 1300 < len(np.unique(near_first(hashes, 40).first)) < 1700


@pytest.mark.parametrize("most", [0, 8])
def test_memory_grows_with_the_number_of_alike_images_and_not_with_its_square(most):
    rng, peaks = np.random.default_rng(0), []
    for count in (5_000, 15_000):
        hashes = changed(rng, np.repeat(random_hashes(rng, 1), count, axis=0), 0, most)
        tracemalloc.start()
        near = near_first(hashes, 40)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (near.first == 0).all()
    assert peaks[1] < 4 * peaks[0], "all pairs would take nine times as much"


def test_sampling_takes_time_by_the_number_of_hashes_and_not_of_pairs():
    rng = np.random.default_rng(0)
    seconds = []
    for count in (10_000, 80_000):
        hashes = random_hashes(rng, count)
        start = time.process_time()
        sampled_pairs(hashes, 20)
        seconds.append(time.process_time() - start)
    assert seconds[1] < 25 * seconds[0], "64 times as many pairs"


def test_a_distance_at_which_sampling_finds_nothing_is_an_error_with_the_largest_that_works():
    hashes = random_hashes(np.random.default_rng(0), 3000)
    for distance in (200, 255):
        with pytest.raises(UserError, match=rf"prepare.near_bits={distance}: .* 3000 .* at most (\d+)") as error:
            sampled_pairs(hashes, distance)
    possible = int(str(error.value).split()[-1])
    assert 60 < possible < 200
    width = bucket_bits(np.ascontiguousarray(hashes.T), np.random.default_rng(0))
    tables = [tables_needed(256, width, distance) for distance in (possible, possible + 1)]
    assert tables[0] <= MOST_TABLES < tables[1]


def test_images_linked_through_others_are_one_group_with_the_number_of_its_first_image():
    assert connected_groups(np.array([1, 2, 4]), np.array([4, 6, 7]), 8).tolist() == [0, 1, 2, 3, 1, 5, 2, 1]
    assert connected_groups(np.array([], int), np.array([], int), 3).tolist() == [0, 1, 2]


def table_of(labels, hashes, pixels):
    return pd.DataFrame(
        {
            "image": [f"{number}.jpg" for number in range(len(labels))],
            "labels": pd.Series(labels, dtype=object),
            "pixels": pixels,
            "phash": [row.tobytes() for row in hashes],
        }
    )


@pytest.mark.parametrize(
    "labels, contradictory",
    [
        ([("scab", "rust"), ("rust", "scab"), ("rust",), ("scab",), (), ()], [False, True]),
        ([["scab", "rust"], ["rust", "scab"], ["rust"], ["scab"], [], []], [False, True]),
        (["12", "12", "12", "21", "1", "2"], [False, True]),
    ],
)
def test_duplicates_are_described_with_labels_of_any_kind(labels, contradictory):
    rng = np.random.default_rng(0)
    hashes = random_hashes(rng, 6)
    hashes[1] = hashes[0]
    hashes[3] = changed(rng, hashes[2:3], 9, 9)[0]
    near, repeated = find_duplicates(table_of(labels, hashes, list("aabcde")), 40)
    assert near["group"].tolist() == [0, 0, 2, 2, 4, 5]
    assert repeated == [
        {
            "images": [f"{at}.jpg", f"{at + 1}.jpg"],
            "labels": labels[at : at + 2],
            "distance": bits,
            "identical": bits == 0,
            "contradictory": differs,
        }
        for at, bits, differs in zip((0, 2), (0, 9), contradictory, strict=True)
    ]


def test_groups_are_joined_by_every_column_and_through_others():
    group = pd.Series([0, 1, 2, 2, 4, 5, 6, 7, 8, 9, 10], index=list("abcdefghijk"))
    keys = pd.DataFrame(
        {
            "patient": ["p", "q", "q", "r", "s", "", None, np.nan, " ", "", " "],
            "place": [1.0, np.nan, 2.0, np.nan, 3.0, 1.0, np.nan, np.nan, 7.0, 8.0, 9.0],
        }
    )
    joined = join_groups(group, keys)
    # b and c share a patient, c and d are duplicates, a and f share a place; no patient and no place join nothing.
    assert joined.tolist() == [0, 1, 1, 1, 4, 0, 6, 7, 8, 9, 10]
    assert joined.index.equals(group.index)


def test_equal_values_of_different_columns_and_no_columns_join_nothing():
    group = pd.Series([0, 1, 1, 3])
    assert join_groups(group, pd.DataFrame(index=group.index)).tolist() == [0, 1, 1, 3]
    keys = pd.DataFrame({"left": ["x", "y", "z", "w"], "right": ["y", "v", "u", "x"]})
    assert join_groups(group, keys).tolist() == [0, 1, 1, 3]


def test_a_long_chain_is_one_group():
    count = 1001
    keys = pd.DataFrame({"odd": np.arange(count) // 2, "even": np.arange(1, count + 1) // 2})
    assert (join_groups(pd.Series(np.arange(count)), keys) == 0).all()


@pytest.mark.parametrize("kind", [list, tuple])
def test_each_policy_keeps_the_rows_and_labels_it_promises(kind):
    table = pd.DataFrame(
        {
            "image": list("abcdefg"),
            "labels": list(
                map(kind, [["scab"], ["rust"], ["scab", "rust"], ["rust"], ["rust", "scab"], ["complex"], ["rust"]])
            ),
            "group": [0, 1, 2, 1, 2, 0, 6],
        }
    )
    assert apply_policy(table, "keep").equals(table)
    dropped = apply_policy(table, "drop")
    assert dropped["image"].tolist() == ["b", "c", "g"] and dropped["group"].tolist() == [0, 1, 2]
    merged = apply_policy(table, "merge")
    assert merged["image"].tolist() == ["a", "b", "c", "g"]
    assert merged["labels"].tolist() == [
        kind(row) for row in (["scab", "complex"], ["rust"], ["scab", "rust"], ["rust"])
    ]
    numbers = pd.DataFrame({"labels": ["12", "21", "12", "12"], "group": [0, 0, 2, 2]})
    assert apply_policy(numbers, "drop")["labels"].tolist() == ["12"]
