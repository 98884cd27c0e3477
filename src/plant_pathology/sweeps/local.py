"""Runs side by side on one machine, each in a process of its own, so that none can harm another.

Processes are forked from one that has imported torch, Lightning and timm, and has done nothing else: a run starts in a
fraction of a second, on its share of the cores, or on a GPU of its own.
"""

import os
import platform
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, forkserver, get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

from omegaconf import DictConfig, open_dict

from plant_pathology.runs.cost import Machine, may_launch, write_machine
from plant_pathology.runs.run import FAILURE, Run, enter_sweep, record_failure, run_of
from plant_pathology.runs.status import Watch
from plant_pathology.training.run import existing_result, train_sweep_member

POLL = 0.5  # seconds between two looks at what runs report


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time: so many threads, and a GPU where there are any."""

    threads: int
    gpu: str | None


def train_all(configs: Iterable[DictConfig], workers: int | None) -> list[float | None]:
    """Train what is not finished.

    Args:
        configs: composed as they are asked for; meanwhile the process imports that the runs are forked from.
        workers: runs at once; None: as many as there are GPUs or cores.

    Returns:
        Sample-F1 of each; None of those that failed, which left failure.txt in their folder.
    """
    runs = []
    for run in map(run_of, configs):
        runs.append(run)
        if not run.result():
            start_fork_server(run.cfg.logger.name)
    for run in runs:
        enter_sweep(run)
    # A grid may name one run twice.
    missing = list({run.name: run for run in runs if not existing_result(run)}.values())
    if missing:
        with Watch([run.folder for run in runs]) as watch:
            WorkerPool(make_slots(missing[0].cfg, len(missing), workers), watch).train(missing)
    return [result["f1"] if (result := run.result()) else None for run in runs]


def start_fork_server(logger: str) -> None:
    """Start the process that runs are forked from, once. MLflow and W&B start threads, which no fork survives."""
    forkserver.set_forkserver_preload(
        ["plant_pathology.training.preload", *(["torch.utils.tensorboard"] if logger == "tensorboard" else [])]
    )
    forkserver.ensure_running()


def make_slots(cfg: DictConfig, runs: int, workers: int | None) -> list[Slot]:
    """Places for `runs` runs on this machine's GPUs, or else on its cores."""
    gpus = visible_gpus() if cfg.trainer.accelerator not in ("cpu", "mps") else []
    cores = len(os.sched_getaffinity(0))
    count = min(runs, workers or len(gpus) or cores)
    threads = cfg.threads or max(1, cores // count)
    return [Slot(threads, gpus[number % len(gpus)] if gpus else None) for number in range(count)]


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may be set to, one GPU each."""
    import torch

    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [device for device in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if device]
    return list(map(str, range(torch.cuda.device_count())))


class WorkerPool:
    """A process a run, as many at once as there are slots."""

    def __init__(self, slots: list[Slot], watch: Watch):
        self.slots, self.watch = slots, watch
        self._context = get_context("forkserver")
        self._running: dict[BaseProcess, tuple[Run, Slot]] = {}

    def train(self, runs: list[Run]) -> None:
        """Until all are over. SIGTERM or Ctrl-C lets each save a checkpoint first; a second Ctrl-C does not."""
        waiting, free, launched = list(runs), list(self.slots), []
        with self._checkpoints_on_signal():
            while waiting or self._running:
                while waiting and free:
                    # From the end: people list models from small to large, and a long run that starts last ends alone.
                    run = waiting.pop()
                    if may_launch(run.cfg.cost.budget_usd, launched):
                        launched.append(run.folder)
                        self._start(run, free.pop())
                    else:
                        record_failure(run, f"not launched: it could pass cost.budget_usd={run.cfg.cost.budget_usd:g}")
                connection.wait([process.sentinel for process in self._running], POLL)
                self.watch.show()
                for process in [process for process in self._running if not process.is_alive()]:
                    run, slot = self._running.pop(process)
                    self._note_end(run, process.exitcode)
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
        process = self._context.Process(target=train_in_child, args=(cfg, run.folder, slot.gpu), name=run.name)
        process.start()
        self._running[process] = (run, slot)

    def _note_end(self, run: Run, code: int) -> None:
        if code and not (run.folder / FAILURE).exists() and not run.result():
            number = -code if code < 0 else code - 128
            name = signal.Signals(number).name if number in set(signal.Signals) else f"exit code {code}"
            memory = ", perhaps for lack of memory" if number == signal.SIGKILL else ""
            record_failure(run, f"ended by {name}{memory}; the rest of its output is in {run.folder / 'log.txt'}")
        self.watch.show()

    @contextmanager
    def _checkpoints_on_signal(self) -> Iterator[None]:
        def terminate(number: int, frame: FrameType | None) -> None:
            raise SystemExit(128 + number)

        before = signal.signal(signal.SIGTERM, terminate)
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            print("runs save their checkpoints; Ctrl-C again ends them at once", file=sys.stderr, flush=True)
            self._end(BaseProcess.terminate)
            raise
        finally:
            self._end(BaseProcess.kill)
            signal.signal(signal.SIGTERM, before)

    def _end(self, by) -> None:
        for process in self._running:
            by(process)
        with suppress(KeyboardInterrupt):
            for process in self._running:
                process.join()


def train_in_child(cfg: DictConfig, folder: Path, gpu: str | None) -> None:
    """In a process of its own: one run, whose words go to log.txt."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    with (folder / "log.txt").open("a") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if train_sweep_member(cfg) is None:
        sys.exit(1)


def _end_with_parent() -> None:
    """A run that nobody waits for would stand in the way of the next start."""
    connection.wait([parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
