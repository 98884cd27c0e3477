"""A submission is read back as what was decided, and scored against the truth."""

import numpy as np
import pandas as pd
import pytest

from plant_pathology.competition.spec import Competition
from plant_pathology.inference.answers import Answers
from plant_pathology.inference.test_set import Form
from plant_pathology.kernel.scoring import submission_score
from support.commands import config

CLASSES, SETS = np.array([0, 2, 1]), np.array([[True, False, True], [False, False, False], [False, True, False]])


@pytest.mark.parametrize("kind, true", [("one", CLASSES), ("ordinal", CLASSES), ("several", SETS)])
@pytest.mark.parametrize("metric", ["accuracy", "micro_f1", "macro_f1"])
def test_labels_that_were_written_in_columns_are_scored(tmp_path, kind, true, metric):
    target = f"competition.target={{kind:{kind},column:null,labels:[a,b,c]}}"
    competition = Competition.from_config(
        config(target, f"competition.metric={metric}", "competition.submit={as:columns}")
    )
    answers, columns = Answers("columns", ["a", "b", "c"], " ", None), ["c", "a", "b"]
    table = pd.DataFrame({"id": ["x", "y", "z"], **answers.cells(true, columns)})
    table.to_csv(tmp_path / "submission.csv", index=False)
    form = Form(table, "id", [])
    assert submission_score(tmp_path / "submission.csv", true, form, answers, competition) == 1
