"""Describe a run as SkyPilot's task: the committed code, the run's overrides, and the address of the store.

The working tree is not sent, so neither are data or secret files in it. The machine reads data from the store, and
writes the run's folder there after every epoch.

Recovery: SkyPilot restarts the job on another machine when its machine is lost, and also when the command exits with
143 (TERMINATED below). The command is the same each time; it finds its checkpoint in the store and continues.
"""

import os
import re
import shlex
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from plant_pathology.core.errors import UserError
from plant_pathology.core.files import atomic_folder
from plant_pathology.core.provenance import commit
from plant_pathology.runs.run import Run
from plant_pathology.store.connect import open_store
from plant_pathology.sweeps.sky.client import skypilot
from plant_pathology.sweeps.sky.options import SkyOptions

CODE = ".code"  # folder below paths.runs; SkyPilot reads it again whenever it recovers a job

# Not $HOME: on a Slurm cluster, SkyPilot gives every job its own.
VENV = """\
extras="{extras}"
home=$(getent passwd "$(id -un)" | cut -d: -f6)
venv=$home/.plant_pathology/$(echo "$extras" | cat requirements.lock pyproject.toml - | sha256sum | cut -c1-16)
"""

# With versions from requirements.lock every machine computes the same digits. Jobs with the same home share the virtual
# environment.
SETUP = """\
set -e
mkdir -p "${venv%/*}"
exec 9> "$venv.lock"
flock 9
if [ ! -e "$venv/ready" ]; then
  export UV_INSTALL_DIR="$HOME/.local/bin" PATH="$HOME/.local/bin:$PATH"
  command -v uv > /dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
  rm -rf "$venv"
  uv venv --quiet --python ">=3.11" "$venv"
  uv pip install --quiet --python "$venv/bin/python" --constraint requirements.lock --requirement pyproject.toml $extras
  "$venv/bin/python" .ci/torchvision_beside_cpu_torch.py
  touch "$venv/ready"
fi
"""

# Line 2: where SkyPilot sends no credentials, use those in the user's home.
# Last line: with allow_uncommitted, HEAD may describe another run than the one that was asked for.
RUN = """\
export PYTHONPATH=src
[ -e ~/.aws/credentials ] || export AWS_SHARED_CREDENTIALS_FILE="$home/.aws/credentials"
"$venv/bin/python" -m plant_pathology.train {overrides} || exit
[ -e {result} ] || {{ echo "error: HEAD describes another run than the uncommitted files: commit them"; exit 1; }}
"""

# Exit code of a run that saved a checkpoint after SIGTERM (128 + 15), the notice that its machine will be taken away.
TERMINATED = 143


def check_store(cfg: DictConfig, options: SkyOptions) -> None:
    """Check that other machines can read the store: a bucket, or any folder if they are nodes of a Slurm cluster.

    Raises:
        UserError: the store is a folder of this machine.
    """
    if open_store(cfg).backend.is_local and not options.on_slurm:
        raise UserError(
            f"store.uri={cfg.store.uri} is a folder of this machine, which the jobs' machines cannot read:"
            " use store=s3 store.uri=s3://<bucket>/<prefix>, or, for a folder that a Slurm cluster shares,"
            " hydra.launcher.infra=slurm/<cluster>"
        )


def check_committed(root: Path, allow_uncommitted: bool) -> str:
    """Return the commit that the jobs will run.

    Raises:
        UserError: there is no commit, or files differ from it and `allow_uncommitted` is false.
    """
    state = commit(root)
    if state["commit"] is None:
        raise UserError(f"{root} has no git commit, and jobs run committed code: git init, git add, git commit")
    if files := state["uncommitted"]:
        named = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        if not allow_uncommitted:
            raise UserError(
                f"uncommitted changes ({named}): jobs run committed code, so commit first,"
                " or set hydra.launcher.allow_uncommitted=true to run without them"
            )
        print(f"jobs run HEAD ({state['commit'][:12]}) without the uncommitted changes in {named}", flush=True)
    return state["commit"]


