"""Describe a run: its folder's name ends in a hash of everything that decides its result."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.files import visible_files
from plant_pathology.core.hashes import content_hash, file_hash, folder_hash
from plant_pathology.runs.folder import HASH_DIGITS, fold_suffix
from plant_pathology.runs.initial_weights import initial_weights, settings_of
from plant_pathology.store.connect import open_training_version
from plant_pathology.store.version import Version

IDENTITY = ("seed", "data", "model", "trainer")  # of the competition, what `run_of` adds
# Keys of `competition.submit:` that decide a score: whether a row may be empty, which label counts, limits of numbers.
SCORED = ("as", "positive", "low", "high")
# The code that decides a run's numbers: the folder `training`, and the files of other folders that it uses.
CODE = (
    *("training", "competition/metrics.py", "competition/task.py"),
    *("data/index.py", "data/predictions.py", "data/shards.py"),
    *("inference/decision.py", "inference/expected_f1.py", "inference/outputs.py", "inference/tta.py"),
)
LOCAL, HUB = "local-dir:", "hf-hub:"  # begin the names of networks in a folder, and of Hugging Face's repositories


@dataclass(frozen=True)
class Run:
    """Hold what to train, and where.

    Args:
        cfg: the whole config.
        version: the data to train on.
        identity: what decides the result: parts of the config, and hashes of data, code and the weights that it starts
            from.
        folder: the run's folder below `paths.runs`.
    """

    cfg: DictConfig
    version: Version
    identity: dict[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        """Return the folder's name: the config's `name`, and eight hexadecimal digits of the identity's hash."""
        return self.folder.name


def run_of(cfg: DictConfig) -> Run:
    """Return the run that a config describes.

    Raises:
        UserError: the datastore has no such version of the data.
    """
    version = open_training_version(cfg)
    config: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, list(IDENTITY)), resolve=True)
    for key in ("ref", "workers"):
        del config["data"][key]
    # Read from the config, because importing pandas to describe a competition takes longer than all else here.
    competition = cfg.competition
    weights = initial_weights(cfg)
    if weights:
        config["model"]["init_from"] = settings_of(weights)  # equal in all folds, so that these are one candidate
    if cfg.model.name.startswith(LOCAL) and (folder := Path(cfg.model.name.removeprefix(LOCAL))).is_dir():
        config["model"]["folder"] = folder_hash(folder)
    config["competition"] = {
        "name": competition.name,
        "metric": competition.metric,
        "kind": competition.target.kind,
        **{key: competition.submit.get(key) for key in SCORED},
    }
    own = Path(cfg.paths.code) / f"{competition.name}.py"
    identity = {"config": config, "data": version.sha256, "code": code_hash(own if own.exists() else None)}
    if weights:
        identity["weights"] = file_hash(weights)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:HASH_DIGITS]
    # A model's name may hold an address or a path, such as hf-hub:timm/resnet18.
    name = re.sub(r'[/\\:@*?"<>|]+', "-", cfg.name)
    return Run(cfg, version, identity, Path(cfg.paths.runs) / f"{name}{fold_suffix(cfg.data.fold)}-{digest}")


def devices_of(run: Run) -> int:
    """Return how many devices a run trains on; 1 where the config's value is wrong, which its start says."""
    devices = run.cfg.trainer.devices
    return devices if isinstance(devices, int) and devices > 0 else 1


def code_hash(own: Path | None) -> str:
    """Return one SHA-256 of the names and contents of all modules in CODE, and of the competition's own code."""
    package = Path(__file__).parents[1]
    parts = [package / part for part in CODE]
    modules = sorted(path for part in parts for path in ([part] if part.is_file() else visible_files(part, "*.py")))
    hashes = {path.relative_to(package).as_posix(): file_hash(path) for path in modules}
    return content_hash(hashes | ({own.name: file_hash(own)} if own else {}))
