"""Find hashes that differ in few bits among very many, without comparing all pairs: by sampling bits."""

import math

import numpy as np
from tqdm import tqdm

from plant_pathology.core.errors import UserError

MISSED = 0.01  # share of the pairs at the full distance that the search may miss
KEY_BITS = 32  # bits sampled for a table: the first of them name the bucket, the others order the hashes in it
WINDOW = 64  # following hashes of its bucket that a hash is compared with
ENOUGH = 64  # two hashes that are in so many pairs already are not compared with each other
MOST_TABLES = 2000


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
