"""Train: one run, or with -m the sweep. Started again, a run continues after its last checkpoint.

A run is a function of config, data version and code, and its folder below runs/ is named after them. A finished run
returns its result at once. `python -m plant_pathology.monitor` shows and stops runs.
"""

import functools

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.runs.prepared import tell_other_settings
from plant_pathology.runs.run import run_of
from plant_pathology.training.run import check, train, train_sweep_member


@functools.partial(command, check=False)  # a sweep records a wrong value as that run's failure
def main(cfg: DictConfig) -> float | None:
    """Return the run's score, higher is better, for sweepers that search by it; None for a failed run of a sweep."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return train_sweep_member(cfg)
    check(cfg)
    tell_other_settings(cfg)
    return train(run_of(cfg))["val_score"]


if __name__ == "__main__":
    main()
