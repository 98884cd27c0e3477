"""Declare a config key once, with its type, range, unit and meaning, and check values against it."""

import dataclasses
import math
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from functools import partial
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from plant_pathology.core.errors import UserError

MISSING_VALUE = "???"  # OmegaConf's, of a value that must be given

# Declares keys and nothing else: without the methods that dataclass would write, which take time at every start.
section = partial(dataclass, init=False, repr=False, eq=False)


class YamlLabel:
    """Type of a key whose value is a label as YAML reads it: text, a number, or true or false."""


class Several:
    """The type of a key with several values: text with commas between them, a list, or a single value."""


def key(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
    also: Sequence[str] = (),
    unit: str = "",
) -> Any:
    """Declare a key as a dataclass field; its annotation is the type, `| None` where null is allowed.

    Args:
        default: `...` where the user or another file of conf/ must give the value.
        low, high: smallest and largest number.
        also: words that are allowed in the place of a number.
    """
    metadata = {"meaning": meaning, "low": low, "high": high, "choices": choices, "also": also, "unit": unit}
    if default is ...:
        return field(metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


class Key(NamedTuple):
    """One key of the config.

    Attributes:
        name: with dots, such as data.grow.start.
        type: int, float, str, bool, list or Several.
        optional: null is allowed.
        default: `...` where there is none.
    """

    name: str
    type: type
    optional: bool
    default: Any
    meaning: str
    low: float | None
    high: float | None
    choices: Sequence[Any] | None
    also: Sequence[str]
    unit: str

    @property
    def range(self) -> str:
        """Describe the values that are allowed, such as `whole number from 8 to 4096`."""
        if self.choices:
            text = f"one of {', '.join(map(str, self.choices))}"
        elif self.low is not None or self.high is not None:
            low, high = (f"{limit:.15g}" for limit in (self.low, self.high) if limit is not None)
            text = f"a {'whole ' if self.type is int else ''}number from {low} to {high}"
        else:
            names: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
            text = (names | {Several: "text with commas, or a list"}).get(self.type, "text")
        text = ", or ".join([text, ", ".join(self.also)]) if self.also else text
        return f"{text}, or null" if self.optional else text

    def allows(self, value: Any) -> bool:
        """Return whether a value has the right type and is within the range."""
        if value is None:
            return self.optional
        if value in self.also:
            return True
        if self.choices:
            return value in self.choices and isinstance(value, bool) == isinstance(self.choices[0], bool)
        if self.type in (int, float):
            number = isinstance(value, int if self.type is int else int | float) and not isinstance(value, bool)
            low, high = (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)
            return number and low <= value <= high
        if self.type is str:
            return is_text(value) and (value != "" or self.default == "")
        if self.type is YamlLabel:
            return isinstance(value, str | int | float) and value != ""
        if self.type is Several:
            parts = value.split(",") if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
            return len(parts) > 0 and all(is_text(part) and str(part).strip() for part in parts)
        if self.type is list:
            return isinstance(value, Sequence) and not isinstance(value, str)
        return isinstance(value, self.type)


def is_text(value: Any) -> bool:
    """Return whether a value is text. A name may look like a number; whoever reads it makes it text.

    YAML reads yes, no, on and off as true and false: the text that was meant is lost, so these are refused.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return number or isinstance(value, str)


def keys_of(schema: type, prefix: str = "") -> Iterator[Key]:
    """Yield all keys of a dataclass and of the sections that it holds, in the order in which they are declared."""
    hints = get_type_hints(schema)
    for each in dataclasses.fields(schema):
        if each.name.startswith("_"):  # Hydra's own, such as _target_
            continue
        hint, name = (
            hints[each.name],
            f"{prefix}{each.name.removesuffix('_')}",
        )  # as_ is the key `as`, a keyword of Python
        if dataclasses.is_dataclass(hint):
            yield from keys_of(hint, f"{name}.")  # type: ignore[arg-type]  # a class: fields are annotated with classes
            continue
        union = isinstance(hint, types.UnionType)
        kind = next(part for part in get_args(hint) if part is not type(None)) if union else hint
        default = ... if each.default is MISSING and each.default_factory is MISSING else each.default
        if each.default_factory is not MISSING:
            default = each.default_factory()
        yield Key(name, get_origin(kind) or kind, union, default, **each.metadata)


def sections_of(schema: type, prefix: str = "") -> Iterator[str]:
    """Yield the names of all sections of a dataclass, the outer ones first."""
    for name, hint in get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint):
            yield f"{prefix}{name}"
            yield from sections_of(hint, f"{prefix}{name}.")  # type: ignore[arg-type]  # as in `keys_of`


def check_keys(
    cfg: DictConfig,
    schema: type,
    more: Mapping[str, type],
    refused: Mapping[str, str],
    partial: tuple[str, ...] = (),
) -> None:
    """Check a composed config against a schema, without Hydra's own section, which a launcher's config still holds.

    Args:
        more: by section, the schema of further keys that may be given with `+`.
        refused: keys that others know and that may not be given here, each with the reason.
        partial: beginnings of keys that may be absent, because a file of conf/ sets some of them alone.

    Raises:
        UserError: a key that is not in the schema, a value in the place of a section, a section or key that was
            removed, or a value of another type or out of range.
    """
    schemas = {"": schema, **{f"{section}.": further for section, further in more.items()}}
    known = {each.name for prefix, part in schemas.items() for each in keys_of(part, prefix)}
    try:
        own = OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"]) if "hydra" in cfg else cfg
        values = dict(leaves(OmegaConf.to_container(own, resolve=True)))
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'conf'}: {str(error).splitlines()[0]}") from None
    for name in sections_of(schema):
        if name in values and (value := values.pop(name)) != {}:
            shown = "null" if value is None else value
            example = min(each for each in known if each.startswith(f"{name}."))
            raise UserError(f"{name}={shown}: {name} has keys of its own: set these, as {example}=<value>")
    for name in sorted(values.keys() - known):
        if name in refused:
            raise UserError(may_not_be_set(name, refused[name]))
        raise UserError(no_such_key(name, known))
    for prefix, part in schemas.items():
        check_values(values, part, prefix)
    for each in keys_of(schema):
        if each.name not in values and not each.name.startswith(partial):
            raise UserError(f"{each.name}: this key was removed, and is needed: set it, or leave out the ~")


def may_not_be_set(name: str, reason: str) -> str:
    """Say that a key exists elsewhere, and why not here."""
    return f"{name} may not be set: {reason}"


def no_such_key(name: str, known: Collection[str]) -> str:
    """Say that a key does not exist, and which one may be meant."""
    import difflib  # here, because every command imports this file

    if name in known:
        return f"{name}: its section was removed, or has a value itself: leave that out"

    section, _, last = name.rpartition(".")
    beside = {each.rpartition(".")[2]: each for each in known if each.rpartition(".")[0] == section}
    near = [beside[each] for each in difflib.get_close_matches(last, beside, n=1)]
    near += [each for each in known if each.rpartition(".")[2] == last] or difflib.get_close_matches(
        name, known, 1, 0.8
    )
    return f"{name}: there is no such key" + (f"; did you mean {near[0]}?" if near else "")


def check_values(values: Mapping[str, Any], schema: type, prefix: str = "") -> None:
    """Check values by key against a schema.

    Args:
        prefix: where the schema's keys are in the config, such as `hydra.launcher.`.

    Raises:
        UserError: a value of another type or out of range.
    """
    for each in keys_of(schema, prefix):
        value = values.get(each.name, each.default)
        if each.default is ... and value in (MISSING_VALUE, ...):
            continue  # not given yet, as the address of a bucket: whoever needs it says so
        if value == MISSING_VALUE or not each.allows(value):
            shown = {None: "null", "": "''"}.get(value, value) if isinstance(value, str | None) else value
            raise UserError(f"{each.name}={shown}: choose {each.range}")


def leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of everything in nested dicts that is not a dict itself."""
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
