"""`hydra/sweeper=optuna`: search with Optuna instead of a grid. (hydra-optuna-sweeper 1.3 needs an Optuna before 3.)"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import make_own
from plant_pathology.core.hashes import content_hash
from plant_pathology.core.keys import key, section
from plant_pathology.core.schema import ON_ALL

if TYPE_CHECKING:  # Optuna is imported where it is used: Hydra imports this plug-in at every start.
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

SQLITE = "sqlite:///"
MADE_FOR = "made_for"  # attribute of a study: hashes of what decides its scores


@section()
class SamplerOptions:
    """Options of a sampler; `+hydra.sweeper.sampler.<key>=<value>` passes on others that Optuna's class knows."""

    seed: int | None = key(None, "seed of the sampler; null: other trials each time", low=0, high=2**32 - 1)
    n_startup_trials: int = key(10, "tpe: trials drawn at random before scores guide it", low=0, high=1_000_000)
    multivariate: bool = key(True, "tpe: choose all values together, not each alone")


@section()
class OptunaOptions:
    """Options of hydra/sweeper=optuna; conf/hydra/sweeper/ has the samplers."""

    n_trials: int = key(
        20, "number of trials in the study; started again, a search does what is missing", low=1, high=1_000_000
    )
    n_jobs: int = key(
        1, "number of trials between two looks at the scores; as many as the launcher runs at once", low=1, high=1024
    )
    storage: str | None = key("sqlite:///${paths.runs}/search.db", "URL of the database that holds the study")
    study_name: str | None = key(None, "name of the study; null: search-<hash of all that decides the result>")
    sampler: SamplerOptions


