"""Assign images to cross-validation folds, stratified by the target, with images that belong together in one fold."""

import random

import numpy as np
from scipy.sparse import csr_array

from plant_pathology.core.errors import UserError

ALONE = 0.9  # share of groups among images from which groups count as single images
FEW_LABELS = 64  # up to so many labels, images with several are stratified iteratively
BINS = 32  # parts of equal size into which numbers are cut


def assign_folds(kind: str, target: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Assign images to folds with about equal shares of each class; all images of a group get the same fold.

    Args:
        kind: one, several, ordinal or number, as `competition.target.kind`.
        target: one, ordinal: (n,) class numbers; several: (n, labels) bool; number: (n,) values, stratified by which
            of 32 quantiles they are in.
        groups: (n,) number of the group that each image belongs to, such as `duplicates.find_duplicates` returns.
        count: number of folds.
        seed: of the random choice between folds that are equally good.

    Returns:
        (n,) fold number of each image, from 0.

    Raises:
        UserError: there are fewer groups than folds.
    """
    _, group = np.unique(groups, return_inverse=True)
    number_of_groups = int(np.max(group)) + 1 if len(group) else 0
    if not 2 <= count <= number_of_groups:
        raise UserError(
            f"prepare.folds={count}: there are {number_of_groups} different images or groups of images: choose at most"
            " so many, and at least 2, or lower prepare.near_bits"
        )
    # The iterative stratification balances groups, not images, and refuses a single label.
    nearly_alone = number_of_groups >= ALONE * len(target)
    if kind == "several" and 2 <= target.shape[1] <= FEW_LABELS and nearly_alone:
        return stratify_iteratively(target, group, count, seed)[group]
    rng = np.random.default_rng(seed)
    rank = rng.permutation(len(target))
    if kind == "several":
        image, label = np.nonzero(target)
    elif kind == "number":
        rank[np.lexsort((rank, target))] = np.arange(len(target))
        image, label = np.arange(len(target)), rank * BINS // len(target)
    else:
        image, label = np.arange(len(target)), target
    _, label = np.unique(label, return_inverse=True)
    shape = (number_of_groups, int(np.max(label)) + 1 if len(label) else 1)
    images_with_label = csr_array((np.ones(len(label), np.int64), (group[image], label)), shape)
    first_rank = np.full(number_of_groups, len(target))
    np.minimum.at(first_rank, group, rank)
    return deal(images_with_label, np.bincount(group), first_rank, count, seed)[group]


def stratify_iteratively(target: np.ndarray, group: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Assign groups to folds by iterative stratification; a group has every label that one of its images has.

    Sechidis et al., On the Stratification of Multi-Label Data, 2011. Its time grows with groups times labels.

    Args:
        target: (n, labels) bool.
        group: (n,) group of each image, numbered from 0.

    Returns:
        Fold of each group.
    """
    # Imported here so that errors in the input are reported without waiting for scikit-learn.
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    target_of_group = np.logical_or.reduceat(np.asarray(target, bool)[order], starts, axis=0)
    splitter = MultilabelStratifiedKFold(count, shuffle=True, random_state=seed)
    fold_of_group = np.full(len(starts), -1)
    for fold, (_, members) in enumerate(splitter.split(target_of_group, target_of_group)):
        fold_of_group[members] = fold
    return fold_of_group


def deal(images_with_label: csr_array, sizes: np.ndarray, rank: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Deal groups out to folds: each goes where the smallest share of its labels, and of all images, is so far.

    The fold chosen is the one that raises Pearson's chi-squared (On the Criterion, 1900) least: that of images by label
    and fold plus that of images by fold, both against equal shares. With n images of a label, of which a fold has m, g
    more add (m + g)^2 / n - m^2 / n; without what is equal for all folds, the cost is the sum over the group's labels
    of g * m / n, plus the same for all images.

    Large groups are dealt first, because small ones can level the folds afterwards. Among groups of one size, those
    with the rarest label are first, as in iterative stratification (Sechidis et al., On the Stratification of
    Multi-Label Data, 2011), because few others can level it. Where each image is its own group and has one label, this
    deals the images of a label out in turn: folds differ by at most one image per label, and by one in all. Time grows
    with the images times the folds.

    Args:
        images_with_label: (groups, labels) how many images of a group have a label; every label has an image.
        sizes: (groups,) images of each group.
        rank: (groups,) order among groups of one size and one label.

    Returns:
        Fold of each group.
    """
    chance = random.Random(seed)
    starts, labels = images_with_label.indptr, images_with_label.indices
    images_of_label = images_with_label.sum(axis=0)
    rarest = np.full(len(sizes), len(images_of_label))  # place of a group's rarest label, counted from the rarest
    place = np.argsort(np.argsort(images_of_label, kind="stable"), kind="stable")
    np.minimum.at(rarest, np.repeat(np.arange(len(sizes)), np.diff(starts)), place[labels])
    order = np.lexsort((rank, rarest, -sizes))
    # Lists and numbers of Python: a row has so few numbers that NumPy would take three times as long.
    weights = (images_with_label.data / images_of_label[labels]).tolist()
    added = images_with_label.data.tolist()
    sizes, starts, labels = sizes.tolist(), starts.tolist(), labels.tolist()
    dealt = [[0] * count for _ in images_of_label]  # images of each label in each fold
    total, images = [0] * count, sum(sizes)
    fold_of_group = np.empty(len(sizes), np.int64)
    for group in order.tolist():
        has = range(starts[group], starts[group + 1])
        costs = [sizes[group] / images * there for there in total]
        for at in has:
            costs = [cost + weights[at] * there for cost, there in zip(costs, dealt[labels[at]], strict=True)]
        least = min(costs)
        equal = [fold for fold, cost in enumerate(costs) if cost == least]
        fold = chance.choice(equal) if len(equal) > 1 else equal[0]
        fold_of_group[group] = fold
        total[fold] += sizes[group]
        for at in has:
            dealt[labels[at]][fold] += added[at]
    return fold_of_group
