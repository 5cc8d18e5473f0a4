"""Writing files atomically."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file atomically: at any time, and after a crash, it is the old or the new one.

    Symbolic links are followed, and who may read an old file may read the new one. What is not a
    regular file, such as ``/dev/stdout``, is written to directly. Raises ``OSError`` if the folder
    or the disk cannot be written to; the old file, if there was one, then remains.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    path = path.resolve()
    # In the same folder, as a rename is atomic only inside one file system.
    partial = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else after a crash the renamed file could be empty
        if path.exists():
            partial.chmod(stat.S_IMODE(path.stat().st_mode))
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
