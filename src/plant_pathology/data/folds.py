"""Assign images to cross-validation folds, stratified by label, with duplicates kept together."""

import numpy as np
import pandas as pd

from plant_pathology.core.errors import UserError


def assign_folds(targets: np.ndarray, groups: pd.Series, count: int, seed: int) -> np.ndarray:
    """Assign images to folds with about equal label counts; all images of a group get the same fold.

    Iterative stratification for multilabel data: Sechidis et al., On the Stratification of Multi-Label Data, 2011.

    Args:
        targets: (n, labels) 0 or 1.
        groups: (n,) group of each image, as `duplicates.find_duplicates` returns it.
        count: number of folds.
        seed: of the shuffle.

    Returns:
        (n,) fold number of each image, from 0.

    Raises:
        UserError: there are fewer groups than folds.
    """
    # Imported here so that errors in the input are reported without waiting for scikit-learn.
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

    # Split groups, not images; a group has every label that one of its images has.
    targets_of_group = pd.DataFrame(targets).groupby(groups.to_numpy()).max()
    if not 2 <= count <= len(targets_of_group):
        raise UserError(f"prepare.folds={count}: choose 2 to {len(targets_of_group)}, the number of different images")
    splitter = MultilabelStratifiedKFold(count, shuffle=True, random_state=seed)
    fold_of_group = pd.Series(-1, index=targets_of_group.index)
    for fold, (_, members) in enumerate(splitter.split(targets_of_group, targets_of_group)):
        fold_of_group.iloc[members] = fold
    return groups.map(fold_of_group).to_numpy()
