"""What travels to a machine that trains a run: the committed code, the run's overrides, and where the datastore is.

Not the working tree, so no data and no secrets that lie about in it; the machine fetches data from the store, and
leaves there what the run reached.
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
from plant_pathology.store.folder import FolderBackend
from plant_pathology.sweeps.sky.client import skypilot
from plant_pathology.sweeps.sky.options import SkyOptions

CODE = ".code"  # below paths.runs; SkyPilot reads it again whenever it recovers a job

# The user's home by name: SkyPilot gives every job on a Slurm cluster a HOME of its own.
VENV = """\
extras="{extras}"
home=$(getent passwd "$(id -un)" | cut -d: -f6)
venv=$home/.plant_pathology/$(echo "$extras" | cat requirements.lock pyproject.toml - | sha256sum | cut -c1-16)
"""

# The lock is what makes another machine compute the same digits. Jobs that share a home share what is installed.
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

# Where SkyPilot brings no credentials along, those of the user's home serve.
# The last line is for runs that uncommitted files describe, and HEAD does not.
RUN = """\
export PYTHONPATH=src
[ -e ~/.aws/credentials ] || export AWS_SHARED_CREDENTIALS_FILE="$home/.aws/credentials"
"$venv/bin/python" -m plant_pathology.train {overrides} || exit
[ -e {result} ] || {{ echo "error: HEAD describes another run than the uncommitted files: commit them"; exit 1; }}
"""

# By exit code: a run that was told to end saved a checkpoint first, and goes on elsewhere.
TERMINATED = 143


def check_store(cfg: DictConfig, options: SkyOptions) -> None:
    """Raises: UserError where the machine could not read the datastore."""
    if isinstance(open_store(cfg).backend, FolderBackend) and not options.slurm:
        raise UserError(
            f"store.uri={cfg.store.uri} is a folder of this machine, and jobs run on others:"
            " use store=s3 store.uri=s3://<bucket>/<prefix>; a folder on a disk that a Slurm cluster shares does, too,"
            " with hydra.launcher.infra=slurm/<cluster>"
        )


def check_committed(root: Path, allow_uncommitted: bool) -> str:
    """The commit that travels.

    Raises:
        UserError: there is none, or files differ from it.
    """
    state = commit(root)
    if state["commit"] is None:
        raise UserError(f"{root} is no git checkout: jobs run what is committed, so `git init`, add and commit")
    if files := state["uncommitted"]:
        named = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        if not allow_uncommitted:
            raise UserError(
                f"uncommitted changes ({named}): jobs run what is committed, so commit first,"
                " or say hydra.launcher.allow_uncommitted=true to run without them"
            )
        print(f"HEAD ({state['commit'][:12]}) is what runs, without the uncommitted changes in {named}", flush=True)
    return state["commit"]


def export_commit(root: Path, head: str, runs: Path) -> Path:
    """A folder that holds what is committed and nothing else."""
    folder = runs.resolve() / CODE / head
    if not folder.exists():
        with atomic_folder(folder) as work:
            archive = work.with_suffix(".tar")
            try:
                subprocess.run(["git", "archive", f"--output={archive}", head], cwd=root, check=True)
                with tarfile.open(archive) as tar:
                    tar.extractall(work, filter="data")
                # Without it SkyPilot asks git what not to send, and git ignores all of runs/.
                (work / ".skyignore").touch()
            finally:
                archive.unlink(missing_ok=True)
    return folder


def overrides_of(run: Run, given: list[str], store: str) -> list[str]:
    """The command line that describes the same run on a machine without datastore.json.

    Args:
        given: the run's overrides here.
        store: the choice of conf/store/.
    """
    uri = run.cfg.store.uri
    if uri.startswith("file://"):
        uri = f"file://{Path(uri.removeprefix('file://')).resolve()}"
    here = ("paths.", "store=", "store.uri=", "store.runs=", "data.ref=")
    kept = [each for each in given if not each.lstrip("+").startswith(here)]
    return [*kept, f"store={store}", f"store.uri={quote(uri)}", "store.runs=true", f"data.ref={run.version.ref}"]


def quote(value: str) -> str:
    """As a value in Hydra's grammar."""
    return value if re.fullmatch(r"[\w./:@-]+", value) else "'" + value.replace("'", r"\'") + "'"


def job_name(run: Run) -> str:
    """The run's name as SkyPilot takes it: its hash comes last, so no two runs share one."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", run.name)
    return name if name[0].isalpha() else f"run-{name}"


def task_of(run: Run, overrides: list[str], options: SkyOptions, code: Path) -> Any:
    """SkyPilot's task for a run.

    Raises:
        UserError: a secret is not in the environment, or would not stay one, or SkyPilot takes no such resources.
    """
    if options.secrets and options.slurm:
        raise UserError(
            "hydra.launcher.secrets: on Slurm, SkyPilot writes them on command lines that all users of a node can read:"
            " keep them in files of your home there; ~/.aws/credentials is found"
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
    """What SkyPilot may take, each of them as good."""
    sky = skypilot()
    # Slurm has no spot machines; a job that it preempts is recovered all the same.
    spot = options.use_spot and not options.slurm
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
        for each in ([True, False] if spot and options.on_demand else [spot])
    }
