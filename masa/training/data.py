"""Training pairs: crops of a picture and of a reference for it, and their x4 reductions.

Everything random about a sample is drawn from a generator seeded with (seed, epoch, index), so a
run that is resumed, or split over processes, sees exactly the samples of one that is not.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from masa.errors import UserError
from masa.pictures.degradation import PHOTO, Degrade, lr_from_hr
from masa.pictures.folders import find_pairs
from masa.pictures.photo import DATA_LIMITS, ImageError, Pixels, Role
from masa.pictures.read import picture_size, read_photo
from masa.pictures.resize import reduce_x4, to_tensor
from masa.pictures.shifts import random_luminance
from masa.reference.alignment import align_reference

Orient = Literal["apart", "together", "off"]

CROP_MULTIPLE = 32
"""A crop's side is a multiple of this: LR crops are whole blocks of 8 pixels."""

_NONE_READABLE = "None of the training pictures can be read: check the folder."
_ALIGNS = 1  # tells the generator for alignment from the sample's
_HARD_CANDIDATES = 4  # windows of which the most textured is taken


class Sample(NamedTuple):
    """One training example (or a batch of them); RGB float32 in [0, 1]."""

    lr: Tensor
    """``(3, crop / 4, crop / 4)``."""
    ref: Tensor
    """``(3, crop, crop)``."""
    ref_down: Tensor
    """``(3, crop / 4, crop / 4)``: ``ref``, reduced like ``lr``."""
    hr: Tensor
    """``(3, crop, crop)``: the truth."""


@dataclass(frozen=True)
class Augmentation:
    """How samples are varied.

    The defaults are the paper's, with two exceptions: its pairs are no larger than its crops, so it
    had no ``ref_jitter``, and it turned nothing in its first 30 epochs or so and in the full stage.
    """

    swap: bool = True
    """Picture and reference change roles in half of the samples."""
    luminance: bool = True
    """Gain and offset on the reference, or as often on the picture."""
    orient: Orient = "apart"
    """Flips and quarter turns: drawn for picture and reference apart, together, or off. Matching
    finds no rotated patches, so a pair that is turned apart shares little more than texture."""
    ref_jitter: int = 16
    """The reference's window lies where the picture's does, moved by at most so many pixels each
    way: large enough that copying from the same place fails, small enough that most content is
    in both."""
    hard: float = 0.0
    """Share of samples whose window is the most textured of four."""
    degrade: Degrade = "off"
    """LRs are clean reductions, as in the paper, or ``photo``: like what people upload."""
    align: float = 0.0
    """Share of samples whose whole reference is first aligned with the whole picture, as for any
    run; one in which nothing in common is found stays as it is."""

    def __post_init__(self) -> None:
        if self.orient not in get_args(Orient):
            raise UserError(
                f"There is no orientation '{self.orient}': use {', '.join(get_args(Orient))}."
            )
        if self.degrade not in get_args(Degrade):
            raise UserError(f"There is no degradation '{self.degrade}': use off or photo.")
        if self.ref_jitter < 0:
            raise UserError(f"The reference's jitter is {self.ref_jitter}: give 0 or more pixels.")
        for name, share in (("hard crops", self.hard), ("aligned references", self.align)):
            if not 0 <= share <= 1:
                raise UserError(f"The share of {name} is {share}: give a number from 0 to 1.")


class PairDataset(Dataset[Sample]):
    """The pairs ``folder/input/NAME.*`` with ``folder/ref/NAME.*``, addressed by (epoch, index).

    With ``cache``, all pictures are decoded at once and kept in memory (3 bytes a pixel); damaged
    ones are dropped with a warning. Without, they are read when they are needed, and the next
    pair stands in for a damaged one. Pairs smaller than the crop are left out with a warning.
    Raises ``UserError`` for a folder without usable pairs, for a picture without its partner and
    for a crop that is no multiple of 32.
    """

    def __init__(
        self,
        folder: str | Path,
        crop: int = 160,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache: bool = True,
    ) -> None:
        if crop < CROP_MULTIPLE or crop % CROP_MULTIPLE:
            raise UserError(f"The crop must be a multiple of {CROP_MULTIPLE} pixels, not {crop}.")
        self.crop = crop
        self.augmentation = augmentation or Augmentation()
        self.seed = seed
        self.pairs = self._large_enough(find_pairs(Path(folder)))
        self._cached: list[tuple[Pixels, Pixels]] | None = None
        if cache:
            self._decode_all()

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """The sample of pair ``index`` in ``epoch``, always the same for a given seed."""
        epoch, index = key
        picture, reference = self._load(index)
        rng = np.random.default_rng((self.seed, epoch, index))
        # A generator of its own: all else about a sample is drawn as without alignment.
        own = np.random.default_rng((self.seed, epoch, index, _ALIGNS))
        align = own.random() < self.augmentation.align
        hr, ref = augmented_crops(picture, reference, self.crop, self.augmentation, rng, align)
        if self.augmentation.degrade == "photo":
            # Drawn last, so that all else about a sample is as without degradation.
            lr = PHOTO.draw(rng).reduce(hr, rng)
            ref = PHOTO.draw_ref(ref, rng)
        else:
            lr = reduce_x4(hr)
        ref_down = reduce_x4(ref)
        return Sample(*(to_tensor(image)[0] for image in (lr, ref, ref_down, hr)))

    def _large_enough(self, pairs: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
        """The pairs that the crop fits into, by their headers."""
        sizes = {pair: [_size(path) for path in pair] for pair in pairs}
        readable = {pair: [s for s in both if s] for pair, both in sizes.items() if all(both)}
        fitting = [pair for pair, both in readable.items() if min(map(min, both)) >= self.crop]
        if not readable:
            raise UserError(_NONE_READABLE)
        if not fitting:
            raise UserError(
                f"All pictures are smaller than the crop of {self.crop} pixels: choose a smaller "
                "crop."
            )
        if len(fitting) < len(readable):
            warnings.warn(
                f"{len(readable) - len(fitting)} pairs are smaller than the crop of {self.crop} "
                "pixels and are left out",
                stacklevel=3,
            )
        return fitting

    def _decode_all(self) -> None:
        # Decoders release Python's lock, so threads suffice.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            decoded = list(pool.map(_read_pair, self.pairs))
        self.pairs = [pair for pair, images in zip(self.pairs, decoded, strict=True) if images]
        self._cached = [images for images in decoded if images]
        if not self.pairs:
            raise UserError(_NONE_READABLE)

    def _load(self, index: int) -> tuple[Pixels, Pixels]:
        if self._cached is not None:
            return self._cached[index]
        for step in range(len(self.pairs)):
            images = _read_pair(self.pairs[(index + step) % len(self.pairs)])
            if images:
                return images
        raise UserError(_NONE_READABLE)


class SampleStream(Sampler[tuple[int, int]]):
    """The endless sequence of (epoch, index), shuffled anew each epoch, from sample ``start``."""

    def __init__(self, count: int, seed: int = 0, start: int = 0) -> None:
        self.count, self.seed, self.start = count, seed, start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, position = divmod(self.start, self.count)
        while True:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.count)
            for index in order[position:]:
                yield epoch, int(index)
            epoch, position = epoch + 1, 0


