"""`hydra/sweeper=optuna`: search by Optuna's ask and tell. (hydra-optuna-sweeper 1.3 needs an Optuna older than 3.)"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Transformer
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSearch(Sweeper):
    """Asks the sampler for runs, a batch at a time, and tells it what they reached.

    A search is restartable as its runs are: started again, it launches all trials of the study once more, and finished
    runs answer at once; then it asks for new ones. A run that failed leaves its trial open until it succeeds.

    Folds are not searched: where data.fold is swept, as by train.folds, a trial is a run of each, told their mean.

    Args:
        n_trials: in all.
        n_jobs: the size of a batch.
        params: key to what is searched; arguments of the command line win.
    """

    def __init__(
        self,
        sampler: Any,
        direction: str,
        n_trials: int,
        n_jobs: int,
        storage: str | None,
        study_name: str | None,
        params: DictConfig | None,
    ):
        self.sampler, self.direction = sampler, direction
        self.n_trials, self.n_jobs = n_trials, n_jobs
        self.storage, self.study_name = storage, study_name
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = [f"{key}={value}" for key, value in self.params.items()] + arguments
        overrides = {override.get_key_element(): override for override in parser.parse_overrides(given)}
        folds = [()]
        if "data.fold" in overrides and overrides["data.fold"].is_sweep_override():
            folds = [(f"data.fold={fold}",) for fold in overrides.pop("data.fold").sweep_string_iterator()]
        space = {key: distribution(each) for key, each in overrides.items() if each.is_sweep_override()}
        fixed = [
            f"{key}={each.get_value_element_as_str()}"
            for key, each in overrides.items()
            if not each.is_sweep_override()
        ]
        study = self.study(space, folds)
        returns = []
        for start in range(0, self.n_trials, self.n_jobs):
            end = min(start + self.n_jobs, self.n_trials)
            while len(study.trials) < end:
                study.ask(space)
            trials = study.trials[start:end]
            configs = [(*fixed, *(f"{key}={value}" for key, value in trial.params.items())) for trial in trials]
            # A run once, though the sampler may ask for it twice.
            batch = [[*config, *fold] for config in dict.fromkeys(configs) for fold in folds]
            self.validate_batch_is_legal(batch)
            returns.append(self.launcher.launch(batch, initial_job_idx=start))
            reached = dict(zip(map(tuple, batch), map(value, returns[-1]), strict=True))
            for trial, config in zip(trials, configs, strict=True):
                scores = [reached[(*config, *fold)] for fold in folds]
                if not trial.state.is_finished() and None not in scores:
                    study.tell(trial.number, sum(scores) / len(scores))
        done = [trial for trial in study.trials if trial.state.is_finished()]
        if done:
            best = ", ".join(f"{key}={value}" for key, value in study.best_params.items())
            print(f"{study.study_name}: best of {len(done)}: {study.best_value:.4f} by {best}", flush=True)
        return returns

    def study(self, space: dict[str, Any], folds: list[tuple[str, ...]]) -> Any:
        # Imported here: Hydra imports its plugins on every command.
        import optuna

        from plant_pathology.runs.run import run_of

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        Path(self.config.paths.runs).mkdir(parents=True, exist_ok=True)
        decisive = [run_of(self.config).identity, {key: repr(space[key]) for key in space}, *filter(None, folds)]
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]
        study = optuna.create_study(
            storage=self.storage,
            study_name=self.study_name or f"search-{digest}",
            sampler=self.sampler,
            direction=self.direction,
            load_if_exists=True,
        )
        if study.trials:
            # What it drew from its seed was tried before.
            self.sampler.reseed_rng()
        return study


def distribution(override: Override) -> Any:
    """What Optuna draws from for `a,b`, `choice()`, `range()` or `interval()`, the last also as `tag(log, …)`."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    if override.is_interval_sweep():
        whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
        return (IntDistribution if whole else FloatDistribution)(sweep.start, sweep.end, log="log" in sweep.tags)
    if override.is_range_sweep():
        values = list(override.sweep_iterator())
        whole = all(isinstance(each, int) for each in values)
        low, high = min(values), max(values)
        return (IntDistribution if whole else FloatDistribution)(low, high, step=abs(sweep.step))
    return CategoricalDistribution(list(override.sweep_iterator(Transformer.encode)))


def value(job: JobReturn) -> float | None:
    return job.return_value if job.status == JobStatus.COMPLETED else None
