"""Sample: draw a small competition in Kaggle's layout, so that the whole pipeline runs without any download."""

from omegaconf import DictConfig

from plant_pathology.competition.sample import make_sample
from plant_pathology.core.app import command


@command
def main(cfg: DictConfig) -> None:
    make_sample(cfg)


if __name__ == "__main__":
    main()
