"""From a visitor's inputs to a finished run, without any web framework."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.runs.zerogpu import device
from demo.settings import FEATURE_MEMORY, FEATURES, LIMITS, MEMORY, PIECE
from masa.config import SCALE, MASAConfig
from masa.errors import UserError
from masa.machine.cache import FeatureCache
from masa.machine.cost import executed_cost
from masa.machine.memory import Peak, measured_peak, memory_bound, memory_limit
from masa.network.model import SCALES
from masa.pictures.degradation import lr_from_hr, preset_called
from masa.pictures.metrics import psnr_y, ssim_y
from masa.pictures.photo import ImageError, Photo, Pixels, Source
from masa.pictures.read import picture_size, read_photo
from masa.pictures.sharp import read_sharp
from masa.pictures.shifts import PRESETS, RANGES, Shift
from masa.predictor import (
    MemoryNeededError,
    Predictor,
    Progress,
    Result,
    check_count,
    unwatched,
)
from masa.reference.alignment import SoughtLR
from masa.reference.canvas import View
from masa.reference.views import Reference, read_reference, see
from masa.weights import AUTO, choose_weights, load_model, shipped_weights


@dataclass(frozen=True)
class Request:
    """What a visitor asked for. Raises ``UserError`` for too many references, of which none is
    opened, and for an unknown degradation.

    ``auto`` is replaced at once by the name of the weights, so a request with ``auto`` and one with
    that name are equal.
    """

    photo: Source
    refs: tuple[Source, ...] = ()
    is_hr: bool = False
    """The photo is high-resolution: the LR is made from it, and the result can be measured."""
    weights: str = AUTO
    """Name of shipped weights; ``auto`` becomes the name that the photo decides for."""
    shift: Shift = field(default_factory=Shift)
    """Applied to every reference before it is used."""
    degradation: str = "clean"
    """Name of the preset by which the LR is made of an HR photo."""
    align: bool = True
    """References are also seen as the photo's camera would have; without, as in the paper."""

    def __post_init__(self) -> None:
        check_count(len(self.refs), LIMITS)
        preset_called(self.degradation)
        if self.weights == AUTO:  # a frozen dataclass sets its fields in this way
            object.__setattr__(self, "weights", self.auto)

    @property
    def auto(self) -> str:
        """Name of the weights that ``auto`` takes for this photo."""
        return choose_weights(preset_called(self.degradation).is_clean and self.is_hr)


@dataclass(frozen=True, eq=False)
class Prepared:
    """The pictures of a request, ready for the network."""

    lr: Photo
    """``(h, w)`` pixels, with the visitor's transparency."""
    refs: tuple[Reference, ...]
    """Reduced to what is allowed and shifted. If alignment is asked for, they are aligned from full
    size, or, where there is a shift, after that."""
    hr: Pixels | None
    """``(4h, 4w, 3)``: the known target, cropped as the LR was made; ``None`` if unknown."""
    notes: tuple[str, ...] = ()
    """How the LR was made of the photo, and how the references' light was changed, a sentence each;
    photo and references hold their own notes."""


def prepare(request: Request, progress: Progress = unwatched) -> Prepared:
    """Read the photo and make the LR of a sharp one; then read, reduce and shift each reference.

    If the request aligns, references are also seen in the LR's frame, at full size unless they are
    shifted. The only place where a visitor's pictures are decoded. At most one of them is held at
    its full size: call this only in a job that has its turn (:mod:`demo.runs.jobs`). ``progress``
    is called before each picture, and what it raises ends the work. Raises ``UserError``.
    """
    progress(0, "Opening the photo")
    hr = None
    if request.is_hr:
        lr = read_sharp(request.photo, LIMITS)
    else:
        lr = read_photo(request.photo, "small photo", LIMITS)
    notes: tuple[str, ...] = ()
    if request.is_hr:
        degradation = preset_called(request.degradation)
        rgb, hr = lr_from_hr(lr.rgb, degradation)
        if not degradation.is_clean:
            how = f"“{request.degradation}”, {degradation.in_words()}"
            notes = (f"The small photo was made from the sharp one by {how}.",)
        lr = replace(lr, rgb=rgb, alpha=None if lr.alpha is None else lr_from_hr(lr.alpha)[0])
    refs: list[Reference] = []
    sought = SoughtLR(lr.rgb)
    shifted = not request.shift.is_identity
    if shifted and request.refs:
        notes += (_light_words(request.shift, len(request.refs)),)
    for number, source in enumerate(request.refs, start=1):
        doing = "Opening and aligning" if request.align else "Opening"
        progress(0, f"{doing} reference {number}")
        seen_by = sought if request.align and not shifted else None
        ref = read_reference(source, number, LIMITS, seen_by)
        if shifted:
            rgb = request.shift.apply(ref.rgb).rgb
            if request.align:
                ref = see(rgb, number - 1, sought, LIMITS.max_ref_pixels, ref.notes)
            else:
                ref = replace(ref, plain=View(number - 1, rgb.shape[:2], rgb))
        refs.append(ref)
    return Prepared(lr, tuple(refs), hr, notes)


