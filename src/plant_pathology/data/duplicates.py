"""Find duplicates: identical images, copies saved at another size or quality, and shots of one burst.

A group is one image and those after it whose perceptual hashes differ from its own in few bits. So a group is bounded:
chains, in which each image is like the next, as frames of a video are, do not grow into one group of everything.
docs/data.md explains how the limit was chosen.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from plant_pathology.core.errors import UserError

CHUNK = 256  # hashes compared with others at once; limits memory
EXACT = 20_000  # up to so many different hashes, each is compared with the first one of every group
MISSED = 0.01  # share of the pairs at the full distance that the search among more hashes may miss
KEY_BITS = 32  # bits sampled for a table: the first of them name the bucket, the others order the hashes in it
WINDOW = 64  # following hashes of its bucket that a hash is compared with
ENOUGH = 64  # two hashes that are in so many pairs already are not compared with each other
MOST_TABLES = 2000
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


def sampled_pairs(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find nearly all pairs of different hashes that differ in at most `distance` bits, without comparing all pairs.

    Locality-sensitive hashing by bit sampling (Indyk and Motwani, Approximate Nearest Neighbors, 1998; Gionis, Indyk
    and Motwani, Similarity Search in High Dimensions via Hashing, 1999). A table puts hashes that agree on a random
    sample of bits into one bucket; hashes of a bucket are compared. Two hashes of b bits that differ in d of them agree
    on k sampled bits with probability C(b - d, k) / C(b, k), and there are so many tables that a pair at the full
    distance is in no common bucket with probability `MISSED`; nearer pairs are missed far more rarely.

    Crowds of alike hashes stay affordable because of two limits, which may cost some of the pairs within a crowd, but
    keep it connected: a hash is compared with the `WINDOW` hashes that follow it in its bucket, and hashes that are in
    `ENOUGH` pairs each are not compared with each other again.

    Args:
        hashes: (n, words) uint64, all different.

    Returns:
        Per pair: position of the first hash, of the second (first < second), and the number of bits that differ.

    Raises:
        UserError: `distance` would take more than `MOST_TABLES` tables.
    """
    count, rng, words = len(hashes), np.random.default_rng(0), np.ascontiguousarray(hashes.T)
    width = bucket_bits(words, rng)
    bits = 64 * len(words)
    tables = tables_needed(bits, width, distance)
    if tables > MOST_TABLES:
        possible = max(d for d in range(distance) if tables_needed(bits, width, d) <= MOST_TABLES)
        raise UserError(
            f"prepare.near_bits={distance}: too many for a search among {count} different images; choose at most"
            f" {possible}"
        )
    found = np.zeros(0, np.int64)  # first * count + second, sorted
    partners = np.zeros(count, np.int64)
    for _ in tqdm(range(int(tables)), "duplicates", unit="table", disable=None):
        new = np.setdiff1d(pairs_of_table(words, width, distance, partners, rng), found, assume_unique=True)
        partners += np.bincount(new // count, minlength=count) + np.bincount(new % count, minlength=count)
        found = np.sort(np.concatenate([found, new]), kind="stable")  # which merges two sorted parts in linear time
    first, second = found // count, found % count
    return first, second, bits_between(words, first, second)


def tables_needed(bits: int, width: int, distance: int) -> float:
    """Return how many tables a pair at `distance` needs to share a bucket with probability 1 - MISSED.

    Args:
        bits: of a hash.
        width: sampled bits that name a bucket.
    """
    agree = math.comb(bits - distance, width) / math.comb(bits, width)
    if agree == 1:
        return 1
    return math.ceil(math.log(MISSED) / math.log1p(-agree)) if agree else math.inf


def bucket_bits(words: np.ndarray, rng: np.random.Generator) -> int:
    """Return how many sampled bits make buckets that `WINDOW` covers, for three quarters of the hashes if possible.

    Random hashes take log2(n) - 2, which makes buckets of 4 to 8; where bits depend on each other, or many images are
    alike, up to three more are taken.

    Args:
        words: (words, n) uint64.
    """
    keys = sample_bits(words, rng)
    least = max(1, int(math.log2(len(keys))) - 2)
    for width in range(least, least + 4):
        _, sizes = np.unique(keys >> np.uint32(KEY_BITS - width), return_counts=True)
        if np.quantile(np.repeat(sizes, sizes), 0.75) <= WINDOW / 2:
            break
    return width


def sample_bits(words: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the same `KEY_BITS` random bits of each hash as one number.

    Args:
        words: (words, n) uint64.

    Returns:
        (n,) uint32.
    """
    keys = np.zeros(words.shape[1], np.uint32)
    for bit in rng.permutation(64 * len(words))[:KEY_BITS]:
        keys = keys << np.uint32(1) | (words[bit // 64] >> np.uint64(bit % 64) & np.uint64(1)).astype(np.uint32)
    return keys


def bits_between(words: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return in how many bits two hashes differ, for each pair of positions.

    Args:
        words: (words, n) uint64.
    """
    differing = np.zeros(len(first), np.uint16)
    for word in words:
        differing += np.bitwise_count(word[first] ^ word[second])
    return differing


def pairs_of_table(
    words: np.ndarray, width: int, distance: int, partners: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Find pairs within `distance` among the hashes that agree on `width` random bits.

    Args:
        words: (words, n) uint64.
        partners: (n,) in how many pairs each hash is already.

    Returns:
        first * n + second per pair, sorted.
    """
    count, keys = words.shape[1], sample_bits(words, rng)
    order = np.argsort(keys, kind="stable")
    buckets, ordered, crowded = keys[order] >> np.uint32(KEY_BITS - width), words[:, order], partners[order] >= ENOUGH
    pairs = [np.zeros(0, np.int64)]
    at = np.arange(count)
    for step in range(1, WINDOW + 1):
        at = at[: np.searchsorted(at, count - step)]
        at = at[buckets[at] == buckets[at + step]]
        if not len(at):
            break
        compared = at[~(crowded[at] & crowded[at + step])]
        near = compared[bits_between(ordered, compared, compared + step) <= distance]
        one, other = order[near], order[near + step]
        pairs.append(np.minimum(one, other) * count + np.maximum(one, other))
    return np.sort(np.concatenate(pairs))


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
