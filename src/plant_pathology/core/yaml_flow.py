"""Write a value as YAML on one line, as the files of conf/ have it."""

import json
import re
from typing import Any

import yaml


def flow(value: Any) -> str:
    """Return a value as YAML on one line; text is quoted where YAML would read anything else."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(each)}" for key, each in value.items() if each is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    bare = re.fullmatch(r"[A-Za-z_][\w./ -]*", value) and not value.endswith(" ") and yaml.safe_load(value) == value
    return value if bare else json.dumps(value, ensure_ascii=False)
