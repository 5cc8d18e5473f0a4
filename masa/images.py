"""The one place that converts files, colours, ranges and sizes.

Everything behind this module sees a picture as an upright sRGB ``uint8`` array of shape
``(H, W, 3)``; the network sees it as a ``float32`` tensor of shape ``(1, 3, H, W)`` in [0, 1].
Whatever a person hands in becomes the former in :func:`read_photo`, or is refused with an
:class:`ImageError` whose text can be shown to them as it is.
"""

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from masa.config import SCALE
from masa.errors import UserError
from masa.files import write_whole

__all__ = [
    "DATA_LIMITS",
    "DEFAULT_LIMITS",
    "WRITTEN",
    "ImageError",
    "Limits",
    "Photo",
    "Role",
    "check_size",
    "crop_to_multiple",
    "encode",
    "enlarge_x4",
    "pad_replicate",
    "pictures_in",
    "read_photo",
    "reduce_x4",
    "resize_to_fit",
    "to_tensor",
    "to_uint8",
    "write_photo",
]

Pixels = NDArray[np.uint8]
Role = Literal["low-resolution photo", "reference", "high-resolution photo"]


class ImageError(UserError):
    """A picture that cannot be used, or saved.

    The sentence names a file by its base name at most, and holds neither markup nor a path.
    """


@dataclass(frozen=True)
class Limits:
    """How large a picture may be; a public demo builds one with smaller numbers."""

    max_file_bytes: int = 40 * 2**20  # bytes of one file, compressed as it is
    max_pixels: int = 50_000_000  # pixels of any picture, read from its header before decoding
    min_lr_side: int = 8  # pixels; one matching block of the network
    min_ref_side: int = 16  # pixels; leaves 4 after the reduction to the low-resolution scale
    max_lr_pixels: int = 1024 * 1024  # pixels that are enlarged; time and memory grow with them
    max_ref_pixels: int = 4096 * 4096  # a larger reference is fine: see `resize_to_fit`
    max_references: int = 5  # references used together for one photo
    max_aspect: int = 32  # longest side divided by the shortest

    def side_and_pixels(self, role: Role) -> tuple[int, int]:
        """The smallest side and the largest number of pixels at which `role` is accepted."""
        if role == "low-resolution photo":
            return self.min_lr_side, min(self.max_pixels, self.max_lr_pixels)
        if role == "high-resolution photo":
            # It is reduced to a low-resolution photo, which then has to be acceptable.
            most = min(self.max_pixels, SCALE**2 * self.max_lr_pixels)
            return SCALE * self.min_lr_side, most
        return self.min_ref_side, self.max_pixels


DEFAULT_LIMITS = Limits()

DATA_LIMITS = Limits(max_file_bytes=2**30, max_pixels=2**28, max_lr_pixels=2**24)
"""For a person's own folders of pictures, to train or to measure on."""

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def pictures_in(folder: Path) -> list[Path]:
    """Files of a folder that are named like pictures, sorted by name.

    Raises ``UserError`` if the folder cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    except OSError as error:
        raise UserError(
            f"The folder '{folder}' cannot be read ({error.strerror}): check that it is there and "
            "may be read."
        ) from None


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded picture, upright and in sRGB."""

    rgb: Pixels  # (H, W, 3), C-contiguous, owned by this photo
    alpha: Pixels | None = None  # (H, W), 0 transparent .. 255 opaque; None if there was none
    name: str = ""  # the file's base name, safe to show; empty if the source had no name

    @property
    def height(self) -> int:
        """Rows."""
        return self.rgb.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.rgb.shape[1]


# ---------------------------------------------------------------------------- reading

Source = str | Path | bytes | Image.Image | np.ndarray

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_FORMATS_IN_WORDS = "JPEG, PNG, WebP, BMP, TIFF or GIF"

_TURN_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The colour spaces an embedded profile can speak about; every other mode goes through RGB.
_PROFILE_MODE = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}


