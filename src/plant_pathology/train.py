"""Stage: one run, or with -m the sweep. A run is a restartable function of (config, data version, code).

Its folder is named after them. Started again, it returns its finished result at once, or continues after the last
epoch that was saved.
"""

import hashlib
import json
import logging
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from plant_pathology.datastore import Version, open_version
from plant_pathology.metrics import best_threshold
from plant_pathology.stage import StageError, check_values, read_json, stage, whole_file, write_json
from plant_pathology.sweep import enter_sweep

if TYPE_CHECKING:
    from plant_pathology.model import Classifier

RANGES = {
    "seed": (0, 2**32 - 1),
    "data.batch_size": (1, 65536),
    "data.window": (1, 2**30),
    "data.workers": (0, 1024),
    "data.augment.rotate": (0.0, 180.0),
    "data.augment.brightness": (0.0, 1.0),
    "data.augment.crop": (0.01, 1.0),
    "model.lr": (0.0, 100.0),
    "model.weight_decay": (0.0, 100.0),
    "model.warmup": (0.0, 0.99),
    "trainer.max_epochs": (1, 1_000_000),
}
IDENTITY = ("seed", "competition", "data", "model", "trainer")
CODE = ("augment", "data", "index", "metrics", "model", "shards", "train")


@stage
def main(cfg: DictConfig) -> None:
    check_values(cfg, ranges=RANGES)
    version = open_version(cfg)
    identity = run_identity(cfg, version)
    folder = Path(cfg.paths.runs) / run_name(cfg, identity)
    if HydraConfig.get().mode == RunMode.RUN:
        run(cfg, version, identity, folder)
        return
    enter_sweep(Path(cfg.paths.runs), folder.name)
    try:
        run(cfg, version, identity, folder)
    except Exception as error:
        # The other runs of a sweep go on; the sweep itself ends in an error that names this one.
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failure.txt").write_text(traceback.format_exc())
        print(f"{folder.name}: failed: {error}")


def run_identity(cfg: DictConfig, version: Version) -> dict[str, Any]:
    """All that decides a run's result: config, data by content, code by content."""
    config = OmegaConf.to_container(OmegaConf.masked_copy(cfg, list(IDENTITY)), resolve=True)
    for key in ("ref", "workers"):
        del config["data"][key]
    code = hashlib.sha256()
    for module in CODE:
        code.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    return {"config": config, "data": version.sha256, "code": code.hexdigest()}


def run_name(cfg: DictConfig, identity: dict[str, Any]) -> str:
    """The config's `name` for people, and eight digits that tell every identity apart."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return f"{cfg.name}-{digest}"


def run(cfg: DictConfig, version: Version, identity: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train in `folder` until result.json stands there, which is written last.

    Returns:
        The result: metrics, where they were reached, and what they came from.
    """
    finished = folder / "result.json"
    if finished.exists():
        result = read_json(finished, f"delete {folder} and start again")
        print(f"{folder.name}: finished before, sample-F1 {result['f1']:.4f}")
        return result
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failure.txt").unlink(missing_ok=True)
    with whole_file(folder / "config.yaml") as path:
        OmegaConf.save(cfg, path, resolve=True)
    result = {"run": folder.name, **identity, "data_ref": version.ref, **fit(cfg, version, folder)}
    write_json(finished, result)
    print(f"{folder.name}: sample-F1 {result['f1']:.4f} at epoch {result['epoch'] + 1}, {result['seconds']:.0f} s")
    return result


def fit(cfg: DictConfig, version: Version, folder: Path) -> dict[str, Any]:
    """Train from last.ckpt if there is one, then validate the best checkpoint.

    Leaves best.ckpt, last.ckpt, metrics.csv, TensorBoard events and validation.csv in `folder`.

    Returns:
        f1 (sample-F1 on the validation fold), threshold, epoch (from 0), epochs, seconds, images_per_second, network.
    """
    # Imported here, so that a finished run answers without waiting for torch.
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
    from pytorch_lightning.loggers import TensorBoardLogger
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    from plant_pathology.augment import Augment
    from plant_pathology.checkpoints import WholeCheckpoints
    from plant_pathology.data import StoredData
    from plant_pathology.history import DataWait, History

    for name in ("pytorch_lightning.utilities.rank_zero", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")

    pl.seed_everything(cfg.seed, verbose=False)
    data = StoredData(
        version,
        cfg.data.fold,
        cfg.data.batch_size,
        cfg.data.window,
        cfg.data.workers,
        Augment(**cfg.data.augment),
        cfg.seed,
    )
    classifier = build(cfg, data.manifest)
    waiting = DataWait()
    history = History(folder / "metrics.csv", images=len(data.training), title=folder.name, waiting=waiting)
    best = ModelCheckpoint(
        folder, "best", monitor="val_f1", mode="max", save_weights_only=True, enable_version_counter=False
    )
    last = ModelCheckpoint(folder, "last", monitor=None, enable_version_counter=False)
    terminal = sys.stderr.isatty()
    try:
        trainer = pl.Trainer(
            **cfg.trainer,
            callbacks=[history, LearningRateMonitor("epoch"), best, last, *([TQDMProgressBar()] if terminal else [])],
            plugins=[WholeCheckpoints()],
            profiler=waiting,
            logger=TensorBoardLogger(folder, name="", version=""),
            default_root_dir=folder,
            num_sanity_val_steps=0,
            log_every_n_steps=1_000_000,  # by epoch only: a logged step waits for the device
            enable_model_summary=False,
            enable_progress_bar=terminal,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise StageError(f"trainer: {error}: each key of trainer: is an argument of Lightning's Trainer") from None
    resumable = folder / "last.ckpt"
    if resumable.exists():
        print(f"{folder.name}: continues after {resumable}")
    trainer.fit(classifier, data, ckpt_path=resumable if resumable.exists() else None, weights_only=True)
    trainer.validate(classifier, data, ckpt_path=folder / "best.ckpt", weights_only=True, verbose=False)
    probabilities, targets = classifier.validation_results()
    threshold, f1 = best_threshold(probabilities, targets, data.manifest["multilabel"])
    names = [name.decode() for name in data.validation.column("image")]
    write_predictions(folder / "validation.csv", names, targets, probabilities, data.manifest["labels"])
    network = {"name": cfg.model.name, "image_size": data.manifest["image_size"], **classifier.normalization}
    return {"f1": f1, "threshold": threshold, **history.summary(), "network": network}


def build(cfg: DictConfig, manifest: dict) -> "Classifier":
    """Raises: StageError when timm's pretrained weights cannot be had."""
    from plant_pathology.model import Classifier

    try:
        return Classifier(**cfg.model, outputs=len(manifest["labels"]), multilabel=manifest["multilabel"])
    except Exception as error:
        if not cfg.model.pretrained:
            raise
        raise StageError(
            f"model.pretrained=true, but timm could not get weights for {cfg.model.name} ({type(error).__name__}:"
            f" {error}): connect to the internet once, or train from scratch with model.pretrained=false"
        ) from error


def write_predictions(
    path: Path, images: list[str], targets: np.ndarray, probabilities: np.ndarray, labels: list[str]
) -> None:
    """A row an image: its name, and for each label is_<label>, 0 or 1, and p_<label>."""
    true = pd.DataFrame(targets.astype(int), columns=[f"is_{label}" for label in labels])
    predicted = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in labels])
    with whole_file(path) as work:
        pd.concat([pd.Series(images, name="image"), true, predicted], axis=1).to_csv(work, index=False)


if __name__ == "__main__":
    main()
