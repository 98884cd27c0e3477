"""Folders are replaced where they are, also behind a link."""

from plant_pathology.core.files import atomic_folder, remove_leftovers, visible_files
from plant_pathology.core.hashes import folder_hash


def test_a_link_to_a_folder_stays_and_leads_to_the_new_content(tmp_path):
    (tmp_path / "large_disk").mkdir()
    (tmp_path / "models").symlink_to(tmp_path / "large_disk" / "models")
    for content in ("first", "second"):
        with atomic_folder(tmp_path / "models") as work:
            assert work.parent == tmp_path / "large_disk"
            (work / "file").write_text(content)
    assert (tmp_path / "models").is_symlink() and (tmp_path / "large_disk/models/file").read_text() == "second"
    assert [path.name for path in (tmp_path / "large_disk").iterdir()] == ["models"]


def test_what_a_killed_command_left_behind_a_link_is_removed(tmp_path):
    (tmp_path / "large_disk/models").mkdir(parents=True)
    (tmp_path / "models").symlink_to(tmp_path / "large_disk/models")
    (tmp_path / "large_disk/.models-abc").mkdir()
    remove_leftovers(tmp_path / "models")
    assert [path.name for path in (tmp_path / "large_disk").iterdir()] == ["models"]


def test_what_macos_leaves_beside_modules_on_other_disks_changes_no_hash_of_code(tmp_path):
    (tmp_path / "room").mkdir()
    (tmp_path / "room/module.py").write_text("1")
    before = folder_hash(tmp_path, "*.py")
    for hidden in ("room/._module.py", ".ipynb_checkpoints/module.py", ".Trashes/room/module.py"):
        (tmp_path / hidden).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / hidden).write_text("2")
    assert folder_hash(tmp_path, "*.py") == before
    assert visible_files(tmp_path) == [tmp_path / "room/module.py"]
    (tmp_path / "room/module.py").write_text("3")
    assert folder_hash(tmp_path, "*.py") != before
