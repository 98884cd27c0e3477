"""Where the extra `submitit` is missing, answer `hydra/launcher=submitit_slurm` with an error that names it."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class MissingSubmitit(Launcher):
    """End the command instead of launching. Takes any setting, since it knows none of submitit's."""

    def __init__(self, **settings: Any):
        pass

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.chosen = config.hydra.runtime.choices["hydra/launcher"]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        install = 'pip install -c requirements.lock -e ".[submitit]"'
        sys.exit(f"error: hydra/launcher={self.chosen} needs submitit: {install}")


if find_spec("hydra_plugins.hydra_submitit_launcher") is None:
    # Not a dataclass: settings of submitit on the command line must not fail before the launcher does.
    node = DictConfig({"_target_": f"{__name__}.MissingSubmitit"}, flags={"struct": False})
    for name in ("submitit_local", "submitit_slurm"):
        ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="plant_pathology")