def _light_words(shift: Shift, references: int) -> str:
    """How the light of so many references was changed: a sentence."""
    words = [f"“{name}”" for name, preset in PRESETS.items() if preset == shift]
    words += [
        f"{name} {getattr(shift, name):g}"
        for name, (_, neutral, _) in RANGES.items()
        if getattr(shift, name) != neutral
    ]
    whose = "reference's" if references == 1 else "references'"
    return f"The {whose} light was changed: {', '.join(words)}."


@dataclass(frozen=True)
class Likeness:
    """How close a picture comes to the known HR, on Y, no border cropped."""

    psnr: float
    """Decibels; infinite for identical pictures."""
    ssim: float


def likeness(picture: Pixels, hr: Pixels) -> Likeness:
    """How close ``picture`` ``(H, W, 3)`` comes to ``hr`` of the same size."""
    return Likeness(psnr_y(picture, hr), ssim_y(picture, hr))


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A request and what came of it."""

    request: Request
    result: Result
    hr: Pixels | None
    """``(4H, 4W, 3)``: the known target, cropped as the LR was made."""
    config: MASAConfig
    """Of the network that ran."""
    peak: Peak | None = None
    """Memory of the run; ``None`` where nobody measured."""
    alpha: NDArray[np.uint8] | None = None
    """``(h, w)``: the LR's transparency, if it has any."""


def predictor_for(weights: str) -> Predictor:
    """The predictor with shipped ``weights``, loaded once and shared by all visitors.

    Raises ``UserError`` for other names: a page must not open files a visitor names.
    """
    if weights not in shipped_weights():
        raise UserError(f"Choose one of these weights: {', '.join(shipped_weights())}.")
    return _predictor(weights, device())


_FEATURES = FeatureCache(FEATURES, memory_bound(memory_limit(), FEATURE_MEMORY))


@lru_cache(maxsize=5)  # as many as a sweep compares
def _predictor(weights: str, device: str) -> Predictor:
    return Predictor(
        load_model(weights),
        device,
        limits=LIMITS,
        memory=memory_bound(memory_limit(), MEMORY),
        features=_FEATURES,
        largest=PIECE,
    )


DETAIL_PIXELS = 256 * 256
"""Largest LR whose features are kept at x4 too; of larger ones, at x1 and x2 only.

Fewer scales are kept where the memory of a run does not allow for them.
"""


def run(request: Request, progress: Progress, keep: bool = False) -> FinishedRun:
    """Prepare the pictures and enlarge; ``keep`` keeps the features that figures show.

    Raises ``UserError`` with a sentence for the visitor.
    """
    predictor = predictor_for(request.weights)
    prepared = prepare(request, progress)
    lr = prepared.lr
    scales: tuple[int, ...] = ()
    if keep:
        scales = SCALES if lr.height * lr.width <= DETAIL_PIXELS else SCALES[:2]
    with measured_peak(predictor.device) as peak:
        while True:
            try:
                result = predictor.upscale_photos(
                    lr, prepared.refs, progress, scales, request.align
                )
                break
            except MemoryNeededError:
                if len(scales) < 2:
                    raise
                scales = scales[:-1]  # fewer scales can be looked at, but there is a picture
    result = replace(result, notes=prepared.notes + result.notes)
    return FinishedRun(request, result, prepared.hr, predictor.config, peak, lr.alpha)


def expected_work(request: Request) -> int:
    """About how many multiply-adds a request takes, from its pictures' headers; 0 if unreadable."""
    try:
        sizes = [
            picture_size(Path(str(source)), strangers=True)
            for source in (request.photo, *request.refs)
        ]
    except ImageError:  # read_photo will say what is wrong with it
        return 0
    (width, height), *refs = sizes
    factor = SCALE if request.is_hr else 1
    if request.is_hr:  # a larger one is reduced first
        factor *= max(1, (width * height / LIMITS.max_sharp_pixels) ** 0.5)
    rows, columns = (max(int(side / factor) // 8 * 8, 16) for side in (height, width))
    lr = rows, columns
    pixels = sum(min(w * h, LIMITS.max_ref_pixels) for w, h in refs) // SCALE**2
    if request.align:
        pixels += len(refs) * lr[0] * lr[1]  # each may also be read in the photo's frame
    down = (max(pixels // lr[1], lr[0]), lr[1]) if refs else lr
    return executed_cost(lr, down).total
