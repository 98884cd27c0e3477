"""Select: rank the sweep's runs, choose an ensemble and a decision rule, and write the bundle that predicts.

Reads stored predictions, and a few images to verify the bundle with; trains nothing.
"""

from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.selection.pipeline import select


@command
def main(cfg: DictConfig) -> None:
    select(cfg)


if __name__ == "__main__":
    main()
