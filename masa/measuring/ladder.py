"""Ladders of changes to a reference or to the photo, to see how far a network goes along.

Spatial adaptation promises steadiness against luminance and colour
(:mod:`masa.pictures.shifts`). The other families are what it does not promise: there matching
breaks, sooner or later. The last families leave the reference alone and degrade the photo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Literal

import cv2
import numpy as np
from PIL import Image

from masa.errors import UserError
from masa.pictures.degradation import Degradation, jpeg
from masa.pictures.photo import Pixels
from masa.pictures.shifts import RANGES, Shift, Shifted, count_clipped

NOISE_SEED = 0

Changed = Literal["the reference", "the photo"]
"""What a family changes; the photo is the LR, or how it is made if the sharp photo is known."""


@dataclass(frozen=True, eq=False)
class Substitutes:
    """Pictures ``(H, W, 3)`` that may stand in for a reference."""

    other: Pixels | None = None
    """A photo of something else."""
    hr: Pixels | None = None
    """The sharp photo itself."""


Substitute = Literal["other", "hr"]
"""One of :class:`Substitutes` by name."""


Change = Callable[[Pixels, Substitutes], Shifted]
"""A reference or photo ``(H, W, 3)`` to its changed copy."""


@dataclass(frozen=True)
class Rung:
    """One change of a reference or of the photo."""

    family: str
    value: float
    title: str
    change: Change
    keeps_places: bool = True
    """See :attr:`Family.keeps_places`."""
    changes: Changed = "the reference"
    aligns: bool = False
    """See :attr:`Family.aligns`."""
    replaced_by: Substitute | None = None
    """See :attr:`Family.replaced_by`."""

    def check(self, substitutes: Substitutes) -> None:
        """Raises ``UserError`` if the picture that should stand in for the reference is not
        known."""
        if self.replaced_by is not None and getattr(substitutes, self.replaced_by) is None:
            missing = "sharp photo" if self.replaced_by == "hr" else "other photo"
            raise UserError(
                f"There is no {missing} to replace the reference: choose another change."
            )

    def apply(self, rgb: Pixels, substitutes: Substitutes | None = None) -> Shifted:
        """The changed copy of ``(H, W, 3)``, with the number of clipped pixels.

        Raises ``UserError`` as :meth:`check` does.
        """
        substitutes = substitutes or Substitutes()
        self.check(substitutes)
        return self.change(rgb, substitutes)


@dataclass(frozen=True)
class Family:
    """One way to change a reference or the photo, more and more."""

    name: str
    unit: str
    """What its values count, in words for an axis."""
    low: float
    neutral: float
    """The value that changes nothing."""
    high: float
    change: Callable[[Pixels, float, Substitutes], Shifted]
    """As :data:`Change` for a value that is not neutral."""
    is_light: bool = False
    """Luminance or colour: what spatial adaptation is for."""
    keeps_places: bool = True
    """What a pixel shows stays where it is, so that matched places can be compared."""
    changes: Changed = "the reference"
    aligns: bool = False
    """Turned, nearer or farther: what alignment is for, so it is measured with and without."""
    replaced_by: Substitute | None = None
    """What stands in for the reference; there is nothing between ``low`` and ``high`` then."""

    def values(self, count: int) -> tuple[float, ...]:
        """``count`` (3 or more) values from ``low`` to ``high``, the neutral one included.

        They are evenly apart below and above it. Where the reference is replaced, they are two.
        Raises ``UserError``.
        """
        if count < 3:
            raise UserError(f"{count} values are too few for a curve: choose 3 or more.")
        if self.replaced_by is not None:
            return self.low, self.high
        if self.neutral == self.low:
            return _even(self.low, self.high, count)
        below = (count - 1) // 2
        lower = _even(self.low, self.neutral, below + 1)
        return (*lower[:-1], *_even(self.neutral, self.high, count - below))

    def rung(self, value: float) -> Rung:
        """The change by ``value``; the neutral one gives an equal copy.

        Raises ``UserError`` for what is no number or out of range.
        """
        if not isfinite(value) or not self.low <= value <= self.high:
            raise UserError(
                f"The change '{self.name}' by {value:g} is not offered: choose a value from "
                f"{self.low:g} to {self.high:g}."
            )

        def change(rgb: Pixels, substitutes: Substitutes) -> Shifted:
            if value == self.neutral:
                return Shifted(rgb.copy())
            return self.change(rgb, value, substitutes)

        return Rung(
            self.name,
            value,
            f"{self.name} {value:g}",
            change,
            self.keeps_places,
            self.changes,
            self.aligns,
            self.replaced_by,
        )

    def rungs(self, values: Iterable[float]) -> list[Rung]:
        """One for each value, the neutral one left out."""
        return [self.rung(value) for value in values if value != self.neutral]


NAMED = "named changes"
"""What stands for a family where single shifts of light are compared, counted from 1."""


def named_rungs(shifts: Mapping[str, Shift]) -> list[Rung]:
    """Shifts by name as rungs; those that change nothing are left out."""
    changing = {name: shift for name, shift in shifts.items() if not shift.is_identity}
    return [
        Rung(NAMED, float(number), name, lambda rgb, _, shift=shift: shift.apply(rgb))  # type: ignore[misc]
        for number, (name, shift) in enumerate(changing.items(), start=1)
    ]


def _even(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in np.linspace(low, high, count))


# ---------------------------------------------------------------------------- changes


_ByValue = Callable[[Pixels, float, Substitutes], Shifted]


def _light(name: str) -> _ByValue:
    def change(rgb: Pixels, value: float, _: Substitutes) -> Shifted:
        return Shift(**{name: value}).apply(rgb)

    return change


def _plain(change: Callable[[Pixels, float], Pixels]) -> _ByValue:
    """For changes in which nothing can be clipped."""

    def changed(rgb: Pixels, value: float, _: Substitutes) -> Shifted:
        return Shifted(np.ascontiguousarray(change(rgb, value)))

    return changed


def rotated(rgb: Pixels, degrees: float, whole: bool = False) -> Pixels:
    """A picture ``(H, W, 3)``, turned counter-clockwise about its middle.

    The size stays, so corners are cut off; ``whole`` makes it larger instead, so that nothing is.
    What turns in from outside is mirrored: black corners would be a change of their own.
    """
    height, width = rgb.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    size = width, height
    if whole:
        cos, sin = np.abs(turn[0, :2])
        size = round(width * cos + height * sin), round(width * sin + height * cos)
        turn[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    return np.asarray(
        cv2.warpAffine(rgb, turn, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101),
        np.uint8,
    )


def scaled(rgb: Pixels, factor: float, whole: bool = False) -> Pixels:
    """A picture ``(H, W, 3)``, antialiased, ``factor`` times as long and as wide.

    About the middle, in a picture of unchanged size: above 1 its edges are cut off, below 1 the
    outside is mirrored. ``whole`` changes the size instead, and cuts nothing off.
    """
    height, width = rgb.shape[:2]
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if factor > 1 and not whole:
        half = width / factor / 2, height / factor / 2
        box = (width / 2 - half[0], height / 2 - half[1], width / 2 + half[0], height / 2 + half[1])
        return np.array(
            Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC, box=box)
        )
    resized = np.array(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC))
    if whole:
        return resized
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    around = [(top, height - size[1] - top), (left, width - size[0] - left), (0, 0)]
    return np.pad(resized, around, mode="symmetric")


def _translate(rgb: Pixels, pixels: float) -> Pixels:
    """Right and down by whole pixels; what comes in is mirrored."""
    by = round(pixels)
    padded = np.pad(rgb, [(by, 0), (by, 0), (0, 0)], mode="symmetric")
    return padded[: rgb.shape[0], : rgb.shape[1]]


def _blur(rgb: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma), np.uint8)


def _noise(rgb: Pixels, deviation: float, _: Substitutes) -> Shifted:
    noise = np.random.default_rng(NOISE_SEED).standard_normal(rgb.shape, np.float32)
    levels = np.rint(rgb + np.float32(deviation) * noise)
    return Shifted(levels.clip(0, 255).astype(np.uint8), *count_clipped(levels < 0, levels > 255))


def _compress(rgb: Pixels, compression: float) -> Pixels:
    return jpeg(rgb, round(100 - compression))


def _replace(which: Substitute, rgb: Pixels, _: float, substitutes: Substitutes) -> Shifted:
    found: Pixels = getattr(substitutes, which)
    return Shifted(found.copy())


def _degraded(degradation: Callable[[float], Degradation]) -> _ByValue:
    """The LR made from the sharp photo where that is known, else the LR degraded further."""

    def change(lr: Pixels, value: float, substitutes: Substitutes) -> Shifted:
        how, rng = degradation(value), np.random.default_rng(NOISE_SEED)
        hr = substitutes.hr
        return Shifted(how.degrade_small(lr, rng) if hr is None else how.reduce(hr, rng))

    return change


_PHOTO_FAMILIES = (
    Family(
        "photo jpeg",
        "compression of the photo: 100 − quality",
        0,
        0,
        95,
        _degraded(lambda value: Degradation(quality=round(100 - value))),
        changes="the photo",
    ),
    Family(
        "photo noise",
        "standard deviation in levels of 255",
        0,
        0,
        32,
        _degraded(lambda value: Degradation(noise=value)),
        changes="the photo",
    ),
    Family(
        "photo blur",
        "standard deviation in pixels of the small photo",
        0,
        0,
        2,
        _degraded(lambda value: Degradation(blur=(value, value))),
        changes="the photo",
    ),
)

_REPLACING: tuple[tuple[str, Substitute], ...] = (("other photo", "other"), ("HR itself", "hr"))

_UNITS = {
    "gain": "factor on all levels",
    "offset": "levels of 255 added",
    "contrast": "factor on the distance to middle grey",
    "gamma": "exponent",
    "temperature": "cool (−) to warm (+)",
    "saturation": "factor on the distance to grey",
}

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *(
            Family(name, _UNITS[name], *RANGES[name], _light(name), is_light=True)
            for name in ("gain", "offset", "gamma", "temperature", "saturation", "contrast")
        ),
        Family("rotation", "degrees", 0, 0, 90, _plain(rotated), keeps_places=False, aligns=True),
        Family(
            "scale", "factor on lengths", 0.5, 1, 2, _plain(scaled), keeps_places=False, aligns=True
        ),
        Family("shift", "pixels right and down", 0, 0, 64, _plain(_translate), keeps_places=False),
        Family("blur", "standard deviation in pixels", 0, 0, 4, _plain(_blur)),
        Family("noise", "standard deviation in levels of 255", 0, 0, 40, _noise),
        Family("jpeg", "compression: 100 − quality", 0, 0, 95, _plain(_compress)),
        *(
            Family(
                name,
                "0: the reference, 1: replaced",
                0,
                0,
                1,
                partial(_replace, which),
                keeps_places=False,
                replaced_by=which,
            )
            for name, which in _REPLACING
        ),
        *_PHOTO_FAMILIES,
    )
}
"""Every family by name: light and colour first, then what spatial adaptation does not promise, then
those that change the photo."""

LIGHT = tuple(name for name, family in FAMILIES.items() if family.is_light)
"""Names of the families of luminance and colour."""

ALIGNING = tuple(name for name, family in FAMILIES.items() if family.aligns)
"""Names of the families that are measured with alignment too."""


def changed_by(family: str) -> Changed:
    """What the family of that name changes; ``named changes`` are of the reference's light."""
    return "the reference" if family == NAMED else FAMILIES[family].changes


def family_called(name: str) -> Family:
    """The family of that name. Raises ``UserError``."""
    if name not in FAMILIES:
        raise UserError(f"There is no change '{name}': choose one of {', '.join(FAMILIES)}.")
    return FAMILIES[name]
