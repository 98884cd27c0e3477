"""Find duplicates: identical images, copies saved at another size or quality, and shots of one burst.

A group is one image and those after it whose perceptual hashes differ from its own in few bits. So a group is bounded:
chains, in which each image is like the next, as frames of a video are, do not grow into one group of everything.
docs/data.md explains how the limit was chosen.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from plant_pathology.data.near_pairs import bits_between, sampled_pairs

CHUNK = 256  # hashes compared with others at once; limits memory
EXACT = 20_000  # up to so many different hashes, each is compared with the first one of every group
POLICIES = ("keep", "drop", "merge")


class Near(NamedTuple):
    """Which images are like which, one entry per image.

    Attributes:
        first: position of the first image of its group.
        bits: in which the two differ, at most `distance`.
        between: it is near the first image of another group, too.
    """

    first: np.ndarray
    bits: np.ndarray
    between: np.ndarray


def near_first(hashes: np.ndarray, distance: int) -> Near:
    """Group hashes that differ in at most `distance` bits from the first of their group.

    Equal hashes are taken as one: a picture that is there 50,000 times would make a billion pairs. Up to `EXACT`
    different ones are compared each with the first of every group; of more, only those that `sampled_pairs` connects.

    Args:
        hashes: (n, words) uint64.

    Raises:
        UserError: as for `sampled_pairs`.
    """
    number = pd.DataFrame(hashes).groupby(list(range(hashes.shape[1])), sort=False).ngroup().to_numpy()
    _, where = np.unique(number, return_index=True)  # numbers count up in order of first appearance
    different = hashes[where]
    if len(different) <= EXACT:
        near = group_by_nearest_first(different, distance)
    else:
        first, second, _ = sampled_pairs(different, distance)
        connected = connected_groups(first, second, len(different))
        apart = bits_between(np.ascontiguousarray(different.T), connected, np.arange(len(different)))
        near = Near(connected.copy(), apart, np.zeros(len(different), bool))
        for members in pd.Series(connected).groupby(connected).indices.values():
            if len(members) > 2:  # two are near each other, or they would not be connected
                inside = group_by_nearest_first(different[members], distance)
                for whole, part in zip(near, (members[inside.first], *inside[1:]), strict=True):
                    whole[members] = part
    return Near(where[near.first][number], near.bits[number], near.between[number])


def group_by_nearest_first(hashes: np.ndarray, distance: int) -> Near:
    """Put each hash, in order, into the group whose first hash is nearest, or else let it begin a group.

    Memory grows with the number of hashes; time with that number times the number of groups.

    Args:
        hashes: (n, words) uint64, all different.
    """
    first, bits = np.arange(len(hashes)), np.zeros(len(hashes), np.uint16)
    begin = np.zeros(len(hashes), bool)
    for start in range(0, len(hashes), CHUNK):
        chunk = hashes[start : start + CHUNK]
        earlier, inside = np.flatnonzero(begin), bits_apart(chunk, chunk)
        if len(earlier):
            apart = bits_apart(chunk, hashes[earlier])
            nearest = apart.argmin(axis=1)
            first[start : start + CHUNK] = earlier[nearest]
            bits[start : start + CHUNK] = apart[np.arange(len(chunk)), nearest]
        else:
            bits[start : start + CHUNK] = distance + 1
        new: list[int] = []  # that begin a group in this chunk
        for place in range(len(chunk)):
            own = start + place
            if new:
                at = int(inside[place, new].argmin())
                if inside[place, new[at]] < bits[own]:
                    first[own], bits[own] = start + new[at], inside[place, new[at]]
            if bits[own] > distance:
                first[own], bits[own], begin[own] = own, 0, True
                new.append(place)
    between = np.zeros(len(hashes), bool)
    if not begin.all():
        starts = hashes[begin]
        for start in range(0, len(hashes), CHUNK):
            near = bits_apart(hashes[start : start + CHUNK], starts) <= distance
            between[start : start + CHUNK] = near.sum(axis=1) > 1
    return Near(first, bits, between)


def bits_apart(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return in how many bits each hash of one array differs from each of another.

    Args:
        some: (m, words) uint64.
        others: (n, words) uint64.

    Returns:
        (m, n) uint16.
    """
    differing = np.zeros((len(some), len(others)), np.uint16)
    for word in range(some.shape[1]):
        differing += np.bitwise_count(some[:, None, word] ^ others[None, :, word])
    return differing


