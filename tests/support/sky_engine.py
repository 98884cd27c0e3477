"""Run a sweep through the real SkyPilot on this machine: `make test-sky`, which takes some minutes and needs root.

Two runs are managed jobs on a one-node Slurm cluster. One loses its machine midway, and the command that follows them
is killed. Both must finish with the digits of uninterrupted runs, and starting the sweep again must launch nothing.
"""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from support.checkout import PROJECT, copy_checkout

LOOPBACK = PROJECT.parent / "shared" / "sky-loopback"
HOME = Path(os.environ.get("SKY_LOOPBACK", "/tmp/sky-loopback"))
SAMPLE = ["competition=sample", "machine=cpu"]
RUNS = [*SAMPLE, "model=test_resnet", "model.lr=1e-3,1e-2", "trainer.max_epochs=40", "threads=1"]
SKY = [
    *("hydra/launcher=sky", "hydra.launcher.infra=slurm/loop", "hydra.launcher.accelerators=null"),
    *("hydra.launcher.cpus=1", "hydra.launcher.poll_s=3"),
]
# The trial has its own HOME, and so its own SkyPilot state: it neither sees what an aborted trial left, nor changes the
# user's. It still needs these folders of the user's HOME.
ELSEWHERE = {"XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "PYENV_ROOT": ".pyenv"}
COLUMNS = ["epoch", "train_loss", "val_loss", "val_score"]
start = time.monotonic()


def say(event: str) -> None:
    print(f"{time.monotonic() - start:4.0f} s  {event}", flush=True)


def output(*command: str, **settings) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **settings).stdout


def up(home: Path) -> dict[str, str]:
    """Start the cluster and SkyPilot, and return the environment for their users."""
    home.mkdir()
    kept = {name: str(Path.home() / folder) for name, folder in ELSEWHERE.items()}
    environment = kept | os.environ | {"HOME": str(home)}
    for stale in HOME.rglob("*.pid"):  # ids of processes that ended with an aborted trial
        stale.unlink()
    line = output(str(LOOPBACK / "up"), env=environment)
    output("scancel", "--user", "root")  # jobs of an aborted trial
    path = f"{HOME}/venv/bin:{os.environ['PATH']}"
    say("the cluster and SkyPilot are up")
    return environment | dict(re.findall(r"(SKYPILOT\w+)=(\S+)", line)) | {"PATH": path, "PYTHONPATH": "src"}


def install() -> str:
    """Install this project and SkyPilot in the versions that the jobs install, and return the path of their Python."""
    python = HOME / "project" / "bin" / "python"
    uv, wanted = (
        str(HOME / "venv" / "bin" / "uv"),
        ["-c", "requirements.lock", "-r", "pyproject.toml", "--extra", "sky"],
    )
    if not python.exists():
        output(uv, "venv", "-q", "--python", sys.executable, str(python.parents[1]))
    output(uv, "pip", "install", "-q", "--python", str(python), *wanted, cwd=PROJECT)
    output(str(python), str(PROJECT / ".ci" / "torchvision_beside_cpu_torch.py"))
    say("the project and SkyPilot are installed beside each other")
    return str(python)


def checkout(folder: Path) -> Path:
    """Copy this working tree to `folder`, and commit it there."""
    copy_checkout(folder)
    identity = ("-c", "user.name=tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgsign=false")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "as it is"]):
        output("git", *identity, *arguments, cwd=folder)
    return folder


def read_metrics(run: Path) -> list[list[str]]:
    """Return all digits of a run's epochs: one row per epoch, in the order of COLUMNS."""
    with (run / "metrics.csv").open() as file:
        return [[row[column] for column in COLUMNS] for row in csv.DictReader(file)]


class Sweep:
    """Start the sweep's command any number of times, with all output in one log."""

    def __init__(self, python: str, project: Path, environment: dict[str, str]):
        self.command = [python, "-m", "plant_pathology.train", "-m", *SKY, *RUNS]
        self.project, self.environment, self.log = project, environment, project / "runs" / "sweep.log"
        self.log.parent.mkdir(exist_ok=True)

    def start(self) -> subprocess.Popen:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.project, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self.process

    def output(self) -> str:
        return self.log.read_text()

    def wait_until(self, seen: Callable[[], bool], event: str, limit: float = 400) -> None:
        deadline = time.monotonic() + limit
        while not seen():
            if time.monotonic() > deadline or self.process.poll():
                sys.exit(f"error: waited in vain until {event}\n{self.output()}")
            time.sleep(0.5)
        say(event)


