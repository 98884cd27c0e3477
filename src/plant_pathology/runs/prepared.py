"""Tell where the data that runs train on was prepared with other settings than the config's."""

from pathlib import Path

from omegaconf import DictConfig

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.store.connect import open_training_version

FILES = {"relabel": "relabeled", "extra": "extra", "teacher": "teacher"}  # keys of `prepare:`, and of manifest.json


def tell_other_settings(cfg: DictConfig) -> None:
    """Print a line for each key of `prepare:` that the data version was prepared with another value of.

    The version decides what a run sees; the config may be of another day, or of another `machine`. Where there is no
    version, the run says so.
    """
    try:
        version = open_training_version(cfg)
        manifest = read_json(version.open("manifest.json"), "push the prepared data again")
    except UserError:
        return
    before = {
        "image_size": manifest.get("image_size"),
        "encoding": manifest.get("encoding"),
        "duplicates": manifest.get("duplicates_policy"),
        "folds": len(manifest.get("images_in_fold", [])) or None,
    }
    before = {key: value for key, value in before.items() if value is not None}
    before |= {key: (manifest[name] or {}).get("file") for key, name in FILES.items() if name in manifest}
    for key, value in before.items():
        now = cfg.prepare[key]
        if value not in (now, Path(now).name if now and key in FILES else now):
            has = f"images of {value} px" if key == "image_size" else f"prepare.{key}={value or 'null'}"
            print(
                f"{version.ref} has {has}, which runs train on; prepare.{key}={now or 'null'} counts once the data is"
                " prepared and pushed with it",
                flush=True,
            )
