"""Turn notebooks/submission.ipynb into the code file of a kernel: a notebook, or a script with the same cells.

jupytext would write the same script. It is not used because it comments out lines with `%` or `!`, which would then
silently not run on Kaggle, and because its import takes 0.4 s.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plant_pathology.core.checkout import checkout
from plant_pathology.core.errors import UserError
from plant_pathology.core.files import read_json

NOTEBOOK = "notebooks/submission.ipynb"
CONSTANTS = "constants"  # id of the cell that `package` fills in
# The code file for each of Kaggle's kernel types.
CODE_FILES = {"notebook": "submission.ipynb", "script": "submission.py"}


def kernel_source(kernel_type: str, constants: Mapping[str, Any], origin: dict[str, Any]) -> str:
    """Return the text of CODE_FILES[kernel_type] with its provenance, since Kaggle keeps only this file of a push.

    Args:
        constants: values by name for the cell `constants`.

    Raises:
        UserError: the notebook is missing, or is none.
    """
    notebook = with_constants(read_notebook(checkout() / NOTEBOOK), constants)
    return as_script(notebook, origin) if kernel_type == "script" else as_notebook(notebook, origin)


def read_notebook(path: Path) -> dict[str, Any]:
    """Read a notebook that has cells with code.

    Raises:
        UserError: it does not exist, is not JSON, or has no such cells.
    """
    remedy = "restore it with git"
    notebook = read_json(path, remedy)
    try:
        code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
        whole = isinstance(notebook["metadata"], dict) and any(source.strip() for source in code)
        ids = [cell.get("id") for cell in notebook["cells"]]
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{path} is no notebook with cells of code: {remedy}")
    if ids.count(CONSTANTS) != 1:
        raise UserError(f"{path} has {ids.count(CONSTANTS)} cells with the id {CONSTANTS}, not one: {remedy}")
    return notebook


def with_constants(notebook: dict[str, Any], constants: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notebook with these constants in its cell with the id `constants`, which must be there."""
    source = "\n".join(f"{name} = {json.dumps(value)}" for name, value in constants.items())
    cells = [cell | {"source": [source]} if cell.get("id") == CONSTANTS else cell for cell in notebook["cells"]]
    return notebook | {"cells": cells}


def as_notebook(notebook: dict[str, Any], origin: dict[str, Any]) -> str:
    """Add the provenance to the notebook's metadata."""
    metadata = notebook["metadata"] | {"provenance": origin}
    return json.dumps(notebook | {"metadata": metadata}, indent=2) + "\n"


def as_script(notebook: dict[str, Any], origin: dict[str, Any]) -> str:
    """Write the cells in percent format, which editors show as cells, and the provenance as the last line."""
    blocks = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append("\n".join(["# %% [markdown]", *(f"# {line}".rstrip() for line in source.splitlines())]))
        else:
            blocks.append(f"# %%\n{source}")
    return "\n\n".join([*blocks, f"# provenance: {json.dumps(origin)}\n"])
