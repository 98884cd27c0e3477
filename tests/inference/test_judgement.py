"""The judgement at the end of a kernel: what is wrong as a whole, and the tally of answers."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from plant_pathology.inference.answers import Answers
from plant_pathology.inference.judgement import JudgementError, Tally, judge

LABELS = ["healthy", "rust", "scab"]
TRAINED = ["healthy"] * 50 + ["rust"] * 30 + ["rust scab"] * 20


def spec_of(cells, as_="labels", separator=" "):
    answers = Answers(as_, LABELS if as_ != "number" else [], separator, None)
    expected = asdict(Tally.of(cells, answers))
    test = {"form": "form.csv", "files": "test/{id}", "id": None}
    return {"answers": asdict(answers), "expected": expected, "test": test}


def judged(tmp_path, cells, spec, problems=0):
    (tmp_path / "test").mkdir(exist_ok=True)
    (tmp_path / "test/a.tif").write_bytes(b"x" * 7)
    rows = len(next(iter(cells.values())))
    table = pd.DataFrame({"": range(rows), "id": map(str, range(rows)), **cells})
    return judge(table, [f"{n}.tif: bad" for n in range(problems)], spec, tmp_path, 30.4, 7200)


def test_a_submission_like_the_training_images_passes_with_its_tally(tmp_path):
    lines = judged(tmp_path, {"labels": TRAINED}, spec_of({"labels": TRAINED}))
    assert lines == [
        "100 rows, 0 unreadable; 30 of 7200 s used",
        "   here  expected  answer",
        "  50.0%     50.0%  healthy",
        "  30.0%     30.0%  rust",
        "  20.0%     20.0%  rust scab",
    ]


@pytest.mark.parametrize("rows, problems, fails", [(3, 1, False), (3, 2, True), (100, 5, False), (100, 6, True)])
def test_more_than_a_share_of_unreadable_images_fails_and_names_what_is_there(tmp_path, rows, problems, fails):
    cells, spec = {"labels": TRAINED[-rows:]}, spec_of({"labels": TRAINED})
    if not fails:
        assert f"{rows} rows, {problems} unreadable" in judged(tmp_path, cells, spec, problems)[0]
        return
    said = f"{problems} of {rows} images cannot be read, first 0.tif: bad; .*/test has 1 files .1 with .tif., such as"
    with pytest.raises(JudgementError, match=said):
        judged(tmp_path, cells, spec, problems)
    spec["test"]["files"] = "tests/{id}"
    with pytest.raises(JudgementError, match="tests does not exist, and .* has test"):
        judged(tmp_path, cells, spec, problems)


@pytest.mark.parametrize(
    "as_, cells, trained, fails",
    [
        ("labels", {"labels": ["rust"] * 20}, {"labels": TRAINED}, "all 20 rows have the answer 'rust', and 30% of"),
        ("labels", {"labels": ["scab"] * 20}, {"labels": TRAINED}, "all 20 rows have the answer 'scab', and 0% of"),
        ("labels", {"labels": ["rust"] * 19}, {"labels": TRAINED}, None),
        ("label", {"label": ["rust"] * 500}, {"label": ["rust"] * 100}, None),
        ("label", {"label": ["rust"] * 20}, {"label": ["rust"] * 95 + ["scab"] * 5}, None),
        ("label", {"label": ["rust"] * 200}, {"label": ["rust"] * 95 + ["scab"] * 5}, "all 200 rows"),
        ("number", {"n": ["2.5"] * 30}, {"number": [str(n) for n in range(100)]}, "all 30 rows have the answer '2.5'"),
        ("number", {"n": ["2.5"] * 29 + ["2.6"]}, {"number": [str(n) for n in range(100)]}, None),
    ],
)
def test_one_answer_for_all_rows_fails_where_chance_does_not_explain_it(tmp_path, as_, cells, trained, fails):
    spec = spec_of(trained, as_)
    if fails:
        with pytest.raises(JudgementError, match=fails):
            judged(tmp_path, cells, spec)
    else:
        judged(tmp_path, cells, spec)


@pytest.mark.parametrize("shares, warns", [((50, 30, 20), False), ((40, 40, 20), False), ((20, 30, 50), True)])
def test_answers_that_differ_much_from_training_are_a_warning(tmp_path, shares, warns):
    given = [
        answer for answer, count in zip(("healthy", "rust", "rust scab"), shares, strict=True) for _ in range(count)
    ]
    last = judged(tmp_path, {"labels": given * 10}, spec_of({"labels": TRAINED}))[-1]
    assert last.startswith("warning: 30% of the rows") is warns


@pytest.mark.parametrize(
    "as_, columns, problem",
    [
        ("labels", ["labels"], None),
        ("labels", ["labels", "usage"], "it has the columns labels, usage, where one takes the answer: the form is"),
        ("columns", ["rust", "scab", "healthy"], None),
        ("columns", ["rust", "scab"], "it has no column healthy: the form is another than the one that the bundle was"),
        ("columns", ["rust", "scab", "healthy", "mildew"], "it has the column mildew, which is no label"),
    ],
)
def test_a_form_whose_columns_have_changed_is_named(as_, columns, problem):
    found = Answers(as_, LABELS, " ", None).problem(columns)
    assert found is None if problem is None else found.startswith(problem)


def texts(values):
    return [str(each) for each in values]


@pytest.mark.parametrize(
    "as_, cells, shares",
    [
        ("columns", {"healthy": ["0.7", "0.1"], "rust": ["0.2", "0.8"], "scab": ["0.1", "0.1"]}, ["healthy", "rust"]),
        (
            "columns",
            {"healthy": ["0.7", "0.1"], "rust": ["0.9", "0.1"], "scab": ["0.1", "0"]},
            ["healthy rust", "none of them"],
        ),
        ("ranking", {"top": ["rust healthy", "scab rust"]}, ["rust", "scab"]),
        ("number", {"n": texts(range(10))}, ["to 1.8", "1.8 to 3.6", "3.6 to 5.4", "5.4 to 7.2", "7.2 to"]),
        ("probability", {"p": ["0.5"] * 4}, ["0.5 to"]),
    ],
)
def test_each_kind_of_answer_is_counted_by_what_a_person_would_call_it(as_, cells, shares):
    tally = Tally.of(cells, Answers(as_, LABELS, " ", None))
    assert sorted(tally.shares) == sorted(shares) and sum(tally.shares.values()) == pytest.approx(1)
    assert tally.distance(tally) == 0


def test_the_rarest_of_many_answers_are_counted_together():
    many = Tally.of({"label": texts(np.arange(80).repeat(np.arange(80) + 1))}, Answers("label", LABELS, " ", None))
    assert len(many.shares) == 51 and many.shares["all others"] == pytest.approx(sum(range(31)) / 3240)
    one = Tally({"79": 1.0}, 1)
    assert many.distance(one) == one.distance(many) == pytest.approx(1 - 80 / 3240)


@pytest.mark.parametrize("rows", [20, 200, 2000])
def test_of_a_thousand_answers_no_tally_is_taken_for_another_by_chance(tmp_path, rows):
    rng = np.random.default_rng(0)
    names = np.array([f"species {n}" for n in range(1000)])
    drawn = {"labels": rng.choice(names, rows).tolist()}
    spec = spec_of({"labels": rng.choice(names, 1000).tolist()})
    assert not judged(tmp_path, drawn, spec)[-1].startswith("warning")


def test_of_a_thousand_answers_other_frequent_ones_are_a_warning(tmp_path):
    names = [f"species {n}" for n in range(1000)]
    spec = spec_of({"labels": names + names[:5] * 200})
    assert judged(tmp_path, {"labels": names + names[:1] * 1000}, spec)[-1].startswith("warning: 40%")
