"""Load a competition's own code, competitions/<name>.py, where its config file is not enough.

The module may define any of
    open_image(path) -> PIL.Image.Image     for a format that Pillow does not read; it travels to the kernel
    read_train(folder) -> pandas.DataFrame  the training table, as text, in the place of `competition.train.table`
    <metric>(true, decided) -> float        the metric that `competition.metric` names, with METRIC_SIGN, 1 or -1, and
                                            METRIC_SCORES, labels, ranking, probabilities or number; for a ranking
                                            METRIC_K, its length, 5 if it is left out
"""

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from PIL import Image

BUNDLED = "competition.py"  # the module's name in a bundle


@lru_cache
def load(path: Path) -> ModuleType:
    """Import a module by its path, once per process.

    Raises:
        ImportError: it is no Python module.
    """
    spec = importlib.util.spec_from_file_location(f"competition_{abs(hash(path))}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def image_opener(code: Path | None) -> Callable[[Path], Image.Image]:
    """Return the competition's own open_image, or else Pillow's."""
    return getattr(load(code), "open_image", Image.open) if code else Image.open