def read_photo(source: Source, role: Role = "reference", limits: Limits = DEFAULT_LIMITS) -> Photo:
    """Reads one picture, whatever it is stored as, into an upright 8-bit sRGB photo.

    `source` is a file (path), the bytes of one, a Pillow image or an array. Files may be JPEG,
    PNG, WebP, BMP, TIFF or GIF, recognised by content; of an animation or a document the first
    picture is taken. EXIF orientation and the colour profile are applied (an unusable profile is
    ignored), transparency is kept apart as `alpha`, and deeper pixels are scaled to 8 bits, never
    clipped. 32-bit grey holds no scale of its own: the smallest of 0..1 (fractions only), 0..255
    and 0..65535 that holds every value is taken.

    An array has the shape (H, W), (H, W, 3) or (H, W, 4) and is uint8, uint16 (0..65535), bool or
    floating point in [0, 1].

    The limits are checked on the header, before any pixel is decoded. Pillow's own limit,
    ``PIL.Image.MAX_IMAGE_PIXELS``, is left as it is and still applies where it is the lower one.

    Raises ImageError for every picture that cannot be used, and TypeError for another `source`.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, role, limits)
    if isinstance(source, Image.Image):
        name = _safe_name(str(getattr(source, "filename", "")))
        return _from_image(source, name, role, limits)
    if isinstance(source, bytes):
        name, data = "", source
    elif isinstance(source, (str, Path)):
        name = _safe_name(str(source))
        data = _read_file(Path(source), _subject(role, name), limits.max_file_bytes)
    else:
        raise TypeError(f"a photo cannot be read from {type(source).__name__}")

    subject = _subject(role, name)
    if not data:
        raise ImageError(f"{subject} is an empty file; please choose another one.")
    if len(data) > limits.max_file_bytes:
        most = limits.max_file_bytes / 2**20
        raise ImageError(
            f"{subject} is a file of more than {most:.3g} MB; please choose a smaller one."
        )
    with _as_image_errors(subject):
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    return _from_image(image, name, role, limits)


def check_size(
    size: tuple[int, int], role: Role, limits: Limits = DEFAULT_LIMITS, name: str = ""
) -> None:
    """Raises ImageError unless a picture of `size` (width, height) may serve as `role`.

    `name` is the file name to mention, if any. A reference is accepted up to `limits.max_pixels`;
    reducing it to `limits.max_ref_pixels` is the caller's step (`resize_to_fit`).
    """
    width, height = size
    min_side, max_pixels = limits.side_and_pixels(role)
    found = f"{_subject(role, _safe_name(name))} is {width} x {height} pixels"
    if min(size) < min_side:
        raise ImageError(
            f"{found}, but each side needs at least {min_side}; please choose a larger picture."
        )
    if width * height > max_pixels:
        side = math.isqrt(max_pixels)
        raise ImageError(
            f"{found}, but it may have at most {max_pixels:,} in all, about {side} x {side}; "
            "please choose a smaller picture or reduce this one."
        )
    if max(size) > limits.max_aspect * min(size):
        raise ImageError(
            f"{found}, but the long side may be at most {limits.max_aspect} times the short one; "
            "please crop it."
        )


def _safe_name(path: str) -> str:
    """The base name of `path`, at most 60 characters, all printable and none of them markup."""
    # Windows rules split at both kinds of slash, and names may come from a visitor's browser.
    base = PureWindowsPath(path).name
    base = "".join(char for char in base if char.isprintable() and char not in "<>&")
    return base if len(base) <= 60 else base[:59] + "…"


def _subject(role: Role, name: str) -> str:
    return f"The {role} '{name}'" if name else f"The {role}"


def _read_file(path: Path, subject: str, max_bytes: int) -> bytes:
    """The file's bytes, or its first `max_bytes` + 1, enough to know that it is too large."""
    try:
        if path.is_dir():
            raise ImageError(f"{subject} is a folder; please choose a picture file.")
        if not path.is_file():  # neither are pipes and devices, which could block or never end
            raise ImageError(f"{subject} was not found; please check the file name.")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except OSError as error:
        raise ImageError(
            f"{subject} could not be opened; please check that it may be read."
        ) from error


