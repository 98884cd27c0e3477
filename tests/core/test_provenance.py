"""Where files come from: the commit of the checkout, and what differs from it there."""

from plant_pathology.core.provenance import commit
from support.commands import git


def test_in_a_folder_of_a_larger_repository_only_its_own_files_count(tmp_path):
    checkout = tmp_path / "models" / "leäf"
    checkout.mkdir(parents=True)
    (checkout / "train.py").write_text("committed\n")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        git(tmp_path, *arguments)
    for written in (tmp_path / "notes.txt", checkout / "dvc.lock"):
        written.write_text("written\n")
    assert commit(checkout) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "uncommitted": []}
    (checkout / "train.py").write_text("edited\n")
    (checkout / "conf").mkdir()
    (checkout / "conf" / "mine.yaml").write_text("new\n")
    assert commit(checkout)["uncommitted"] == ["conf/mine.yaml", "train.py"]
