"""notebooks/submission.ipynb as what a kernel runs: the notebook, or its cells as a script."""

import json
from typing import Any

from plant_pathology.core.checkout import checkout

NOTEBOOK = "notebooks/submission.ipynb"
# By kernel_type, as Kaggle calls it.
CODE_FILES = {"notebook": "submission.ipynb", "script": "submission.py"}


def kernel_source(kernel_type: str, origin: dict[str, Any]) -> str:
    """The text of CODE_FILES[kernel_type], with its origin in it: a push keeps no other place for that."""
    notebook = json.loads((checkout() / NOTEBOOK).read_text())
    return as_script(notebook, origin) if kernel_type == "script" else as_notebook(notebook, origin)


def as_notebook(notebook: dict[str, Any], origin: dict[str, Any]) -> str:
    """Its origin is in the metadata."""
    metadata = notebook["metadata"] | {"provenance": origin}
    return json.dumps(notebook | {"metadata": metadata}, indent=2) + "\n"


def as_script(notebook: dict[str, Any], origin: dict[str, Any]) -> str:
    """In the percent format, which editors show as cells. Its origin is the last line."""
    blocks = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append("\n".join(["# %% [markdown]", *(f"# {line}".rstrip() for line in source.splitlines())]))
        else:
            blocks.append(f"# %%\n{source}")
    return "\n\n".join([*blocks, f"# provenance: {json.dumps(origin)}\n"])
