"""What a picture is in this package, how large it may be, and the error if it cannot be used.

Behind :mod:`masa.pictures.read` every picture is an upright sRGB ``uint8`` array of shape
``(H, W, 3)``. Whatever a person hands in becomes one there, or is refused with an
:class:`ImageError` whose text can be shown to them as it is.
"""

import math
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from masa.config import SCALE
from masa.errors import UserError

Pixels = NDArray[np.uint8]

Role = Literal["small photo", "reference", "sharp photo"]


class ImageError(UserError):
    """A picture that cannot be used, or saved.

    The sentence names a file by its base name at most, and holds neither markup nor a path.
    """


@dataclass(frozen=True)
class Limits:
    """How large a picture may be; a public demo builds one with smaller numbers."""

    max_file_bytes: int = 40 * 2**20
    """Bytes of one file, compressed as it is."""
    max_pixels: int = 50_000_000
    """Pixels of any picture, read from its header before decoding."""
    min_lr_side: int = 8
    """Pixels; one matching block of the network."""
    min_ref_side: int = 16
    """Pixels; leaves 4 after the reduction to the low-resolution scale."""
    max_lr_pixels: int = 1024 * 1024
    """Pixels that are enlarged; time and memory grow with them."""
    max_ref_pixels: int = 4096 * 4096
    """Pixels to which a larger reference is reduced."""
    max_references: int = 5
    """References used together for one photo."""
    max_aspect: int = 32
    """Longest side divided by the shortest."""

    def side_and_pixels(self, role: Role) -> tuple[int, int]:
        """The smallest side and the largest number of pixels at which ``role`` is accepted."""
        if role == "small photo":
            return self.min_lr_side, min(self.max_pixels, self.max_lr_pixels)
        if role == "sharp photo":
            # It is reduced to a small photo, which then has to be acceptable.
            return SCALE * self.min_lr_side, self.max_pixels
        return self.min_ref_side, self.max_pixels

    @property
    def max_sharp_pixels(self) -> int:
        """Pixels to which a larger sharp photo is reduced before an LR is made of it."""
        return min(self.max_pixels, SCALE**2 * self.max_lr_pixels)


DEFAULT_LIMITS = Limits()

DATA_LIMITS = Limits(max_file_bytes=2**30, max_pixels=2**28, max_lr_pixels=2**24)
"""For a person's own folders of pictures, to train or to measure on."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded picture, upright and in sRGB."""

    rgb: Pixels
    """``(H, W, 3)``, C-contiguous, owned by this photo. Pixels that are fully transparent have the
    nearest visible colour."""
    alpha: Pixels | None = None
    """``(H, W)``, 0 transparent to 255 opaque; ``None`` if there was none."""
    name: str = ""
    """The file's base name, safe to show; empty if the source had no name."""
    notes: tuple[str, ...] = ()
    """What a person should know of how it was read, a sentence each."""
    exif: bytes | None = None
    """What the camera noted, as :mod:`masa.pictures.exif` cleans it."""

    @property
    def height(self) -> int:
        """Rows."""
        return self.rgb.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.rgb.shape[1]


Source = str | Path | bytes | Image.Image | np.ndarray | Photo
"""What can be read: a file or its bytes, a picture in memory, or what was read before."""


def check_size(
    size: tuple[int, int], role: Role, limits: Limits = DEFAULT_LIMITS, name: str = ""
) -> None:
    """Raises ``ImageError`` unless a picture of ``size`` (width, height) may serve as ``role``.

    ``name`` is the file name to mention, if any. References and sharp photos are accepted up to
    ``limits.max_pixels``; reducing them to what a run may take is the caller's step
    (:func:`masa.reference.views.read_reference`, :func:`masa.pictures.sharp.read_sharp`).
    """
    width, height = size
    min_side, max_pixels = limits.side_and_pixels(role)
    found = f"{picture_called(role, safe_name(name))} is {width} x {height} pixels"
    if min(size) < min_side:
        raise ImageError(
            f"{found}, but each side needs at least {min_side}; please choose a larger picture."
        )
    if width * height > max_pixels:
        side = math.isqrt(max_pixels)
        raise ImageError(
            f"{found}, but it may have at most {max_pixels:,} in all, about {side} x {side}; "
            "please choose a smaller picture or reduce this one."
        )
    if max(size) > limits.max_aspect * min(size):
        raise ImageError(
            f"{found}, but the long side may be at most {limits.max_aspect} times the short one; "
            "please crop it."
        )


def safe_name(path: str) -> str:
    """The base name of ``path``, at most 60 characters, all printable and none of them markup."""
    # Windows rules split at both kinds of slash, and names may come from a visitor's browser.
    base = PureWindowsPath(path).name
    base = "".join(char for char in base if char.isprintable() and char not in "<>&")
    return base if len(base) <= 60 else base[:59] + "…"


def picture_called(role: Role, name: str) -> str:
    """A picture as the subject of a sentence; ``name`` is a :func:`safe_name` or empty."""
    return f"The {role} '{name}'" if name else f"The {role}"
