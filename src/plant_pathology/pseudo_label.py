"""Label images that have no labels with the bundle, where it is sure of the answer: they may then train.

Writes data/extra/<folder>-pseudo.csv, which `prepare.extra` names. Such images train in every fold and never validate.
"""

from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.data.pseudo_labels import write_pseudo_labels


@command
def main(cfg: DictConfig) -> None:
    write_pseudo_labels(cfg)


if __name__ == "__main__":
    main()
