"""Find duplicates: identical images, copies saved at another size or quality, and shots of one burst.

Images whose perceptual hashes differ in few bits are one group. docs/data.md explains how the limit was chosen.
"""

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

CHUNK = 256  # hashes compared with all others at once; limits memory
POLICIES = ("keep", "drop", "merge")


def near_pairs(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs of hashes that differ in at most `distance` bits.

    Args:
        hashes: (n, words) uint64.

    Returns:
        Per pair: position of the first hash, of the second (first < second), and the number of bits that differ.
    """
    pairs = []
    for start in range(0, len(hashes), CHUNK):
        ahead = hashes[start:]
        differing = np.zeros((min(CHUNK, len(ahead)), len(ahead)), np.uint16)
        for word in range(hashes.shape[1]):
            differing += np.bitwise_count(ahead[:CHUNK, None, word] ^ ahead[None, :, word])
        first, second = np.nonzero(np.triu(differing <= distance, k=1))
        pairs.append((first + start, second + start, differing[first, second]))
    if not pairs:
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0, int)
    firsts, seconds, bits = zip(*pairs, strict=True)
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(bits)


def connected_groups(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Return, per image of `count`, the position of the first image it is linked to, directly or through others."""
    links = coo_array((np.ones(len(first), np.int8), (first, second)), (count, count))
    _, component = connected_components(links, directed=False)
    _, firsts = np.unique(component, return_index=True)
    return firsts[component]


def find_duplicates(table: pd.DataFrame, distance: int) -> tuple[pd.Series, list[dict]]:
    """Group duplicates.

    Args:
        table: image (file name), labels (list of names), pixels (hash of the decoded image), phash (bytes).
        distance: bits in which the perceptual hashes of near duplicates may differ.

    Returns:
        The group of each image, which is the position of the group's first image; and for each group of several images:
        `images`, `labels` (of each), `distance` (in bits: the largest among pairs within `distance`), `identical` (all
        pixels are equal) and `contradictory` (their labels differ).
    """
    hashes = np.frombuffer(b"".join(table["phash"]), np.uint64).reshape(len(table), -1)
    first, second, bits = near_pairs(hashes, distance)
    group = pd.Series(connected_groups(first, second, len(table)), index=table.index, name="group")
    farthest = pd.Series(bits).groupby(group.to_numpy()[first]).max()
    repeated = table[group.duplicated(keep=False)]
    return group, [
        {
            "images": rows["image"].tolist(),
            "labels": rows["labels"].tolist(),
            "distance": int(farthest[number]),
            "identical": rows["pixels"].nunique() == 1,
            "contradictory": not same_labels(rows["labels"]),
        }
        for number, rows in repeated.groupby(group)
    ]


def same_labels(labels: pd.Series) -> bool:
    """Return whether all rows have the same labels, in any order."""
    return len({frozenset(row) for row in labels}) == 1


def apply_policy(table: pd.DataFrame, policy: str) -> pd.DataFrame:
    """Apply `prepare.duplicates` to a table with labels and group.

    Args:
        policy: keep: keep every row. drop: keep the first row of a group whose labels agree, and no row of a group
            whose labels contradict each other. merge: keep the first row of each group, with the labels of all.

    Returns:
        The rows that are kept, renumbered from 0, and so are their groups.
    """
    if policy == "keep":
        return table
    labels = table.groupby("group")["labels"]
    stay = table.drop_duplicates("group")
    if policy == "drop":
        stay = stay[stay["group"].map(labels.agg(same_labels)).astype(bool)]
    else:
        union = labels.agg(lambda rows: list(dict.fromkeys(label for row in rows for label in row)))
        stay = stay.assign(labels=stay["group"].map(union))
    stay = stay.reset_index(drop=True)
    return stay.assign(group=stay.index)
