"""A leaf has no up, down, left or right: an image is predicted in several of its symmetries, and the mean counts.

Training's last validation and the kernel both look here, so they see the same.
"""

from collections.abc import Iterator

from torch import Tensor


def views(images: Tensor, count: int) -> Iterator[Tensor]:
    """The same images turned and mirrored, as they are first: no copy but `images`.

    Args:
        images: (n, channels, side, side).
        count: 1 as they are; 2 mirrored, too; 4 mirrored both ways; 8 all that bring a square onto itself.
    """
    across, down = (-1,), (-2,)
    flips = {1: [()], 2: [(), across]}.get(count, [(), across, down, across + down])
    for square in (images, images.transpose(-1, -2))[: 1 + (count == 8)]:
        for flip in flips:
            yield square.flip(flip) if flip else square
