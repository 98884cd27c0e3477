"""Train sweeps with SkyPilot. `FakeSky` replaces its API server here; `make test-sky` uses the real one."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from plant_pathology.core.errors import UserError
from plant_pathology.runs.cost import Machine, machine_of
from plant_pathology.runs.run import Run, run_of
from plant_pathology.runs.sweep_lists import chosen_sweep, enter_sweep
from plant_pathology.runs.sync import RunSync
from plant_pathology.store.folder import FolderBackend
from plant_pathology.store.store import Store
from plant_pathology.sweeps.sky.client import Job
from plant_pathology.sweeps.sky.follow import JobFollower
from plant_pathology.sweeps.sky.options import SkyOptions
from plant_pathology.sweeps.sky.task import (
    RUN,
    SETUP,
    VENV,
    check_committed,
    check_store,
    export_commit,
    job_name,
    overrides_of,
    task_of,
    task_yaml,
)
from support.commands import PROJECT, config, git, run_module
from support.prepared import leaves, prepare
from support.small_runs import finish

T4 = Machine("g4dn.xlarge in us-east-1", True, 0.2, 0.526)
METRICS = b"epoch,train_loss,val_score,val_sample_f1,seconds\n0,0.5,0.8,0.8,1800\n1,0.4,0.9,0.9,1800\n"
CONFIG = {"trainer": {"max_epochs": 2}, "competition": {"metric": "sample_f1"}}
RESULT = {"metric": "sample_f1", "score": 0.9, "val_score": 0.9, "epoch": 1, "stopped": None, "seconds": 60.0}


def store_finished_run(sync: RunSync, name: str) -> None:
    """Store the files of a finished run, as its machine does."""
    with TemporaryDirectory() as work:
        folder = Path(work, name)
        folder.mkdir()
        (folder / "metrics.csv").write_bytes(METRICS)
        finish(folder, RESULT | {"config": CONFIG})
        for path in folder.iterdir():
            sync.replace(name, path.name, path.read_bytes())


class FakeSky:
    """SkyClient in memory: jobs go through given states. A task is just its name.

    Args:
        fates: by name, the states of a job, one per query; the last one stays.
    """

    def __init__(self, sync: RunSync, **fates: list[str]):
        self.sync, self.fates = sync, fates
        self.made: dict[int, Job] = {}
        self.cancelled: list[int] = []

    def submit(self, task: str) -> str:
        if self.fates.get(task) == ["REFUSED"]:
            raise ValueError("no such accelerator")
        self.made[len(self.made) + 1] = Job(len(self.made) + 1, task, "PENDING")
        return str(len(self.made))

    def job_of_request(self, request: str) -> int | None:
        if int(request) not in self.made:
            raise UserError("SkyPilot made no job: no such request")
        return int(request)

    def jobs(self, ids: list[int] | None = None) -> list[Job]:
        for id in ids or []:
            self.made[id] = self.next(self.made[id])
        return [job for job in self.made.values() if (job.id in ids if ids is not None else not job.ended)]

    def next(self, job: Job) -> Job:
        fate = self.fates.get(job.name, ["RUNNING", "SUCCEEDED"])
        state = fate.pop(0) if len(fate) > 1 else fate[0]
        self.fates[job.name] = fate
        if state == "Ctrl-C":
            raise KeyboardInterrupt
        if state == "SUCCEEDED":
            store_finished_run(self.sync, job.name)
        lost = job.recoveries + (state == "RECOVERING")
        return replace(job, state=state, recoveries=lost, machine=T4 if state != "PENDING" else None)

    def last_error(self, job: int) -> str:
        return "error: model=resnet19: timm has no such model"

    def cancel(self, ids: list[int]) -> None:
        self.cancelled = ids


@pytest.fixture
def sync(tmp_path):
    return RunSync(FolderBackend(tmp_path / "store"), tmp_path / "runs")


def runs(sync, *names):
    cfg = config("trainer.max_epochs=2")
    return {name: Run(cfg, None, {}, sync.runs / name) for name in names}


def sweep(sync, client, *names, **settings):
    asked = Machine("T4:1, asked for", True, 0.0)
    JobFollower(runs(sync, *names), job_name, client, sync, asked, poll_s=0, **settings).run()


def failure(sync, name):
    return (sync.runs / name / "failure.txt").read_text()


def test_results_are_downloaded_and_the_machine_s_price_is_recorded(sync, capsys):
    client = FakeSky(sync, a=["STARTING", "RUNNING", "RECOVERING", "RUNNING", "SUCCEEDED"])
    sweep(sync, client, "a", "b")
    said = capsys.readouterr().out
    assert "a: job 1 running on g4dn.xlarge in us-east-1\n" in said
    assert "a: job 1 recovering on g4dn.xlarge in us-east-1, recoveries: 1\n" in said
    assert "b: epoch 2/2  loss 0.4000  sample_f1 0.9000" in said and "b: finished, sample_f1 0.9000 at epoch 2" in said
    assert machine_of(sync.runs / "a") == T4
    assert json.loads((sync.runs.parent / "store" / "runs" / "a" / "job.json").read_text())["job"] == 1


def test_a_finished_sweep_launches_nothing_when_started_again(sync, capsys):
    sweep(sync, FakeSky(sync), "a", "b")
    client = FakeSky(sync)
    sweep(sync, client, "a", "b")
    assert client.made == {} and capsys.readouterr().out.count("finished before") == 2


def test_a_run_that_finished_on_another_machine_is_not_launched(sync):
    store_finished_run(sync, "a")
    client = FakeSky(sync)
    sweep(sync, client, "a")
    assert client.made == {}


def test_after_an_interruption_the_same_command_finds_its_jobs_again(sync, capsys):
    client = FakeSky(sync, a=["RUNNING", "Ctrl-C", "RUNNING", "SUCCEEDED"])
    with pytest.raises(SystemExit):
        sweep(sync, client, "a")
    assert "sky jobs cancel 1" in capsys.readouterr().err
    sweep(sync, client, "a")
    assert "a: continues as job 1" in capsys.readouterr().out and len(client.made) == 1


def test_a_launch_that_is_still_in_progress_is_not_repeated(sync, capsys):
    client = FakeSky(sync)
    first = JobFollower(runs(sync, "a"), job_name, client, sync, T4, poll_s=0)
    first.launch()
    ids, client.job_of_request = client.job_of_request, lambda request: None  # SkyPilot takes its time
    job = client.made.pop(1)
    again = JobFollower(runs(sync, "a"), job_name, client, sync, T4, poll_s=0)
    again.find_existing()
    assert "a: launched before" in capsys.readouterr().out
    client.job_of_request, client.made = ids, {1: job}
    again.run()
    assert len(client.made) == 1 and (sync.runs / "a" / "result.json").exists()


def test_a_launch_that_skypilot_forgot_is_repeated(sync):
    client = FakeSky(sync)
    JobFollower(runs(sync, "a"), job_name, client, sync, T4, poll_s=0).launch()
    client.made.clear()
    sweep(sync, client, "a")
    assert (sync.runs / "a" / "result.json").exists()


def test_a_failed_run_records_why_and_the_others_continue(sync):
    client = FakeSky(sync, a=["FAILED"], b=["FAILED_NO_RESOURCE"], c=["CANCELLED"], d=["REFUSED"])
    client.last_error = lambda job: "error: data.fold=9" if job == 1 else ""
    sweep(sync, client, "a", "b", "c", "d", "e")
    assert failure(sync, "a") == "job 1 FAILED: error: data.fold=9; see `sky jobs logs 1`\n"
    assert failure(sync, "b") == "job 2 FAILED_NO_RESOURCE; see `sky jobs logs 2`\n"
    assert "CANCELLED" in failure(sync, "c") and "no such accelerator" in failure(sync, "d")
    assert (sync.runs / "e" / "result.json").exists()
    sweep(sync, FakeSky(sync), "a")
    assert not (sync.runs / "a" / "failure.txt").exists()


def test_no_more_jobs_run_at_once_than_parallel_allows(sync):
    client, most = FakeSky(sync), []
    original = client.jobs
    client.jobs = lambda ids=None: most.append(len(ids or [])) or original(ids)
    sweep(sync, client, *"abcde", parallel=2)
    assert max(most) == 2 and len(client.made) == 5


def test_no_job_is_launched_that_could_exceed_the_budget(sync):
    """A run takes an hour at 0.20 dollars, as the first one shows; 0.50 dollars are enough for one more."""
    client = FakeSky(sync)
    sweep(sync, client, "a", "b", "c", budget_usd=0.5)
    assert len(client.made) == 2
    assert "could exceed cost.budget_usd=0.5; raise it and start again" in failure(sync, "c")


@pytest.mark.parametrize("answer, cancelled", [("y", [1, 2]), ("", []), (KeyboardInterrupt, [])])
def test_ctrl_c_asks_whether_to_cancel_the_jobs(sync, monkeypatch, answer, cancelled):
    def reply(question):
        assert "Cancel 2 running jobs" in question
        if answer is KeyboardInterrupt:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", reply)
    client = FakeSky(sync, b=["Ctrl-C"])
    with pytest.raises(SystemExit) as stopped:
        sweep(sync, client, "a", "b")
    assert stopped.value.code == 130 and client.cancelled == cancelled
    assert (sync.runs / "a" / "failure.txt").exists() == bool(cancelled)


def test_a_query_that_fails_is_repeated(sync, capsys):
    client = FakeSky(sync)
    original, client.failures = client.jobs, 2

    def jobs(ids=None):
        if ids and client.failures:
            client.failures -= 1
            raise ConnectionError("connection refused")
        return original(ids)

    client.jobs = jobs
    sweep(sync, client, "a")
    assert capsys.readouterr().err.count("asking again") == 2 and (sync.runs / "a" / "result.json").exists()


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / ".gitignore").write_text("data\n")
    (folder / "train.py").write_text("committed\n")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        git(folder, *arguments)
    return folder


def test_only_committed_files_are_sent(checkout, tmp_path, capsys):
    head = check_committed(checkout, allow_uncommitted=False)
    (checkout / "data").write_text("ignored")
    (checkout / "train.py").write_text("edited\n")
    (checkout / "secret.txt").write_text("key")
    with pytest.raises(UserError, match=r"secret.txt, train.py.*commit first.*allow_uncommitted=true"):
        check_committed(checkout, allow_uncommitted=False)
    assert check_committed(checkout, allow_uncommitted=True) == head
    assert "without the uncommitted changes" in capsys.readouterr().out
    folder = export_commit(checkout, head, tmp_path / "runs")
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", ".skyignore", "train.py"]
    assert (folder / "train.py").read_text() == "committed\n"


def test_a_store_that_other_machines_cannot_read_is_refused():
    with pytest.raises(UserError, match="use store=s3"):
        check_store(config(), SkyOptions(infra="aws"))
    check_store(config(), SkyOptions(infra="slurm/loop"))
    check_store(config("store=s3", "store.uri=s3://leaves/here"), SkyOptions())


def test_the_overrides_sent_describe_the_same_run_without_datastore_json(tmp_path):
    store = Store(FolderBackend(tmp_path / "a store"))
    version, _ = store.push("leaves", prepare(tmp_path / "data", leaves(0, 20)))
    pointer = {"ref": version.ref, "uri": "", "sha256": version.sha256}
    (tmp_path / "datastore.json").write_text(json.dumps(pointer))
    given = ["model=test_resnet", "data.fold=1", f"store.uri='file://{tmp_path}/a store'", f"paths.root={tmp_path}"]
    run = run_of(config(*given))
    there = overrides_of(run, given, "file")
    assert f"data.ref={version.ref}" in there and "store.runs=true" in there
    assert not any(each.startswith("paths.") for each in there)
    assert run_of(config(*there)).name == run.name


@pytest.fixture
def node(tmp_path):
    """Return a function that runs a script on a fake machine, whose Python just finishes the run `resnet18-1`."""
    home, code, path = tmp_path / "home", tmp_path / "code", tmp_path / "bin"
    tools = {
        "getent": f"echo root:x:0:0::{home}:/bin/sh",
        "uv": f"""echo "$@" >> {tmp_path}/uv.log
            [ $1 = venv ] || exit 0
            for last; do mkdir -p "$last/bin"; done
            printf '#!/bin/sh\nmkdir -p runs/resnet18-1; touch runs/resnet18-1/result.json' > "$last/bin/python"
            chmod +x "$last/bin/python\"""",
    }
    for folder in (home, code, path):
        folder.mkdir()
    for name, script in tools.items():
        (path / name).write_text(f"#!/bin/sh\n{script}\n")
        (path / name).chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml"):
        (code / name).write_text("pins")

    def run(script: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"HOME": str(home), "PATH": f"{path}:{os.environ['PATH']}"}
        return subprocess.run(["bash", "-c", script], cwd=code, env=environment, capture_output=True, text=True)

    return run


