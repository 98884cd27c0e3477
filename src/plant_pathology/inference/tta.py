"""Test-time augmentation: predict flipped and transposed copies of an image, and average the probabilities.

That fits images without a fixed orientation, such as leaves. A run's last validation and the kernel use the same
copies.
"""

from collections.abc import Iterator

from torch import Tensor


def views(images: Tensor, count: int) -> Iterator[Tensor]:
    """Yield the batch itself, then flipped and transposed copies of it, one at a time to save memory.

    Args:
        images: (n, channels, side, side).
        count: 1: the batch alone. 2: and flipped horizontally. 4: and flipped vertically, and both ways. 8: and the
            transpose of each of these, which makes all symmetries of a square.
    """
    horizontal, vertical = (-1,), (-2,)
    flips: list[tuple[int, ...]] = [(), horizontal, vertical, horizontal + vertical][:count]
    for batch in (images, images.transpose(-1, -2)) if count == 8 else (images,):
        for axes in flips:
            yield batch.flip(axes) if axes else batch
