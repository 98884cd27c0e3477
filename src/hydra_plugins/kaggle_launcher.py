"""`hydra/launcher=kaggle`: train the runs of a sweep on Kaggle's own GPUs; see kaggle/sweep/launch.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from plant_pathology.core.errors import UserError
from plant_pathology.kaggle.sweep.options import KaggleOptions


@dataclass
class KaggleConf(KaggleOptions):
    """Options of hydra/launcher=kaggle."""

    _target_: str = "hydra_plugins.kaggle_launcher.KaggleLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="kaggle", node=KaggleConf, provider="plant_pathology")


class KaggleLauncher(Launcher):
    """Train the runs in sessions on Kaggle, and return their scores when all have ended; None for a failed run."""

    def __init__(self, **options: Any):
        self.options = KaggleOptions(**options)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if (name := self.config.hydra.job.name) != "train":
            raise UserError(f"hydra/launcher=kaggle: only `train` can use it, not `{name}`: leave it out")
        # Imported here: Hydra imports every launcher at every start.
        from plant_pathology.kaggle.sweep.launch import train_on_kaggle

        load = self.hydra_context.config_loader.load_sweep_config
        configs = [load(self.config, list(overrides)) for overrides in job_overrides]
        for config in configs:
            HydraConfig.instance().set_config(config)
        scores = train_on_kaggle(configs, self.options)
        return [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=score)
            for overrides, score in zip(job_overrides, scores, strict=True)
        ]
