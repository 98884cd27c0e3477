"""Judge a submission before Kaggle scores it: its rows, what could be read, its answers, and the time that it took.

A kernel that reads nothing, or whose networks see something else than they were trained on, writes a submission like
any other. The tally of its answers shows it, beside the tally of the bundle's answers for images that its networks were
not trained on.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plant_pathology.inference.answers import Answers, Cells
from plant_pathology.inference.tables import root_of

MAX_UNREADABLE = 0.05  # share of images; one is always allowed
UNLIKELY = 0.001  # largest probability of one answer for all rows that counts as a failure
DIFFERENT = 0.15  # share of rows with another answer than expected
SHOWN = 12  # answers of a tally that are printed
KEPT = 50  # answers of a tally that are kept; the rarer ones are counted together
OTHERS, NOTHING = "all others", "none of them"
BINS = 5  # with equally many rows in each
BINNED = ("number", "probability")  # what a cell holds that is counted in bins
FEW = 20  # rows; fewer may well have one answer


class JudgementError(ValueError):
    """A submission is wrong as a whole; the message says why, and what was found."""


@dataclass(frozen=True)
class Tally:
    """How often each answer is given.

    Args:
        shares: of the rows by answer, the most frequent first.
        rows: how many were counted.
        edges: between the bins of numbers, for which each bin is one answer; none for labels.
    """

    shares: Mapping[str, float]
    rows: int
    edges: Sequence[float] = ()

    @classmethod
    def of(cls, cells: Cells, answers: Answers, edges: Sequence[float] | None = None) -> "Tally":
        """Count the answers of a submission.

        Args:
            cells: by column of the form.
            answers: what wrote them.
            edges: between bins of numbers; None: such that equally many rows are in each.
        """
        if edges is None:
            edges = bins_of(cells) if answers.as_ in BINNED else ()
        found = Counter(kinds_of(cells, answers, edges))
        counts = dict(found.most_common(KEPT))
        if rest := found.total() - sum(counts.values()):
            counts[OTHERS] = rest
        return cls({answer: count / found.total() for answer, count in counts.items()}, found.total(), edges)

    def differs_much(self, expected: "Tally") -> bool:
        """Return whether they differ by more than DIFFERENT and what chance explains.

        By chance, each of k shares is off by its standard error: half of their sum is at most sqrt(k / rows) / 2.
        """
        chance = 0.5 * (len(expected.shares) * (1 / self.rows + 1 / expected.rows)) ** 0.5
        return self.distance(expected) > DIFFERENT + chance

    def distance(self, other: "Tally") -> float:
        """Return the share of rows that would need another answer to give the other tally (total variation).

        Where a tally has too many answers to name them all, those that only one of both names are counted together.
        """
        tallies = (self.shares, other.shares)
        named = (self.shares.keys() | other.shares.keys()) - {OTHERS}
        # Sorted, because the last digits of a sum depend on its order.
        known = sorted(name for name in named if all(name in each or OTHERS not in each for each in tallies))
        shares = [(self.shares.get(name, 0.0), other.shares.get(name, 0.0)) for name in known]
        rests = (1 - sum(ours for ours, _ in shares)) - (1 - sum(theirs for _, theirs in shares))
        return (sum(abs(ours - theirs) for ours, theirs in shares) + abs(rests)) / 2


def bins_of(cells: Cells) -> list[float]:
    """Return the edges of BINS bins with equally many rows each, without equal ones."""
    values = np.array(next(iter(cells.values())), float)
    return sorted(set(np.quantile(values, np.arange(1, BINS) / BINS).tolist()))


def kinds_of(cells: Cells, answers: Answers, edges: Sequence[float]) -> list[str]:
    """Return what each row answers, as text: a set of labels, the first of a ranking, the likeliest, or a range."""
    first = next(iter(cells.values()))
    if answers.as_ in BINNED:
        ends = ["", *(f"{edge:.4g}" for edge in edges), ""]
        bins = [f"{low} to {high}".strip() for low, high in zip(ends, ends[1:], strict=False)]
        return [bins[place] for place in np.searchsorted(edges, np.array(first, float), side="right")]
    if answers.as_ == "ranking":
        return [cell.split(answers.separator)[0] for cell in first]
    if answers.as_ == "columns":
        values = np.array(list(cells.values()), float).T
        names = np.array(list(cells), object)
        if np.allclose(values.sum(axis=1), 1, atol=0.01):  # they exclude each other
            return names[values.argmax(axis=1)].tolist()
        return [" ".join(names[row]) or NOTHING for row in values >= 0.5]
    return list(first)


def judge(
    submission: pd.DataFrame,
    problems: Sequence[str],
    spec: Mapping[str, Any],
    competition: Path,
    seconds: float,
    allowed: float,
) -> list[str]:
    """Return lines to print about a submission.

    Args:
        submission: as it was written.
        problems: one message per image that could not be read.
        spec: content of bundle.json.
        competition: folder of the competition.
        seconds: that the kernel took.
        allowed: Kaggle's limit on its seconds.

    Raises:
        JudgementError: too many images cannot be read, or all rows have one answer that not all should have.
    """
    rows = len(submission)
    if len(problems) > max(1, MAX_UNREADABLE * rows):
        raise JudgementError(
            f"{len(problems)} of {rows} images cannot be read, first {problems[0]}; {contents(competition, spec)}:"
            " submitting would score the most frequent answer"
        )
    cells = {column: submission[column].tolist() for column in answer_columns(submission, spec)}
    expected = Tally(**spec["expected"])
    found = Tally.of(cells, Answers(**spec["answers"]), expected.edges)
    check_not_all_equal(cells, found, expected, rows)
    lines = [f"{rows} rows, {len(problems)} unreadable; {seconds:.0f} of {allowed:.0f} s used"]
    lines += tally_lines(found, expected)
    if found.differs_much(expected):
        lines.append(
            f"warning: {found.distance(expected):.0%} of the rows have another answer than expected from the"
            " training images: are these images of another season, place or camera, or prepared in another way?"
        )
    return lines


def answer_columns(submission: pd.DataFrame, spec: Mapping[str, Any]) -> list[str]:
    """Return the columns with answers: those with a name but the ids'."""
    named = [column for column in submission if column]
    return [column for column in named if column != (spec["test"]["id"] or named[0])]


