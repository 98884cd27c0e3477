"""Prepare: decode the raw images once, find duplicates, assign folds and write shards to data/prepared.

A restart continues after the last decoded image, and only new images are decoded.
"""

from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.data.pipeline import prepare


@command
def main(cfg: DictConfig) -> None:
    prepare(cfg)


if __name__ == "__main__":
    main()
