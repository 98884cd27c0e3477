"""Progressive resizing: train on small images first and on full-size images last, to save time.

`data.grow.start` is the side of the first epoch's images as a share of the full side: 0.5 starts at half the side,
which costs about a quarter; 1 turns progressive resizing off. `data.grow.until` is the share of the epochs after which
images have full size: with 0.7 and 20 epochs, from epoch 14 (counted from 0) on. In between, the side grows linearly.
Validation and prediction always use full-size images.
"""

from dataclasses import dataclass

STEP = 16  # pixels; sides grow in steps of it


@dataclass(frozen=True)
class ProgressiveResizing:
    """Compute the side of the training images for each epoch; `data.grow` in conf/params.yaml.

    Early epochs learn most of what the same epochs on full-size images would, at a fraction of the cost. Sources:
    Howard 2018 (DAWNBench entry of fast.ai); Tan and Le 2021, "EfficientNetV2", section 4 (progressive learning).

    Args:
        start: side in the first epoch, as a share of the full side; 1 for full size in all epochs.
        until: share of the epochs after which images have full size.
        epochs: number of epochs of the run.
    """

    start: float
    until: float
    epochs: int

    def side(self, epoch: int, full: int) -> int:
        """Return the side of an epoch's training images, in pixels.

        Args:
            epoch: counted from 0.
            full: side of the stored images, in pixels.
        """
        progress = epoch / (self.until * self.epochs) if self.until else 1.0
        share = self.start + (1 - self.start) * min(1.0, progress)
        return full if share == 1 else min(full, max(STEP, round(share * full / STEP) * STEP))

    def sides(self, full: int) -> list[int]:
        """Return the sides of all epochs' images, and last that of validation."""
        return [*dict.fromkeys(self.side(epoch, full) for epoch in range(self.epochs) if self.start < 1), full]


FULL_SIZE = ProgressiveResizing(start=1.0, until=0.0, epochs=1)
