"""The options of hydra/launcher=sky, the keys of hydra.launcher. No heavy imports: Hydra reads them at every start."""

from dataclasses import dataclass

from plant_pathology.core.keys import key


@dataclass
class SkyOptions:
    """Options of hydra/launcher=sky; names and values are SkyPilot's where it has the same option."""

    accelerators: str | None = key("T4:1", "GPUs, such as T4:1; null: none")
    cpus: str | None = key(None, 'number of cores; "4+" for at least 4')
    memory: str | None = key(None, 'memory in GB; "16+" for at least 16')
    disk_size: int | None = key(None, "size of the machine's disk", low=1, high=1_000_000, unit="GB")
    infra: str | None = key(
        None, "such as aws, gcp/us-central1, slurm/<cluster>; null: the cheapest of all that `sky check` found"
    )
    use_spot: bool = key(True, "use spot machines, which are cheaper and may be taken away")
    on_demand: bool = key(False, "also use an on-demand machine if no spot machine is available")
    image_id: str | None = key(None, "the machine's image")
    max_restarts_on_errors: int = key(
        0, "restarts of a run that fails; a run that loses its machine is always restarted", low=0, high=1000
    )
    extras: list[str] = key([], "extras of pyproject.toml to install, such as wandb, mlflow")
    setup: str | None = key(
        None, "a shell script to run instead of ours, which installs pyproject.toml as requirements.lock pins it"
    )
    secrets: list[str] = key([], "names of environment variables to pass on as SkyPilot's secrets")
    parallel: int | None = key(None, "number of jobs at once; null: all", low=1, high=10_000)
    poll_s: float = key(15.0, "seconds between two queries of the job queue", low=0.01, high=3600, unit="s")
    allow_uncommitted: bool = key(False, "use HEAD even if files differ from it")
    dry_run: bool = key(False, "print the tasks and launch nothing")

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
