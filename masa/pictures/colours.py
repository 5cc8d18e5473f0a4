"""Colours that a HEIC or AVIF file describes by numbers ("nclx") instead of a profile (ICC).

The numbers are those of ITU-T H.273. For those that are common beside sRGB's, Display P3 and
BT.2020, a profile is made, which is applied as any other. Every curve is taken for sRGB's, from
which the others differ little, except for those of HDR.
"""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

# CIE x and y of red, green, blue and white, of which all three have the same (H.273, table 2).
_WHITE = (0.3127, 0.329)
_SRGB = ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06), _WHITE)
_OTHERS = {
    9: ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046), _WHITE),
    12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), _WHITE),
}

_Places = tuple[tuple[float, float], ...]
_HDR = (16, 18)  # the curves "PQ" and "HLG" (H.273, table 3)


def profile_of(info: Mapping[Any, Any]) -> object:
    """The profile in a decoded picture's ``info``, or else one made of its "nclx" numbers.

    ``None`` without any, and where no other profile than sRGB's could be made.
    """
    profile = info.get("icc_profile")
    places = _OTHERS.get(_number(info, "color_primaries"))
    return profile if profile or places is None else _profile_with(places)


def holds_hdr(info: Mapping[Any, Any]) -> bool:
    """Whether a decoded picture has the "nclx" numbers of HDR, and no profile that replaces them.

    To show it right, its wide range would have to be fitted into that of a usual screen.
    """
    return not info.get("icc_profile") and _number(info, "transfer_characteristics") in _HDR


def _number(info: Mapping[Any, Any], name: str) -> int:
    return (info.get("nclx_profile") or {}).get(name, 2)  # 2: it is not said


def _profile_with(places: _Places) -> bytes:
    """The sRGB profile with primaries at other ``places``."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (tags,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * tag) for tag in range(tags))
    values = {name: start + 8 for name, start, _ in entries}  # behind the type
    starts = [values[name] for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    # The profile holds them as seen in another white, D50: so will it those at other places.
    srgb = np.stack([struct.unpack_from(">3i", profile, start) for start in starts], axis=1)
    others = srgb @ np.linalg.inv(_light(_SRGB)) @ _light(places)
    for start, column in zip(starts, others.T, strict=True):
        struct.pack_into(">3i", profile, start, *map(round, column.tolist()))
    return bytes(profile)


def _light(places: _Places) -> NDArray[np.float64]:
    """(3, 3): CIE XYZ of full red, green and blue as columns, which make a white of Y = 1."""
    *primaries, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in places)
    columns = np.stack(primaries, axis=1)
    return columns * np.linalg.solve(columns, white)
