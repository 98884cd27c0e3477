"""The OmegaConf resolver `${choice:<group>}`: the file of conf/<group>/ that conf/choices.yaml names.

conf/config.yaml and dvc.yaml read the same small file, so that neither addresses the other's lines by position. Hydra
imports this module as a plug-in before it composes a config.
"""

import functools
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from plant_pathology.core.checkout import checkout
from plant_pathology.core.errors import UserError

CHOICES = "conf/choices.yaml"


def choice(group: str) -> str:
    """Return what conf/choices.yaml names for a config group.

    Raises:
        UserError: the file is missing, or names no file for this group.
        yaml.YAMLError: it is no YAML.
    """
    path = checkout() / CHOICES
    try:
        return str(choices(path)[group])
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: restore it (git checkout {CHOICES})") from None
    except (KeyError, TypeError):
        raise UserError(f"{path} has no line for {group}: write `{group}: <a file of conf/{group}/>`") from None


@functools.cache  # asked once per group: reading the file each time would be felt at every start
def choices(path: Path) -> dict[str, str]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


OmegaConf.register_new_resolver("choice", choice, replace=True)
