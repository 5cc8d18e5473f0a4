"""The only place where pictures are decoded: files, bytes, arrays and Pillow images to photos."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from masa.pictures.avif import check_stored_size, colour_numbers, is_avif, still_picture
from masa.pictures.colours import holds_hdr, profile_of
from masa.pictures.exif import exif_of, has_usual_exif
from masa.pictures.formats import FORMATS_IN_WORDS, PILLOW_FORMATS
from masa.pictures.heif import decode_heif, is_heif, open_heif
from masa.pictures.levels import deep_grey, full_scale, scale_key, to_levels
from masa.pictures.photo import (
    DEFAULT_LIMITS,
    ImageError,
    Limits,
    Photo,
    Pixels,
    Role,
    Source,
    check_size,
    picture_called,
    safe_name,
)
from masa.pictures.structure import check_structure, is_usual_profile
from masa.pictures.transparency import fill_hidden
from masa.pictures.truncated_jpeg import read_what_is_there

# The upright picture, seen as the file has it, by EXIF orientation.
_AS_STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}

_STRIP = 2**20  # pixels that are converted at a time: copies of a whole picture add up

# The colour spaces an embedded profile can speak about; every other mode goes through RGB.
_PROFILE_MODE = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}


def read_photo(source: Source, role: Role = "reference", limits: Limits = DEFAULT_LIMITS) -> Photo:
    """Reads one picture, whatever it is stored as, into an upright 8-bit sRGB photo.

    ``source`` is a file (path), the bytes of one, a Pillow image or an array. Files may be of the
    kinds in :mod:`masa.pictures.formats`, recognised by content; of an animation, a document or
    a series the first picture is taken. Orientation and colour profile are applied (an unusable
    profile is ignored), and so are the numbers that may take its place in HEIC and AVIF
    (:mod:`masa.pictures.colours`). HDR colours are not fitted into the usual range, which ``notes``
    say. Transparency is kept apart as ``alpha``, and what is fully transparent takes the nearest
    visible colour. Deeper pixels are scaled to 8 bits, never clipped. 32-bit grey holds no scale of
    its own: the smallest of 0..1 (fractions only), 0..255 and 0..65535 that holds every value is
    taken.

    What the camera noted (EXIF) is kept, cleaned, as ``exif``; data that cannot be understood are
    dropped. A photo that was read before is returned as it is, if its size fits ``role``.

    An array has the shape ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)`` and is uint8, uint16
    (0..65535), bool or floating point in [0, 1].

    A JPEG file that stops early is read as far as it goes, with a note in ``notes``; one of which
    less than a quarter is there is refused, as are other files that stop early.

    The limits are checked on the header, before any pixel is decoded, and an AVIF file that holds
    far more than its header says is refused too, and so is one that would take very long to open
    (:mod:`masa.pictures.structure`). Pillow's own limit,
    ``PIL.Image.MAX_IMAGE_PIXELS``, is left as it is and still applies where it is the lower one.

    Raises ``ImageError`` for every picture that cannot be used, and ``TypeError`` for another
    ``source``.
    """
    if isinstance(source, Photo):
        check_size((source.width, source.height), role, limits, source.name)
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source, role, limits)
    if isinstance(source, Image.Image):
        name = safe_name(str(getattr(source, "filename", "")))
        return _from_image(source, name, role, limits)
    if isinstance(source, bytes):
        name, data = "", source
    elif isinstance(source, (str, Path)):
        name = safe_name(str(source))
        data = _read_file(Path(source), picture_called(role, name), limits.max_file_bytes)
    else:
        raise TypeError(f"a photo cannot be read from {type(source).__name__}")

    subject = picture_called(role, name)
    if not data:
        raise ImageError(f"{subject} is an empty file; please choose another one.")
    if len(data) > limits.max_file_bytes:
        most = limits.max_file_bytes / 2**20
        raise ImageError(
            f"{subject} is a file of more than {most:.3g} MB; please choose a smaller one."
        )
    return _from_bytes(data, name, role, limits)


def picture_size(path: Path, strangers: bool = False) -> tuple[int, int]:
    """(Width, height) by the header of a picture file, before it is turned upright.

    Nothing is decoded, and no limit applies. Of ``strangers``, the whole file is looked at first,
    as for :func:`read_photo`. Raises ``ImageError`` for what is no picture.
    """
    subject = f"The picture '{safe_name(str(path))}'"
    with _as_image_errors(subject):
        if strangers:
            check_structure(path.read_bytes(), subject)
        with path.open("rb") as file:
            start = file.read(512)
        if is_heif(start):
            return open_heif(path.read_bytes()).size
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            return image.size


def _read_file(path: Path, subject: str, max_bytes: int) -> bytes:
    """The file's bytes, or its first ``max_bytes`` + 1, enough to know that it is too large."""
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
    """Turns whatever a decoder raises into an ``ImageError`` about ``subject``.

    Decoders meet arbitrary bytes here, and on those they raise nearly every built-in exception,
    so nothing narrower than Exception would keep the promise.
    """
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{subject} cannot be read; please choose an undamaged {FORMATS_IN_WORDS} picture."
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise ImageError(
            f"{subject} has too many pixels to be opened here; please choose a smaller picture."
        ) from error
    except Exception as error:
        raise ImageError(
            f"{subject} is damaged or incomplete; please choose another copy of it."
        ) from error


