"""From a visitor's inputs to a finished run, without any web framework."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from demo.settings import LIMITS, MEMORY
from masa.canvas import lr_from_hr
from masa.config import SCALE, MASAConfig
from masa.errors import UserError
from masa.images import Photo, Pixels, Source, crop_to_multiple, read_photo, reduce_x4
from masa.metrics import psnr_y, ssim_y
from masa.predictor import Predictor, Progress, Result
from masa.weights import DEFAULT_WEIGHTS, load_model, shipped_weights


@dataclass(frozen=True)
class Request:
    """What a visitor asked for."""

    photo: Source
    refs: tuple[Source, ...] = ()
    is_hr: bool = False
    """The photo is high-resolution: the LR is made from it, and the result can be measured."""
    weights: str = DEFAULT_WEIGHTS


@dataclass(frozen=True)
class Score:
    """Likeness to the known HR on Y, no border cropped."""

    psnr: float
    """Decibels; infinite for identical pictures."""
    ssim: float | None
    """``None`` for pictures under 11 pixels a side."""


@dataclass(frozen=True, eq=False)
class Run:
    """A request and what came of it."""

    request: Request
    result: Result
    hr: Pixels | None
    """``(4H, 4W, 3)``: the known target, cropped as the LR was made."""
    config: MASAConfig
    """Of the network that ran."""

    def score(self, picture: Pixels) -> Score | None:
        """How close ``picture`` ``(4H, 4W, 3)`` comes to the HR; ``None`` if that is unknown."""
        if self.hr is None:
            return None
        measurable = min(picture.shape[:2]) >= 11
        return Score(psnr_y(picture, self.hr), ssim_y(picture, self.hr) if measurable else None)


@lru_cache(maxsize=4)
def predictor_for(weights: str) -> Predictor:
    """The predictor with shipped ``weights``, loaded once and shared by all visitors.

    Raises ``UserError`` for other names: a page must not open files a visitor names.
    """
    if weights not in shipped_weights():
        raise UserError(f"Choose one of these weights: {', '.join(shipped_weights())}.")
    return Predictor(load_model(weights), limits=LIMITS, memory=MEMORY)


def run(request: Request, progress: Progress, keep: Collection[int] = ()) -> Run:
    """Decode, check and enlarge. Raises ``UserError`` with a sentence for the visitor."""
    predictor = predictor_for(request.weights)
    if not request.is_hr:
        result = predictor.upscale(request.photo, request.refs, progress, keep)
        return Run(request, result, None, predictor.config)
    photo = read_photo(request.photo, "high-resolution photo", predictor.limits)
    lr, hr = lr_from_hr(photo.rgb)
    result = predictor.upscale(_with_alpha(lr, photo), request.refs, progress, keep)
    return Run(request, result, hr, predictor.config)


def _with_alpha(lr: Pixels, photo: Photo) -> Pixels:
    if photo.alpha is None:
        return lr
    alpha = reduce_x4(np.ascontiguousarray(crop_to_multiple(photo.alpha, SCALE)))
    return np.dstack((lr, alpha))
