"""What a user may ask of SkyPilot: the keys of hydra.launcher. Light, because every command of Hydra's reads them."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class SkyOptions:
    """What hydra.launcher.* may ask for; names and values are SkyPilot's where SkyPilot has them.

    Args:
        infra: such as aws, gcp/us-central1, slurm/<cluster>; null: the cheapest of all that `sky check` found.
        on_demand: also take a machine that costs more and stays, where no spot machine is to be had.
        max_restarts_on_errors: of a run that fails; what ends with its machine is always started again.
        extras: of pyproject.toml, to install beside the core: wandb, mlflow.
        setup: a shell script in place of the one that installs pyproject.toml's needs as requirements.lock pins them.
        secrets: names of environment variables to hand over, through SkyPilot's secrets.
        parallel: jobs at once; null: all.
        poll_s: seconds between two looks at the queue.
        allow_uncommitted: go ahead with HEAD although files differ from it.
        dry_run: show the tasks, launch nothing.
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
    def slurm(self) -> bool:
        return (self.infra or "").split("/")[0].lower() == "slurm"

    @property
    def described(self) -> str:
        return self.accelerators or f"{self.cpus or 'some'} cpus"
