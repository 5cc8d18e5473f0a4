"""Pictures as files that the page serves and, after a while, deletes.

They lie in Gradio's temporary folder, beside what visitors upload. All of it together has a quota.
"""

from __future__ import annotations

import atexit
import errno
import filecmp
import hashlib
import logging
import math
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import cv2

from demo.runs.examples import load_examples
from demo.settings import KEEP_SECONDS, SPARED_SECONDS, TEMPORARY
from masa.errors import UserError
from masa.machine.memory import give_back
from masa.pictures.photo import Pixels

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

FULL = "The page's disk is full: please try again in a few minutes."

FILE_BYTES = 2**16
"""What each file counts beside its bytes, in the quota and of a visitor's allowance: it takes a
place on the disk, of which there are only so many."""

_RECOUNT = 5.0  # seconds after which the folder is counted again, as Gradio writes there too
_LOG_AGAIN = 600.0  # seconds for which a full disk is not logged again
_DIGEST = re.compile("[0-9a-f]{32}|[0-9a-f]{64}")  # folders of this page, and of Gradio
_UPLOADING = re.compile(r"tmp[a-z0-9_]{8}")  # Gradio's name of an upload until it is whole
_LOCK = "lock"
_LONGEST_PATH = 1000  # characters


def png(rgb: Pixels, alpha: Pixels | None = None) -> bytes:
    """Lossless PNG of ``(H, W, 3)`` uint8, compressed lightly: a visitor is waiting."""
    picture = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if alpha is not None:
        picture = cv2.merge((*cv2.split(picture), alpha))
    # On photos and maps, the fastest settings that do not make larger files.
    fast = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    fast += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH]
    _, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 2, *fast])
    return data.tobytes()


# ---------------------------------------------------------------------------- the folder


def folder() -> Path:
    """The folder that Gradio serves from, and writes uploads to."""
    # Imported here, as Gradio must not be imported before use_own_folder was called.
    from gradio.utils import get_upload_folder

    return Path(get_upload_folder())


def use_own_folder() -> None:
    """Let uploads and results lie in a folder of this process alone, which goes when it ends.

    What processes left that were killed is removed. A folder that ``GRADIO_TEMP_DIR`` names already
    is used, and stays.
    """
    if os.environ.get("GRADIO_TEMP_DIR"):
        return
    remove_leftovers()
    own = Path(tempfile.mkdtemp(prefix="masa-"))
    _claim(own)
    (own / "files").mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(own / "files")
    atexit.register(shutil.rmtree, own, ignore_errors=True)


