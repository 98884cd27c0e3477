"""Record which files one selection wrote, so that a later stage never mixes two of them or trusts a damaged one."""

from pathlib import Path
from typing import Any

from plant_pathology.competition.bundle import SELECT
from plant_pathology.core.hashes import file_hash
from plant_pathology.core.sealed import check_hashes, hashes_of, trusted, write_sealed
from plant_pathology.inference.bundle import SPEC
from plant_pathology.selection.tables import TABLES

RECORD, METRICS, SHIFT = "selection.json", "metrics.json", "shift.json"  # in reports/
SHIFTED = 0.7  # AUC above which test images are told apart from training images so well that it is worth a warning


def write_record(reports: Path, bundle: Path, made_for: dict[str, Any]) -> None:
    """Write selection.json, the last file of a selection: the checksums of the others.

    Args:
        bundle: folder of the bundle.
        made_for: what the runs were trained for.
    """
    files = hashes_of(*(reports / name for name in (*TABLES, METRICS, SHIFT)))
    write_sealed(reports / RECORD, {"bundle": file_hash(bundle / SPEC), "made_for": made_for, "files": files})


def read_record(reports: Path) -> dict[str, Any]:
    """Return the content of selection.json after checking that all files of the selection are as it wrote them.

    Raises:
        DamagedError: one is missing or has other bytes.
    """
    record = trusted(reports / RECORD, SELECT)
    check_hashes(reports, record["files"], SELECT)
    return record
