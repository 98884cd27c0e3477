"""Run `python -m plant_pathology.monitor` under its former name, which is kept for one release."""

import sys

from plant_pathology.core.app import run_verb
from plant_pathology.monitor import USAGE, VERBS

if __name__ == "__main__":
    print("`python -m plant_pathology.sweep` is now `python -m plant_pathology.monitor`", file=sys.stderr)
    run_verb(VERBS, USAGE)
