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
