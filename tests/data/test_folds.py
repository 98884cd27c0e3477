import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.model_selection import StratifiedGroupKFold

from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.data.findings import why_uneven
from plant_pathology.data.folds import assign_folds
from support.commands import config

COUNT = 5


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def counts_by_fold(target, fold):
    return pd.crosstab(fold, target).to_numpy()


def unsplit(groups, fold):
    return pd.Series(fold).groupby(groups).nunique().max() == 1


def patients(rng, images=4000, count=300):
    """Return uneven groups: some have one image, and the largest a hundred."""
    weight = rng.gamma(0.5, size=count)
    return rng.choice(count, images, p=weight / weight.sum())


@pytest.mark.parametrize("kind", ["one", "ordinal"])
def test_images_of_a_class_are_dealt_out_in_turn(kind):
    rng = np.random.default_rng(0)
    target = np.concatenate([np.arange(300), rng.zipf(1.5, 4000) % 300])  # some classes have one image
    fold = assign_folds(kind, target, rng.permutation(len(target)), COUNT, seed=0)
    counts = counts_by_fold(target, fold)
    assert counts.shape == (COUNT, 300) and (counts.sum(axis=0) == 1).any()
    assert np.ptp(counts, axis=0).max() == 1
    assert np.ptp(counts.sum(axis=1)) <= 1


def test_the_same_seed_gives_the_same_folds_and_another_seed_others():
    rng = np.random.default_rng(0)
    targets = {"one": rng.integers(0, 9, 500), "number": rng.normal(size=500), "several": rng.random((500, 70)) < 0.05}
    groups = rng.integers(0, 400, 500)
    for kind, target in targets.items():
        folds = [assign_folds(kind, target, groups, COUNT, seed) for seed in (1, 1, 2)]
        assert (folds[0] == folds[1]).all()
        assert (folds[0] != folds[2]).mean() > 0.5


def test_all_classes_with_one_image_give_even_folds():
    fold = assign_folds("one", np.arange(52), np.arange(52), COUNT, seed=0)
    assert sorted(np.bincount(fold)) == [10, 10, 10, 11, 11]


def test_the_order_of_the_images_does_not_decide_the_fold():
    fold = assign_folds("one", np.repeat([0, 1], 500), np.arange(1000), COUNT, seed=0)
    neighbors = np.sort(fold.reshape(-1, COUNT), axis=1)
    assert (neighbors == np.arange(COUNT)).all(axis=1).mean() < 0.2, "not one of every five images in each fold"
    assert np.bincount(fold[:100]).min() >= 8, "not one fold after the other"


@pytest.mark.parametrize("labels", [2, 6, 64])
def test_images_with_few_labels_get_the_folds_of_the_iterative_stratification_of_groups(labels):
    rng = np.random.default_rng(labels)
    target = rng.random((900, labels)) < rng.uniform(0.01, 0.4, labels)
    groups = np.arange(900) * 7
    groups[:80:2] = groups[1:80:2]
    of_group = pd.DataFrame(target.astype(int)).groupby(groups).max()
    splits = MultilabelStratifiedKFold(COUNT, shuffle=True, random_state=3).split(of_group, of_group)
    expected = {of_group.index[at]: fold for fold, (_, members) in enumerate(splits) for at in members}
    assert assign_folds("several", target, groups, COUNT, seed=3).tolist() == [expected[group] for group in groups]


def test_images_with_many_labels_are_stratified_by_each_of_them():
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 401)
    target = np.zeros((3000, 400), bool)
    for _ in range(4):
        target[np.arange(3000), rng.choice(400, 3000, p=share / share.sum())] = True
    target[:100] = False  # an image may have no label
    groups = np.arange(3000)
    groups[100:200] = groups[200:300]
    fold = assign_folds("several", target, groups, COUNT, seed=0)
    counts = np.stack([target[fold == number].sum(axis=0) for number in range(COUNT)])
    assert np.ptp(counts, axis=0).max() <= 4 and np.ptp(counts, axis=0).mean() < 1.3
    assert np.ptp(np.bincount(fold)) <= 1 and unsplit(groups, fold)
    assert np.ptp(np.bincount(fold[:100])) <= 12


def test_one_label_that_an_image_has_or_not_is_stratified():
    target = np.arange(200)[:, None] % 10 == 0
    fold = assign_folds("several", target, np.arange(200), COUNT, seed=0)
    assert np.bincount(fold[target[:, 0]]).tolist() == [4] * COUNT and np.bincount(fold).tolist() == [40] * COUNT


