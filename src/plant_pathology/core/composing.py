"""Explain in one line why Hydra could not put the config together: a wrong override, or a wrong file of conf/.

Hydra's own messages take several lines, advise `+key=value` for a mistyped key, and for a damaged file do not always
name it.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from plant_pathology.core.checkout import checkout
from plant_pathology.core.ending import user_error_in
from plant_pathology.core.keys import keys_of, may_not_be_set, no_such_key
from plant_pathology.core.schema import MORE, REFUSED, Config
from plant_pathology.core.text import one_line

LIBRARIES = ("hydra", "omegaconf", "yaml", "antlr4")


def why_not_composed(error: BaseException, options: Mapping[str, Sequence[str]]) -> str | None:
    """Return the reason as one line; None where neither an override nor a file of conf/ is to blame.

    Args:
        options: of launchers and sweepers, each with those that have it, such as hydra/launcher=local.
    """
    text = str(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        return why_unknown(match[1], options)
    if match := re.search(r"Error merging override (.+)", text):
        return f"{match[1]}: {one_line(str(error.__cause__).splitlines()[0])}"
    if match := re.search(r"An item is already at '([^']+)'", text):
        return f"+{match[1]}: this key is there already: leave out the +"
    if match := re.search(
        r"Could not find '([^']+)/([^'/]*)'\s+Available options in '[^']+':(.*?)Config", text, re.DOTALL
    ):
        group, name, choices = match.groups()
        visible = ", ".join(choice for choice in choices.split() if not choice.startswith("."))
        return f"{group}={name}: there is no conf/{group}/{name}.yaml; choose one of {visible}"
    if match := re.search(r"Config group override must be a string or a list. Got (\w+)", text):
        groups = sorted(path.name for path in (checkout() / "conf").iterdir() if path.is_dir() and path.name != "hydra")
        return (
            f"{', '.join(groups)} are groups, each of which takes the name of one of its files, as model=resnet18, and"
            f" not {'null' if match[1] == 'NoneType' else f'a value of type {match[1]}'}"
        )
    if override := getattr(error, "override", None):  # an OverrideParseException
        reason = one_line(text.splitlines()[0])
        return f"{override}: Hydra cannot read this ({reason}): put the value into quotes, as in 'key=\"value\"'"
    if match := re.search(r"Could not load '([^']+)'", text):
        return f"conf/{match[1]}.yaml does not exist: restore it (git checkout conf), or choose another file"
    if ours := user_error_in(error):
        return str(ours)
    if fault := fault_in(checkout() / "conf"):
        return fault
    if type(error).__module__.split(".")[0] not in LIBRARIES:
        return None
    if match := re.search(r"unexpected keyword argument '(\w+)'.*full_key: (\S+)", text, re.DOTALL):
        return why_unknown(f"{match[2]}.{match[1]}", options)
    if match := re.search(r"Error in call to target '[^']+':\s+(.*)full_key: (\S+)", text, re.DOTALL):
        return f"{match[2]}: {one_line(match[1])}"
    return one_line(re.sub(r"\n\s*(reference_type|object_type)=.*|See https?://\S+.*", "", text))


def why_unknown(name: str, options: Mapping[str, Sequence[str]]) -> str:
    """Say why a key that is not in conf/ cannot be set."""
    if name in options:
        return f"{name}: this is an option of {' and '.join(options[name])}: choose that, or leave the option out"
    if name in REFUSED:
        return may_not_be_set(name, REFUSED[name])
    further = [each.name for section, owner in MORE.items() for each in keys_of(owner, f"{section}.")]
    if name in further:
        return f"{name}: conf/ does not set this key: write +{name}=<value>"
    return no_such_key(name, [*further, *options, *(each.name for each in keys_of(Config))])


def fault_in(conf: Path) -> str | None:
    """Return what is wrong with the first file below conf/ that is not UTF-8, not YAML, or no mapping."""
    for path in sorted(conf.rglob("[!.]*.yaml")):
        try:
            content = OmegaConf.load(path)
        except UnicodeDecodeError as error:
            line = path.read_bytes()[: error.start].count(b"\n") + 1
            return f"{path}:{line}: byte {error.start} is not UTF-8: save the file as UTF-8"
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            return (
                f"{path}{f':{mark.line + 1}' if mark else ''}: {one_line(error.problem or str(error))}: mend this line"
            )
        except (OmegaConfBaseException, yaml.YAMLError, OSError, ValueError) as error:
            key = getattr(error, "full_key", None)
            return f"{path}: {f'{key}: ' if key else ''}{one_line(str(error).splitlines()[0])}"
        if not isinstance(content, DictConfig):
            return f"{path}: it holds a list, and must hold `key: value` lines"
    return None
