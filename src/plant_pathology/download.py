"""Download: fetch the competition's files with the kaggle client and unpack them into data/raw.

Started again after an interruption, it continues.
"""

from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.kaggle.download import download


@command
def main(cfg: DictConfig) -> None:
    download(cfg)


if __name__ == "__main__":
    main()