def test_numbers_have_about_the_same_distribution_in_each_fold():
    rng = np.random.default_rng(0)
    target = rng.gamma(2, size=2000)
    fold = assign_folds("number", target, np.arange(2000), COUNT, seed=0)
    assert np.bincount(fold).tolist() == [400] * COUNT
    random = [np.ptp(target[rng.permutation(2000)].reshape(COUNT, 400).mean(axis=1)) for _ in range(200)]
    means = [target[fold == number].mean() for number in range(COUNT)]
    assert np.ptp(means) < 0.2 * np.mean(random)
    quartile = np.searchsorted(np.quantile(target, [0.25, 0.5, 0.75]), target)
    assert np.ptp(counts_by_fold(quartile, fold), axis=0).max() <= 3


def test_numbers_of_few_images_are_stratified_too():
    target = np.repeat([1.0, 2.0, 3.0, 100.0], COUNT)
    fold = assign_folds("number", target, np.arange(len(target)), COUNT, seed=0)
    assert (counts_by_fold(target, fold) == 1).all()
    assert sorted(assign_folds("number", np.array([3.0, 1.0, 2.0]), np.arange(3), 3, seed=0)) == [0, 1, 2]


def test_uneven_groups_give_folds_as_good_as_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    groups = patients(rng)
    tendency = rng.dirichlet(np.full(4, 0.5), 300)
    target = (tendency[groups].cumsum(axis=1) < rng.random((len(groups), 1))).sum(axis=1)
    fold = assign_folds("one", target, groups, COUNT, seed=0)
    assert unsplit(groups, fold)
    assert np.bincount(fold) == pytest.approx([800] * COUNT, rel=0.05)
    theirs = np.empty(len(groups), int)
    for number, (_, members) in enumerate(
        StratifiedGroupKFold(COUNT, shuffle=True, random_state=0).split(target, target, groups)
    ):
        theirs[members] = number

    def unevenness(fold):
        counts = counts_by_fold(target, fold)
        return (counts / counts.sum(axis=0)).std(axis=0).mean()

    assert unevenness(fold) < 1.1 * unevenness(theirs) + 0.001
    assert unevenness(fold) < 0.3 * unevenness(rng.permutation(COUNT * 60)[groups] % COUNT)


def test_numbers_of_uneven_groups_have_about_the_same_mean_in_each_fold():
    rng = np.random.default_rng(0)
    groups = patients(rng)
    target = rng.normal(size=300)[groups] + 0.5 * rng.normal(size=len(groups))
    fold = assign_folds("number", target, groups, COUNT, seed=0)
    assert unsplit(groups, fold)
    assert np.bincount(fold) == pytest.approx([800] * COUNT, rel=0.1)
    means = [target[fold == number].mean() for number in range(COUNT)]
    assert np.ptp(means) < 0.3 * target.std()


def test_a_group_larger_than_a_fold_has_a_fold_of_its_own():
    groups = np.concatenate([np.zeros(600, int), np.arange(1, 401)])
    fold = assign_folds("one", np.arange(1000) % 2, groups, COUNT, seed=0)
    assert sorted(np.bincount(fold)) == [100, 100, 100, 100, 600]


def test_more_folds_than_groups_are_an_error_and_as_many_are_not():
    target, groups = np.array([0, 0, 1, 1, 1, 0]), np.array([8, 8, 8, 8, 3, 5])
    assert sorted(np.bincount(assign_folds("one", target, groups, 3, seed=0))) == [1, 1, 4]
    for kind, values in {"one": target, "number": target * 1.0, "several": target[:, None] == [0, 1]}.items():
        for count in (1, 4):
            with pytest.raises(UserError, match=f"prepare.folds={count}: there are 3 different"):
                assign_folds(kind, values, groups, count, seed=0)


def test_memory_does_not_grow_with_images_times_classes():
    target = np.random.default_rng(0).integers(0, 4000, 6000)
    tracemalloc.start()
    try:
        fold = assign_folds("one", target, np.arange(6000), COUNT, seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6e6, "bytes; a table of images and classes has 24 million cells"
    assert np.bincount(fold).tolist() == [1200] * COUNT


def test_uneven_folds_are_not_blamed_on_groups_that_there_are_not():
    sample = Competition.from_config(config())
    counts = {"images_in_fold": [12, 11, 10, 13, 16], "largest_group": 1, "near_bits": 8}
    assert "each label is spread evenly" in why_uneven(counts, sample)
    grouped = counts | {"images_in_fold": [45, 10, 10], "largest_group": 40}
    assert "the largest group, which stays in one fold, has 40" in why_uneven(grouped, sample)
