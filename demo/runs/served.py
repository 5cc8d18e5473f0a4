"""Pictures as files that the page serves and, after a while, deletes."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Collection
from pathlib import Path

import cv2

from masa.machine.memory import give_back
from masa.pictures.photo import Pixels


def folder() -> Path:
    """The folder that Gradio serves from, and writes uploads to."""
    # Imported here, as Gradio must not be imported before use_own_folder was called.
    from gradio.utils import get_upload_folder

    return Path(get_upload_folder())


def png(rgb: Pixels, alpha: Pixels | None = None) -> bytes:
    """Lossless PNG of ``(H, W, 3)`` uint8, compressed lightly: a visitor is waiting."""
    picture = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if alpha is not None:
        picture = cv2.merge((*cv2.split(picture), alpha))
    # Of zlib's strategies this is the fastest, and on photos and maps no larger than the others.
    strategy = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    _, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 2, *strategy])
    return data.tobytes()


def serve(data: bytes, name: str) -> str:
    """Path of a file called ``name`` with these bytes, inside the folder that Gradio serves from.

    The folder's name is a digest of the bytes, so no two visitors can get each other's file under
    one name; :func:`sweep` deletes it when it is old.
    """
    place = folder() / hashlib.blake2b(data, digest_size=16).hexdigest()
    path = place / name
    if path.exists():
        os.utime(path)  # still in use: age counts from here
        return str(path)
    place.mkdir(parents=True, exist_ok=True)
    partial = place / f".{os.getpid()}-{os.urandom(4).hex()}"
    partial.write_bytes(data)
    os.replace(partial, path)
    return str(path)


def serve_png(rgb: Pixels, name: str = "picture.png", alpha: Pixels | None = None) -> str:
    """:func:`serve` for a picture."""
    return serve(png(rgb, alpha), name)


def is_served(path: str) -> bool:
    """Whether a path lies in the folder that the page serves from, where uploads are."""
    return Path(path).resolve().is_relative_to(folder().resolve())


def in_use(path: str) -> None:
    """Let an uploaded file's age count from now. Raises ``OSError`` if it was deleted."""
    if is_served(path):
        os.utime(path)


def use_own_folder() -> None:
    """Let uploads and results lie in a folder of this process alone, which goes when it ends.

    A folder that ``GRADIO_TEMP_DIR`` names already is used, and left.
    """
    if not os.environ.get("GRADIO_TEMP_DIR"):
        own = tempfile.mkdtemp(prefix="masa-")
        os.environ["GRADIO_TEMP_DIR"] = own
        atexit.register(shutil.rmtree, own, ignore_errors=True)


def files() -> set[Path]:
    """All files in the folder that the page serves from."""
    # Unlike a glob, a walk does not mind that others make and remove folders meanwhile.
    return {Path(top, name) for top, _, names in os.walk(folder()) for name in names}


def sweep(age: float, keep: Collection[Path] = ()) -> None:
    """Delete files that nobody wrote or asked for again in the last ``age`` seconds."""
    for path in files().difference(keep):
        try:
            if time.time() - path.stat().st_mtime > age:
                path.unlink()
                path.parent.rmdir()
        except OSError:  # gone already, or the folder holds or just got another file
            continue


def sweep_in_background(age: float) -> None:
    """:func:`sweep` now and then for as long as the process lives; what is there now stays.

    Memory that is free by then is given back too.
    """
    keep = files()  # the examples

    def work() -> None:
        while True:
            time.sleep(min(60.0, age / 4))
            sweep(age, keep)
            give_back()

    threading.Thread(target=work, name="sweep", daemon=True).start()
