"""What `make repro` prints last."""

import pytest

from plant_pathology.summary import describe_rehearsal

REPORT = {
    "verdict": "passed",
    "test_sets": {"public": {"images": 60, "seconds": 9.2, "peak_memory_mb": 553}},
    "estimate": {"images": 5000, "seconds": 396.0, "limit": 32400.0},
}


@pytest.mark.parametrize(
    "isolation, reason, expected",
    [
        ("namespace", None, ["passed, network off by namespace"]),
        (
            "audit-hook",
            "this system (darwin) has no network namespaces",
            [
                "passed, network off by audit-hook",
                "not by namespace: this system (darwin) has no network namespaces",
            ],
        ),
    ],
)
def test_a_rehearsal_in_weaker_isolation_gives_the_reason(isolation, reason, expected):
    lines = describe_rehearsal(REPORT | {"isolation": isolation, "isolation_reason": reason}).splitlines()
    assert [line.strip() for line in lines] == [
        *expected,
        "60 public test images in 9 s and 553 MB",
        "5000 would take 0.11 of 9 hours on Kaggle",
    ]


@pytest.mark.parametrize(
    ("score", "known", "expected"),
    [
        (0.9, 0, "sample_f1 0.9000 on 7 images"),
        (None, 0, "sample_f1 has no value on 7 images"),
        (0.9, 2, "sample_f1 0.9000 on 7 images, too high a score: 2 of them are training images"),
    ],
)
def test_a_score_on_images_that_networks_know_is_called_too_high(score, known, expected):
    scored = {"metric": "sample_f1", "images": 7, "training_images": known}
    rehearsal = REPORT | {"isolation": "namespace", "isolation_reason": None, "score": score, "scored": scored}
    assert describe_rehearsal(rehearsal).splitlines()[-1].strip() == expected
