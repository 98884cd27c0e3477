"""Find duplicates: identical images, copies saved at another size or quality, and shots of one burst.

Images whose perceptual hashes differ in few bits are one group. docs/data.md explains how the limit was chosen.
"""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from plant_pathology.core.errors import UserError

CHUNK = 256  # hashes compared with all others at once; limits memory
EXACT = 20_000  # up to so many different hashes, all pairs are compared
MISSED = 0.01  # share of the pairs at the full distance that the search among more hashes may miss
KEY_BITS = 32  # bits sampled for a table: the first of them name the bucket, the others order the hashes in it
WINDOW = 64  # following hashes of its bucket that a hash is compared with
ENOUGH = 64  # two hashes that are in so many pairs already are not compared with each other
MOST_TABLES = 2000
POLICIES = ("keep", "drop", "merge")


def near_links(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Link hashes that differ in at most `distance` bits, directly or through others.

    Equal hashes are linked to the first of them, and only different ones are compared: a picture that is there 50,000
    times would make a billion pairs.

    Args:
        hashes: (n, words) uint64.

    Returns:
        Per link: position of the first hash, of the second (first < second), and the number of bits that differ.

    Raises:
        UserError: as for `sampled_pairs`.
    """
    number = pd.DataFrame(hashes).groupby(list(range(hashes.shape[1])), sort=False).ngroup().to_numpy()
    _, where = np.unique(number, return_index=True)  # numbers count up in order of first appearance
    copies = np.flatnonzero(where[number] != np.arange(len(hashes)))
    search = near_pairs if len(where) <= EXACT else sampled_pairs
    first, second, bits = search(hashes[where], distance)
    return (
        np.concatenate([where[number[copies]], where[first]]),
        np.concatenate([copies, where[second]]),
        np.concatenate([np.zeros(len(copies), np.uint16), bits]),
    )


def near_pairs(hashes: np.ndarray, distance: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find all pairs of hashes that differ in at most `distance` bits, by comparing each hash with every other.

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
        As `near_pairs`.

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


def find_duplicates(table: pd.DataFrame, distance: int) -> tuple[pd.Series, list[dict]]:
    """Group duplicates.

    Args:
        table: image (file name), labels (a tuple of names, or the text of one number), pixels (hash of the decoded
            image), phash (bytes).
        distance: bits in which the perceptual hashes of near duplicates may differ.

    Returns:
        The group of each image, which is the position of the group's first image; and for each group of several images:
        `images`, `labels` (of each), `distance` (in bits: the largest among pairs within `distance` that were
        compared), `identical` (all pixels are equal) and `contradictory` (their labels differ).

    Raises:
        UserError: as for `sampled_pairs`.
    """
    hashes = np.frombuffer(b"".join(table["phash"]), np.uint64).reshape(len(table), -1)
    first, second, bits = near_links(hashes, distance)
    group = pd.Series(connected_groups(first, second, len(table)), index=table.index, name="group")
    farthest = pd.Series(bits).groupby(group.to_numpy()[first]).max()
    repeated = table[group.duplicated(keep=False)]
    images, labels, pixels = (repeated[column].to_numpy(object) for column in ("image", "labels", "pixels"))
    return group, [
        {
            "images": images[rows].tolist(),
            "labels": labels[rows].tolist(),
            "distance": int(bits),
            "identical": len(set(pixels[rows])) == 1,
            "contradictory": not same_labels(labels[rows]),
        }
        for rows, bits in zip(repeated.groupby(group).indices.values(), farthest, strict=True)
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
