"""Decide which candidates the choice is among, and say of each other one why it is left out."""

import numpy as np
from omegaconf import DictConfig

from plant_pathology.competition.time_limit import FASTER, TimeLimit
from plant_pathology.core.errors import UserError
from plant_pathology.selection.candidates import Candidate
from plant_pathology.selection.ensemble import Budget

FEWEST = 2  # images: a choice is tuned on some and scored on others
RESOURCES = ("networks", "megabytes", "seconds")  # as in Candidate.cost


def eligible(
    candidates: list[Candidate], cfg: DictConfig, time: TimeLimit
) -> tuple[list[Candidate], Budget, dict[str, str]]:
    """Keep the candidates that predicted the same images and fit the kernel alone.

    Args:
        time: limits the seconds per image where `select.seconds` does not.

    Returns:
        The candidates, best first; their costs with the kernel's limits; and why each other one is left out, by name.

    Raises:
        UserError: no candidate fits, or they predicted fewer images than FEWEST.
    """
    same, left_out = comparable(candidates)
    if (images := len(same[0].images)) < FEWEST:
        raise UserError(
            f"the runs predicted {images} image of their folds, and a choice needs at least {FEWEST}: raise"
            " train.folds, or lower prepare.folds and start again with prepare"
        )
    seconds = time.per_image if cfg.select.seconds is None else cfg.select.seconds
    limits = np.array([cfg.select.networks, cfg.select.megabytes, seconds], float)
    costs = np.array([each.cost for each in same], float)
    fits = (costs <= limits).all(axis=1)
    spare = {
        each.name: "; select.folds=false takes fewer networks" for each in same if each.on_all and each.folds_predict
    }
    if not fits.any():
        least = costs.min(axis=0)
        keys = [key for key, needed, limit in zip(RESOURCES, least, limits, strict=True) if needed > limit]
        if keys == ["seconds"] and cfg.select.seconds is None:
            raise UserError(
                f"no candidate fits the kernel: {time.problem(least[-1])}: {FASTER}{spare.get(same[0].name, '')}"
            )
        raise UserError(
            f"no candidate fits the kernel: raise {', '.join(f'select.{key}' for key in keys or RESOURCES)}; the best"
            f" one needs {', '.join(f'{key}={cost:.4g}' for key, cost in zip(RESOURCES, costs[0], strict=True))}"
            + spare.get(same[0].name, "")
        )
    for candidate, cost in zip(same, costs, strict=True):
        exceeded = [
            f"select.{key}={limit:g}, it needs {needed:.4g}"
            for key, limit, needed in zip(RESOURCES, limits, cost, strict=True)
            if needed > limit
        ]
        if exceeded:
            left_out[candidate.name] = f"does not fit the kernel: {', '.join(exceeded)}{spare.get(candidate.name, '')}"
    kept = [each for each in same if each.name not in left_out]
    return kept, Budget(costs[fits], limits), left_out


def comparable(candidates: list[Candidate]) -> tuple[list[Candidate], dict[str, str]]:
    """Keep the candidates that predicted the same images as the largest one: scores on other images do not compare.

    The largest is the one with the most images; among equals, the one with the best score.

    Returns:
        These candidates, and why each other one is left out, by name.
    """
    largest = max(candidates, key=lambda each: (len(each.images), each.score.signed))
    kept, left_out = [], {}
    for each in candidates:
        if np.array_equal(each.images, largest.images) and np.array_equal(each.true, largest.true):
            kept.append(each)
        else:
            ours, theirs = (f"{shown(one.folds)} ({len(one.images)} images)" for one in (each, largest))
            left_out[each.name] = f"predicted {ours}, not {theirs}: scores on other images do not compare"
    return kept, left_out


def shown(folds: list[int]) -> str:
    """Return folds as text: fold 0, or folds 0 and 1."""
    return f"fold{'s' if len(folds) > 1 else ''} {' and '.join(map(str, folds))}"
