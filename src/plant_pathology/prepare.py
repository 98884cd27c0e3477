"""Prepare: decode the raw images once, find duplicates, deal folds and write shards to data/prepared.

Started again, it continues after the last decoded image; new images cost only themselves.
"""

from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.data.pipeline import prepare


@command
def main(cfg: DictConfig) -> None:
    prepare(cfg)


if __name__ == "__main__":
    main()
