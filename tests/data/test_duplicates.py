import numpy as np
import pandas as pd

from plant_pathology.data.duplicates import apply_policy, connected_groups, near_pairs


def test_near_pairs_equal_a_brute_force_comparison():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, (700, 4)).astype(np.uint64)
    for copy, original, flipped in [(650, 3, 1), (651, 600, 40), (10, 3, 41), (652, 650, 0)]:
        bits = np.unpackbits(hashes[original].view(np.uint8))
        bits[rng.permutation(256)[:flipped]] ^= 1
        hashes[copy] = np.packbits(bits).view(np.uint64)
    bits = np.unpackbits(hashes.view(np.uint8), axis=1).astype(int)
    distances = (bits[:, None] != bits[None]).sum(axis=2)
    expected = {(i, j, distances[i, j]) for i, j in zip(*np.nonzero(np.triu(distances <= 40, k=1)), strict=True)}
    assert set(zip(*near_pairs(hashes, 40), strict=True)) == expected
    assert {(3, 650, 1), (600, 651, 40), (3, 652, 1), (650, 652, 0)} == expected


def test_images_linked_through_others_are_one_group_with_the_number_of_its_first_image():
    assert connected_groups(np.array([1, 2, 4]), np.array([4, 6, 7]), 8).tolist() == [0, 1, 2, 3, 1, 5, 2, 1]
    assert connected_groups(np.array([], int), np.array([], int), 3).tolist() == [0, 1, 2]


def test_each_policy_keeps_the_rows_and_labels_it_promises():
    table = pd.DataFrame(
        {
            "image": list("abcdef"),
            "labels": [["scab"], ["rust"], ["scab", "rust"], ["rust"], ["rust", "scab"], ["complex"]],
            "group": [0, 1, 2, 1, 2, 0],
        }
    )
    assert apply_policy(table, "keep").equals(table)
    dropped = apply_policy(table, "drop")
    assert dropped["image"].tolist() == ["b", "c"] and dropped["group"].tolist() == [0, 1]
    merged = apply_policy(table, "merge")
    assert merged["image"].tolist() == ["a", "b", "c"]
    assert merged["labels"].tolist() == [["scab", "complex"], ["rust"], ["scab", "rust"]]
