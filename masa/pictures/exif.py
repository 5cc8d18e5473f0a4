"""EXIF, a camera's notes beside the pixels: what stays true of a picture made from them."""

from PIL import ExifTags, Image

from masa.pictures.structure import MOST_EXIF

_TAG, _IFD = ExifTags.Base, ExifTags.IFD
_SUBJECT_AREA = 0x9214  # in pixels; Pillow has no name for it

# Of the first directory, what speaks of the photo and not of how the file stores it: TIFF has both
# in one place. The thumbnail has a directory of its own, which is left out.
_KEPT = {
    _TAG.ImageDescription,
    _TAG.Make,
    _TAG.Model,
    _TAG.Software,
    _TAG.DateTime,
    _TAG.Artist,
    _TAG.HostComputer,
    _TAG.Copyright,
    _TAG.Rating,
    _TAG.RatingPercent,
    _TAG.XPTitle,
    _TAG.XPComment,
    _TAG.XPAuthor,
    _TAG.XPKeywords,
    _TAG.XPSubject,
}

# Of the camera's directory, what is no longer true of a picture of another size in another file.
_DROPPED = {
    _TAG.ExifImageWidth,
    _TAG.ExifImageHeight,
    _TAG.ComponentsConfiguration,
    _TAG.CompressedBitsPerPixel,
    _TAG.FocalPlaneXResolution,
    _TAG.FocalPlaneYResolution,
    _TAG.FocalPlaneResolutionUnit,
    _TAG.SubjectLocation,
    _SUBJECT_AREA,
    _TAG.ExifInteroperabilityOffset,
    _TAG.MakerNote,  # holds addresses within the old file, which lead nowhere in a new one
}

_UPRIGHT = 1
_SRGB = 1


def has_usual_exif(image: Image.Image) -> bool:
    """Whether a picture's EXIF data are no longer than a camera's: of others, to read them may take
    very long."""
    held = (image.info.get(name) or b"" for name in ("exif", "Raw profile type exif"))
    return sum(map(len, held)) <= MOST_EXIF


def exif_of(image: Image.Image) -> bytes | None:
    """EXIF data for an upright sRGB picture of any size made from ``image``; ``None`` without any.

    Kept are description, camera, settings, times, authors and place; orientation says upright.
    Dropped are sizes, places in pixels, the thumbnail, the maker's own notes and everything that
    describes the file's storage. Data that cannot be understood are dropped as a whole.
    """
    if not has_usual_exif(image):
        return None
    try:
        exif, kept = image.getexif(), Image.Exif()
        for tag in _KEPT & exif.keys():
            kept[tag] = exif[tag]
        camera = {t: v for t, v in exif.get_ifd(_IFD.Exif).items() if t not in _DROPPED}
        if _TAG.ColorSpace in camera:
            camera[_TAG.ColorSpace] = _SRGB
        for ifd, entries in ((_IFD.Exif, camera), (_IFD.GPSInfo, exif.get_ifd(_IFD.GPSInfo))):
            if entries:
                kept[ifd] = dict(entries)
        if not kept:
            return None
        kept[_TAG.Orientation] = _UPRIGHT
        return kept.tobytes()
    except Exception:  # broken data, on which Pillow raises nearly anything, never cost the picture
        return None
