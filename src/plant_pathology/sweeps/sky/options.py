"""The options of hydra/launcher=sky, the keys of hydra.launcher. No heavy imports: Hydra reads them at every start."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class SkyOptions:
    """Options of `hydra.launcher`; names and values are SkyPilot's where it has the same option.

    Args:
        accelerators: GPUs, such as T4:1; null: none.
        cpus: number of cores; "4+" for at least 4.
        memory: in GB; "16+" for at least 16.
        disk_size: in GB.
        infra: such as aws, gcp/us-central1, slurm/<cluster>; null: the cheapest of all that `sky check` found.
        use_spot: use spot machines, which are cheaper and may be taken away.
        on_demand: also use an on-demand machine if no spot machine is available.
        image_id: the machine's image.
        max_restarts_on_errors: restarts of a run that fails; a run that loses its machine is always restarted.
        extras: extras of pyproject.toml to install, such as wandb, mlflow.
        setup: a shell script to run instead of ours, which installs pyproject.toml as requirements.lock pins it.
        secrets: names of environment variables to pass on as SkyPilot's secrets.
        parallel: number of jobs at once; null: all.
        poll_s: seconds between two queries of the job queue.
        allow_uncommitted: use HEAD even if files differ from it.
        dry_run: print the tasks and launch nothing.
    """

    accelerators: str | None = "T4:1"
    cpus: Any = None
    memory: Any = None
    disk_size: int | None = None
    infra: str | None = None
    use_spot: bool = True
    on_demand: bool = False
    image_id: str | None = None
    max_restarts_on_errors: int = 0
    extras: list[str] = field(default_factory=list)
    setup: str | None = None
    secrets: list[str] = field(default_factory=list)
    parallel: int | None = None
    poll_s: float = 15.0
    allow_uncommitted: bool = False
    dry_run: bool = False

    @property
    def on_slurm(self) -> bool:
        return (self.infra or "").split("/")[0].lower() == "slurm"

    @property
    def spot(self) -> bool:
        """Whether to ask for spot machines. Slurm has none; a job that it preempts is recovered all the same."""
        return self.use_spot and not self.on_slurm

    @property
    def description(self) -> str:
        return self.accelerators or f"{self.cpus or 'some'} cpus"
