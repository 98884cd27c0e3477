"""What disks and systems do not promise is said in one line, before anything relies on it."""

import errno
import os
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from plant_pathology.core.disk import (
    raise_open_files_limit,
    require_locks,
    require_shared_memory,
    require_space,
    supports_hard_links,
)
from plant_pathology.core.errors import UserError
from support.refused_calls import needs_refused_calls, refuse


def test_space_is_that_of_the_nearest_folder_that_exists(tmp_path):
    require_space(tmp_path / "not" / "yet", 1e3, "the shards")
    with pytest.raises(UserError, match=r"not/yet: the shards will take 1,000,000,000,000,000 MB, and [\d,]+ MB are"):
        require_space(tmp_path / "not" / "yet", 1e21, "the shards")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="/proc gives zeros, as some network disks do")
def test_a_disk_that_does_not_say_how_large_it_is_counts_as_large_enough():
    require_space(Path("/proc/not/yet"), 1e21, "the shards")


def test_the_disk_of_this_test_has_locks_and_links_and_keeps_no_trace_of_the_probe(tmp_path):
    require_locks(tmp_path / "not" / "yet")
    assert supports_hard_links(tmp_path / "not" / "yet")
    assert not list(tmp_path.iterdir())


def in_a_process(code: str, folder: Path, call: str, error: int) -> str:
    """Run code that uses core/disk.py where the kernel refuses a call, and return what it prints."""
    program = (
        f"from pathlib import Path\nfrom plant_pathology.core.disk import *\nfolder = Path({str(folder)!r})\n{code}"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        preexec_fn=partial(refuse, call, error),
        capture_output=True,
        text=True,
        env=os.environ,
    ).stdout.strip()


@needs_refused_calls
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_named_with_a_way_round(tmp_path, error):
    code = "try: require_locks(folder)\nexcept UserError as error: print(error)"
    said = in_a_process(code, tmp_path, "flock", error)
    assert f"{tmp_path}: this disk has no locks ({os.strerror(error)})" in said
    assert "set paths.root" in said


@needs_refused_calls
@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_disk_without_hard_links_is_seen(tmp_path, error):
    assert in_a_process("print(supports_hard_links(folder))", tmp_path, "link", error) == "False"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /dev/shm")
def test_too_little_shared_memory_is_named_with_the_remedy():
    require_shared_memory(1, "data.workers=4")
    with pytest.raises(UserError, match="data.workers=4 takes up to 1,000,000,000 MB of shared memory.*--shm-size"):
        require_shared_memory(1e15, "data.workers=4")


def test_the_limit_of_open_files_is_raised_but_not_over_the_hard_one():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        raise_open_files_limit(100, "workers=8")
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200
        raise_open_files_limit(256, "workers=8")
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
        with pytest.raises(UserError, match="workers=8 takes up to 1000000000000 open files, and this system allows"):
            raise_open_files_limit(10**12, "workers=8")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
