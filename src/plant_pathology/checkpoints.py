"""Checkpoints that are written whole or not at all."""

import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from plant_pathology.stage import whole_file


class WholeCheckpoints(TorchCheckpointIO):
    """As Lightning's own, which goes by way of the system's temporary folder: where that is on another disk, a kill or
    a full disk leaves half a checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Raises: OSError when the disk is full."""
        content = io.BytesIO()
        # Not straight to the file: torch answers a full disk with an error that says neither.
        torch.save(checkpoint, content)
        with whole_file(Path(path)) as work:
            work.write_bytes(content.getbuffer())
