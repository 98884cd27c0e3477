"""Rehearse: run the packaged kernel as Kaggle would, offline, and compare it with the repository's own predictions.

Runs on the public test set and on a hidden one; writes the verdict to reports/rehearsal.json.
"""

from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.kernel.rehearsal import rehearse


@command
def main(cfg: DictConfig) -> None:
    rehearse(cfg)


if __name__ == "__main__":
    main()
