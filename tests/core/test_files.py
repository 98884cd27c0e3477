"""Folders are replaced where they are, also behind a link."""

from plant_pathology.core.files import atomic_folder, remove_leftovers


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
