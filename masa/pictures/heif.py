"""HEIC and HEIF, the files of phones, decoded by pi-heif (libheif and libde265).

pi-heif is called directly: its plugin for Pillow would change what ``Image.open`` does for all of
a process. Of several pictures in a file the primary one is taken. libheif turns it upright, as
the file's own boxes say, and applies the matrix and range of its colours; an orientation in EXIF
repeats those boxes and is therefore ignored.
"""

from typing import Any

import numpy as np
import pi_heif
from PIL import Image

from masa.pictures.avif import is_told_in_text
from masa.pictures.levels import to_levels


def is_heif(data: bytes) -> bool:
    """Whether a file's first bytes say HEIC or HEIF. AVIF has the same container: it is not meant.

    Both may begin with the brand "mif1"; an AVIF file then lists its own brand further on.
    """
    brands = data[8 : int.from_bytes(data[:4], "big")][:256]
    return pi_heif.is_supported(data[:12]) and not {b"avif", b"avis"} & {
        brands[i : i + 4] for i in range(0, len(brands), 4)
    }


def open_heif(data: bytes) -> pi_heif.HeifFile:
    """The file with its header read and no pixel decoded: it has ``size``, (width, height)."""
    if not is_told_in_text(data):  # pi-heif 1.4 crashes on others
        raise ValueError("an item's kind is no text")
    return pi_heif.open_heif(data, convert_hdr_to_8bit=False, hdr_to_16bit=False)


def decode_heif(file: pi_heif.HeifFile) -> Image.Image:
    """The upright picture with 8 bits a channel; its ``info`` has ``icc_profile``, or
    ``nclx_profile``, and ``exif``."""
    info: dict[str, Any] = file.info
    values = np.asarray(file)
    mode = file.mode.partition(";")[0]  # "RGB;10" has 10 bits a channel
    levels = to_levels(values, 2 ** info["bit_depth"] - 1)
    if mode == "RGBa":  # colours multiplied by alpha
        image = Image.frombytes("RGBa", file.size, levels.tobytes()).convert("RGBA")
    else:
        image = Image.fromarray(levels)
    names = ("icc_profile", "nclx_profile", "exif")
    image.info.update({name: info[name] for name in names if info.get(name)})
    return image
