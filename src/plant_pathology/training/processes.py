"""Start the processes that train: on Linux forked from one that has imported torch, Lightning and timm already.

That one has done nothing else, so a fork of it starts in a fraction of a second. Elsewhere each process imports them
itself: on macOS the GPU hangs or crashes in a forked process (pytorch/pytorch#178037), and Windows cannot fork.
"""

import sys
from multiprocessing import forkserver, get_context

if sys.platform == "linux":
    PROCESSES = get_context("forkserver")
else:
    PROCESSES = get_context("spawn")


def start_fork_server(logger: str) -> None:
    """Start the process that runs are forked from; do nothing if it is running, or if the system does not fork.

    Args:
        logger: its name. TensorBoard is imported before the fork; MLflow and W&B start threads, which a fork would
            lose, so each run imports them itself.
    """
    if sys.platform == "linux":
        tensorboard = ["torch.utils.tensorboard"] if logger == "tensorboard" else []
        forkserver.set_forkserver_preload(["plant_pathology.training.preload", *tensorboard])
        forkserver.ensure_running()