def check_not_all_equal(cells: Cells, found: Tally, expected: Tally, rows: int) -> None:
    """Check that not all rows have one answer, unless that may happen by chance.

    Raises:
        JudgementError: they have.
    """
    distinct = set(zip(*cells.values(), strict=True))
    if len(distinct) > 1 or rows < FEW:
        return
    (answer,) = found.shares
    share = expected.shares.get(answer, 0.0)
    if share**rows < UNLIKELY:
        raise JudgementError(
            f"all {rows} rows have the answer {' '.join(next(iter(distinct))[:3])!r}, and {share:.0%} of the training"
            " images have it: the networks see no difference between the test images"
        )


def tally_lines(found: Tally, expected: Tally) -> list[str]:
    """Return the tally as a table: share of the rows here, share expected, and the answer."""
    names = list(dict.fromkeys([*list(found.shares)[:SHOWN], *list(expected.shares)[:SHOWN]]))
    return ["   here  expected  answer"] + [
        f"{found.shares.get(name, 0.0):7.1%}  {expected.shares.get(name, 0.0):8.1%}  {name}" for name in names
    ]


def contents(competition: Path, spec: Mapping[str, Any]) -> str:
    """Describe what is in the folder of the test images, in a few words."""
    folder = competition / root_of(spec["test"]["files"])
    if not folder.is_dir():
        beside = sorted(path.name for path in competition.iterdir())[:8]
        return f"{folder} does not exist, and {competition} has {', '.join(beside) or 'nothing'}"
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    if not files:
        return f"{folder} has no files"
    endings = Counter(path.suffix or "no ending" for path in files)
    listed = ", ".join(f"{count} with {ending}" for ending, count in endings.most_common(4))
    return f"{folder} has {len(files)} files ({listed}), such as {files[0].name} of {files[0].stat().st_size} bytes"
