"""From a visitor's inputs to a finished run, without any web framework."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.runs.zerogpu import device
from demo.settings import FEATURE_MEMORY, FEATURES, LIMITS, MEMORY, PIECE
from masa.config import SCALE, MASAConfig
from masa.errors import UserError
from masa.machine.cache import FeatureCache
from masa.machine.cost import executed_cost
from masa.machine.memory import Peak, measured_peak
from masa.network.model import SCALES
from masa.pictures.degradation import lr_from_hr, preset_called
from masa.pictures.metrics import psnr_y, ssim_y
from masa.pictures.photo import Pixels, Role, Source
from masa.pictures.read import read_photo
from masa.pictures.shifts import Shift, Shifted
from masa.predictor import MemoryNeededError, Predictor, Progress, Result
from masa.weights import DEFAULT_WEIGHTS, load_model, shipped_weights


@dataclass(frozen=True)
class Request:
    """What a visitor asked for."""

    photo: Source
    refs: tuple[Source, ...] = ()
    is_hr: bool = False
    """The photo is high-resolution: the LR is made from it, and the result can be measured."""
    weights: str = DEFAULT_WEIGHTS
    shift: Shift = field(default_factory=Shift)
    """Applied to every reference before it is used."""
    degradation: str = "clean"
    """Name of the preset by which the LR is made of an HR photo."""

    def digest(self) -> bytes:
        """Equal for requests with equal files and settings. Raises ``OSError``."""
        parts = [repr((self.is_hr, self.weights, self.shift, self.degradation)).encode()]
        for source in (self.photo, *self.refs):
            parts.append(Path(source).read_bytes() if isinstance(source, (str, Path)) else b"")
        lengths = repr([len(part) for part in parts]).encode()
        return hashlib.blake2b(b"".join([lengths, *parts]), digest_size=16).digest()


@dataclass(frozen=True)
class Score:
    """Likeness to the known HR on Y, no border cropped."""

    psnr: float
    """Decibels; infinite for identical pictures."""
    ssim: float


def score(picture: Pixels, hr: Pixels) -> Score:
    """How close ``picture`` ``(H, W, 3)`` comes to ``hr`` of the same size."""
    return Score(psnr_y(picture, hr), ssim_y(picture, hr))


@dataclass(frozen=True, eq=False)
class Run:
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


_FEATURES = FeatureCache(FEATURES, FEATURE_MEMORY)


@lru_cache(maxsize=4)
def _predictor(weights: str, device: str) -> Predictor:
    return Predictor(
        load_model(weights), device, limits=LIMITS, memory=MEMORY, features=_FEATURES, largest=PIECE
    )


DETAIL_PIXELS = 256 * 256
"""Largest LR whose features are kept at x4 too; of larger ones, at x1 and x2 only.

Fewer scales are kept where the memory of a run does not allow for them.
"""


def run(request: Request, progress: Progress, keep: bool = False) -> Run:
    """Decode, check, shift and enlarge; ``keep`` keeps the features that figures show.

    Raises ``UserError`` with a sentence for the visitor.
    """
    predictor = predictor_for(request.weights)
    role: Role = "high-resolution photo" if request.is_hr else "low-resolution photo"
    photo = read_photo(request.photo, role, predictor.limits)
    lr, alpha, hr = photo.rgb, photo.alpha, None
    if request.is_hr:
        lr, hr = lr_from_hr(photo.rgb, preset_called(request.degradation))
        alpha = None if alpha is None else lr_from_hr(alpha)[0]
    refs = request.refs
    if not request.shift.is_identity:
        refs = tuple(shifted.rgb for shifted in shift_references(request))
    scales: tuple[int, ...] = ()
    if keep:
        scales = SCALES if lr.shape[0] * lr.shape[1] <= DETAIL_PIXELS else SCALES[:2]
    pixels = lr if alpha is None else np.dstack((lr, alpha))
    with measured_peak(predictor.device) as peak:
        while True:
            try:
                result = predictor.upscale(pixels, refs, progress, scales)
                break
            except MemoryNeededError:
                if len(scales) < 2:
                    raise
                scales = scales[:-1]  # rather less to look at than no picture
    return Run(request, result, hr, predictor.config, peak, alpha)


def expected_work(request: Request) -> int:
    """About how many multiply-adds a request takes, from its pictures' headers; 0 if unreadable."""
    sizes = []
    for source in (request.photo, *request.refs):
        try:
            with Image.open(str(source)) as picture:
                sizes.append(picture.size)
        except Exception:  # what is wrong with it is found, and said, by who reads it
            return 0
    (width, height), *refs = sizes
    factor = SCALE if request.is_hr else 1
    lr = max(height // factor // 8 * 8, 16), max(width // factor // 8 * 8, 16)
    pixels = sum(min(w * h, LIMITS.max_ref_pixels) for w, h in refs) // SCALE**2
    down = (max(pixels // lr[1], lr[0]), lr[1]) if refs else lr
    return executed_cost(lr, down).total


def shift_references(request: Request) -> list[Shifted]:
    """The references after the shift, with the number of clipped pixels. Raises ``UserError``."""
    limits = predictor_for(request.weights).limits
    return [request.shift.apply(read_photo(ref, "reference", limits).rgb) for ref in request.refs]
