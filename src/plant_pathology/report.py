"""Report: write the sweep, its errors and likely label errors as one page, reports/index.html."""

from omegaconf import DictConfig

from plant_pathology.core.app import command
from plant_pathology.reporting.page import write_report


@command
def main(cfg: DictConfig) -> None:
    write_report(cfg)


if __name__ == "__main__":
    main()
