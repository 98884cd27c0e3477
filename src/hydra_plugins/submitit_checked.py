"""The launchers of submitit, which check what the runs need before the first job is queued.

OptionCheck puts them in the place of submitit's own, whose options they take.
"""

from collections.abc import Sequence
from importlib.util import find_spec

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn

from plant_pathology.core.errors import UserError

CHECKED: dict[str, str] = {}  # submitit's launcher to ours

if find_spec("hydra_plugins.hydra_submitit_launcher") is not None:
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import (
        BaseSubmititLauncher,
        LocalLauncher,
        SlurmLauncher,
    )

    class _Checked(BaseSubmititLauncher):
        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
            if self.config.hydra.job.name == "train":
                self._check(job_overrides)
            return super().launch(job_overrides, initial_job_idx)

        def _check(self, job_overrides: Sequence[Sequence[str]]) -> None:
            """Fetch weights into the cache, which the nodes share, and compare GPUs that are asked for with the runs'.

            Raises:
                UserError: weights cannot be had, or a job has another number of GPUs than its run trains on.
            """
            # Imported here: Hydra imports every launcher at every start.
            from plant_pathology.runs.run import devices_of, run_of
            from plant_pathology.training.needed_weights import fetch_all_weights
            from plant_pathology.training.run import is_valid

            load = self.hydra_context.config_loader.load_sweep_config
            runs = []
            for overrides in job_overrides:
                config = load(self.config, list(overrides))
                HydraConfig.instance().set_config(config)
                runs.append(run_of(config))
            runs = [run for run in runs if is_valid(run, dry=True)]
            for name in ("gpus_per_node", "gpus_per_task"):
                for run in runs:
                    if (gpus := self.params.get(name)) and gpus != devices_of(run):
                        raise UserError(
                            f"hydra.launcher.{name}={gpus}, and a run trains on trainer.devices={devices_of(run)}: set"
                            " both to the same number"
                        )
            fetch_all_weights(runs)

    class CheckedSlurm(_Checked, SlurmLauncher):
        """SlurmLauncher, with these checks."""

    class CheckedLocal(_Checked, LocalLauncher):
        """LocalLauncher, which trains as Slurm would, on this machine, with these checks."""

    for ours, theirs in ((CheckedSlurm, SlurmLauncher), (CheckedLocal, LocalLauncher)):
        CHECKED[f"{theirs.__module__}.{theirs.__name__}"] = f"{ours.__module__}.{ours.__name__}"
