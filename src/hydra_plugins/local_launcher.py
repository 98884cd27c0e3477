"""`hydra/launcher=local`, the default: the runs of a sweep side by side on this machine."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus


@dataclass
class LocalLauncherConf:
    """workers: runs at once; null: one a GPU, or one a core where there is none."""

    _target_: str = "hydra_plugins.local_launcher.LocalLauncher"
    workers: int | None = None


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConf, provider="plant_pathology")


class LocalLauncher(BasicLauncher):
    """Hands training runs to worker processes; other stages run one after the other, as Hydra does it."""

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
