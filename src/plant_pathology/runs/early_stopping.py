"""Stop a run early when it diverges, when its siblings are better (pruning), or when a user asks for it.

Each rule is checked after every epoch but the last. Its reason is saved in result.json and in checkpoints, so that a
run that is killed between its last epoch and its result still ends there. `python -m plant_pathology.monitor continue`
lets a stopped run go on; after that, only a user's request stops it.

Lightning's EarlyStopping (divergence_threshold) is not used for divergence: a run that is killed after it
stopped trains on after a restart, and a divergence in the last epoch would mark a complete run as stopped.
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

from plant_pathology.core.sealed import read_sealed
from plant_pathology.runs.folder import CONTINUE, RUN, STOP, read_epochs
from plant_pathology.runs.run import Run
from plant_pathology.runs.sync import RunSync, is_record


class StopRule(Callback, ABC):
    """Stop a run after the epoch for which `check` returns a reason."""

    reason: str | None = None

    @abstractmethod
    def check(self, trainer: pl.Trainer) -> str | None:
        """Return the reason to stop now; None to go on."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The run was killed after this rule had stopped it, before its result was written.
        trainer.should_stop = trainer.should_stop or self.reason is not None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if not last and (reason := self._decided(trainer)):
            self.reason, trainer.should_stop = reason, True

    def _decided(self, trainer: pl.Trainer) -> str | None:
        """Return what `check` returns on the first of several devices: all must stop after the same epoch."""
        return trainer.strategy.broadcast(self.check(trainer) if trainer.is_global_zero else None)

    def state_dict(self) -> dict[str, Any]:
        return {"reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reason = state_dict["reason"]


class Divergence(StopRule):
    """Stop when the training loss is above `limit`; `stop.divergence`. Without a finite loss, the run fails."""

    def __init__(self, limit: float):
        self.limit = limit

    def check(self, trainer: pl.Trainer) -> str | None:
        loss = float(trainer.callback_metrics["train_loss"])
        return None if loss <= self.limit else f"diverged: the training loss is {loss:.4g}"


class Pruning(StopRule):
    """Stop when the best score so far is not among the best `keep` percent of siblings at the same epoch.

    This is Optuna's PercentilePruner.

    Args:
        run: the run to stop.
        sync: brings the metrics of siblings on other machines; None for siblings here alone.
        keep: percent; 50 is the median stopping rule.
        siblings: number of siblings that must have reached the epoch before the rule applies.
        after: share of the run's epochs before the rule applies.
    """

    def __init__(self, run: Run, sync: RunSync | None, keep: float, siblings: int, after: float):
        self.run, self.sync, self.keep = run, sync, keep
        warmup = math.ceil(after * run.cfg.trainer.max_epochs)
        self.pruner = PercentilePruner(keep, siblings, max(0, warmup - 1), n_min_trials=siblings)

    def check(self, trainer: pl.Trainer) -> str | None:
        if self.sync:
            self.sync.pull_all(is_record)
        study = optuna.create_study(direction="maximize", pruner=self.pruner)
        for scores in map(score_by_epoch, siblings(self.run)):
            if scores:
                study.add_trial(
                    create_trial(state=TrialState.COMPLETE, value=scores[max(scores)], intermediate_values=scores)
                )
        trial = study.ask()
        for epoch, score in score_by_epoch(self.run.folder).items():
            trial.report(score, epoch)
        if not trial.should_prune():
            return None
        return f"pruned: not among the best {self.keep:g} % of siblings after epoch {trainer.current_epoch + 1}"


class StopRequest(StopRule):
    """Stop when a user ran `python -m plant_pathology.monitor stop`, here or on another machine."""

    def __init__(self, run: Run, sync: RunSync | None):
        self.run, self.sync = run, sync

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore nothing: the request's file still exists, unless a user withdrew it."""

    def check(self, trainer: pl.Trainer) -> str | None:
        here = (self.run.folder / STOP).exists()
        return "user request" if here or (self.sync and self.sync.has(self.run.name, STOP)) else None


def stop_rules(run: Run, sync: RunSync | None) -> list[StopRule]:
    """Return the rules of `stop:` that apply to a run."""
    stop, request = run.cfg.stop, StopRequest(run, sync)
    if (run.folder / CONTINUE).exists():
        return [request]
    pruning = [Pruning(run, sync, stop.keep, stop.siblings, stop.after)] if stop.keep < 100 else []
    divergence = [Divergence(stop.divergence)] if stop.divergence is not None else []
    return [request, *divergence, *pruning]


def siblings(run: Run) -> list[Path]:
    """List the other runs here with the same data and trainer settings, so that their epochs are comparable."""
    shared = {key: run.identity["config"][key] for key in ("competition", "data", "trainer")}

    def is_comparable(folder: Path) -> bool:
        other = read_sealed(folder / RUN)
        # One that is damaged cannot be compared; its own start says so.
        if isinstance(other, str):
            return False
        return other["data"] == run.identity["data"] and shared.items() <= other["config"].items()

    others = [path.parent for path in run.folder.parent.glob(f"*/{RUN}") if path.parent != run.folder]
    return [folder for folder in others if is_comparable(folder)]


def score_by_epoch(folder: Path) -> dict[int, float]:
    return {int(row["epoch"]): row["val_score"] for row in read_epochs(folder) if "val_score" in row}