def _claim(own: Path) -> None:
    """Locks a file in the folder for as long as this process lives, however it ends.

    A process' number would not do: in containers that share a folder it names another process.
    """
    if fcntl is None:
        return
    # Under its own name only once it is locked: nobody may find it unlocked.
    file = os.open(own / "new", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    os.rename(own / "new", own / _LOCK)


def remove_leftovers() -> None:
    """Remove the folders of this user's processes that ended without removing them."""
    if fcntl is None:
        return
    for own in Path(tempfile.gettempdir()).glob("masa-*"):
        try:
            found = own.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            file = os.open(own / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # no folder of this page, or gone already
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(own, ignore_errors=True)
        except BlockingIOError:  # its process lives
            continue
        finally:
            os.close(file)


def is_served(path: str) -> bool:
    """Whether a path lies in the folder that the page serves from, where uploads are."""
    if len(path) > _LONGEST_PATH:  # of which to look at each part would take long
        return False
    return Path(path).resolve().is_relative_to(folder().resolve())


def in_use(path: str) -> None:
    """Let a served file's age count from now. Raises ``OSError`` if it was deleted."""
    if is_served(path):
        with _USING:
            os.utime(path)


def files() -> set[Path]:
    """All files in the folder that the page serves from."""
    # A walk, as a glob fails if others make and remove folders meanwhile.
    return {Path(top, name) for top, _, names in os.walk(folder()) for name in names}


# ---------------------------------------------------------------------------- writing


def serve(data: bytes, name: str) -> str:
    """Path of a file called ``name`` with these bytes, inside the folder that Gradio serves from.

    The subfolder's name is a digest of the bytes, so no two visitors can get each other's file
    under one name; it is removed by :func:`delete_old`. Raises ``UserError`` if the disk is
    full.
    """
    place = folder() / hashlib.blake2b(data, digest_size=16).hexdigest()
    path = place / name
    with _USING, suppress(FileNotFoundError):
        os.utime(path)  # still in use: age counts from here
        return str(path)
    _QUOTA.take(len(data) + FILE_BYTES)
    partial = place / f".{os.getpid()}-{os.urandom(4).hex()}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if (sentence := full_disk(error)) is None:
            raise
        raise UserError(sentence) from None
    return str(path)


def serve_png(rgb: Pixels, name: str = "picture.png", alpha: Pixels | None = None) -> str:
    """:func:`serve` for a picture."""
    return serve(png(rgb, alpha), name)


_logged = -_LOG_AGAIN


def full_disk(error: OSError) -> str | None:
    """What to say if ``error`` means that the disk is full, which is logged; else ``None``."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    _log_full("The disk under %s is full.", folder())
    return FULL


def _log_full(words: str, *values: object) -> None:
    """Logs once in a while: visitors may try again many times."""
    global _logged
    if time.monotonic() - _logged > _LOG_AGAIN:
        _logged = time.monotonic()
        log.warning(words, *values)


class Quota:
    """Bounds what the served folder holds: uploads, results, figures and archives together."""

    def __init__(self, most: int = TEMPORARY) -> None:
        """``most``: bytes; never more than half of what is free when the folder is first used."""
        self._most = most
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._limit = self._used = 0
        self._counted = 0.0
        self._since: dict[Path, float] = {}  # when each file was first seen
        self.kept: frozenset[Path] = frozenset()
        """Files that are not deleted."""

    def room(self, wanted: int = 0) -> int:
        """Bytes that may still be written.

        If these are fewer than ``wanted``, files that nobody used in the last ``SPARED_SECONDS``,
        or that are there for ``KEEP_SECONDS``, are deleted before, those first that were not used
        for longest, until there is as much room or no such file left.
        """
        with self._lock:
            return self._make_room(wanted)

    def take(self, size: int) -> None:
        """Make room as :meth:`room` does for ``size`` bytes that are about to be written.

        Raises ``UserError`` if there is too little.
        """
        with self._lock:
            if self._make_room(size) < size:
                raise UserError(FULL)
            self._used += size

    def _make_room(self, wanted: int) -> int:
        if self._room() < wanted:
            self._delete(wanted - self._room())
        if self._room() < wanted:
            _log_full("The quota of %s, %d bytes, is used up.", self._folder, self._limit)
        return self._room()

    def _room(self) -> int:
        own = folder()
        own.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(own).free
        if own != self._folder:
            self._folder, self._limit = own, min(self._most, free // 2)
            self._counted = -_RECOUNT
        if time.monotonic() - self._counted > _RECOUNT:
            self._counted = time.monotonic()
            found = _by_age()
            self._used = sum(size for _, size, _ in found)
            self._since = {path: self._since.get(path, self._counted) for *_, path in found}
        return max(0, min(self._limit - self._used, free))

    def _delete(self, size: int) -> None:
        """Delete at least ``size`` bytes of old files, if there are as many."""
        for time_used, bytes_of_it, path in _by_age():
            if size <= 0:
                return
            # If all that is in use were spared, one visitor could fill the disk for ever.
            is_new = time.monotonic() - self._since.get(path, math.inf) < KEEP_SECONDS
            if is_new and time.time() - time_used < SPARED_SECONDS:
                continue
            if path not in self.kept and _remove(path, time_used):
                size -= bytes_of_it
                self._used -= bytes_of_it


_QUOTA = Quota()


def room(wanted: int = 0) -> int:
    """Bytes that uploads and results may still take, after :meth:`Quota.room` made some."""
    return _QUOTA.room(wanted)


def _by_age() -> list[tuple[float, int, Path]]:
    """Time of last use, counted bytes and path of all files, the oldest first."""
    found = []
    for path in files():
        try:
            status = path.stat()
        except OSError:  # deleted meanwhile
            continue
        found.append((status.st_mtime, status.st_size + FILE_BYTES, path))
    return sorted(found)


_USING = threading.Lock()
"""Held while a file is found to be old and deleted, or found to be there and used again."""


def _remove(path: Path, used: float) -> bool:
    """Whether the file, last used at the time ``used``, was not used since and could be deleted.

    Its subfolder goes too if nothing else is in it.
    """
    try:
        with _USING:
            if path.stat().st_mtime != used:
                return False
            path.unlink()
    except OSError:  # gone already
        return False
    try:
        if path.parent != folder():
            path.parent.rmdir()
    except OSError:  # it holds, or just got, another file
        pass
    return True


# ---------------------------------------------------------------------------- deleting


def delete_old(
    age: float, keep: Collection[Path] = (), clock: Callable[[], float] = time.time
) -> None:
    """Delete files that nobody wrote or asked for again in the last ``age`` seconds."""
    for time_used, _, path in _by_age():
        if clock() - time_used > age and path not in keep:
            _remove(path, time_used)


def delete_old_for_ever(
    age: float,
    keep: Collection[Path] = (),
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
) -> NoReturn:
    """:func:`delete_old` once a minute for ever, or four times in ``age`` seconds if that is less.

    So a file goes at most a minute after it has become too old. Memory that is free by then is
    given back too.
    """
    while True:
        delete_old(age, keep, clock)
        give_back()
        sleep(min(60.0, age / 4))


def delete_old_in_background(age: float) -> None:
    """:func:`delete_old_for_ever` for as long as the process lives, in a thread.

    The examples stay. So do files that lie there now and are not this page's: those outside of
    subfolders that are named by a digest, but for uploads that were cut off. What an earlier
    process left is deleted like everything else.
    """
    _QUOTA.kept = keep = frozenset(
        path for path in files() if not _is_the_pages(path) or _is_example(path)
    )

    threading.Thread(
        target=delete_old_for_ever, args=(age, keep), name="delete-old", daemon=True
    ).start()


def _is_the_pages(path: Path) -> bool:
    """Whether this page, or an earlier process of it, wrote a file in the folder."""
    cut_off = path.parent == folder() and _UPLOADING.fullmatch(path.name)
    return bool(cut_off or _DIGEST.fullmatch(path.parent.name))


def _is_example(path: Path) -> bool:
    """Whether a file is Gradio's copy of an example's picture."""
    pictures = (picture for e in load_examples() for picture in (e.photo, *e.refs))
    return any(
        picture.name == path.name and filecmp.cmp(picture, path, shallow=False)
        for picture in pictures
    )
