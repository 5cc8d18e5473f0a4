"""Colours that a HEIC or AVIF file describes by numbers ("nclx") instead of a profile (ICC).

The numbers are those of ITU-T H.273. libheif tells where the primaries lie that they stand for;
with these, a profile is made, which is applied as any other. Every curve is taken for sRGB's, from
which the others differ little, except for those of HDR.
"""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

_UNSAID, _SRGB = 2, 1
_HDR = (16, 18)  # the curves "PQ" and "HLG"

_Places = list[tuple[float, float]]
"""CIE x and y of red, green, blue and white."""

_SRGB_PLACES: _Places = [(0.64, 0.33), (0.3, 0.6), (0.15, 0.06), (0.3127, 0.329)]


def profile_of(info: Mapping[Any, Any]) -> object:
    """The profile in a decoded picture's ``info``, or else one made of its "nclx" numbers.

    ``None`` without any, and for numbers that say sRGB, nothing, or primaries of another white.
    """
    profile, numbers = info.get("icc_profile"), info.get("nclx_profile")
    if profile or not numbers or numbers["color_primaries"] in (_UNSAID, _SRGB):
        return profile
    places = [
        (numbers[f"color_primary_{name}_x"], numbers[f"color_primary_{name}_y"])
        for name in ("red", "green", "blue", "white")
    ]
    same_white = np.allclose(places[3], _SRGB_PLACES[3], atol=1e-4)
    return _profile_with(places) if same_white else None


def holds_hdr(info: Mapping[Any, Any]) -> bool:
    """Whether a decoded picture has the "nclx" numbers of HDR, and no profile that replaces them.

    To show it right, its wide range would have to be fitted into that of a usual screen.
    """
    numbers = None if info.get("icc_profile") else info.get("nclx_profile")
    return numbers is not None and numbers["transfer_characteristics"] in _HDR


def _profile_with(places: _Places) -> bytes:
    """The sRGB profile with primaries at other ``places``, whose white is sRGB's."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (tags,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * tag) for tag in range(tags))
    values = {name: start + 8 for name, start, _ in entries}  # behind the type
    starts = [values[name] for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    # The profile holds them as seen in another white, D50: so will it those at other places.
    srgb = np.stack([struct.unpack_from(">3i", profile, start) for start in starts], axis=1)
    others = srgb @ np.linalg.inv(_light(_SRGB_PLACES)) @ _light(places)
    for start, column in zip(starts, others.T, strict=True):
        struct.pack_into(">3i", profile, start, *map(round, column.tolist()))
    return bytes(profile)


def _light(places: _Places) -> NDArray[np.float64]:
    """(3, 3): CIE XYZ of full red, green and blue as columns, which make a white of Y = 1."""
    *primaries, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in places)
    columns = np.stack(primaries, axis=1)
    return columns * np.linalg.solve(columns, white)