def test_a_machine_installs_once_per_lock_file(node, tmp_path):
    setup = VENV.format(extras="--extra wandb") + SETUP
    assert [node(setup).returncode for _ in range(2)] == [0, 0]
    (tmp_path / "code" / "requirements.lock").write_text("other pins")
    assert node(setup).returncode == 0
    installs = [line for line in (tmp_path / "uv.log").read_text().splitlines() if line.startswith("pip install")]
    assert len(installs) == 2 and all("--constraint requirements.lock" in line for line in installs)
    assert all(line.endswith("--extra wandb") for line in installs)


@pytest.mark.parametrize(
    "name, code, says", [("resnet18-1", 0, ""), ("resnet18-2", 1, "error: HEAD describes another run")]
)
def test_a_job_fails_if_its_code_describes_another_run(node, name, code, says):
    venv = VENV.format(extras="")
    assert node(venv + SETUP).returncode == 0
    done = node(venv + RUN.format(overrides="model=resnet18", result=f"runs/{name}/result.json"))
    assert done.returncode == code and done.stdout.startswith(says)


@pytest.mark.slow
def test_without_skypilot_the_error_has_the_install_command_and_the_last_sweep_stays_listed(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/sweep.json").write_text('{"runs": ["before"]}')
    (tmp_path / "sky.py").write_text("raise ImportError('there is none')")
    path = f"{tmp_path}:{PROJECT / 'src'}"
    done = run_module("train", "-m", "hydra/launcher=sky", cwd=tmp_path, PYTHONPATH=path)
    assert (
        done.returncode == 1
        and 'pip install -c requirements.lock -e ".[sky]"' in done.stderr
        and "Traceback" not in done.stderr
    )
    assert chosen_sweep(tmp_path / "runs") == ["before"]


def test_an_unused_launcher_imports_no_heavy_package():
    program = "import sys, hydra_plugins.sky_launcher; sys.exit(bool({'sky', 'boto3', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.fixture
def sky():
    return pytest.importorskip("sky", reason="needs the extra sky")


def test_a_task_holds_the_run_s_name_code_overrides_and_pinned_versions(sky, sync, tmp_path):
    run = runs(sync, "resnet18-lr0.001-01234567")["resnet18-lr0.001-01234567"]
    task = task_of(
        run, ["model.lr=1e-3", "name=it's"], SkyOptions(infra="aws/us-east-1", cpus="4+", extras=["wandb"]), tmp_path
    )
    assert (task.name, task.workdir) == (run.name, str(tmp_path))
    assert "--constraint requirements.lock" in task.setup and '--extra wandb"' in task.setup
    assert "-m plant_pathology.train model.lr=1e-3 'name=it'\"'\"'s' || exit\n" in task.run
    [resources] = task.resources
    assert resources.use_spot and resources.accelerators == {"T4": 1} and resources.cpus == "4+"
    assert resources.region == "us-east-1"
    for script in (task.setup, task.run):
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0


def test_skypilot_sends_all_code_although_git_ignores_its_folder(sky, checkout):
    (checkout / ".gitignore").write_text("runs\n")
    git(checkout, "commit", "-qam", "ignore")
    folder = export_commit(checkout, check_committed(checkout, allow_uncommitted=False), checkout / "runs")
    assert sky.data.storage_utils.get_excluded_files(str(folder)) == []


def test_on_demand_machines_are_an_alternative_to_spot_machines(sky, sync, tmp_path):
    [run] = runs(sync, "a").values()
    task = task_of(run, [], SkyOptions(on_demand=True), tmp_path)
    assert sorted(each.use_spot for each in task.resources) == [False, True]
    [each] = task_of(run, [], SkyOptions(infra="slurm/loop", on_demand=True), tmp_path).resources
    assert not each.use_spot


def test_secrets_are_only_in_skypilot_s_secrets(sky, sync, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "hush-hush")
    [run] = runs(sync, "a").values()
    task = task_of(run, [], SkyOptions(secrets=["WANDB_API_KEY"]), tmp_path)
    assert "hush-hush" not in task_yaml(task) and "WANDB_API_KEY" in task_yaml(task)
    assert "hush-hush" not in f"{task.setup}{task.run}{task.envs}{task!r}"
    with pytest.raises(UserError, match="NOT_SET is not set: export it"):
        task_of(run, [], SkyOptions(secrets=["NOT_SET"]), tmp_path)
    with pytest.raises(UserError, match="all users of a node can read"):
        task_of(run, [], SkyOptions(infra="slurm/loop", secrets=["WANDB_API_KEY"]), tmp_path)


CATALOGUE = """\
InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone,Arch
g4dn.xlarge,T4,1.0,4.0,16.0,,0.526,0.1901,us-east-2,us-east-2c,x86_64
"""
PRICED = """\
from types import SimpleNamespace
from plant_pathology.sweeps.sky.client import SkyClient
made = "1x[spot](gpus=T4:1, cpus=4, mem=16, g4dn.xlarge, disk=256)"
where = dict(cloud="AWS", region="us-east-2", zone="us-east-2c", accelerators={"T4": 1})
print(SkyClient()._machine(SimpleNamespace(cluster_resources_full=made, **where)))
"""


@pytest.mark.slow
def test_a_machine_has_the_price_of_skypilot_s_catalog(sky, tmp_path):
    path = tmp_path / ".sky" / "catalogs" / sky.skylet.constants.CATALOG_SCHEMA_VERSION / "aws" / "vms.csv"
    path.parent.mkdir(parents=True)
    path.write_text(CATALOGUE)
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", PRICED], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(Machine("g4dn.xlarge in us-east-2c", True, 0.1901, 0.526)), done.stderr


@pytest.mark.slow
def test_a_dry_run_prints_tasks_launches_nothing_and_keeps_the_last_sweep_listed(sky, checkout, tmp_path):
    """Use the command line, in a checkout that holds only conf/ and the lock file."""
    for name in ("over", "failed"):
        enter_sweep(checkout / "runs" / name)
    subprocess.run(["cp", "-r", str(PROJECT / "conf"), str(PROJECT / "requirements.lock"), str(checkout)], check=True)
    (checkout / ".gitignore").write_text("data\nstore\nruns\ndatastore.json\n.hydra\n")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "conf")
    version, _ = Store(FolderBackend(checkout / "store")).push("leaves", prepare(checkout / "data", leaves(0, 20)))
    arguments = ["-m", "hydra/launcher=sky", "hydra.launcher.infra=slurm/loop", "hydra.launcher.dry_run=true"]
    arguments += ["competition=sample", "model=test_resnet", "model.lr=1e-3,1e-2", f"data.ref={version.ref}"]
    environment = {"HOME": str(tmp_path), "PYTHONPATH": str(PROJECT / "src")}
    done = run_module("train", *arguments, cwd=checkout, **environment)
    assert done.returncode == 0, done.stderr
    tasks = [yaml.safe_load(text) for text in re.split("^# .*", done.stdout, flags=re.MULTILINE)[1:]]
    assert [task["name"].rsplit("-", 1)[0] for task in tasks] == ["test_resnet-lr0.001", "test_resnet-lr0.01"]
    assert all(task["resources"]["infra"] == "slurm/loop" for task in tasks)
    done = run_module("train", *arguments, "data.batch_size=0", cwd=checkout, **environment)
    assert "data.batch_size=0: choose" in done.stderr and "setup" not in done.stdout
    (checkout / "train.py").write_text("edited\n")
    done = run_module("train", *arguments, cwd=checkout, **environment)
    assert done.returncode == 1 and done.stderr.startswith("error: uncommitted changes (train.py)")
    assert chosen_sweep(checkout / "runs") == ["failed", "over"] and not list(checkout.glob("runs/*/failure.txt"))
