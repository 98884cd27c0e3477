"""Declare a config key once, with its type, range, unit and meaning, and check values against it."""

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from functools import partial
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from plant_pathology.core.errors import UserError

MISSING_VALUE = "???"  # OmegaConf's, of a value that must be given

# Declares keys and nothing else: without the methods that dataclass would write, which take time at every start.
section = partial(dataclass, init=False, repr=False, eq=False)


def key(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
    unit: str = "",
) -> Any:
    """Declare a key as a dataclass field; its annotation is the type, `| None` where null is allowed.

    Args:
        default: `...` where the user or another file of conf/ must give the value.
        low, high: smallest and largest number.
    """
    metadata = {"meaning": meaning, "low": low, "high": high, "choices": choices, "unit": unit}
    if default is ...:
        return field(metadata=metadata)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


class Key(NamedTuple):
    """One key of the config.

    Attributes:
        name: with dots, such as data.grow.start.
        type: int, float, str, bool or list.
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
            text = names.get(self.type, "text")
        return f"{text}, or null" if self.optional else text

    def allows(self, value: Any) -> bool:
        """Return whether a value has the right type and is within the range."""
        if value is None:
            return self.optional
        if self.choices:
            return value in self.choices and isinstance(value, bool) == isinstance(self.choices[0], bool)
        if self.type in (int, float):
            number = isinstance(value, int if self.type is int else int | float) and not isinstance(value, bool)
            low, high = (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)
            return number and low <= value <= high
        if self.type is str:
            # A name may look like a number; whoever reads it makes it text.
            return isinstance(value, str | int | float)
        if self.type is list:
            return isinstance(value, Sequence) and not isinstance(value, str)
        return isinstance(value, self.type)


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


def check_keys(cfg: DictConfig, schema: type, open_sections: Mapping[str, str]) -> None:
    """Check a composed config against a schema, without Hydra's own section, which a launcher's config still holds.

    Args:
        open_sections: sections whose further keys belong to somebody else, such as Lightning's Trainer.

    Raises:
        UserError: a key that is not in the schema, or a value of another type or out of range.
    """
    known = {each.name for each in keys_of(schema)}
    own = OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"]) if "hydra" in cfg else cfg
    values = dict(leaves(OmegaConf.to_container(own, resolve=True)))
    for name in values.keys() - known:
        if name.split(".")[0] not in open_sections:
            import difflib  # here, because every command imports this file

            near = difflib.get_close_matches(name, known, n=1)
            raise UserError(f"{name}: there is no such key" + (f"; did you mean {near[0]}?" if near else ""))
    check_values(values, schema)


def check_values(values: Mapping[str, Any], schema: type, prefix: str = "") -> None:
    """Check values by key against a schema.

    Args:
        prefix: where the schema's keys are in the config, such as `hydra.launcher.`.

    Raises:
        UserError: a value of another type or out of range.
    """
    for each in keys_of(schema, prefix):
        value = values.get(each.name, each.default)
        # Not given yet, as the address of a bucket: whoever needs it says so.
        if value not in (MISSING_VALUE, ...) and not each.allows(value):
            raise UserError(f"{each.name}={'null' if value is None else value}: choose {each.range}")


def leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of everything in nested dicts that is not a dict itself."""
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
