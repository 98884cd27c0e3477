"""Compare what a run or a bundle was made for with what the config says today, before the two are combined."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from plant_pathology.competition.labels import listed_labels
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError


def purpose_of(competition: Competition, labels: list[str]) -> dict[str, Any]:
    """Return what a thing for this competition is made for, by key of `competition:` in the config.

    Args:
        labels: of the thing, in the order of its outputs: where the config lists none, it cannot contradict them.
    """
    target = competition.target
    if target.labels is not None:
        labels = listed_labels(target.labels, labels, f"{competition.file}: target.labels")
    elif target.columns is not None:
        labels = [str(name) for name in target.columns]
    submit = {f"submit.{key.rstrip('_')}": value for key, value in asdict(competition.submit).items()}
    return {
        "name": competition.name,
        "metric": competition.metric.name,
        "target.kind": target.kind,
        "target.labels": labels,
        **submit,
        **{f"test.{key}": value for key, value in asdict(competition.test).items()},
    }


def check_purpose(thing: str, made_for: Mapping[str, Any], competition: Competition, remedy: str) -> None:
    """Check that a thing was made for what the config says today.

    Args:
        thing: its path, for the message.
        made_for: some of the keys that `purpose_of` returns, always with target.labels.
        remedy: what makes the thing for today's config.

    Raises:
        UserError: a value differs; the message names both.
    """
    today = purpose_of(competition, made_for["target.labels"])
    for key, value in made_for.items():
        if value != today[key]:
            name, before, now = first_difference(f"competition.{key}", value, today[key])
            raise UserError(
                f"{thing} was made for {name}={before}, which is {now} today: change it back in {competition.file}, or"
                f" {remedy}"
            )


def first_difference(key: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """Return the name and both values of what differs: of two lists, their first different entries."""
    if not isinstance(before, list) or not isinstance(now, list):
        return key, before, now
    pairs = enumerate(zip_longest(before, now, fillvalue="nothing"))
    place, (ours, theirs) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])
    return f"{key}[{place}]", ours, theirs
