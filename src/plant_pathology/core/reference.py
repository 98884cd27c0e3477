"""Describe every config key from the schema: for `--help`, and as docs/config.md.

`python -m plant_pathology.core.reference` prints docs/config.md; `make docs` writes it.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from textwrap import fill
from typing import Any, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.checkout import checkout
from plant_pathology.core.keys import Key, keys_of, leaves
from plant_pathology.core.schema import MORE, REFUSED, Config

WIDTH = 100  # characters per line of --help


def help_text(cfg: DictConfig) -> str:
    """Return the groups and all keys, each with its value in `cfg`, its range and its meaning."""
    groups = "\n".join(f"  {group:<12}{', '.join(choices)}" for group, choices in config_groups().items())
    lines = [
        "Set any key by key=value (model.lr=1e-3) and any group by group=choice (machine=gpu).",
        f"\ngroups\n{groups}",
        "\nkeys",
    ]
    for each in keys_of(Config):
        value = OmegaConf.select(cfg, each.name, throw_on_missing=False)
        lines.append(f"  {each.name}={'null' if value is None else value}")
        lines.append(fill(describe(each), WIDTH, initial_indent="      ", subsequent_indent="      "))
    for section, owner in MORE.items():
        for each in keys_of(owner, f"{section}."):
            lines.append(f"  +{each.name}=<value>")
            lines.append(fill(describe(each), WIDTH, initial_indent="      ", subsequent_indent="      "))
    return "\n".join(lines)


def describe(each: Key) -> str:
    """Return a key's meaning, unit and range as one sentence."""
    return f"{each.meaning}{f' ({each.unit})' if each.unit else ''}; {each.range}"


def config_groups() -> dict[str, list[str]]:
    """Return the groups of conf/ and the files in each."""
    folders = sorted(path for path in (checkout() / "conf").iterdir() if path.is_dir() and path.name != "hydra")
    groups = {folder.name: sorted(path.stem for path in folder.glob("[!.]*.yaml")) for folder in folders}
    return groups | {"model": [*groups["model"], "any timm model"]}


def markdown() -> str:
    """Return docs/config.md: per section, a table of key, type and range, default, meaning, and overriding files."""
    overriding = files_by_key()
    blocks = [
        "# Every key of the config\n",
        "For everyone who changes what a command does. Set a key on any command line (`model.lr=1e-3`), for good in"
        " [conf/params.yaml](../conf/params.yaml), or for a machine, recipe or competition in its file of `conf/`. A"
        " wrong key or value is one error before anything starts. `make docs` writes this page from"
        " [core/schema.py](../src/plant_pathology/core/schema.py).\n",
    ]
    section = None
    for each in keys_of(Config):
        if (above := each.name.rpartition(".")[0]) != section:
            section = above
            owner = class_of(section)
            blocks.append(f"\n## {section or 'top level'}\n\n{' '.join((owner.__doc__ or '').split())}\n")
            blocks.append("| key | value | default | meaning | set in |\n|---|---|---|---|---|")
        default = "" if each.default is ... else f"`{shown(each.default)}`"
        files = ", ".join(f"`{name}`" for name in overriding.get(each.name, []))
        meaning = f"{each.meaning}{f' ({each.unit})' if each.unit else ''}"
        blocks.append(f"| `{each.name}` | {each.range} | {default} | {meaning} | {files} |")
    further = [(f"More of {section}", f"{section}.", owner) for section, owner in MORE.items()]
    for title, prefix, owner in (*further, *plugin_options()):
        blocks.append(f"\n## {title}\n\n{owner.__doc__}\n")
        blocks.append("| key | value | default | meaning |\n|---|---|---|---|")
        for each in keys_of(owner, prefix):
            meaning = f"{each.meaning}{f' ({each.unit})' if each.unit else ''}"
            blocks.append(f"| `{each.name}` | {each.range} | `{shown(each.default)}` | {meaning} |")
    blocks.append("\n## Keys of Lightning's Trainer that may not be set\n\n| key | reason |\n|---|---|")
    blocks += [f"| `{name}` | {reason} |" for name, reason in REFUSED.items()]
    return "\n".join(blocks) + "\n"


def plugin_options() -> Iterator[tuple[str, str, type]]:
    """Yield the options of our Hydra plug-ins: title, such as hydra/launcher=local, prefix of the keys, and class."""
    import hydra_plugins

    for module in pkgutil.iter_modules(hydra_plugins.__path__):
        for owner in vars(importlib.import_module(f"hydra_plugins.{module.name}")).values():
            own = isinstance(owner, type) and owner.__module__ == f"hydra_plugins.{module.name}"
            if own and (match := re.match(r"Options of (hydra/(launcher|sweeper)=\w+)", owner.__doc__ or "")):
                yield match[1], f"hydra.{match[2]}.", owner


def class_of(section: str) -> Any:
    """Return the dataclass that declares a section, such as Grow for data.grow."""
    owner: Any = Config
    for part in filter(None, section.split(".")):
        owner = get_type_hints(owner)[part]
    return owner


def shown(value: Any) -> str:
    """Return a default as YAML spells it."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip() or '""'


def files_by_key() -> dict[str, list[str]]:
    """Return, for each key, the files below conf/ that set it, params.yaml aside."""
    conf = checkout() / "conf"
    found: dict[str, list[str]] = {}
    for path in sorted(conf.glob("*/*.yaml")):
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text) or {}
        prefix = "" if "@package _global_" in text else f"{path.parent.name}."
        for name, _ in leaves(content, prefix):
            found.setdefault(name, []).append(path.relative_to(conf.parent).as_posix())
    return found


if __name__ == "__main__":
    print(markdown(), end="")
