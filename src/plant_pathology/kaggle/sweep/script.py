"""Make the script that Kaggle runs in a session: it unpacks what travelled, and starts worker.py.

It imports the standard library alone, of any Python that Kaggle's image may have.
"""

import json
from typing import Any

SCRIPT = '''\
import glob, importlib.util, json, os, shutil, subprocess, sys, tarfile, tempfile, time, zipfile

PLAN = json.loads({plan!r})
STARTED = time.monotonic()
INPUT = os.environ.get("KAGGLE_INPUT", "/kaggle/input")
WORKING = os.environ.get("KAGGLE_WORKING", "/kaggle/working")
SCRATCH = tempfile.mkdtemp()


def dataset(ref):
    """Return the folder in which a dataset is mounted, in its form of 2026 or the older one."""
    for folder in (os.path.join(INPUT, "datasets", ref), os.path.join(INPUT, ref.split("/")[1])):
        if os.path.isdir(folder):
            return folder
    sys.exit(f"error: the dataset {{ref}} is not mounted in {{INPUT}}, only {{os.listdir(INPUT)}}")


def unpack(ref, folder):
    """Unpack all archives of a dataset into a folder."""
    for path in sorted(glob.glob(os.path.join(dataset(ref), "*.bin"))):
        with tarfile.open(path) as archive:
            # Written by us; Python before 3.11.4 has no filters.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(folder)


packages, own, store = (os.path.join(SCRATCH, name) for name in ("packages", "code", "store"))
os.makedirs(own)
for wheel in glob.glob(os.path.join(dataset(PLAN["code"]), "*.whl")):
    zipfile.ZipFile(wheel).extractall(packages)
for path in glob.glob(os.path.join(dataset(PLAN["code"]), "*.py")):
    shutil.copy(path, own)
unpack(PLAN["data"], store)
if PLAN["state"]:
    unpack(PLAN["state"], WORKING)
sys.path.insert(0, packages)
if missing := [name for name in PLAN["imports"] if importlib.util.find_spec(name) is None]:
    sys.exit(f"error: Kaggle's image has no {{', '.join(missing)}}, which training imports")
runs = os.path.join(WORKING, "runs")
os.makedirs(runs, exist_ok=True)
seconds = PLAN["seconds"] - (time.monotonic() - STARTED)
plan = {{"runs": PLAN["runs"], "cards": PLAN["cards"], "seconds": seconds}}
with open(os.path.join(SCRATCH, "plan.json"), "w") as file:
    json.dump({{**plan, "store": store, "code": own, "runs_folder": runs}}, file)
path = os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH"))))
command = [sys.executable, "-m", "plant_pathology.kaggle.sweep.worker", os.path.join(SCRATCH, "plan.json")]
# Its output passes through this process: where Kaggle runs a script as a notebook, nothing else comes into the log.
with subprocess.Popen(
    command, env={{**os.environ, "PYTHONPATH": path}}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
) as worker:
    for line in worker.stdout:
        print(line, end="", flush=True)
if worker.returncode:
    sys.exit(f"error: the worker of this session ended with {{worker.returncode}}")
'''


def session_script(plan: dict[str, Any]) -> str:
    """Return the text of a session's script.

    Args:
        plan: `code`, `data` and `state`, the datasets as owner/slug, the last one None where all runs are new;
            `imports`, modules that the image must have; `runs`, `cards` and `seconds` as in worker.py.
    """
    return SCRIPT.format(plan=json.dumps(plan, sort_keys=True))
