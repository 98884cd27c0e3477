"""Rules that end a run before its time: it diverges, its siblings do better, or somebody asked for it.

Each is looked at after every epoch, and leaves its reason. `python -m plant_pathology.sweep continue` lets a stopped
run go on, and from then on only a request ends it.
"""

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl
from optuna.pruners import PercentilePruner
from optuna.trial import TrialState, create_trial
from pytorch_lightning.callbacks import Callback

from plant_pathology.core.files import read_json
from plant_pathology.runs.run import CONTINUE, RUN, STOP, Run, epochs
from plant_pathology.runs.sync import RunSync, is_record


class StopRule(Callback, ABC):
    """Ends a run when `judge` gives a reason."""

    reason: str | None = None

    @abstractmethod
    def judge(self, trainer: pl.Trainer) -> str | None:
        """Why the run should end now; None where it should not."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A run that was killed between its last epoch and its result.
        trainer.should_stop = trainer.should_stop or self.reason is not None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if not last and (reason := self.judge(trainer)):
            self.reason, trainer.should_stop = reason, True

    def state_dict(self) -> dict[str, Any]:
        return {"reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reason = state_dict["reason"]


class Divergence(StopRule):
    """The training loss is not a number, or over `limit`."""

    def __init__(self, limit: float | None):
        self.limit = math.inf if limit is None else limit

    def judge(self, trainer: pl.Trainer) -> str | None:
        loss = float(trainer.callback_metrics["train_loss"])
        return None if loss <= self.limit else f"diverged: the training loss is {loss:.4g}"


class Pruning(StopRule):
    """The best F1 so far is not among the best `keep` percent of siblings at the same epoch: Optuna's percentile rule.

    Args:
        keep: percent; 50 makes it the median rule.
        siblings: so many must have come as far before the rule holds.
        after: share of a run's epochs before it holds.
    """

    def __init__(self, run: Run, sync: RunSync | None, keep: float, siblings: int, after: float):
        self.run, self.sync, self.keep = run, sync, keep
        warmup = math.ceil(after * run.cfg.trainer.max_epochs)
        self.pruner = PercentilePruner(keep, siblings, max(0, warmup - 1), n_min_trials=siblings)

    def judge(self, trainer: pl.Trainer) -> str | None:
        if self.sync:
            self.sync.pull_all(is_record)
        study = optuna.create_study(direction="maximize", pruner=self.pruner)
        for scores in map(f1_by_epoch, siblings(self.run)):
            if scores:
                study.add_trial(
                    create_trial(state=TrialState.COMPLETE, value=scores[max(scores)], intermediate_values=scores)
                )
        trial = study.ask()
        for epoch, f1 in f1_by_epoch(self.run.folder).items():
            trial.report(f1, epoch)
        if trial.should_prune():
            return f"outdone: not among the best {self.keep:g} % of siblings after epoch {trainer.current_epoch + 1}"


class StopRequest(StopRule):
    """`python -m plant_pathology.sweep stop` was run, here or on another machine."""

    def __init__(self, run: Run, sync: RunSync | None):
        self.run, self.sync = run, sync

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: the request itself is still there, unless it was taken back."""

    def judge(self, trainer: pl.Trainer) -> str | None:
        if (self.run.folder / STOP).exists() or (self.sync and self.sync.has(self.run.name, STOP)):
            return "asked to"


def stop_rules(run: Run, sync: RunSync | None) -> list[StopRule]:
    """The rules of `stop:` that hold for a run."""
    stop, asked = run.cfg.stop, StopRequest(run, sync)
    if (run.folder / CONTINUE).exists():
        return [asked]
    outdone = [Pruning(run, sync, stop.keep, stop.siblings, stop.after)] if stop.keep < 100 else []
    return [asked, Divergence(stop.divergence), *outdone]


def siblings(run: Run) -> list[Path]:
    """The other runs here that saw the same images as often, so that their epochs compare."""
    alike = {key: run.identity["config"][key] for key in ("competition", "data", "trainer")}

    def compares(folder: Path) -> bool:
        other = read_json(folder / RUN, f"delete {folder}")
        return other["data"] == run.identity["data"] and alike.items() <= other["config"].items()

    others = [path.parent for path in run.folder.parent.glob(f"*/{RUN}") if path.parent != run.folder]
    return [folder for folder in others if compares(folder)]


def f1_by_epoch(folder: Path) -> dict[int, float]:
    return {int(row["epoch"]): row["val_f1"] for row in epochs(folder)}
