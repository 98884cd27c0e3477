"""The axes of a sweep: the settings in which its runs differ, and the two of them that make a map."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

MODEL, LR, FOLD, SEED = "model.name", "model.lr", "data.fold", "seed"
TITLES = {MODEL: "model", LR: "learning rate"}


def settings_of(configs: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Configs by run as a table: a row a run, a column a dotted key."""
    return pd.json_normalize(list(configs.values())).set_axis(pd.Index(configs, name="run"))


def varying(settings: pd.DataFrame) -> list[str]:
    """The keys in which runs differ, those that people ask for first before the others: model, learning rate, then by
    the number of values; the seed last. Folds are no axis, they share a configuration."""
    values = settings.drop(columns=FOLD, errors="ignore").map(repr).nunique()
    keys = values[values > 1].sort_values(ascending=False, kind="stable").index
    return sorted(keys, key=lambda key: [MODEL, LR].index(key) if key in TITLES else 3 if key == SEED else 2)


def map_axes(settings: pd.DataFrame) -> list[str]:
    """The two keys whose map shows most of a sweep; one, or none, where no two vary independently."""
    keys = varying(settings)
    if not keys:
        return []
    texts = settings[keys].map(repr)
    first = keys[0]
    crossing = [key for key in keys[1:] if len(texts[[first, key]].drop_duplicates()) > texts[first].nunique()]
    return [first, *crossing[:1]]


def title(key: str) -> str:
    """What people call a key."""
    return TITLES.get(key, key)
