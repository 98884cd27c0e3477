"""A Hydra callback that checks every key before a sweep starts, the options of launchers and sweepers too.

Hydra checks the types of some options and no range: a wrong one would end the sweep with a traceback, or train nothing
and call it a success.
"""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf

from hydra_plugins.local_launcher import LocalLauncherConf
from hydra_plugins.optuna_search import OptunaOptions
from hydra_plugins.submitit_checked import CHECKED
from plant_pathology.core.errors import UserError
from plant_pathology.core.keys import check_values, key, keys_of, section
from plant_pathology.core.own_file import require_own_file
from plant_pathology.core.schema import check_config
from plant_pathology.kaggle.sweep.options import KaggleOptions
from plant_pathology.runs.prepared import tell_other_settings
from plant_pathology.runs.run import IDENTITY
from plant_pathology.sweeps.sky.options import SkyOptions


@section()
class BasicOptions:
    """Options of hydra/sweeper=basic, the default: a grid of all values that are given with commas."""

    max_batch_size: int | None = key(None, "runs that are launched together; null: all", low=1, high=1_000_000)


@section()
class SubmititOptions:
    """Options of hydra/launcher=submitit_slurm; it knows more of them, which are passed on."""

    timeout_min: int = key(60, "time limit of a job", low=1, high=1_000_000, unit="minutes")
    cpus_per_task: int | None = key(None, "cores of a run", low=1, high=10_000)
    gpus_per_node: int | None = key(None, "GPUs of a run: trainer.devices", low=0, high=64)
    tasks_per_node: int = key(1, "processes that train a run", low=1, high=1)
    nodes: int = key(1, "machines that train a run", low=1, high=1)
    mem_gb: int | None = key(None, "memory of a run", low=1, high=100_000, unit="GB")
    cpus_per_gpu: int | None = key(None, "cores for each GPU", low=1, high=10_000)
    gpus_per_task: int | None = key(None, "GPUs of a run: trainer.devices", low=0, high=64)
    signal_delay_s: int = key(120, "notice before the time limit, to save a checkpoint", low=1, high=86_400, unit="s")
    max_num_timeout: int = key(0, "restarts after the time limit; a run continues each time", low=0, high=10_000)
    array_parallelism: int = key(256, "jobs that run at once", low=1, high=100_000)


# What may differ from run to run of a sweep: what decides a run, what sets keys of that, and a run's name and logger.
DECIDES = {*IDENTITY, "machine", "recipe", "stop", "threads", "name", "logger"}

OPTIONS: dict[str, type] = {
    "hydra/launcher=kaggle": KaggleOptions,
    "hydra/launcher=local": LocalLauncherConf,
    "hydra/launcher=sky": SkyOptions,
    "hydra/launcher=submitit_local": SubmititOptions,
    "hydra/launcher=submitit_slurm": SubmititOptions,
    "hydra/sweeper=basic": BasicOptions,
    "hydra/sweeper=optuna": OptunaOptions,
}


class OptionCheck(Callback):
    """Refuse a sweep with a wrong key or value, or without any run, before its first run starts."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        require_own_file(config, config.hydra)
        check_config(config)
        join_lists(config)
        for group in ("hydra/launcher", "hydra/sweeper"):
            if OmegaConf.select(config, name := group.replace("/", ".")) is None:
                raise UserError(f"{name}=null: a sweep needs one: leave this out, or choose with {group}=<name>")
            if schema := OPTIONS.get(f"{group}={config.hydra.runtime.choices[group]}"):
                check_options(config, schema, f"{name}.")
        if (launcher := CHECKED.get(config.hydra.launcher._target_)) is not None:
            config.hydra.launcher._target_ = launcher
        check_sweeps(config)
        tell_other_settings(config)


def join_lists(config: DictConfig) -> None:
    """Write what `sweep:` gives as a list as text with commas, which is what Hydra's sweepers read."""
    for name, value in config.sweep.items():
        if isinstance(value, ListConfig):
            config.sweep[name] = ",".join(map(str, value))


def check_options(config: DictConfig, schema: type, prefix: str) -> None:
    """Check the options of the launcher or sweeper in use.

    Raises:
        UserError: a value of another type or out of range.
    """
    values = {each.name: OmegaConf.select(config, each.name, default=each.default) for each in keys_of(schema, prefix)}
    lists = {name: OmegaConf.to_container(value) for name, value in values.items() if isinstance(value, ListConfig)}
    check_values(values | lists, schema, prefix)


def check_sweeps(config: DictConfig) -> None:
    """Check that each key that is swept has a value, and that runs depend on it.

    Raises:
        UserError: it has none, so that no run would train, or all runs would be the same.
    """
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    given: Sequence[str] = [f"{name}={value}" for name, value in params.items()] + list(config.hydra.overrides.task)
    for override in OverridesParser.create().parse_overrides(list(given)):
        if override.is_discrete_sweep() and not any(True for _ in override.sweep_string_iterator()):
            raise UserError(f"{override.input_line}: this has no value, so there is nothing to run")
        part, _, rest = override.key_or_group.partition(".")
        if override.is_sweep_override() and not (part in DECIDES or (part == "competition" and rest)):
            remedy = "run the command once for each value"
            if part == "sweep":
                name, _, values = str(override.input_line).partition("=")
                remedy = f"put the values into quotes, {name}='{values}'"
            raise UserError(f"{override.input_line}: a run does not depend on {part}, so all would be equal: {remedy}")
