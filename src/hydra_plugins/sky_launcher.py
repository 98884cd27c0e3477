"""`hydra/launcher=sky`: train the runs of a sweep as managed jobs of SkyPilot; see sweeps/sky/launch.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from plant_pathology.sweeps.sky.options import SkyOptions


@dataclass
class SkyConf(SkyOptions):
    """Options of hydra/launcher=sky; names and values are SkyPilot's where it has the same option."""

    _target_: str = "hydra_plugins.sky_launcher.SkyLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="sky", node=SkyConf, provider="sky_launcher")


class SkyLauncher(Launcher):
    """Submit one managed job per run, and return their scores when all have ended; None for a failed run."""

    def __init__(self, **options: Any):
        self.options = SkyOptions(**options)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        # Imported here: Hydra imports every launcher at every start.
        from plant_pathology.sweeps.sky.launch import train_on_sky

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        configs = [self._load_config(overrides, initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        scores = train_on_sky(configs, self.options)
        return [
            JobReturn(overrides=overrides, cfg=cfg, status=JobStatus.COMPLETED, _return_value=score)
            for overrides, cfg, score in zip(job_overrides, configs, scores, strict=True)
        ]

    def _load_config(self, overrides: Sequence[str], number: int) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config