def connected_groups(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Return, per image of `count`, the position of the first image it is linked to, directly or through others."""
    links = coo_array((np.ones(len(first), np.int8), (first, second)), (count, count))
    _, component = connected_components(links, directed=False)
    _, firsts = np.unique(component, return_index=True)
    return firsts[component]


def join_groups(group: pd.Series, keys: pd.DataFrame) -> pd.Series:
    """Join groups of duplicates with columns whose values no fold may split, such as a patient or a place.

    Rows that share a group, or a value in one of the columns, are in one group, and so are rows that are connected
    through others: folds are independent only if nothing connects them.

    Args:
        group: group of each row, as `find_duplicates` returns it.
        keys: the columns, with the same rows; a missing or empty value joins nothing.

    Returns:
        Group of each row, which is the position of the group's first row.
    """
    first, second = [], []
    for _, column in [("group", group), *keys.items()]:
        value, _ = pd.factorize(column.mask(column.astype(str).str.strip() == "").to_numpy())
        rows = np.flatnonzero(value >= 0)
        _, where, number = np.unique(value[rows], return_index=True, return_inverse=True)
        first.append(rows[where[number]])
        second.append(rows)
    joined = connected_groups(np.concatenate(first), np.concatenate(second), len(group))
    return pd.Series(joined, index=group.index, name="group")


def find_duplicates(table: pd.DataFrame, distance: int) -> tuple[pd.DataFrame, list[dict]]:
    """Group duplicates.

    Args:
        table: image (file name), labels (a tuple of names, or the text of one number), pixels (hash of the decoded
            image), phash (bytes).
        distance: bits in which the perceptual hash of an image may differ from that of the first one of its group.

    Returns:
        For each image `group`, the position of the group's first image, and `between`, whether it is near the first
        image of another group, too; and for each group of several images: `images`, `labels` (of each), `distance` (in
        bits: the largest to the first image), `identical` (all pixels are equal) and `contradictory` (their labels
        differ).

    Raises:
        UserError: as for `sampled_pairs`.
    """
    hashes = np.frombuffer(b"".join(table["phash"]), np.uint64).reshape(len(table), -1)
    near = near_first(hashes, distance)
    group = pd.Series(near.first, index=table.index, name="group")
    farthest = pd.Series(near.bits).groupby(near.first).max()
    repeated = table[group.duplicated(keep=False)]
    images, labels, pixels = (repeated[column].to_numpy(object) for column in ("image", "labels", "pixels"))
    return pd.DataFrame({"group": group, "between": near.between}), [
        {
            "images": images[rows].tolist(),
            "labels": labels[rows].tolist(),
            "distance": int(farthest[first]),
            "identical": len(set(pixels[rows])) == 1,
            "contradictory": not same_labels(labels[rows]),
        }
        for first, rows in repeated.groupby(group).indices.items()
    ]


def same_labels(rows: Iterable) -> bool:
    """Return whether all rows have the same labels, in any order.

    Args:
        rows: per image its labels, or one value that is not taken apart.
    """
    return len({frozenset(row) if isinstance(row, list | tuple) else row for row in rows}) == 1


def apply_policy(table: pd.DataFrame, policy: str) -> pd.DataFrame:
    """Apply `prepare.duplicates` to a table with labels and group.

    Args:
        table: labels (a tuple of names, or the text of one number) and group.
        policy: keep: keep every row. drop: keep the first row of a group whose labels agree, and no row of a group
            whose labels contradict each other. merge: keep the first row of each group, with the labels of all.

    Returns:
        The rows that are kept, renumbered from 0, and so are their groups.
    """
    if policy == "keep":
        return table
    stay = table.drop_duplicates("group")
    repeated = table[table["group"].duplicated(keep=False)]
    labels = {group: rows.tolist() for group, rows in repeated.groupby("group")["labels"]}
    if policy == "drop":
        stay = stay[~stay["group"].isin([group for group, rows in labels.items() if not same_labels(rows)])]
    else:
        union = {
            group: type(rows[0])(dict.fromkeys(label for row in rows for label in row))
            for group, rows in labels.items()
        }
        merged = [union.get(group, row) for group, row in zip(stay["group"], stay["labels"], strict=True)]
        stay = stay.assign(labels=pd.Series(merged, index=stay.index, dtype=object))
    stay = stay.reset_index(drop=True)
    return stay.assign(group=stay.index)
