"""Say which of a run's devices a process trains on, and let the processes of one run meet.

With `trainer.devices=n` each of n processes holds the whole network and trains on its part of every batch; the
gradients are averaged (data parallelism; Li et al. 2020, "PyTorch Distributed").
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, distributed
from torchmetrics.utilities.distributed import gather_all_tensors

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # of a device that waits for the others; one whose process died is noticed at once
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio: multiples of it are far from one another


@dataclass(frozen=True)
class Device:
    """One of a run's devices.

    Args:
        number: from 0.
        count: of the run's devices.
    """

    number: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Return whether this process writes the run's files, and speaks for it."""
        return self.number == 0

    def join(self, meeting: Path, cuda: bool, threads: int) -> None:
        """Wait for the processes of the run's other devices, and make a group with them.

        Args:
            meeting: a file that does not exist yet, the same for all.
            cuda: whether the devices are GPUs.
            threads: of this process; without OMP_NUM_THREADS Lightning would choose another number.
        """
        own = {"LOCAL_RANK": self.number, "NODE_RANK": 0, "WORLD_SIZE": self.count, "OMP_NUM_THREADS": threads}
        os.environ.update({name: str(value) for name, value in own.items()})
        if cuda:
            torch.cuda.set_device(self.number)
        # Lightning takes a group that exists. Its own is made at a port that was free a moment before.
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            init_method=meeting.as_uri(),
            rank=self.number,
            world_size=self.count,
            timeout=PATIENCE,
        )

    def part(self, samples: np.ndarray) -> np.ndarray:
        """Return this device's share of the samples of a batch for all devices."""
        return np.array_split(samples, self.count)[self.number]

    def from_first(self, make: Callable[[], T]) -> T:
        """Return what the first device's process makes; the others wait for it."""
        if self.count == 1:
            return make()
        made = [make() if self.is_first else None]
        distributed.broadcast_object_list(made, device=torch.device("cpu"))
        return made[0]  # type: ignore[return-value]  # the first one's, on all devices

    def largest(self, number: int) -> int:
        """Return the largest of all devices' numbers. No GPU waits for it, only the processes for one another."""
        if self.count == 1:
            return number
        tensor = torch.tensor(number)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return int(tensor)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of all devices' values."""
        if self.count == 1:
            return value
        value = value.clone()
        distributed.all_reduce(value)
        return value / self.count

    def gathered(self, tensor: Tensor) -> Tensor:
        """Return the rows of all devices' tensors, those of the first device first."""
        return tensor if self.count == 1 else torch.cat(gather_all_tensors(tensor))

    def seed(self, seed: int) -> int:
        """Return a seed for random numbers of this device alone; the first one's is `seed` itself."""
        return (seed + self.number * GOLDEN) % 2**64


ONLY = Device()
