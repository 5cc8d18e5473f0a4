"""Other sizes, and tensors: what stands between a decoded picture and the network.

The network sees a picture as a ``float32`` tensor of shape ``(1, 3, H, W)`` in [0, 1].
"""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from masa.config import SCALE
from masa.pictures.photo import Photo, Pixels


def reduce_x4(rgb: Pixels) -> Pixels:
    """``(4h, 4w, 3)`` -> ``(h, w, 3)``: Pillow's antialiased bicubic reduction, rounded to 8 bits.

    This makes the small photo and the reduced reference of the published protocol; also
    takes one plane, ``(4h, 4w)``. Raises ``ValueError`` if a side is not a multiple of 4.
    """
    height, width = plane_size(rgb)
    if height % SCALE or width % SCALE:
        raise ValueError(f"{height} x {width} is not a multiple of {SCALE} on both sides")
    return _resample(rgb, height // SCALE, width // SCALE, Image.Resampling.BICUBIC)


def enlarge_x4(pixels: Pixels) -> Pixels:
    """``(h, w, 3)`` -> ``(4h, 4w, 3)``: Pillow's bicubic enlargement; also takes one plane.

    The baseline that results are shown and measured against.
    """
    height, width = plane_size(pixels)
    return _resample(pixels, height * SCALE, width * SCALE, Image.Resampling.BICUBIC)


def resize_to_fit(photo: Photo, max_pixels: int) -> Photo:
    """The photo itself if it has at most ``max_pixels`` (> 0), else an antialiased reduction.

    The proportions are kept to within the rounding of the sides to whole pixels.
    """
    if max_pixels < 1:
        raise ValueError(f"max_pixels is {max_pixels}; it must be positive")
    if photo.height * photo.width <= max_pixels:
        return photo
    factor = (max_pixels / (photo.height * photo.width)) ** 0.5
    # Where one side cannot shrink below 1 pixel, the other gives way instead.
    height = min(max(1, int(photo.height * factor)), max_pixels)
    width = max(1, min(int(photo.width * factor), max_pixels // height))
    lanczos = Image.Resampling.LANCZOS
    rgb = _resample(photo.rgb, height, width, lanczos)
    alpha = None if photo.alpha is None else _resample(photo.alpha, height, width, lanczos)
    return replace(photo, rgb=rgb, alpha=alpha)


def crop_to_multiple(pixels: Pixels, multiple: int) -> Pixels:
    """The largest top-left part whose sides are multiples of ``multiple``.

    Of an array ``(H, W)`` or ``(H, W, C)``. A view, not a copy. Raises ``ValueError`` if a side is
    shorter than ``multiple``.
    """
    height, width = (side - side % multiple for side in pixels.shape[:2])
    if not height or not width:
        raise ValueError(f"{pixels.shape[:2]} is smaller than {multiple} on a side")
    return pixels[:height, :width]


def pad_replicate(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """An array grown to ``height`` x ``width`` by repeating its bottom row and right column.

    Takes ``(H, W)`` and ``(H, W, C)``. Raises ``ValueError`` if the array is already larger than
    that, or empty.
    """
    below, right = height - pixels.shape[0], width - pixels.shape[1]
    if below < 0 or right < 0:
        raise ValueError(f"{pixels.shape[:2]} does not fit into {(height, width)}")
    rest = [(0, 0)] * (pixels.ndim - 2)
    return np.pad(pixels, [(0, below), (0, right), *rest], mode="edge")


def plane_size(pixels: Pixels) -> tuple[int, int]:
    """``(H, W)`` of an 8-bit picture. Raises ``ValueError`` for other arrays."""
    plane_or_rgb = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not plane_or_rgb:
        raise ValueError(f"expected uint8 (H, W[, 3]), got {pixels.dtype} {pixels.shape}")
    return pixels.shape[0], pixels.shape[1]


def _resample(pixels: Pixels, height: int, width: int, resampling: Image.Resampling) -> Pixels:
    return np.array(Image.fromarray(pixels).resize((width, height), resampling))


def to_tensor(rgb: Pixels) -> torch.Tensor:
    """uint8 ``(H, W, 3)`` -> float32 ``(1, 3, H, W)`` in [0, 1] on the CPU, channels-last."""
    # The copy also takes read-only and flipped arrays, which torch cannot wrap. Moving the axis
    # leaves the values where they are, which is the layout that torch calls channels-last.
    planes = torch.from_numpy(np.array(rgb, order="C")).permute(2, 0, 1)[None]
    return planes.to(torch.float32).div_(255)


def to_uint8(picture: torch.Tensor) -> Pixels:
    """Floating point ``(3, H, W)`` or ``(1, 3, H, W)`` -> uint8 ``(H, W, 3)``.

    Clamped to [0, 1] and rounded to the nearest of the 256 levels (the even one at a tie), so it
    undoes ``to_tensor`` exactly. Raises ``ValueError`` for other shapes and for NaN.
    """
    planes = picture[0] if picture.ndim == 4 and len(picture) == 1 else picture
    if planes.ndim != 3 or planes.shape[0] != 3:
        raise ValueError(f"expected (3, H, W) or (1, 3, H, W), got {tuple(picture.shape)}")
    if planes.isnan().any():
        raise ValueError("the picture holds values that are not numbers")
    levels = planes.to("cpu", torch.float32).clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().numpy()
