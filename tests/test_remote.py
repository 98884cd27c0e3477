"""Addresses that `make remote` refuses, before it writes anything; tests/test_pipeline.py has one that it takes."""

import pytest

from plant_pathology.core.errors import UserError
from plant_pathology.remote import set_remote


@pytest.mark.parametrize(
    "url, endpoint, expected",
    [
        ("ssh://me:hidden-word@host/folder", None, "holds a password, which would be committed: leave it out"),
        ("s3://bucket", "https://key:hidden-word@host", "holds a password, which would be committed: leave it out"),
        ("memory://here", None, "memory://: DVC keeps results at no such address; write one of azure, gdrive, gs"),
        ("hdfs://host/folder", None, '-m pip install -e . "dvc[hdfs]"'),
    ],
)
def test_an_address_is_refused_in_one_line_with_the_remedy_and_without_its_password(url, endpoint, expected):
    with pytest.raises(UserError) as raised:
        set_remote(url, endpoint)
    assert expected in str(raised.value) and "hidden-word" not in str(raised.value)