class OptunaSearch(Sweeper):
    """Ask Optuna for a batch of trials, train them, and report their scores, until n_trials are done.

    Started again, the search launches all trials of its study once more: finished runs return their result at once,
    interrupted ones continue, and a trial with a failed run stays open until that run succeeds. Only then does it ask
    for new trials.

    Folds are not part of the search space: if data.fold is swept (as by train.folds), a trial trains one run per fold,
    and its score is their mean.

    Args:
        sampler: an Optuna sampler.
        n_trials: number of trials in the study, including those of earlier starts.
        n_jobs: number of trials per batch.
        storage: URL of the database that holds the study.
        study_name: None for `search-` and a hash of the runs' identity and the search space.
        params: overrides, from key to value or sweep, which the command line's overrides replace.
    """

    config: DictConfig  # these three are set by `setup`
    hydra_context: HydraContext
    launcher: Launcher

    def __init__(
        self,
        sampler: "BaseSampler",
        n_trials: int,
        n_jobs: int,
        storage: str | None,
        study_name: str | None,
        params: Mapping[str, Any] | None,
    ):
        self.sampler, self.n_trials, self.n_jobs = sampler, n_trials, n_jobs
        self.storage, self.study_name = storage, study_name
        self.params: Mapping[str, Any] = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run the search, print the best trial, and return the jobs of each batch."""
        from optuna.trial import TrialState

        from plant_pathology.competition.spec import Competition

        fixed, space, folds = self._parse(arguments)
        study = self._study(space, folds)
        returns = []
        for start in range(0, self.n_trials, self.n_jobs):
            end = min(start + self.n_jobs, self.n_trials)
            while len(study.trials) < end:
                study.ask(space)
            trials = study.trials[start:end]
            configs = [(*fixed, *(f"{key}={value}" for key, value in trial.params.items())) for trial in trials]
            # Launch each run once, even if the sampler asked for the same values twice.
            batch = [(*config, *fold) for config in dict.fromkeys(configs) for fold in folds]
            self.validate_batch_is_legal(batch)
            jobs = self.launcher.launch(batch, initial_job_idx=start)
            returns.append(jobs)
            scores = dict(zip(batch, map(score, jobs), strict=True))
            for trial, config in zip(trials, configs, strict=True):
                known = [value for fold in folds if (value := scores[(*config, *fold)]) is not None]
                if not trial.state.is_finished() and len(known) == len(folds):
                    # NaN, of a run that diverged, makes the trial a failed one.
                    study.tell(trial.number, sum(known) / len(known))
        finished = study.get_trials(states=[TrialState.COMPLETE])
        if finished:
            best = ", ".join(f"{key}={value}" for key, value in study.best_params.items())
            metric = Competition.from_config(self.config).metric
            score_of_best = f"{metric.name} {metric.sign * study.best_value:.4f}"
            print(f"{study.study_name}: best of {len(finished)}: {score_of_best} with {best}", flush=True)
        return returns

    def _parse(self, arguments: list[str]) -> tuple[list[str], dict[str, "BaseDistribution"], list[tuple[str, ...]]]:
        """Split the overrides into fixed ones, the search space, and the overrides of each fold."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = [f"{key}={value}" for key, value in self.params.items()] + arguments
        overrides = {override.get_key_element(): override for override in parser.parse_overrides(given)}
        folds: list[tuple[str, ...]] = [()]
        if "data.fold" in overrides and overrides["data.fold"].is_sweep_override():
            folds = [(f"data.fold={fold}",) for fold in overrides.pop("data.fold").sweep_string_iterator()]
        on_all = (f"data.fold={fold}" for fold in ON_ALL)
        if unscored := next((each for each in on_all if (each,) in folds or each in given), None):
            sys.exit(
                f"error: {unscored} has no score to search by: search with folds alone, then train the best on all"
            )
        space = {key: distribution(each) for key, each in overrides.items() if each.is_sweep_override()}
        fixed = [f"{key}={each.get_value_element_as_str()}" for key, each in overrides.items() if key not in space]
        return fixed, space, folds

    def _study(self, space: "dict[str, BaseDistribution]", folds: list[tuple[str, ...]]) -> "Study":
        """Create the study, or load it if the same search was started before.

        Raises:
            UserError: the study of that name is of another search, whose scores would guide this one.
        """
        import optuna
        from filelock import FileLock

        from plant_pathology.runs.run import run_of

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        runs = Path(self.config.paths.runs)
        runs.mkdir(parents=True, exist_ok=True)
        decisive = {
            **run_of(self.config).identity,
            "values to search": {key: repr(space[key]) for key in space},
            "folds": folds,
        }
        parts = {name: content_hash({"": part}) for name, part in decisive.items()}
        # One search that starts at a time: two would each have a copy of their own, or create the same tables.
        with FileLock(runs / ".search.lock"):
            if self.storage and self.storage.startswith(SQLITE):
                make_own(Path(self.storage.removeprefix(SQLITE)))
            study = optuna.create_study(
                storage=self.storage,
                study_name=self.study_name or f"search-{content_hash(parts)[:8]}",
                sampler=self.sampler,
                direction="maximize",  # a run's score is higher where it is better, whatever the metric
                load_if_exists=True,
            )
            if not (study.trials or study.user_attrs):
                study.set_user_attr(MADE_FOR, parts)
        before = study.user_attrs.get(MADE_FOR, {})
        if other := [name for name in parts if before.get(name) != parts[name]]:
            raise UserError(
                f"hydra.sweeper.study_name={study.study_name}: the study of this name in {self.storage}"
                f" is of another search: {', '.join(other)} differ: choose another name, or null"
            )
        if study.trials:
            # With its first seed the sampler would repeat the trials of the previous start.
            self.sampler.reseed_rng()
        return study


def distribution(override: Override) -> "BaseDistribution":
    """Convert a sweep, `a,b`, `choice()`, `range()` or `interval()`, to an Optuna distribution.

    `tag(log, interval(…))` is sampled on a logarithmic scale. A range or interval of integers yields integers.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        low, high, log = sweep.start, sweep.end, "log" in sweep.tags
        assert low is not None and high is not None  # Hydra's grammar demands both
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    if isinstance(sweep, RangeSweep):
        values, step = sweep.range(), abs(sweep.step)
        if isinstance(values, range) and isinstance(step, int):
            return IntDistribution(min(values), max(values), step=step)
        floats = list(values)
        return FloatDistribution(min(floats), max(floats), step=step)
    # `encode` keeps strings and numbers, and turns anything else into a string.
    choices: list[Any] = list(override.sweep_iterator(Transformer.encode))
    return CategoricalDistribution(choices)


def score(job: JobReturn) -> float | None:
    """Return a run's score; None if it failed."""
    return job.return_value if job.status == JobStatus.COMPLETED else None
