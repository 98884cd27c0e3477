"""Check config values before anything is done with them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError


def check_values(
    cfg: DictConfig,
    choices: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    ranges: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> None:
    """Refuse values that cannot be, before anything is done with them.

    Args:
        choices: key, with dots, to all that it may be.
        ranges: key to the smallest and largest number it may be; a whole one where both are. Null, where it stands in
            conf/, is for the stage to fill in.

    Raises:
        UserError: naming the key and what it may be.
    """
    for key, options in choices.items():
        if (value := OmegaConf.select(cfg, key)) not in options:
            raise UserError(f"{key}={value}: choose one of {', '.join(map(str, options))}")
    for key, (low, high) in ranges.items():
        value = OmegaConf.select(cfg, key)
        whole = isinstance(low, int) and isinstance(high, int)
        right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if value is not None and not (right and low <= value <= high):
            raise UserError(f"{key}={value}: choose a {'whole ' if whole else ''}number from {low:g} to {high:g}")
