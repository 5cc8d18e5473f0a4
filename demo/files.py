"""Pictures as files that the page serves and, after a while, deletes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import cv2
from gradio.utils import get_upload_folder

from masa.images import Pixels


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
    one name; Gradio deletes it when it is old.
    """
    folder = Path(get_upload_folder()) / hashlib.blake2b(data, digest_size=16).hexdigest()
    path = folder / name
    if path.exists():
        os.utime(path)  # still in use: age counts from here
        return str(path)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{os.getpid()}-{os.urandom(4).hex()}"
    partial.write_bytes(data)
    os.replace(partial, path)
    return str(path)


def serve_png(rgb: Pixels, name: str = "picture.png", alpha: Pixels | None = None) -> str:
    """:func:`serve` for a picture."""
    return serve(png(rgb, alpha), name)
