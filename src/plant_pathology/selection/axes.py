"""Find the axes of a sweep: the settings in which its runs differ, and the two of them to draw as a map."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

MODEL, LR, FOLD, SEED = "model.name", "model.lr", "data.fold", "seed"
TITLES = {MODEL: "model", LR: "learning rate"}


def flatten_configs(configs: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Return a table of configs by run name: one row per run, one column per dotted key.

    A config must give its scalars before its sections, as those of runs do: json_normalize puts scalars first.
    """
    return pd.json_normalize(list(configs.values())).set_axis(pd.Index(configs, name="run"))


def varying_keys(settings: pd.DataFrame) -> list[str]:
    """Return the keys in which runs differ: model, learning rate, then those with the most values, the seed last.

    The fold is left out: runs that differ only in it are one candidate.
    """
    counts = settings.drop(columns=FOLD, errors="ignore").map(repr).nunique()
    keys = counts[counts > 1].sort_values(ascending=False, kind="stable").index
    return sorted(keys, key=lambda key: [MODEL, LR].index(key) if key in TITLES else 3 if key == SEED else 2)


def map_axes(settings: pd.DataFrame) -> list[str]:
    """Return the first two varying keys that vary independently; one key or none where there are no two."""
    keys = varying_keys(settings)
    if not keys:
        return []
    texts = settings[keys].map(repr)
    first = keys[0]
    independent = [key for key in keys[1:] if len(texts[[first, key]].drop_duplicates()) > texts[first].nunique()]
    return [first, *independent[:1]]


def axis_title(key: str) -> str:
    """Return a key's name in figures and tables: "learning rate" for model.lr, else the key."""
    return TITLES.get(key, key)
