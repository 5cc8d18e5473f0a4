"""Files are there whole, or as they were."""

import errno
import os

import pytest

from masa.commands.options import write
from masa.errors import UserError
from masa.files import write_whole
from masa.weights import save_weights


@pytest.fixture
def full_disk(monkeypatch):
    """Nothing can be written any more."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)


def test_a_file_is_replaced_and_readable_by_others(tmp_path):
    path = tmp_path / ("x" * 250)  # as long as names may be, or nearly
    write_whole(path, b"old and longer")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert list(tmp_path.iterdir()) == [path]


def test_who_may_read_a_file_stays(tmp_path):
    path = tmp_path / "private"
    path.touch(mode=0o600)
    write_whole(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o600 and path.read_bytes() == b"new"


def test_a_link_is_followed(tmp_path):
    """Checkpoints may lie on another disk."""
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "file")
    for data in (b"new", b"newer"):
        write_whole(link, data)
        assert link.is_symlink() and (tmp_path / "disk" / "file").read_bytes() == data
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["file"]


def test_what_is_no_file_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", b"numbers")
    assert os.read(reader, 99) == b"numbers"
    os.close(reader)
    assert not (tmp_path / "pipe").is_file()


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, small_model):
    path = tmp_path / "old"
    path.write_text("by hand")
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    with pytest.raises(OSError, match="No space"):
        save_weights(path, small_model.state_dict(), small_model.config)
    with pytest.raises(UserError, match="No space"):
        write(path, "new")
    assert path.read_text() == "by hand"
    assert list(tmp_path.iterdir()) == [path]