@contextmanager
def _as_image_errors(subject: str) -> Iterator[None]:
    """Turns whatever a decoder raises into an ImageError about `subject`.

    Decoders meet arbitrary bytes here, and on those they raise nearly every built-in exception,
    so nothing narrower than Exception would keep the promise.
    """
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{subject} cannot be read; please choose an undamaged {_FORMATS_IN_WORDS} picture."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageError(
            f"{subject} has too many pixels to be opened here; please choose a smaller picture."
        ) from error
    except Exception as error:
        raise ImageError(
            f"{subject} is damaged or incomplete; please choose another copy of it."
        ) from error


def _from_image(image: Image.Image, name: str, role: Role, limits: Limits) -> Photo:
    check_size(image.size, role, limits, name)
    subject = _subject(role, name)
    with _as_image_errors(subject):
        tags: Mapping[int, Any] = getattr(image, "tag_v2", {})  # only TIFF has them
        _check_tiff_layout(tags, subject, limits)
        image.load()
        profile = image.info.get("icc_profile")
        image = _upright(image)
        if image.mode == "F" or image.mode.startswith("I"):
            colour, alpha = _deep_grey(image, tags, subject)
        else:
            colour, alpha = _split_alpha(image)
        return Photo(np.array(_to_srgb(colour, profile)), alpha, name)


def _check_tiff_layout(tags: Mapping[int, Any], subject: str, limits: Limits) -> None:
    """Refuses the TIFF layouts that the size of the picture does not give away."""
    # A small picture may be stored in one enormous tile, which the decoder would unpack whole.
    tile = tags.get(TiffImagePlugin.TILEWIDTH, 0) * tags.get(TiffImagePlugin.TILELENGTH, 0)
    if tile > limits.max_pixels:
        raise Image.DecompressionBombError(f"{tile} pixels in one tile")
    # Pillow reads these as if they had 8 bits, which gives noise.
    if (
        tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2
        and tags.get(TiffImagePlugin.COMPRESSION) == 1
        and max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8
    ):
        raise ImageError(
            f"{subject} is a TIFF with deep colours in separate planes; please save it as PNG."
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _TURN_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF data should not cost the visitor the picture
        turn = None
    return image if turn is None else image.transpose(turn)


def _deep_grey(
    image: Image.Image, tags: Mapping[int, Any], subject: str
) -> tuple[Image.Image, Pixels | None]:
    """8-bit grey and alpha of a picture whose grey is deeper than 8 bits."""
    values = np.asarray(image)
    full: float
    if image.mode == "F":
        full = _full_scale(values, (1, 255, 65535), subject)
    elif image.mode == "I":
        full = _full_scale(values, (255, 65535), subject)
    else:
        full = 2 ** tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0] - 1
    grey = _to_levels(values, full)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        grey = 255 - grey  # 0 is white; Pillow turns only the shallower ones round
    key = image.info.get("transparency")  # the one grey value that PNG declares transparent
    alpha = np.where(values == key, 0, 255).astype(np.uint8) if isinstance(key, int) else None
    return Image.fromarray(grey), alpha


def _full_scale(values: np.ndarray, scales: tuple[float, ...], subject: str) -> float:
    """The first of the ascending `scales` s for which all values lie in 0..s."""
    low, high = values.min(), values.max()
    for scale in scales:
        if low >= 0 and high <= scale:  # false for NaN, which both extrema inherit
            return scale
    raise ImageError(
        f"{subject} holds values that are not numbers from 0 to {scales[-1]}; "
        "please save it with 8 or 16 bits a channel."
    )


def _to_levels(values: np.ndarray, full: float) -> Pixels:
    """Maps 0..`full` linearly to 0..255, to the nearest level."""
    return np.rint(values * (255 / full)).astype(np.uint8)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Pixels | None]:
    """The colours, in a mode that a profile can speak about, and the alpha plane, if any."""
    transparent = image.has_transparency_data
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if transparent else "RGB")
    alpha = np.array(image.convert("RGBA").getchannel("A")) if transparent else None
    return image.convert(_PROFILE_MODE.get(image.mode, "RGB")), alpha


