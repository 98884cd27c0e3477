"""Package: write the dataset (bundle, wheels, model card) and the kernel that Kaggle runs, and check Kaggle's rules."""

from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.kernel.build import build


@command
def main(cfg: DictConfig) -> None:
    build(cfg)


if __name__ == "__main__":
    main()
