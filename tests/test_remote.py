"""What `make remote` refuses, before it writes anything; tests/test_pipeline.py has an address that it takes."""

import pytest

from plant_pathology.core.errors import UserError
from plant_pathology.remote import set_remote, sizes_of


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


@pytest.mark.parametrize("content", ["stages: [", "schema: '2.0'", "text"])
def test_a_damaged_dvc_lock_is_one_line_with_the_remedy(tmp_path, monkeypatch, content):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").touch()
    (tmp_path / "dvc.lock").write_text(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="dvc.lock is damaged .*: restore it with git, or delete it"):
        sizes_of([])