def _to_srgb(colour: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            described = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.buildTransform(described, srgb, colour.mode, "RGB").apply(colour)
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            pass  # damaged, or for another kind of picture: better plain colours than none
    return colour.convert("RGB")


def _from_array(array: np.ndarray, role: Role, limits: Limits) -> Photo:
    subject = _subject(role, "")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ImageError(
            f"{subject} is an array of shape {array.shape}; "
            "please pass (height, width), with 3 or 4 channels last if it has colour."
        )
    check_size((array.shape[1], array.shape[0]), role, limits)
    if array.dtype == np.uint8:
        levels = np.array(array, order="C")
    elif array.dtype == np.uint16:
        levels = _to_levels(array, 65535)
    elif array.dtype == np.bool_:
        levels = _to_levels(array, 1)
    elif np.issubdtype(array.dtype, np.floating):
        levels = _to_levels(array, _full_scale(array, (1,), subject))
    else:
        raise ImageError(
            f"{subject} is an array of {array.dtype}; "
            "please pass uint8, uint16, bool or fractions from 0 to 1."
        )
    if levels.ndim == 2:
        return Photo(np.repeat(levels[:, :, None], 3, axis=2))
    alpha = levels[:, :, 3].copy() if levels.shape[2] == 4 else None
    return Photo(np.ascontiguousarray(levels[:, :, :3]), alpha)


# ---------------------------------------------------------------------------- sizes


def reduce_x4(rgb: Pixels) -> Pixels:
    """(4h, 4w, 3) -> (h, w, 3): Pillow's antialiased bicubic reduction, rounded to 8 bits.

    This makes the low-resolution photo and the reduced reference of the published protocol; also
    takes one plane, (4h, 4w). Raises ValueError if a side is not a multiple of 4.
    """
    height, width = _plane_size(rgb)
    if height % SCALE or width % SCALE:
        raise ValueError(f"{height} x {width} is not a multiple of {SCALE} on both sides")
    return _resample(rgb, height // SCALE, width // SCALE, Image.Resampling.BICUBIC)


def enlarge_x4(pixels: Pixels) -> Pixels:
    """(h, w, 3) -> (4h, 4w, 3), or one plane (h, w) -> (4h, 4w): Pillow's bicubic enlargement.

    The baseline that results are shown and measured against.
    """
    height, width = _plane_size(pixels)
    return _resample(pixels, height * SCALE, width * SCALE, Image.Resampling.BICUBIC)


def resize_to_fit(photo: Photo, max_pixels: int) -> Photo:
    """The photo itself if it has at most `max_pixels` (> 0), else an antialiased reduction.

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
    return Photo(rgb, alpha, photo.name)


def crop_to_multiple(pixels: Pixels, multiple: int) -> Pixels:
    """The largest top-left part, (H, W) or (H, W, C), whose sides are multiples of `multiple`.

    A view, not a copy. Raises ValueError if a side is shorter than `multiple`.
    """
    height, width = (side - side % multiple for side in pixels.shape[:2])
    if not height or not width:
        raise ValueError(f"{pixels.shape[:2]} is smaller than {multiple} on a side")
    return pixels[:height, :width]


def pad_replicate(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Grows (H, W) or (H, W, C) to `height` x `width` by repeating the bottom row and right column.

    Raises ValueError if the array is already larger than that, or empty.
    """
    below, right = height - pixels.shape[0], width - pixels.shape[1]
    if below < 0 or right < 0:
        raise ValueError(f"{pixels.shape[:2]} does not fit into {(height, width)}")
    rest = [(0, 0)] * (pixels.ndim - 2)
    return np.pad(pixels, [(0, below), (0, right), *rest], mode="edge")


def _plane_size(pixels: Pixels) -> tuple[int, int]:
    """(H, W) of an 8-bit picture; ValueError for what is neither (H, W) nor (H, W, 3) uint8."""
    plane_or_rgb = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not plane_or_rgb:
        raise ValueError(f"expected uint8 (H, W[, 3]), got {pixels.dtype} {pixels.shape}")
    return pixels.shape[0], pixels.shape[1]


def _resample(pixels: Pixels, height: int, width: int, resampling: Image.Resampling) -> Pixels:
    return np.array(Image.fromarray(pixels).resize((width, height), resampling))


# ---------------------------------------------------------------------------- tensors


def to_tensor(rgb: Pixels) -> torch.Tensor:
    """uint8 (H, W, 3) -> float32 (1, 3, H, W) in [0, 1], channels-last in memory, on the CPU."""
    # The copy also takes read-only and flipped arrays, which torch cannot wrap. Moving the axis
    # leaves the values where they are, which is the layout that torch calls channels-last.
    planes = torch.from_numpy(np.array(rgb, order="C")).permute(2, 0, 1)[None]
    return planes.to(torch.float32).div_(255)


def to_uint8(picture: torch.Tensor) -> Pixels:
    """Floating point (3, H, W) or (1, 3, H, W) -> uint8 (H, W, 3).

    Clamped to [0, 1] and rounded to the nearest of the 256 levels (the even one at a tie), so it
    undoes `to_tensor` exactly. Raises ValueError for other shapes and for NaN.
    """
    planes = picture[0] if picture.ndim == 4 and len(picture) == 1 else picture
    if planes.ndim != 3 or planes.shape[0] != 3:
        raise ValueError(f"expected (3, H, W) or (1, 3, H, W), got {tuple(picture.shape)}")
    if planes.isnan().any():
        raise ValueError("the picture holds values that are not numbers")
    levels = planes.to("cpu", torch.float32).clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().numpy()


# ---------------------------------------------------------------------------- writing


@dataclass(frozen=True)
class _Writer:
    format: str  # Pillow's name
    keeps_alpha: bool = True
    max_side: int = 2**31 - 1  # pixels that the format can count
    options: Mapping[str, Any] = field(default_factory=dict)


_JPEG = _Writer(
    "JPEG", keeps_alpha=False, max_side=65500, options={"quality": 95, "subsampling": "4:4:4"}
)
# "exact" keeps the colours below full transparency.
_WEBP = _Writer("WEBP", max_side=16383, options={"lossless": True, "exact": True})
_TIFF = _Writer("TIFF", options={"compression": "tiff_lzw"})
_WRITERS = {
    ".png": _Writer("PNG"),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _Writer("BMP", keeps_alpha=False),
}


WRITTEN = tuple(_WRITERS)
"""Suffixes of the picture files that can be written."""


def encode(suffix: str, rgb: Pixels, alpha: Pixels | None = None) -> bytes:
    """The bytes of a picture file of the kind that `suffix` (as ".png", in any case) names.

    `rgb` is uint8 (H, W, 3), `alpha` uint8 (H, W). PNG, WebP (lossless), TIFF and BMP keep every
    pixel; JPEG has quality 95 and full colour resolution. JPEG and BMP have no transparency and
    show the picture on white.

    Raises ImageError for other suffixes and for sides that the format cannot hold, ValueError for
    other arrays.
    """
    writer = _WRITERS.get(suffix.lower())
    if writer is None:
        raise ImageError(
            "The picture cannot be saved under this name; "
            f"please let it end in one of {', '.join(_WRITERS)}."
        )
    size = _plane_size(rgb)
    fits = alpha is None or (alpha.shape == size and alpha.dtype == np.uint8)
    if rgb.ndim != 3 or not fits:
        raise ValueError("expected rgb of (H, W, 3) and alpha of (H, W), both uint8")
    if max(size) > writer.max_side:
        raise ImageError(
            f"The picture has a side of {max(size)} pixels and {writer.format} holds at most "
            f"{writer.max_side}; please save it as PNG."
        )
    image = Image.fromarray(rgb)
    if alpha is not None:
        plane = Image.fromarray(alpha)
        if writer.keeps_alpha:
            image.putalpha(plane)
        else:
            image = Image.composite(image, Image.new("RGB", image.size, "white"), plane)
    buffer = io.BytesIO()
    image.save(buffer, writer.format, **writer.options)
    return buffer.getvalue()


def write_photo(path: str | Path, rgb: Pixels, alpha: Pixels | None = None) -> None:
    """Writes a picture file of the kind that the suffix of `path` names; see `encode`.

    The file appears whole or not at all, and replaces an older one of that name. Raises what
    `encode` raises, and ImageError where the folder or the disk does not take the file.
    """
    path = Path(path)
    data = encode(path.suffix, rgb, alpha)
    try:
        write_whole(path, data)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise ImageError(
            f"The picture '{_safe_name(str(path))}' could not be saved ({reason}); "
            "please choose another folder or make room on the disk."
        ) from error
