"""`python -m plant_pathology.submit` through the real kaggle client, against a fake Kaggle on this machine."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from plant_pathology.competition.form import read_form
from plant_pathology.competition.sample import draw
from plant_pathology.competition.spec import Competition
from plant_pathology.core.errors import UserError
from plant_pathology.core.hashes import folder_hash
from plant_pathology.inference.answers import Answers
from plant_pathology.kernel.package import Package
from support.commands import config, run_module
from support.handmade import (
    BUNDLE,
    DATASET,
    FAST,
    KERNEL,
    METADATA,
    NAME,
    ORIGIN,
    SUBMITTED,
    arguments,
    file_root,
    rehearsed,
    rehearsed_package,
    write,
    write_notebook,
)
from support.kills import WAYS, killed_and_started_again, points, requests_of
from support.local_kaggle import SECRET, LocalKaggle, environment, in_sandbox, local_kaggle


@pytest.fixture
def kaggle() -> Iterator[LocalKaggle]:
    with local_kaggle(
        competition=NAME, run=lambda run, hidden: ({"submission.csv": SUBMITTED}, "ran\n", None)
    ) as local:
        yield local


@pytest.fixture
def root(tmp_path) -> Path:
    return rehearsed_package(tmp_path)


def submit(root, kaggle=None, *overrides, **changed):
    done = run_module("submit", *arguments(*overrides), cwd=root, **environment(root, kaggle, **changed))
    assert "Traceback" not in done.stderr and SECRET not in done.stdout + done.stderr
    return done


def succeeds(root, kaggle, *overrides, **changed):
    done = submit(root, kaggle, *overrides, **changed)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def fails(root, kaggle, *overrides, **changed):
    done = submit(root, kaggle, *overrides, **changed)
    assert done.returncode == 1 and done.stderr.count("\nerror: ") + done.stderr.startswith("error: ") == 1, (
        done.stdout + done.stderr
    )
    return done.stderr


def rows(root):
    return pd.read_csv(root / "reports/submissions.csv", dtype=str, keep_default_na=False).to_dict("records")


def journal(root):
    return json.loads((root / "reports/submit.json").read_text())


@pytest.mark.slow
def test_from_the_folders_to_a_score_and_a_second_start_does_nothing(kaggle, root):
    """With what a desktop and Jupyter leave where somebody looked into the folders."""
    files = {
        path.name: path.read_bytes() for path in (root / "kernels/dataset").glob("*") if "metadata" not in path.name
    }
    (root / "kernels/dataset/.DS_Store").touch()
    (root / "kernels/submission/.ipynb_checkpoints").mkdir()
    (root / "kernels/submission/.ipynb_checkpoints/submission-checkpoint.ipynb").touch()
    shown = succeeds(root, kaggle)
    for line in ("0 used today, 5 left", f"{DATASET}: created", "version 1", "running", "public 0.5"):
        assert line in shown
    assert kaggle.datasets[DATASET][-1]["files"] == files
    (row,) = rows(root)
    assert row["commit"] == ORIGIN["commit"] and row["data"] == "plant-pathology:7" and row["validation"] == "0.81"
    assert row["sha256"] in journal(root) and row["sha256"][:16] in kaggle.submissions[0]["description"]
    assert (row["kernel_version"], row["submission"], row["public"], row["private"]) == ("1", "1000", "0.5", "")
    kaggle.submissions[0]["privateScore"] = "0.4"
    kaggle.requests.clear()
    assert "submitted already" in succeeds(root, kaggle)
    assert {*kaggle.requests} == {"GetCompetition", "ListSubmissions"}
    assert rows(root) == [row | {"private": "0.4"}], "a private score that came later stands in the same row"


@pytest.mark.parametrize(
    "saved, reason",
    [
        ("", "submissions.csv is empty"),
        ("date;commit;submission\n2026-11-29;0123;1000\n", "submissions.csv has semicolons between its columns"),
        ("Date,Commit,Number\n2026-11-29,0123,1000\n", "submissions.csv has no column submission"),
    ],
)
def test_a_table_of_submissions_that_a_spreadsheet_changed_is_refused_before_anything_is_sent(
    kaggle, root, saved, reason
):
    table = root / "reports/submissions.csv"
    table.write_text(saved)
    said = fails(root, kaggle)
    assert reason in said and "or move it away" in said
    assert not kaggle.requests and table.read_text() == saved


@pytest.mark.slow
def test_a_changed_kernel_needs_no_new_dataset_and_a_changed_dataset_says_which_bytes_it_has(kaggle, root):
    succeeds(root, kaggle)
    write_notebook(root, "print(2)\n")
    rehearsed(root)
    kaggle.tells_kernel_numbers = False
    assert "version 1 has these bytes already" in succeeds(root, kaggle)
    write(root / "kernels/dataset/bundle.json", BUNDLE | {"changed": 1})
    rehearsed(root)
    succeeds(root, kaggle)
    versions = kaggle.datasets[DATASET]
    assert len(versions) == 2 and versions[1]["notes"] == f"sha256:{folder_hash(root / 'kernels/dataset')}"
    assert len(kaggle.submissions) == 3 and len(rows(root)) == 3
    # On another machine, nothing is noted; Kaggle knows.
    shutil.rmtree(root / "reports")
    rehearsed(root)
    assert "submitted already" in succeeds(root, kaggle) and len(kaggle.submissions) == 3


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"enable_internet": True}, "enable_internet is true"),
        ({"enable_internt": False}, "enable_internt is no key"),
        ({"enable_gpu": "true"}, "enable_gpu='true' is no bool"),
        ({"keywords": None}, "keywords=None is no list"),
        ({"title": "leaf submissions"}, "slug of the title 'leaf-submissions'"),
        ({"dataset_sources": ["tester/other-bundle"]}, "lacks tester/leaf-bundle"),
        ({"competition_sources": []}, f"lacks {NAME}"),
        ({"machine_shape": "NvidiaTeslaT5"}, "choose one of NvidiaTeslaT4"),
        ({"code_file": "other.ipynb"}, "other.ipynb does not exist"),
        ({"id": "leaf-submission"}, "set package.owner"),
    ],
)
def test_what_the_client_would_ignore_or_take_for_something_else_is_refused(root, change, reason):
    Package.read(root / "kernels", NAME)
    write(root / "kernels/submission/kernel-metadata.json", METADATA | change)
    with pytest.raises(UserError, match=reason):
        Package.read(root / "kernels", NAME)


def test_a_key_left_out_and_a_folder_in_the_dataset_are_refused(root):
    path = root / "kernels/submission/kernel-metadata.json"
    write(path, {key: value for key, value in METADATA.items() if key != "enable_internet"})
    with pytest.raises(UserError, match="enable_internet is missing"):
        Package.read(root / "kernels", NAME)
    write(path, METADATA)
    (root / "kernels/dataset/below").mkdir()
    with pytest.raises(UserError, match="below is a folder"):
        Package.read(root / "kernels", NAME)


def test_only_what_was_rehearsed_is_submitted(kaggle, root):
    rehearsed(root, verdict="failed")
    assert "did not pass" in fails(root, kaggle)
    rehearsed(root)
    write(root / "kernels/dataset/bundle.json", BUNDLE | {"changed": 2})
    assert "of other bytes" in fails(root, kaggle)
    assert kaggle.requests == []


def test_a_dry_run_prints_all_steps_and_refusals_without_a_request(kaggle, root):
    (root / "reports/rehearsal.json").unlink()
    write(root / "kernels/submission/kernel-metadata.json", METADATA | {"id": "KAGGLE_USERNAME/leaf-submission"})
    before = sorted(root.rglob("*"))
    shown = succeeds(root, kaggle, "submit.dry_run=true", "competition.synthetic=true")
    assert shown.count("would ") == 4 and shown.count("refused") == 3
    for reason in ("is a synthetic competition", "set package.owner", "rehearsal.json does not exist"):
        assert reason in shown
    assert kaggle.requests == [] and sorted(root.rglob("*")) == before


@pytest.mark.slow
def test_a_refusal_is_one_error_with_the_remedy_and_the_next_start_continues(kaggle, root):
    for method, status, remedy in (
        ("CreateDataset", 403, "verify your phone number"),
        ("SaveKernel", 409, "the name is taken"),
        ("CreateCodeSubmission", 400, "see Kaggle's message"),
    ):
        kaggle.fail(method, status)
        error = fails(root, kaggle)
        assert remedy in error and f"({status}: refused)" in error
    assert kaggle.submissions == []
    succeeds(root, kaggle)
    assert len(kaggle.submissions) == 1 and len(kaggle.datasets[DATASET]) == 1 and len(kaggle.kernels[KERNEL]) == 1


@pytest.mark.slow
def test_temporary_failures_are_retried(kaggle, root):
    kaggle.fail("ListSubmissions", 429, Retry_After="1")
    kaggle.fail("GetDatasetStatus", 500, times=2)
    kaggle.fail("GetKernelSessionStatus", "drop")
    kaggle.fail("GetKernel", 503)
    kaggle.fail("SaveKernel", 429)
    kaggle.fail("CreateCodeSubmission", 429, Retry_After="1")
    kaggle.fail("GET", 502)
    shown = succeeds(root, kaggle)
    assert "Kaggle answers 429; asking again in 1 s" in shown and "Kaggle cannot be reached" in shown
    assert len(kaggle.submissions) == 1 and len(kaggle.kernels[KERNEL]) == 1


def test_a_kaggle_that_is_silent_or_replies_with_nonsense_is_one_error(kaggle, root):
    kaggle.fail("GetCompetition", "stall")
    error = fails(root, kaggle, "submit.request_timeout_s=0.3", "submit.retries=0")
    assert "cannot be reached to look up" in error and "(ReadTimeoutError): start again" in error
    kaggle.fail("GetCompetition", b"<html>maintenance</html>")
    assert "is not understood" in fails(root, kaggle)


@pytest.mark.parametrize(
    "answer, problem",
    [
        ({"versionNumber": 1, "invalidDatasetSources": [DATASET]}, f"did not attach dataset {DATASET}"),
        ({"versionNumber": 1, "invalidModelSources": ["a/b"]}, "did not attach model a/b"),
        ({}, "which version"),
    ],
)
def test_a_push_that_says_error_with_status_200_failed(kaggle, root, answer, problem):
    kaggle.fail("SaveKernel", answer)
    assert problem in fails(root, kaggle) and kaggle.submissions == []


@pytest.mark.slow
def test_a_kernel_that_arrives_otherwise_than_it_was_pushed_is_pushed_once_more(kaggle, root):
    kaggle.renamed = "leaf-submission-2"
    assert "it is called leaf-submission-2 there" in fails(root, kaggle)
    kaggle.renamed, kaggle.dropped = None, True
    assert f"without the dataset {DATASET}" in fails(root, kaggle)
    kaggle.dropped = False
    succeeds(root, kaggle)
    assert len(kaggle.kernels[KERNEL]) == 2 and len(kaggle.submissions) == 1


@pytest.mark.slow
def test_a_kernel_that_fails_shows_its_log_and_is_not_submitted(kaggle, root):
    good, kaggle.run = kaggle.run, lambda run, hidden: ({}, "ImportError: no module\n", "Exited with 1")
    error = fails(root, kaggle)
    assert "ImportError: no module" in error and "failed on Kaggle (error: Exited with 1)" in error
    assert kaggle.submissions == []
    kaggle.run = lambda run, hidden: ({"submission.csv": b"image,labels\nb.jpg,scab\n"}, "", None)
    assert "would not be scored" in fails(root, kaggle) and kaggle.submissions == []
    kaggle.kernels[KERNEL][-1].output = good(None, False)[0]
    kaggle.kernels[KERNEL].append(kaggle.kernels[KERNEL][-1])
    assert "version 3 of tester/leaf-submission was pushed" in fails(root, kaggle) and kaggle.submissions == []


def test_an_upload_that_breaks_off_goes_on_and_one_that_is_refused_makes_no_dataset(kaggle, root):
    kaggle.fail("PUT bundle.json", 403)
    assert "not all files" in fails(root, kaggle) and kaggle.datasets == {}
    model = root / "kernels/dataset/model.safetensors"
    # The same size and time as before: the client alone would go on with what it has of the old bytes.
    content, stamp = model.read_bytes()[::-1], model.stat().st_mtime
    model.write_bytes(content)
    os.utime(model, (stamp, stamp))
    rehearsed(root)
    kaggle.upload_cut = 2
    kaggle.requests.clear()
    succeeds(root, kaggle)
    assert kaggle.datasets[DATASET][0]["files"]["model.safetensors"] == content
    assert len(kaggle.datasets[DATASET]) == 1 and kaggle.requests.count("PUT") == 3 + 2


@pytest.mark.slow
def test_a_dataset_that_says_error_with_status_200_is_no_dataset(kaggle, root):
    kaggle.fail("CreateDataset", {"status": "error", "error": "The license is not valid"})
    assert "The license is not valid" in fails(root, kaggle)
    # The client asks once before it creates one.
    kaggle.fail("GetDatasetStatus", 403)
    kaggle.fail("GetDatasetStatus", {"status": "FAILED"})
    assert "could not process the dataset" in fails(root, kaggle)
    kaggle.dataset_polls = 10**6
    assert "still blobs_received after" in fails(root, kaggle, "submit.dataset_timeout_s=0.2")


def test_the_daily_limit_is_respected_and_the_next_day_continues(kaggle, root):
    kaggle.daily_limit = 1
    now = datetime.now(UTC).isoformat()
    kaggle.submissions.append({"ref": 1, "date": now, "description": "a teammate's", "status": "PENDING"})
    assert "start again after midnight UTC" in fails(root, kaggle)
    kaggle.tells_limits = False
    kaggle.requests.clear()
    assert "start again after midnight UTC" in fails(root, kaggle), "counted from the list of submissions"
    kaggle.submissions[0]["date"] = "2021-03-01T00:00:00Z"
    kaggle.requests.clear()
    kaggle.daily_limit = 2
    assert "0 used today, 2 left" in succeeds(root, kaggle)
    assert not {"SaveKernel", "CreateDataset"} & set(kaggle.requests)


@pytest.mark.slow
def test_a_dataset_or_kernel_that_was_made_though_the_answer_is_lost_is_not_made_again(kaggle, root):
    kaggle.fail("CreateDataset", "drop", after=True)
    assert "cannot be reached to upload the dataset" in fails(root, kaggle)
    kaggle.fail("SaveKernel", 502, after=True)
    assert "does not push the kernel (502" in fails(root, kaggle)
    succeeds(root, kaggle)
    assert [kaggle.requests.count(act) for act in ("CreateDataset", "CreateDatasetVersion", "SaveKernel")] == [1, 0, 1]


@pytest.mark.parametrize("kind", ["drop", 500, {}])
def test_a_submission_whose_answer_is_lost_is_not_sent_again(kaggle, root, kind):
    kaggle.listing_polls = 3
    kaggle.fail("CreateCodeSubmission", kind, after=True)
    succeeds(root, kaggle)
    assert len(kaggle.submissions) == 1 and kaggle.requests.count("CreateCodeSubmission") == 1


def test_a_submission_that_kaggle_refuses_is_an_error(kaggle, root):
    kaggle.fail("CreateCodeSubmission", {"message": "Submission not allowed: Notebook is too old"})
    assert "Notebook is too old" in fails(root, kaggle, "submit.settle_s=0.1") and kaggle.submissions == []


def test_a_failed_submission_is_recorded_and_not_repeated(kaggle, root):
    kaggle.run = lambda run, hidden: ({"submission.csv": SUBMITTED}, "", "hidden" if hidden else None)
    assert "Submission Scoring Error" in fails(root, kaggle)
    assert "Submission Scoring Error" in fails(root, kaggle) and len(kaggle.submissions) == 1
    assert [row["status"] for row in rows(root)] == ["error"]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_killed_at_each_kind_of_request_it_is_submitted_once(way, tmp_path):
    requests = requests_of(tmp_path / "undisturbed", WAYS[way])
    for number, after in points(requests):
        killed_and_started_again(tmp_path / f"{number}-{after}", WAYS[way], number, after)


def test_a_second_submit_at_the_same_time_is_refused(root):
    with FileLock(root / "reports/.submit.lock"):
        assert "another submit" in fails(root, None)


# Whatever the competition's own file says.
BY_FILE = "++competition.submit.by=file"
SENT_FOR_A_FILE = [
    *["GetCompetition", "ListSubmissions", "DownloadDataFile", "GetSubmissionLimits", "StartSubmissionUpload", "PUT"]
]


@pytest.mark.slow
def test_a_file_is_submitted_without_dataset_and_kernel_and_once(kaggle, root):
    scored = []
    kaggle.score = lambda content: scored.append(content) or "0.7"
    shown = succeeds(file_root(root), kaggle, BY_FILE)
    assert "0 used today, 5 left" in shown and "public 0.7" in shown and scored == [SUBMITTED]
    assert {*kaggle.requests} == {*SENT_FOR_A_FILE, "CreateSubmission"}
    assert kaggle.datasets == {} and kaggle.kernels == {}
    sha256 = hashlib.sha256(SUBMITTED).hexdigest()
    (row,) = rows(root)
    assert row["commit"] == ORIGIN["commit"] and row["sha256"] == sha256 and sha256 in journal(root)
    assert (row["kernel_version"], row["submission"], row["status"], row["public"]) == ("", "1000", "complete", "0.7")
    assert f"sha256:{sha256[:16]}" in kaggle.submissions[0]["description"]
    kaggle.requests.clear()
    assert "submitted already" in succeeds(root, kaggle, BY_FILE)
    assert {*kaggle.requests} == {"GetCompetition", "ListSubmissions"} and rows(root) == [row]
    # The same bytes from another machine, or from another package.
    (root / "reports/submit.json").unlink()
    write_notebook(root, "print(2)\n")
    rehearsed(root)
    assert "submitted already" in succeeds(root, kaggle, BY_FILE) and len(kaggle.submissions) == 1
    (root / "reports/rehearsal/submission.csv").write_bytes(SUBMITTED.replace(b"scab", b"rust"))
    assert "submission.csv has other bytes than the rehearsal wrote" in fails(root, kaggle, BY_FILE)
    rehearsed(root)
    succeeds(root, kaggle, BY_FILE)
    assert len(kaggle.submissions) == 2 and len(rows(root)) == 2


def test_a_file_needs_no_account_in_the_package_and_a_dry_run_sends_nothing(kaggle, root):
    file_root(root)
    write(root / "kernels/submission/kernel-metadata.json", METADATA | {"id": "KAGGLE_USERNAME/leaf-submission"})
    rehearsed(root)
    before = sorted(root.rglob("*"))
    shown = succeeds(root, kaggle, BY_FILE, "submit.dry_run=true")
    assert f"sha256 {hashlib.sha256(SUBMITTED).hexdigest()} of reports/rehearsal/submission.csv" in shown
    assert shown.count("would ") == 1 and f"would submit it to {NAME}" in shown and "refused" not in shown
    assert kaggle.requests == [] and sorted(root.rglob("*")) == before
    succeeds(root, kaggle, BY_FILE)


@pytest.mark.parametrize("kind", ["drop", 500, {}])
def test_a_file_whose_answer_is_lost_is_not_sent_again(kaggle, root, kind):
    kaggle.listing_polls = 3
    kaggle.fail("CreateSubmission", kind, after=True)
    succeeds(file_root(root), kaggle, BY_FILE)
    assert len(kaggle.submissions) == 1 and kaggle.requests.count("CreateSubmission") == 1


@pytest.mark.slow
def test_a_file_whose_upload_fails_is_not_submitted_and_the_next_start_submits_it(kaggle, root):
    file_root(root)
    for method, kind, error in (
        ("StartSubmissionUpload", 403, "join the competition"),
        ("PUT submission.csv", 403, "did not arrive at Kaggle"),
        ("PUT submission.csv", "drop", "did not arrive at Kaggle"),
        ("CreateSubmission", 400, "see Kaggle's message"),
    ):
        kaggle.fail(method, kind)
        assert error in fails(root, kaggle, BY_FILE)
        assert kaggle.submissions == [] and "submitting" not in next(iter(journal(root).values()))
    kaggle.fail("StartSubmissionUpload", 503)
    kaggle.fail("CreateSubmission", 429)
    succeeds(root, kaggle, BY_FILE)
    assert len(kaggle.submissions) == 1


def test_a_file_waits_for_the_next_day_when_none_is_left(kaggle, root):
    kaggle.daily_limit = 1
    now = datetime.now(UTC).isoformat()
    kaggle.submissions.append({"ref": 1, "date": now, "description": "a teammate's", "status": "PENDING"})
    assert "start again after midnight UTC" in fails(file_root(root), kaggle, BY_FILE)
    assert not {"StartSubmissionUpload", "CreateSubmission"} & {*kaggle.requests}
    kaggle.daily_limit = 2
    succeeds(root, kaggle, BY_FILE)
    assert len(kaggle.submissions) == 2


@pytest.mark.slow
def test_only_a_file_that_was_rehearsed_and_would_be_scored_is_submitted(kaggle, root):
    assert "run `python -m plant_pathology.rehearse`" in fails(root, kaggle, BY_FILE)
    file_root(root)
    rehearsed(root, verdict="failed")
    assert "did not pass" in fails(root, kaggle, BY_FILE)
    (root / "reports/rehearsal/submission.csv").write_text("image,labels\nother.jpg,scab\n")
    rehearsed(root)
    assert "would not be scored" in fails(root, kaggle, BY_FILE)
    assert kaggle.requests == []


SENT_AS = {
    "slug": "id",
    "newTitle": "title",
    "language": "language",
    "kernelType": "kernel_type",
    "isPrivate": "is_private",
    "enableGpu": "enable_gpu",
    "enableTpu": "enable_tpu",
    "enableInternet": "enable_internet",
    "machineShape": "machine_shape",
    "dockerImage": "docker_image",
    "datasetDataSources": "dataset_sources",
    "competitionDataSources": "competition_sources",
    "kernelDataSources": "kernel_sources",
    "modelDataSources": "model_sources",
}


@pytest.mark.slow
def test_the_client_by_hand_pushes_the_same_and_all_that_kernel_metadata_says(kaggle, root):
    metadata = METADATA | {"docker_image": "gcr.io/kaggle-images/python@sha256:0123"}
    write(root / "kernels/submission/kernel-metadata.json", metadata)
    rehearsed(root)
    client = Path(sys.executable).with_name("kaggle")
    for command in ("datasets create -p kernels/dataset", "kernels push -p kernels/submission"):
        env = os.environ | environment(root, kaggle)
        done = subprocess.run([client, *command.split()], cwd=root, env=env, capture_output=True, text=True)
        assert done.returncode == 0 and "not valid" not in done.stdout and "does not resolve" not in done.stdout
    assert "Kernel version 1 successfully pushed" in done.stdout
    succeeds(root, kaggle)
    by_hand, by_submit = (asked for method, asked in kaggle.asked if method == "SaveKernel")
    assert by_hand == by_submit
    # The client leaves out what is empty.
    assert {name: by_hand.get(name, type(metadata[key])()) for name, key in SENT_AS.items()} == {
        name: metadata[key] for name, key in SENT_AS.items()
    }
    assert {*by_hand} <= {*SENT_AS, "text", "categoryIds"} and by_hand["enableInternet"] is False
    created, versioned = kaggle.datasets[DATASET]
    assert created["files"] == versioned["files"]


@pytest.mark.slow
def test_the_packaged_kernel_scores_on_a_hidden_test_set(project, tmp_path):
    """From the bundle to a score: the notebook that was pushed really runs, with the dataset that was uploaded."""
    from plant_pathology.inference.predictor import predict_submission
    from plant_pathology.kernel.scoring import read_truth, submission_score
    from plant_pathology.kernel.test_sets import given_test_set

    competition = Competition.from_config(config())
    for name in ("kernels", "reports"):
        shutil.copytree(project / name, tmp_path / name)
    draw(tmp_path / "unseen", seed=7, train=12, test=1)
    hidden, solution = tmp_path / "hidden", tmp_path / "unseen/train.csv"
    public = project / "data/raw/sample"
    given_test_set(tmp_path / "unseen/train_images", public, hidden, competition)
    scored = tmp_path / "scored.csv"

    def truth() -> float:
        spec = json.loads((project / "models/best/bundle.json").read_text())
        form = read_form(competition, hidden)
        true = read_truth(solution, public, form, spec["answers"]["labels"], competition)
        return submission_score(scored, true, form, Answers(**spec["answers"]), competition)

    def score(output: bytes) -> str:
        scored.write_bytes(output)
        return f"{truth():.5f}"

    with local_kaggle(competition="sample", run=in_sandbox("sample", public, hidden), score=score) as kaggle:
        done = run_module(
            "submit",
            *(f"submit.{setting}" for setting in FAST),
            *("competition=sample", "competition.synthetic=false", f"paths.raw={public}"),
            cwd=tmp_path,
            **environment(tmp_path, kaggle),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    expected, _ = predict_submission(project / "models/best", hidden)
    assert scored.read_text() == expected.to_csv(index=False)
    (row,) = rows(tmp_path)
    metadata = json.loads((project / "kernels/submission/kernel-metadata.json").read_text())
    assert float(row["public"]) == pytest.approx(truth(), abs=1e-5)
    assert row["commit"] == metadata["provenance"]["commit"] and row["data"] == metadata["provenance"]["data"]["ref"]
    assert (tmp_path / "reports/kaggle-submission.csv").read_text() == (
        project / "reports/rehearsal/submission.csv"
    ).read_text()
