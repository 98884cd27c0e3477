"""Download: fetch the competition's files from Kaggle and unpack them, and the archives among them, into data/raw.

After an interruption, start it again: it continues where it was.
"""

from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.kaggle.download import download


@command
def main(cfg: DictConfig) -> None:
    download(cfg)


if __name__ == "__main__":
    main()
