"""Check that the competition's file in use bears its name, and holds all of its keys.

DVC watches data/raw/<file's name> and that one file. The commands go by the name that it says, and Hydra would let it
inherit another file's keys, so they could read images and keys that DVC does not watch.
"""

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.checkout import checkout
from plant_pathology.core.errors import UserError


def require_own_file(cfg: DictConfig, hydra: Any) -> None:
    """Check the file of conf/competition/ that a composed config has.

    Args:
        cfg: the composed config.
        hydra: its part `hydra`.

    Raises:
        UserError: the file says another name than its own, or has a list `defaults`.
    """
    choice, name = str(hydra.runtime.choices.get("competition")), OmegaConf.select(cfg, "competition.name")
    path = Path("conf", "competition", f"{choice}.yaml")
    if name != choice and not any(each.startswith("competition.name=") for each in hydra.overrides.task):
        raise UserError(f"{path.as_posix()}: competition.name={name} is another file's: write `name: {choice}`")
    if (file := checkout() / path).is_file() and re.search("^defaults:", file.read_text(encoding="utf-8"), re.M):
        raise UserError(
            f"{path.as_posix()}: defaults: DVC would not see when the file changes that it inherits: write its keys out"
        )
