"""How a sharp picture becomes the small photo that somebody has: blur, reduction, noise, JPEG.

The paper's protocol is a clean bicubic reduction. What people have went through a lens, an unknown
filter, a sensor and a JPEG encoder, in this order. Training, evaluation, the page and its
laboratory make their LRs here.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from PIL import Image

from masa.config import SCALE
from masa.errors import UserError
from masa.pictures.photo import Pixels
from masa.pictures.resize import crop_to_multiple

Kernel = Literal["bicubic", "lanczos", "bilinear", "box"]
"""Antialiased reduction filters, as Pillow has them."""

Chroma = Literal["4:4:4", "4:2:0"]
"""Whether JPEG keeps colour at full resolution, or one value for 2x2 pixels."""

Degrade = Literal["off", "photo"]
"""What LRs are trained on: clean ones, or :data:`PHOTO`'s mixture."""

_RESAMPLING: dict[Kernel, Image.Resampling] = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True)
class Degradation:
    """One way from a sharp picture to its LR; the default is the paper's clean reduction.

    The order is blur, reduction, noise, JPEG. Raises ``UserError`` for values out of range.
    """

    blur: tuple[float, float] = (0.0, 0.0)
    """Standard deviations of a Gaussian along x and y before the reduction, in pixels of the LR."""
    kernel: Kernel = "bicubic"
    """The reduction's filter."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise, in levels of 255."""
    grey: bool = False
    """The noise is the same in all three channels."""
    quality: int | None = None
    """JPEG quality, 1 to 100; ``None`` for no compression."""
    chroma: Chroma = "4:2:0"
    """JPEG's colour resolution."""

    def __post_init__(self) -> None:
        if self.kernel not in get_args(Kernel):
            raise UserError(
                f"There is no filter '{self.kernel}': use {', '.join(get_args(Kernel))}."
            )
        if self.chroma not in get_args(Chroma):
            raise UserError(f"There is no sampling '{self.chroma}': use 4:4:4 or 4:2:0.")
        if not all(math.isfinite(sigma) and 0 <= sigma <= 4 for sigma in self.blur):
            raise UserError(
                "The blur is out of range: choose from 0 to 4 pixels of the small photo."
            )
        if not (math.isfinite(self.noise) and 0 <= self.noise <= 64):
            raise UserError("The noise is out of range: choose from 0 to 64 levels.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UserError("The JPEG quality is out of range: choose from 1 to 100.")

    @property
    def is_clean(self) -> bool:
        """Whether nothing but a bicubic reduction happens."""
        changed = any(self.blur) or self.noise or self.quality is not None
        return not changed and self.kernel == "bicubic"

    def in_words(self) -> str:
        """What happens to a sharp picture, in order: the rest of a sentence."""
        x, y = self.blur
        steps = [f"a blur of {x:g} x {y:g} pixels of the small photo"] * any(self.blur)
        steps += [f"{self.kernel} reduction"]
        steps += [f"noise of {self.noise:g} levels"] * bool(self.noise)
        if self.quality is not None:
            steps += [f"JPEG of quality {self.quality}"]
        return ", then ".join(steps)

    def reduce(self, hr: Pixels, rng: np.random.Generator) -> Pixels:
        """The LR ``(h, w, 3)`` of a picture ``(4h, 4w, 3)``, both uint8; ``rng`` draws the noise.

        Raises ``ValueError`` if a side is not a multiple of 4.
        """
        height, width = hr.shape[:2]
        if height % SCALE or width % SCALE:
            raise ValueError(f"{height} x {width} is not a multiple of {SCALE} on both sides")
        lr = Image.fromarray(_blurred(hr, *(SCALE * sigma for sigma in self.blur))).resize(
            (width // SCALE, height // SCALE), _RESAMPLING[self.kernel]
        )
        return self._after_reduction(np.array(lr), rng)

    def degrade_small(self, lr: Pixels, rng: np.random.Generator) -> Pixels:
        """The same on a photo ``(h, w, 3)`` that is small already: blur, noise and JPEG."""
        return self._after_reduction(_blurred(lr, *self.blur), rng)

    def _after_reduction(self, lr: Pixels, rng: np.random.Generator) -> Pixels:
        if self.noise:
            channels = 1 if self.grey else 3
            noise = rng.standard_normal((*lr.shape[:2], channels), np.float32)
            lr = np.rint(lr + np.float32(self.noise) * noise).clip(0, 255).astype(np.uint8)
        return lr if self.quality is None else jpeg(lr, self.quality, self.chroma)


CLEAN = Degradation()

PRESETS: dict[str, Degradation] = {
    "clean": CLEAN,
    "web JPEG 90": Degradation(quality=90),
    "web JPEG 75": Degradation(quality=75),
    "messenger JPEG 50": Degradation(quality=50),
    "camera": Degradation(noise=5, quality=85),
    "soft": Degradation(blur=(0.6, 0.6), quality=80),
}
"""Degradations worth a name; all but the first are what uploads look like."""


def lr_from_hr(
    hr: Pixels, degradation: Degradation = CLEAN, seed: int = 0
) -> tuple[Pixels, Pixels]:
    """Make the LR of a known HR picture ``(H, W, 3)``: ``(lr, hr)``.

    The HR is cropped at its bottom and right to multiples of 4. The default degradation, for which
    ``(H, W)`` may also be one plane of transparency, is antialiased bicubic reduction, the protocol
    that published numbers use. ``seed`` draws the noise.
    """
    hr = np.ascontiguousarray(crop_to_multiple(hr, SCALE))
    return degradation.reduce(hr, np.random.default_rng(seed)), hr


@dataclass(frozen=True)
class Mixture:
    """Ranges that training draws degradations from, each uniformly."""

    clean: float = 0.25
    """Share of samples that are only reduced, bicubically."""
    blurred: float = 0.5
    """Share of the others that are blurred."""
    blur: tuple[float, float] = (0.075, 0.6)
    """Pixels of the LR, drawn for x and y apart."""
    kernels: tuple[tuple[Kernel, float], ...] = (
        ("bicubic", 0.5),
        ("lanczos", 0.2),
        ("bilinear", 0.15),
        ("box", 0.15),
    )
    """Reduction filters and their shares."""
    noisy: float = 0.5
    """Share of the others with noise."""
    noise: tuple[float, float] = (0.0, 8.0)
    """Levels of 255."""
    grey: float = 0.4
    """Share of the noise that is the same in all channels."""
    compressed: float = 0.7
    """Share of the others that pass through JPEG."""
    quality: tuple[int, int] = (35, 95)
    """JPEG quality, both ends included."""
    full_chroma: float = 0.5
    """Share of JPEGs with colour at full resolution."""
    ref_compressed: float = 0.25
    """Share of references that are JPEGs."""
    ref_quality: tuple[int, int] = (85, 95)
    """JPEG quality of these."""

    def draw(self, rng: np.random.Generator) -> Degradation:
        """A random degradation of the LR."""
        if rng.random() < self.clean:
            return CLEAN
        blur = (0.0, 0.0)
        if rng.random() < self.blurred:
            blur = (float(rng.uniform(*self.blur)), float(rng.uniform(*self.blur)))
        kernels, shares = zip(*self.kernels, strict=True)
        kernel = kernels[int(rng.choice(len(kernels), p=shares))]
        noise = float(rng.uniform(*self.noise)) if rng.random() < self.noisy else 0.0
        grey = bool(rng.random() < self.grey)
        quality = None
        if rng.random() < self.compressed:
            quality = int(rng.integers(*self.quality, endpoint=True))
        chroma: Chroma = "4:4:4" if rng.random() < self.full_chroma else "4:2:0"
        return Degradation(blur, kernel, noise, grey, quality, chroma)

    def draw_ref(self, ref: Pixels, rng: np.random.Generator) -> Pixels:
        """The reference ``(H, W, 3)`` as a photo has it: as it is, or mildly compressed."""
        if rng.random() >= self.ref_compressed:
            return ref
        return jpeg(ref, int(rng.integers(*self.ref_quality, endpoint=True)), "4:2:0")


PHOTO = Mixture()
"""What ``train --degrade photo`` draws from."""


def preset_called(name: str) -> Degradation:
    """The preset of that name. Raises ``UserError``."""
    if name not in PRESETS:
        raise UserError(f"There is no degradation '{name}': use one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def jpeg(rgb: Pixels, quality: int, chroma: Chroma = "4:2:0") -> Pixels:
    """``(H, W, 3)`` after JPEG compression and decoding."""
    data = io.BytesIO()
    Image.fromarray(rgb).save(data, "JPEG", quality=quality, subsampling=chroma)
    return np.array(Image.open(data))


def _blurred(rgb: Pixels, sigma_x: float, sigma_y: float) -> Pixels:
    if not sigma_x and not sigma_y:
        return rgb
    # OpenCV takes a standard deviation of 0 for "as the other": a tiny one leaves that axis alone.
    x, y = max(sigma_x, 1e-3), max(sigma_y, 1e-3)
    blurred = cv2.GaussianBlur(rgb, (0, 0), x, sigmaY=y, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.uint8)
