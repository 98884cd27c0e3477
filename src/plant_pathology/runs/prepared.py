"""Tell where the images that runs train on are not those that the config describes."""

from omegaconf import DictConfig

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json
from plant_pathology.store.connect import open_training_version


def tell_other_size(cfg: DictConfig) -> None:
    """Print a line where the data version's images have another size than `prepare.image_size`.

    The version decides what a run sees; the config may be of another day, or of another `machine`. Where there is no
    version, the run says so.
    """
    try:
        version = open_training_version(cfg)
        size = read_json(version.open("manifest.json"), "push the prepared data again").get("image_size")
    except UserError:
        return
    if size not in (None, cfg.prepare.image_size):
        print(
            f"{version.ref} has images of {size} px, which runs train on; prepare.image_size={cfg.prepare.image_size}"
            " counts once they are prepared and pushed with it",
            flush=True,
        )