def augmented_crops(
    picture: Pixels,
    reference: Pixels,
    crop: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
    align: bool = False,
) -> tuple[Pixels, Pixels]:
    """Crops (HR, Ref), each uint8 ``(crop, crop, 3)``, of two pictures at least that large.

    With ``align``, the whole reference is aligned with the whole picture's clean LR before it is
    cropped.
    """
    if augmentation.swap and rng.random() < 0.5:
        picture, reference = reference, picture
    if align and (view := align_reference(lr_from_hr(picture)[0], reference)) is not None:
        reference = view.rgb
    top, left = _draw_corner(picture, crop, augmentation.hard, rng)
    hr = picture[top : top + crop, left : left + crop]
    top, left = (
        _partner_offset(offset, side, ref_side, crop, augmentation.ref_jitter, rng)
        for offset, side, ref_side in zip((top, left), picture.shape, reference.shape, strict=False)
    )
    ref = reference[top : top + crop, left : left + crop]
    # Drawn in any case: samples are the same with and without changes of light, but for them.
    shift, of_reference = random_luminance(rng), rng.random() < 0.5
    if augmentation.luminance and of_reference:
        ref = shift.apply(ref).rgb
    elif augmentation.luminance:
        hr = shift.apply(hr).rgb
    if augmentation.orient != "off":
        turn = int(rng.integers(8))
        hr = _oriented(hr, turn)
        ref = _oriented(ref, int(rng.integers(8)) if augmentation.orient == "apart" else turn)
    return np.ascontiguousarray(hr), np.ascontiguousarray(ref)


def _draw_corner(
    picture: Pixels, crop: int, hard: float, rng: np.random.Generator
) -> tuple[int, int]:
    """(Top, left) of a random window, in a share ``hard`` of cases of a textured one."""
    count = _HARD_CANDIDATES if hard and rng.random() < hard else 1
    height, width = picture.shape[:2]
    corners = [
        (int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1)))
        for _ in range(count)
    ]
    if count == 1:
        return corners[0]
    green = picture[:, :, 1].astype(np.int16)
    return max(
        corners, key=lambda c: gradient_energy(green[c[0] : c[0] + crop, c[1] : c[1] + crop])
    )


def gradient_energy(plane: NDArray[np.int16]) -> float:
    """Mean absolute difference of neighbouring levels of a plane ``(H, W)``."""
    return float(np.abs(np.diff(plane, axis=0)).mean() + np.abs(np.diff(plane, axis=1)).mean())


def _partner_offset(
    offset: int, side: int, ref_side: int, crop: int, jitter: int, rng: np.random.Generator
) -> int:
    """Where along one axis the reference's window starts: at the same relative place, jittered."""
    room, ref_room = side - crop, ref_side - crop
    place = round(offset * ref_room / room) if room else ref_room // 2
    place += int(rng.integers(-jitter, jitter + 1))
    return min(max(place, 0), ref_room)


def _oriented(image: Pixels, turn: int) -> Pixels:
    """One of the 8 flips and quarter turns, as a view."""
    image = np.rot90(image, turn % 4)
    return image[:, ::-1] if turn >= 4 else image


def _size(path: Path) -> tuple[int, int] | None:
    """(Width, height) from a picture's header; ``None``, with a warning, if it has none."""
    try:
        return picture_size(path)
    except ImageError as error:
        warnings.warn(f"A picture is left out: {error}", stacklevel=2)
        return None


def _read_pair(pair: tuple[Path, Path]) -> tuple[Pixels, Pixels] | None:
    """Both pictures, decoded; ``None``, with a warning, if one is damaged."""
    roles: tuple[Role, Role] = ("sharp photo", "reference")
    try:
        picture, reference = (
            read_photo(path, role, DATA_LIMITS).rgb for path, role in zip(pair, roles, strict=True)
        )
    except ImageError as error:
        warnings.warn(f"A training pair is left out: {error}", stacklevel=2)
        return None
    return picture, reference