def main() -> None:
    if not LOOPBACK.is_dir() or os.geteuid():
        sys.exit(f"error: make test-sky needs root, and {LOOPBACK}")
    if "contained" not in sys.argv:
        # A process namespace: all processes of SkyPilot and Slurm end with the trial, however it ends.
        contained = f"{shlex.join([sys.executable, __file__, 'contained'])}; exit $?"
        os.execvp("unshare", ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child", "bash", "-c", contained])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: terminated"))
    with tempfile.TemporaryDirectory(prefix="sky-engine-", ignore_cleanup_errors=True) as folder:
        try:
            trial(checkout(Path(folder) / "checkout"), Path(folder) / "undisturbed", up(Path(folder) / "home"))
        finally:
            subprocess.run([str(LOOPBACK / "down")], stdout=subprocess.DEVNULL)
            say("cluster and SkyPilot have been stopped")


def trial(project: Path, undisturbed: Path, environment: dict[str, str]) -> None:
    python = install()

    def stage(module: str, *arguments: str) -> None:
        output(python, "-m", f"plant_pathology.{module}", *arguments, cwd=project, env=environment)

    stage("sample", *SAMPLE)
    stage("prepare", *SAMPLE)
    stage("datastore", "push", *SAMPLE)
    stage("train", "-m", *RUNS, f"paths.runs={undisturbed}")
    say("both runs have finished here without interruption")

    sweep, store = Sweep(python, project, environment), project / "store" / "runs"
    following, began = sweep.start(), time.monotonic()
    names = sorted(path.name for path in undisturbed.glob("test_resnet*"))
    sweep.wait_until(lambda: sweep.output().count(": launched") == 2, "both jobs are submitted")
    submitted = time.monotonic() - began
    sweep.wait_until(lambda: all((store / name / "metrics.csv").exists() for name in names), "both runs train")

    lost = names[0]
    job = int(re.search(rf"{re.escape(lost)}: job (\d+)", sweep.output())[1])
    slurm = next(
        line.split()[0] for line in output("squeue", "-ho", "%i %j").splitlines() if re.search(rf"-{job}-\w+$", line)
    )
    epochs = len(read_metrics(store / lost))
    output("scancel", slurm)
    say(f"{lost} lost its machine after epoch {epochs}")
    sweep.wait_until(lambda: f"job {job} recovering" in sweep.output(), "SkyPilot has noticed", 120)
    following.send_signal(signal.SIGKILL)
    following.wait()
    following = sweep.start()
    sweep.wait_until(
        lambda: "continues as job" in sweep.output(), "the command was killed and started again, and has found the jobs"
    )
    following.wait()
    printed = sweep.output()
    assert following.returncode == 0, printed
    say("the sweep has finished")

    log = output("sky", "jobs", "logs", "--no-follow", str(job), env=environment)
    continued = re.search(r"continues after \S+", log)
    assert continued, log
    assert printed.count(": launched") == 2 and "recoveries: 1" in printed, printed
    for name in names:
        here, there = undisturbed / name, project / "runs" / name
        assert read_metrics(here) == read_metrics(there), name
        assert (here / "validation.npz").read_bytes() == (there / "validation.npz").read_bytes()
    say(f"{lost} {continued[0]}; all {len(read_metrics(here))} epochs of both runs have the uninterrupted runs' digits")

    began = time.monotonic()
    again = sweep.start()
    assert again.wait() == 0
    seconds = time.monotonic() - began
    news = sweep.output()[len(printed) :]
    assert news.count("finished before") == 2 and "launched" not in news, news
    say(f"started again: nothing launched, {seconds:.1f} s; the first start submitted both jobs in {submitted:.1f} s")


if __name__ == "__main__":
    main()
