"""Read a bundle that is still what `select` wrote, and check it against today's config and code."""

from pathlib import Path
from typing import Any

from plant_pathology.competition.purpose import check_purpose
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import DamagedError, UserError
from plant_pathology.core.hashes import file_hash, folder_hash
from plant_pathology.inference import bundle
from plant_pathology.inference.bundle import SPEC, BundleError, read_bundle
from plant_pathology.inference.custom import BUNDLED

SELECT = "run `python -m plant_pathology.select`"


def inference_hash() -> str:
    """Return the hash of the code that predicts with a bundle, here and on Kaggle."""
    return folder_hash(Path(bundle.__file__).parent, "*.py")


def checked_bundle(folder: Path, competition: Competition) -> dict[str, Any]:
    """Return the content of bundle.json.

    Raises:
        DamagedError: a file of the bundle is missing or damaged.
        UserError: it was selected for something else than the config describes today, or by other code.
    """
    try:
        spec = read_bundle(folder)
    except BundleError as error:
        raise DamagedError(f"{error}: {SELECT}") from None
    own = file_hash(competition.code) if competition.code else None
    # First: what other code wrote may lack keys.
    if spec.get("code") != inference_hash() or spec["files"].get(BUNDLED) != own:
        raise UserError(f"{folder / SPEC} was written by other code than today's, so it was not verified: {SELECT}")
    check_purpose(str(folder), made_for(spec), competition, SELECT)
    return spec


def made_for(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what a bundle was made for, by key of `competition:` in the config.

    Args:
        spec: content of bundle.json.
    """
    return {
        "name": spec["competition"],
        "target.kind": spec["kind"],
        "metric": spec["score"]["metric"],
        "target.labels": spec["answers"]["labels"],
        **{f"submit.{key.rstrip('_')}": value for key, value in spec["submit"].items()},
        **{f"test.{key}": value for key, value in spec["test"].items()},
    }
