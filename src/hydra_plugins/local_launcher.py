"""`hydra/launcher=local`, the default: train the runs of a sweep in parallel on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig

from plant_pathology.core.keys import key


@dataclass
class LocalLauncherConf:
    """Options of hydra/launcher=local."""

    _target_: str = "hydra_plugins.local_launcher.LocalLauncher"
    workers: int | None = key(
        None, "number of runs at once; null: one per GPU, or one per core without GPUs", low=1, high=1024
    )


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConf, provider="plant_pathology")


class LocalLauncher(BasicLauncher):
    """Train runs in worker processes; run any other command as Hydra does, one job after the other."""

    config: DictConfig  # BasicLauncher.setup sets both
    hydra_context: HydraContext

    def __init__(self, workers: int | None = None):
        super().__init__()
        self.workers = workers

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if self.config.hydra.job.name != "train":
            return super().launch(job_overrides, initial_job_idx)
        # Imported here: Hydra imports every launcher at every start.
        from plant_pathology.sweeps import local

        load = self.hydra_context.config_loader.load_sweep_config
        configs = (load(self.config, list(overrides)) for overrides in job_overrides)
        scores = local.train_all(configs, self.workers)
        return [
            JobReturn(overrides=overrides, status=JobStatus.COMPLETED, _return_value=score)
            for overrides, score in zip(job_overrides, scores, strict=True)
        ]
