"""Describe a competition: what its file in conf/competition/ says, checked, with what follows from it."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from plant_pathology.competition.metrics import (
    LABELS,
    METRICS,
    NUMBER,
    PROBABILITIES,
    RANKING,
    Metric,
    metric_of,
    not_in_ranking,
)
from plant_pathology.competition.own_code import own_module
from plant_pathology.core.errors import UserError
from plant_pathology.core.keys import keys_of, leaves
from plant_pathology.core.schema import Competition as Keys
from plant_pathology.inference.tables import FIELD
from plant_pathology.inference.test_set import TestSet

# What a metric scores, by what a submission says; 0 and 1 in columns are labels.
ANSWERS = {
    LABELS: ("label", "labels", "columns"),
    RANKING: ("ranking",),
    PROBABILITIES: ("probability", "columns"),
    NUMBER: ("number",),
}
KEPT = "submit.positive"  # a label, whose text is found by how YAML reads it


@dataclass(frozen=True)
class Target:
    """What is predicted; the keys of `competition.target`."""

    kind: str
    column: str | None
    columns: list[str] | None
    separator: str
    labels: list[Any] | None


@dataclass(frozen=True)
class Submit:
    """What a submission says; the keys of `competition.submit`."""

    as_: str
    by: str
    separator: str
    positive: Any
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Competition:
    """A competition.

    Args:
        name, title, synthetic: keys of the file.
        table: the training table's file; None: the files' paths hold everything.
        files: template of a training image's path.
        test: the form and the test images.
        groups: columns that no fold may split.
        cpu_hours, gpu_hours: Kaggle's limits on a kernel's time, by its machine.
        code: its own code, competitions/<name>.py; None without any.
    """

    name: str
    title: str
    synthetic: bool
    table: str | None
    files: str
    test: TestSet
    target: Target
    metric: Metric
    submit: Submit
    groups: list[str]
    cpu_hours: float
    gpu_hours: float
    code: Path | None

    @property
    def file(self) -> str:
        """Return the path of its config, for messages."""
        return f"conf/competition/{self.name}.yaml"

    @property
    def download(self) -> str:
        """Return the command that downloads it, for messages; for the sample, the one that downloads a real one."""
        return "make download" if self.synthetic else f"make download COMPETITION={self.name}"

    @property
    def group_columns(self) -> list[str]:
        """Return names for columns with `groups`, in a table that has other columns too, such as `group` itself."""
        return [f"groups: {name}" for name in self.groups]

    @classmethod
    def from_config(cls, cfg: DictConfig) -> "Competition":
        """Read `competition:` from the config.

        Raises:
            UserError: a key is missing or unknown, or two of them contradict each other.
        """
        content: Any = OmegaConf.to_container(cfg.competition, resolve=True)
        where = f"conf/competition/{content.get('name')}.yaml"
        values = checked(dict(leaves(content)), where)
        code = Path(cfg.paths.code) / f"{values['name']}.py"
        own = code if code.exists() else None
        competition = cls(
            name=values["name"],
            title=values["title"],
            synthetic=values["synthetic"],
            table=values["train.table"],
            files=values["train.files"],
            test=TestSet(**{key: values[f"test.{key}"] for key in ("form", "files", "id", "table", "key")}),
            target=Target(
                **{key: values[f"target.{key}"] for key in ("kind", "column", "columns", "separator", "labels")}
            ),
            metric=metric_named(values["metric"], own),
            submit=Submit(
                as_=values["submit.as"],
                **{key: values[f"submit.{key}"] for key in ("by", "separator", "positive", "low", "high")},
            ),
            groups=list(map(str, values["groups"])),
            cpu_hours=values["submit.cpu_hours"],
            gpu_hours=values["submit.gpu_hours"],
            code=own,
        )
        for problem in competition.contradictions():
            raise UserError(f"{where}: {problem}")
        return competition

    def contradictions(self) -> list[str]:
        """Return what the keys say that cannot all be true, each with a remedy."""
        kind, answer, scores = self.target.kind, self.submit.as_, self.metric.scores
        problems = []
        if answer not in ANSWERS[scores]:
            problems.append(
                f"metric {self.metric.name} scores {scores}, but submit.as is {answer}: set submit.as to"
                f" {' or '.join(ANSWERS[scores])}, or correct the metric"
            )
        if (kind == "number") != (scores == NUMBER):
            fitting = "rmse or mae" if kind == "number" else "the metric that Kaggle's page names"
            problems.append(f"target.kind={kind} does not go with metric {self.metric.name}: choose {fitting}")
        if kind == "several" and answer == "label":
            problems.append("target.kind=several gives several labels, but submit.as=label is one: set it to labels")
        if kind != "ordinal" and self.metric.name == "quadratic_weighted_kappa":
            problems.append("metric quadratic_weighted_kappa needs labels with an order: set target.kind=ordinal")
        if kind == "several" and self.metric.rows is not_in_ranking:
            problems.append(
                f"metric {self.metric.name} is of images with one label, but target.kind is several: set it to one, or"
                f" metric to map_at_{self.metric.k}"
            )
        if kind == "number" and self.target.column is None:
            problems.append("target.column is missing: name the column with the number")
        problems += self._contradictions_of_target() + self._contradictions_of_files()
        if self.submit.positive is not None and answer != "probability":
            problems.append(f"submit.positive is only for submit.as=probability, not {answer}: remove it")
        low, high = self.submit.low, self.submit.high
        if (low, high) != (None, None) and answer != "number":
            problems.append(f"submit.low and submit.high are only for submit.as=number, not {answer}: remove them")
        if low is not None and high is not None and low >= high:
            problems.append(f"submit.low={low:g} is not below submit.high={high:g}: correct one of them")
        return problems

    def _contradictions_of_target(self) -> list[str]:
        target, problems = self.target, []
        if target.column is not None and target.columns is not None:
            problems.append("target.column and target.columns are both set: remove one of them")
        for name, values in (("target.labels", target.labels), ("target.columns", target.columns)):
            if values is None:
                continue
            if target.kind == "number":
                problems.append(f"{name} is not for target.kind=number: remove it")
            if not values:
                problems.append(f"{name} is an empty list: fill it in, or remove it")
            if strange := [value for value in values if not isinstance(value, str | int | float)]:
                problems.append(f"{name} holds {strange[0]}, which is no name: correct it")
        if len(set(self.groups)) < len(self.groups):
            problems.append("groups names a column twice: remove one of them")
        if target.column in self.groups:
            problems.append(f"groups names {target.column}, which is target.column: each label would be one fold")
        return problems

    def _contradictions_of_files(self) -> list[str]:
        problems = []
        for name, template in (("train.files", self.files), ("test.files", self.test.files)):
            rest = FIELD.sub("", template)
            if "{" in rest or "}" in rest:
                problems.append(f"{name}={template} has a brace without its other one: write columns as {{name}}")
            elif rest == template:
                problems.append(f"{name}={template} names one file: put the column that differs in braces, as {{id}}")
            if template.startswith("/") or ".." in template.split("/"):
                problems.append(f"{name}={template} leads out of the competition's folder: name files inside of it")
        if self.test.key is not None and self.test.table is None:
            problems.append("test.key is a column of test.table, which is not set: set it, or remove test.key")
        if "/" in self.name or self.name in ("", ".", ".."):
            problems.append(f"name={self.name} is no name of a folder: write it as in the competition's address")
        return problems


def checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Fill in the defaults of the schema, and make numbers text where a name is asked for.

    Args:
        values: by key, without `competition.` before it.

    Raises:
        UserError: a key is missing or unknown.
    """
    keys = {key.name: key for key in keys_of(Keys)}
    for name in sorted(values.keys() - keys.keys()):
        near = difflib.get_close_matches(name, keys, n=1)
        raise UserError(
            f"{where}: there is no key {name}"
            + (f"; did you mean {near[0]}?" if near else f"; the keys are {', '.join(keys)}")
        )
    complete = {name: values.get(name, key.default) for name, key in keys.items()}
    if missing := [name for name, value in complete.items() if value is ...]:
        raise UserError(f"{where}: add the missing {', '.join(missing)} under competition:")
    for name, key in keys.items():
        if not key.allows(complete[name]):
            raise UserError(f"{where}: {name}={complete[name]}: choose {key.range}")
        if key.type is str and complete[name] is not None and name != KEPT:
            complete[name] = str(complete[name])  # YAML reads a column called 1 as a number
    return complete


def metric_named(name: str, code: Path | None) -> Metric:
    """Return the metric of a name: the competition's own, or one of metrics.py.

    Raises:
        UserError: there is none of that name.
    """
    module = own_module(code) if code and name not in METRICS else None
    own = getattr(module, name, None)
    if own is None:
        return metric_of(name)
    sign, scores = getattr(module, "METRIC_SIGN", None), getattr(module, "METRIC_SCORES", None)
    if sign not in (1, -1) or scores not in ANSWERS:
        raise UserError(
            f"{code}: METRIC_SIGN={sign} and METRIC_SCORES={scores}: set the first to 1 or -1, the second to one of"
            f" {', '.join(ANSWERS)}"
        )

    def score(true: np.ndarray, decided: np.ndarray) -> float:
        return own(true.copy(), decided.copy())  # which it may change

    return Metric(name, sign, scores, score, k=getattr(module, "METRIC_K", 5) if scores == RANKING else 0)
