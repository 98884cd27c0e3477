"""Names of files that hold labels and ids."""

import os
import sys
from pathlib import Path

import pytest

from plant_pathology.inference.tables import LayoutError, match


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such a name")
def test_a_file_name_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "train/rose").mkdir(parents=True)
    (tmp_path / "train/rose/1.jpg").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/train/rose/r\xf6se.jpg")).touch()
    with pytest.raises(LayoutError, match=r"'train/rose/r\\udcf6se.jpg' is not UTF-8: rename this file"):
        match("train/{label}/{file}", tmp_path)