def export_commit(root: Path, head: str, runs: Path) -> Path:
    """Write the files of a commit, and nothing else, to a folder below `runs`, and return it."""
    folder = runs.resolve() / CODE / head
    if not folder.exists():
        with atomic_folder(folder) as work:
            archive = work.with_suffix(".tar")
            try:
                subprocess.run(["git", "archive", f"--output={archive}", head], cwd=root, check=True)
                with tarfile.open(archive) as tar:
                    # Python before 3.11.4 has no filters; git wrote the archive, so its paths are safe.
                    tar.extraction_filter = getattr(tarfile, "data_filter", None)
                    tar.extractall(work)
                # Without .skyignore SkyPilot leaves out what git ignores, which is all of runs/.
                (work / ".skyignore").touch()
            finally:
                archive.unlink(missing_ok=True)
    return folder


def overrides_of(run: Run, given: list[str], store: str) -> list[str]:
    """Return overrides that describe the same run on a machine without datastore.json.

    Args:
        given: the run's overrides on this machine.
        store: the file of conf/store/ in use.
    """
    uri = run.cfg.store.uri
    if uri.startswith("file://"):
        uri = f"file://{Path(uri.removeprefix('file://')).resolve()}"
    here = ("paths.", "store=", "store.uri=", "store.runs=", "data.ref=")
    kept = [each for each in given if not each.lstrip("+").startswith(here)]
    return [*kept, f"store={store}", f"store.uri={quote(uri)}", "store.runs=true", f"data.ref={run.version.ref}"]


def quote(value: str) -> str:
    """Quote a value for Hydra's override grammar."""
    return value if re.fullmatch(r"[\w./:@-]+", value) else "'" + value.replace("'", r"\'") + "'"


def job_name(run: Run) -> str:
    """Return the run's name in characters that SkyPilot allows; the hash at its end keeps it unique."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", run.name)
    return name if name[0].isalpha() else f"run-{name}"


def task_of(run: Run, overrides: list[str], options: SkyOptions, code: Path) -> Any:
    """Return SkyPilot's task for a run (sky.Task).

    Args:
        overrides: from `overrides_of`.
        code: from `export_commit`.

    Raises:
        UserError: a secret is not set, or others could read it, or SkyPilot refuses the resources.
    """
    if options.secrets and options.on_slurm:
        raise UserError(
            "hydra.launcher.secrets: on Slurm, SkyPilot writes them on command lines that all users of a node can read:"
            " keep them in files in your home there, such as ~/.aws/credentials, and leave them out"
        )
    if missing := [name for name in options.secrets if name not in os.environ]:
        raise UserError(f"hydra.launcher.secrets: {', '.join(missing)} is not set: export it, or leave it out")
    venv = VENV.format(extras=" ".join(f"--extra {name}" for name in options.extras))
    sky = skypilot()
    try:
        return sky.Task(
            name=job_name(run),
            workdir=str(code),
            setup=options.setup or venv + SETUP,
            run=venv + RUN.format(overrides=shlex.join(overrides), result=shlex.quote(f"runs/{run.name}/result.json")),
            secrets={name: os.environ[name] for name in options.secrets} or None,
        ).set_resources(resources(options))
    except (ValueError, sky.exceptions.ResourcesUnavailableError) as error:
        raise UserError(f"hydra.launcher: {error}") from None


def resources(options: SkyOptions) -> Any:
    """Return the alternatives that SkyPilot may choose from (a set of sky.Resources)."""
    sky = skypilot()
    return {
        sky.Resources(
            infra=options.infra,
            accelerators=options.accelerators,
            cpus=options.cpus,
            memory=options.memory,
            disk_size=options.disk_size,
            image_id=options.image_id,
            use_spot=each,
            job_recovery={
                "max_restarts_on_errors": options.max_restarts_on_errors,
                "recover_on_exit_codes": [TERMINATED],
            },
        )
        for each in ([True, False] if options.spot and options.on_demand else [options.spot])
    }


def task_yaml(task: Any) -> str:
    """Return a task in SkyPilot's YAML, with secrets redacted."""
    return skypilot().utils.yaml_utils.dump_yaml_str(task.to_yaml_config(use_user_specified_yaml=True))
