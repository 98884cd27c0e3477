"""Submit: upload the dataset, push and follow the kernel, submit its output and wait for the score.

A competition that takes files gets the rehearsal's submission.csv instead. Started again after an interruption, it
continues and never submits the same bytes twice. It changes things on Kaggle, so `dvc repro` does not run it.
"""

from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.kaggle.steps import submit


@command
def main(cfg: DictConfig) -> None:
    submit(cfg)


if __name__ == "__main__":
    main()
