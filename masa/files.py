"""Files that are whole at any time."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that at any time, and after a crash, the old or the new one is there, whole.

    A link is followed; what is no file, such as ``/dev/stdout``, is written to as it is. Raises
    ``OSError`` where the folder or the disk does not take it; then the old file remains.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    path = path.resolve()
    # In the same folder, because only there a rename cannot turn into a copy.
    partial = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or a crash could leave the new name without the new bytes
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