def _from_bytes(data: bytes, name: str, role: Role, limits: Limits) -> Photo:
    subject = picture_called(role, name)
    check_structure(data, subject)
    if is_heif(data):
        with _as_image_errors(subject):
            file = open_heif(data)
            check_size(file.size, role, limits, name)
            image = decode_heif(file)
            photo = _to_photo(image, {}, subject, name)
        return replace(photo, exif=exif_of(image))
    if is_avif(data):
        data = still_picture(data)
    with _as_image_errors(subject):
        image = Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
    check_size(image.size, role, limits, name)
    if is_avif(data):
        with _as_image_errors(subject):
            check_stored_size(data, image.width * image.height)
        image.info["nclx_profile"] = colour_numbers(data)
    notes: tuple[str, ...] = ()
    if isinstance(image, JpegImageFile):
        with _as_image_errors(subject):
            try:
                image.load()
            except OSError:
                image, notes = read_what_is_there(data, subject)
    if isinstance(image, PngImageFile):
        with _as_image_errors(subject):
            scale_key(image, data)
    photo = _from_image(image, name, role, limits)
    return replace(photo, notes=notes + photo.notes)


def _from_image(image: Image.Image, name: str, role: Role, limits: Limits) -> Photo:
    check_size(image.size, role, limits, name)
    subject = picture_called(role, name)
    with _as_image_errors(subject):
        tags: Mapping[int, Any] = getattr(image, "tag_v2", {})  # only TIFF has them
        _check_tiff_layout(tags, subject, limits)
        exif = exif_of(image) if tags else None  # Pillow closes a TIFF when it has its pixels
        image.load()
        photo = _to_photo(image, tags, subject, name, _orientation(image))
    return replace(photo, exif=exif if tags else exif_of(image))


def _to_photo(
    image: Image.Image, tags: Mapping[int, Any], subject: str, name: str, orientation: int = 1
) -> Photo:
    """The upright photo of a decoded picture, which is stored with an EXIF ``orientation``.

    ``tags`` are those of a TIFF file. Beside ``image`` this takes little more
    memory than the photo.
    """
    profile = profile_of(image.info)
    hdr = f"{subject} holds HDR colours, which are read as ordinary ones: it may look pale."
    notes = (hdr,) if holds_hdr(image.info) else ()
    deep_alpha: Pixels | None = None
    if image.mode == "F" or image.mode.startswith("I"):
        image, deep_alpha = deep_grey(image, tags, subject)
    width, height = image.size
    size = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
    as_stored = _AS_STORED.get(orientation, lambda upright: upright)
    rgb = np.empty((*size, 3), np.uint8)
    alpha = None
    if deep_alpha is not None:
        alpha = np.empty(size, np.uint8)
        as_stored(alpha)[:] = deep_alpha
    elif image.has_transparency_data:
        alpha = np.empty(size, np.uint8)
    convert: Callable[[Image.Image], Image.Image] | None = None
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        colour, transparency = _split_alpha(strip)
        convert = convert or _to_srgb(colour.mode, profile)
        as_stored(rgb)[top : top + rows] = np.asarray(convert(colour))
        if alpha is not None and transparency is not None:
            as_stored(alpha)[top : top + rows] = transparency
    fill_hidden(rgb, alpha)
    return Photo(rgb, alpha, name, notes)


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


def _orientation(image: Image.Image) -> int:
    """What EXIF data say of how the picture is stored; 1, upright, if they say nothing usable."""
    try:
        if not has_usual_exif(image):
            return 1
        stored = image.getexif().get(ExifTags.Base.Orientation, 1)
        return stored if stored in _AS_STORED else 1
    except Exception:  # broken EXIF data should not cost the visitor the picture
        return 1


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Pixels | None]:
    """The colours, in a mode that a profile can speak about, and the alpha plane, if any."""
    transparent = image.has_transparency_data
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if transparent else "RGB")
    alpha = np.array(image.convert("RGBA").getchannel("A")) if transparent else None
    return _converted(image, _PROFILE_MODE.get(image.mode, "RGB")), alpha


def _to_srgb(mode: str, profile: object) -> Callable[[Image.Image], Image.Image]:
    """What turns pictures of a mode, whose colours a profile describes, into sRGB."""
    if isinstance(profile, bytes) and is_usual_profile(profile):
        try:
            described = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.buildTransform(described, srgb, mode, "RGB").apply
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            pass  # damaged, or for another kind of picture: better plain colours than none
    return lambda colour: _converted(colour, "RGB")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # Pillow would copy it


def _from_array(array: np.ndarray, role: Role, limits: Limits) -> Photo:
    subject = picture_called(role, "")
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ImageError(
            f"{subject} is an array of shape {array.shape}; "
            "please pass (height, width), with 3 or 4 channels last if it has colour."
        )
    check_size((array.shape[1], array.shape[0]), role, limits)
    if array.dtype == np.uint8:
        levels = to_levels(array, 255)
    elif array.dtype == np.uint16:
        levels = to_levels(array, 65535)
    elif array.dtype == np.bool_:
        levels = to_levels(array, 1)
    elif np.issubdtype(array.dtype, np.floating):
        levels = to_levels(array, full_scale(array, (1,), subject))
    else:
        raise ImageError(
            f"{subject} is an array of {array.dtype}; "
            "please pass uint8, uint16, bool or fractions from 0 to 1."
        )
    if levels.ndim == 2:
        return Photo(np.repeat(levels[:, :, None], 3, axis=2))
    alpha = levels[:, :, 3].copy() if levels.shape[2] == 4 else None
    rgb = np.ascontiguousarray(levels[:, :, :3])
    fill_hidden(rgb, alpha)
    return Photo(rgb, alpha)
