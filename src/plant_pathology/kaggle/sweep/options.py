"""The options of hydra/launcher=kaggle. No heavy imports: Hydra reads them at every start."""

from dataclasses import dataclass

from plant_pathology.core.keys import key
from plant_pathology.core.schema import ACCELERATORS


@dataclass
class KaggleOptions:
    """Options of hydra/launcher=kaggle."""

    accelerator: str = key(
        "NvidiaTeslaT4", "a session's machine, as package.accelerator: cpu, or Kaggle's name", choices=ACCELERATORS
    )
    cards: int = key(
        2,
        "GPUs of a session's machine: runs at once, or fewer where a run trains on trainer.devices of them",
        low=1,
        high=8,
    )
    sessions: int = key(
        1, "sessions at once, of which Kaggle allows two: two are faster and take more of the quota", low=1, high=2
    )
    session_h: float = key(
        11.5,
        "hours after which a session ends itself at checkpoints, before Kaggle does",
        low=0.001,
        high=12,
        unit="h",
    )
    run_minutes: float = key(
        30.0,
        "estimated time of a run, until one of its model was measured",
        low=0.01,
        high=100_000,
        unit="minutes",
    )
    over_quota: bool = key(False, "begin though the week's quota does not suffice for the whole sweep")
    dry_run: bool = key(False, "print the plan and launch nothing")
