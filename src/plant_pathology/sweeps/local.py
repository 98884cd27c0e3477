"""Train the runs of a sweep in parallel on this machine, one process per run, so that a crash ends only its own run.

Ends of processes:
    SIGTERM or Ctrl-C to the sweep: every run saves a checkpoint, then all end; a second Ctrl-C kills them.
    The sweep dies without notice (SIGKILL): every run notices and sends SIGTERM to itself, so none is left behind.
    A run dies: its failure.txt names the signal, and the others continue.
"""

import os
import platform
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from omegaconf import DictConfig, open_dict

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import make_own
from plant_pathology.core.processes import cpu_count, when_parent_ends
from plant_pathology.runs.cost import Machine, may_launch, write_machine
from plant_pathology.runs.finished import has_ended, score_of
from plant_pathology.runs.folder import FAILURE, RESULT, record_failure
from plant_pathology.runs.run import Run, devices_of, run_of
from plant_pathology.runs.status import Watch
from plant_pathology.runs.sweep_lists import enter_sweep
from plant_pathology.training.needed_weights import fetch_all_weights
from plant_pathology.training.processes import PROCESSES, start_fork_server
from plant_pathology.training.run import is_to_train, train_sweep_member

LOG = "log.txt"
POLL = 0.5  # seconds between two updates of the progress display


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time.

    Args:
        threads: number of threads for the run.
        gpus: the run's CUDA_VISIBLE_DEVICES; None without GPUs.
    """

    threads: int
    gpus: str | None


def train_all(configs: Iterable[DictConfig], workers: int | None) -> list[float | None]:
    """Train all runs that have no result yet.

    Args:
        configs: one per run. A generator that composes them is best: the fork server imports torch meanwhile.
        workers: number of runs at once; None: one per GPU, or one per core without GPUs. A run on several devices
            takes as many of them.

    Returns:
        Score of each run, higher is better; NaN for one that diverged, None for one that failed; both have a
        failure.txt in their folder.

    Raises:
        UserError: a run needs more GPUs than there are, or a network's weights cannot be had.
    """
    runs = []
    for run in map(run_of, configs):
        runs.append(run)
        if not (run.folder / RESULT).exists():
            start_fork_server(run.cfg.logger.name)
    for run in runs:
        enter_sweep(run.folder)
    # A grid may contain the same run twice.
    missing = [run for run in {run.name: run for run in runs}.values() if is_to_train(run)]
    if missing:
        slots = make_slots(missing, workers)
        fetch_all_weights(missing)
        start_fork_server(missing[0].cfg.logger.name)
        with Watch([run.folder for run in runs]) as watch:
            WorkerPool(slots, watch).train(missing)
    return [score_of(run.folder) for run in runs]


def make_slots(runs: Sequence[Run], workers: int | None) -> list[Slot]:
    """Divide this machine's GPUs, or else its cores, among runs: each gets as many as the largest of them needs.

    Raises:
        UserError: there are fewer GPUs than one run needs.
    """
    cfg, devices = runs[0].cfg, max(map(devices_of, runs))
    gpus = visible_gpus() if cfg.trainer.accelerator not in ("cpu", "mps") else []
    if 0 < len(gpus) < devices:
        raise UserError(f"trainer.devices={devices}: this machine has {len(gpus)} GPUs: lower it")
    groups = [",".join(gpus[first : first + devices]) for first in range(0, len(gpus) - devices + 1, devices)]
    cores = cpu_count()
    count = min(len(runs), workers or len(groups) or max(1, cores // devices))
    threads = cfg.threads or max(1, cores // count)
    return [Slot(threads, groups[number % len(groups)] if groups else None) for number in range(count)]


def visible_gpus() -> list[str]:
    """Return one value of CUDA_VISIBLE_DEVICES per GPU that this process may use."""
    import torch

    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [device for device in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if device]
    return list(map(str, range(torch.cuda.device_count())))


class WorkerPool:
    """Train each run in its own process, at most one per slot at a time.

    Not a ProcessPoolExecutor, which fails as a whole (BrokenProcessPool) when one of its processes is killed.
    """

    def __init__(self, slots: list[Slot], watch: Watch):
        self.slots, self.watch = slots, watch
        self._running: dict[BaseProcess, tuple[Run, Slot]] = {}

    def train(self, runs: list[Run]) -> None:
        """Train all runs and show their progress until the last one ends.

        Raises:
            SystemExit: on SIGTERM, after the runs saved checkpoints.
            KeyboardInterrupt: on Ctrl-C, the same; a second Ctrl-C does not wait for them.
        """
        waiting, free = list(runs), list(self.slots)
        launched: list[Path] = []
        with self._checkpoints_on_signal():
            while waiting or self._running:
                while waiting and free:
                    # From the end: people list models from small to large, and a long run that starts last ends alone.
                    run = waiting.pop()
                    if may_launch(run.cfg.cost.budget_usd, launched):
                        launched.append(run.folder)
                        self._start(run, free.pop())
                    else:
                        budget = run.cfg.cost.budget_usd
                        record_failure(run.folder, f"not launched: it could exceed cost.budget_usd={budget:g}")
                connection.wait([process.sentinel for process in self._running], POLL)
                self.watch.show()
                for process in [process for process in self._running if not process.is_alive()]:
                    run, slot = self._running.pop(process)
                    self._record_end(run, process.exitcode)
                    free.append(slot)

    def _start(self, run: Run, slot: Slot) -> None:
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / FAILURE).unlink(missing_ok=True)
        price = run.cfg.cost.usd_per_hour / len(self.slots)
        write_machine(run.folder, Machine(platform.node(), spot=False, usd_per_hour=price))
        cfg = run.cfg.copy()
        with open_dict(cfg):
            del cfg["hydra"]
            cfg.threads = slot.threads
        process = PROCESSES.Process(target=train_in_child, args=(cfg, run.folder, slot.gpus), name=run.name)
        process.start()
        self._running[process] = (run, slot)

    def _record_end(self, run: Run, code: int | None) -> None:
        """Write failure.txt for a process that could not write it itself, because a signal ended it."""
        if code and not (run.folder / FAILURE).exists() and not (run.folder / RESULT).exists():
            number = -code if code < 0 else code - 128
            name = signal.Signals(number).name if number in set(signal.Signals) else f"exit code {code}"
            memory = ", perhaps because memory ran out" if name == "SIGKILL" else ""
            record_failure(run.folder, f"ended by {name}{memory}; its output is in {run.folder / LOG}")
        self.watch.show()

    @contextmanager
    def _checkpoints_on_signal(self) -> Iterator[None]:
        """On SIGTERM or Ctrl-C, send SIGTERM to the runs, which then save checkpoints, and wait; on any error, kill."""

        def terminate(number: int, frame: FrameType | None) -> None:
            raise SystemExit(128 + number)

        before = signal.signal(signal.SIGTERM, terminate)
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            print("runs save their checkpoints; press Ctrl-C again to kill them", file=sys.stderr, flush=True)
            self._end_all(BaseProcess.terminate)
            raise
        finally:
            self._end_all(BaseProcess.kill)
            signal.signal(signal.SIGTERM, before)

    def _end_all(self, end: Callable[[BaseProcess], None]) -> None:
        for process in self._running:
            end(process)
        with suppress(KeyboardInterrupt):
            for process in self._running:
                process.join()


def train_in_child(cfg: DictConfig, folder: Path, gpus: str | None) -> None:
    """Train one run in this process, with all output in log.txt; exit with code 1 if it fails."""
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    make_own(folder / LOG)
    with (folder / LOG).open("a", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    # Left behind by a killed sweep, it would keep the run's lock; on SIGTERM it saves a checkpoint and ends.
    when_parent_ends(lambda: os.kill(os.getpid(), signal.SIGTERM))
    train_sweep_member(cfg)
    if not has_ended(folder):
        sys.exit(1)
