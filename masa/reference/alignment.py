"""Where a reference shows what the photo shows: one homography from feature matches.

Matching compares upright patches of one scale (section 3.2 of the paper), so a reference that is
turned, tilted or seen from nearer gives it little. SIFT features of both pictures say how the two
frames lie on each other; the reference is then sampled once, from its own full-size pixels, as the
photo's camera would have seen it.

Two grids of (x, y) pixel centres meet here, both from (0, 0): the *frame*, the photo's own picture
at x4, and the *reference's own* pixels. Before the features are compared, the LR is enlarged twice
and the reference reduced to half, each to 1.5 megapixels at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from masa.config import SCALE
from masa.pictures.photo import Pixels

Points = NDArray[np.float64]
"""``(n, 2)``: (x, y) each."""

Features = tuple[Points, NDArray[np.float32]]
"""Places ``(n, 2)``, and descriptors ``(n, 128)`` by which they are told apart."""

LEAST_AGREEING = 12
"""Features that have to agree with one transform before it is believed."""

_RATIO = 0.8  # Lowe's: a match is kept if its distance is below this share of the second best's
_TOLERANCE = 4.0  # pixels between a feature and where a transform puts it, in the other picture
_COMPARED = 256  # features that are compared with all others at once
_ENLARGED = 2  # the LR is enlarged this many times first, so that small features are found too
_MOST_PIXELS = 1_500_000  # of either picture in which features are looked for
_MOST_ZOOM = 8.0  # things are at most so many times larger or smaller in it than in the result
_MOST_SIDE = 32766  # of a picture that OpenCV samples
_MOST_TILT = 4.0  # lengths of the frame's two axes in the reference, longest to shortest at most


@dataclass(frozen=True, eq=False)
class Alignment:
    """How the photo's frame lies in a reference."""

    matrix: NDArray[np.float64]
    """``(3, 3)``: homogeneous (x, y, 1) in the frame to the reference's own pixels."""
    size: tuple[int, int]
    """(height, width) of the frame, in its pixels."""
    frame_points: Points
    """Features that agree with the transform, in the frame."""
    own_points: Points
    """The same features in the reference's own pixels."""
    found: int
    """Features of the two pictures that resemble each other, agreeing or not."""

    def to_own(self, points: Points) -> Points:
        """Frame points ``(n, 2)`` in the reference's own pixels."""
        return transformed(self.matrix, points)

    def to_frame(self, points: Points) -> Points:
        """The reference's own points ``(n, 2)`` in the frame."""
        return transformed(np.asarray(np.linalg.inv(self.matrix), np.float64), points)

    @cached_property
    def middle(self) -> NDArray[np.float64]:
        """``(2, 2)``: the transform's Jacobian in the middle of the frame."""
        return _jacobian(self.matrix, (self.size[1] - 1) / 2, (self.size[0] - 1) / 2)

    @property
    def turn(self) -> float:
        """Degrees by which the reference is turned against the photo, clockwise, -180 to 180."""
        left, _, right = np.linalg.svd(self.middle)
        turn = left @ right
        return float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))

    @property
    def zoom(self) -> float:
        """Own pixels per frame pixel, along a side, in the middle of the frame.

        Above 1, the reference shows things larger than the result will: it was taken from nearer,
        or has more pixels.
        """
        return float(np.sqrt(np.linalg.det(self.middle)))

    @property
    def tilt(self) -> float:
        """How many times longer than wide a circle of the frame is in the reference; at least 1."""
        longest, shortest = np.linalg.svd(self.middle, compute_uv=False)
        return float(longest / shortest)

    @property
    def words(self) -> str:
        """The transform for a visitor, as "turned by 23°, 1.5 times as large"."""
        found = []
        if abs(self.turn) >= 1:
            found.append(f"turned by {abs(self.turn):.0f}°")
        if self.zoom >= 1.05:
            found.append(f"{self.zoom:.2g} times as large")
        elif self.zoom <= 1 / 1.05:
            found.append(f"{1 / self.zoom:.2g} times smaller")
        if self.tilt >= 1.15:
            found.append(f"seen at a slant, stretched {self.tilt:.2g} times in one direction")
        return ", ".join(found) or "upright and of the same scale"


class SoughtLR:
    """An LR ``(h, w, 3)``, uint8 RGB, that is looked for in references; its features are found
    once, when they are first needed."""

    def __init__(self, rgb: Pixels) -> None:
        self.rgb = rgb

    @classmethod
    def of(cls, lr: Pixels | SoughtLR) -> SoughtLR:
        """``lr`` itself, or one made of its pixels."""
        return lr if isinstance(lr, cls) else cls(np.asarray(lr))

    @cached_property
    def features(self) -> Features | None:
        """Places in the frame, and descriptors; ``None`` if hardly any."""
        return _features(self.rgb, _ENLARGED, SCALE)


def align(lr: Pixels | SoughtLR, ref: Pixels) -> Alignment | None:
    """How the frame of an LR ``(h, w, 3)`` lies in a reference ``(H, W, 3)``, both uint8 RGB.

    ``None`` if too few features agree, or with a transform that no camera makes: mirrored, folded,
    or extreme. A homography is taken if more features agree with it than with a similarity. To
    agree, features have to lie within four of the reference's own pixels, or, only where too few
    do, within four frame pixels, which are more in a reference from nearer. Also ``None`` if a side
    of the LR is longer than 8191 pixels.
    """
    lr = SoughtLR.of(lr)
    frame = SCALE * lr.rgb.shape[0], SCALE * lr.rgb.shape[1]
    if max(frame) > _MOST_SIDE:
        return None
    ours = lr.features
    theirs = None if ours is None else _features(ref, _ENLARGED / SCALE)
    if ours is None or theirs is None:
        return None
    first, second = _alike(ours[1], theirs[1])
    points = ours[0][first], theirs[0][second]
    # Of a large reference a reduced copy was compared, in which things are smaller.
    copied = _ENLARGED / SCALE * (ref.shape[0] * ref.shape[1] / _MOST_PIXELS) ** 0.5
    found = _transform(*points, frame, _MOST_ZOOM * max(1.0, copied))
    if found is None:
        return None
    matrix, agree = found
    return Alignment(matrix, frame, points[0][agree], points[1][agree], len(first))


@dataclass(frozen=True, eq=False)
class AlignedView:
    """A reference as the photo's camera saw it."""

    rgb: Pixels
    """``(4h, 4w, 3)``: the frame, sampled from the reference."""
    own: NDArray[np.float32]
    """``(h, w, 2)``: (row, column), in the reference's own pixels, of what each LR pixel shows."""
    alignment: Alignment


def align_reference(lr: Pixels | SoughtLR, ref: Pixels) -> AlignedView | None:
    """A reference in the frame of an LR, both uint8 RGB; ``None`` if nothing in common is found."""
    lr = SoughtLR.of(lr)
    alignment = align(lr, ref)
    return None if alignment is None else aligned_view(lr.rgb, ref, alignment)


def aligned_view(lr: Pixels, ref: Pixels, alignment: Alignment) -> AlignedView:
    """A reference ``(H, W, 3)`` in the frame of an LR ``(h, w, 3)``.

    The homography is refined by dense optical flow (DIS) between the two at twice the LR's size,
    because no homography fits all depths. The reference is then sampled once (Lanczos) from its own
    pixels; where it has more of them than the frame needs, they are averaged first, against
    aliasing. Beyond the reference, its edge repeats.
    """
    matrix, source = alignment.matrix, ref
    shrink = max(_least_zoom(matrix, alignment.size), max(ref.shape[:2]) / _MOST_SIDE)
    if shrink > 1:
        height, width = ref.shape[:2]
        size = max(1, round(width / shrink)), max(1, round(height / shrink))
        source = np.asarray(cv2.resize(ref, size, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = _between_sizes((height, width), (size[1], size[0])) @ matrix
    height, width = alignment.size
    frame = np.stack(np.meshgrid(np.arange(width), np.arange(height)), 2).astype(np.float32)
    frame += _remaining_flow(lr, _sampled(source, _moved(matrix, frame)))
    places = _moved(matrix, frame)
    cells = cv2.resize(places, (width // SCALE, height // SCALE), interpolation=cv2.INTER_AREA)
    factors = ref.shape[1] / source.shape[1], ref.shape[0] / source.shape[0]
    own = _rescaled(np.asarray(cells), factors)[..., ::-1]
    return AlignedView(_sampled(source, places), np.ascontiguousarray(own, np.float32), alignment)


def _moved(matrix: NDArray[np.float64], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """A homography of places ``(H, W, 2)``, as (x, y)."""
    return np.asarray(cv2.perspectiveTransform(points, matrix), np.float32)


def _sampled(picture: Pixels, places: NDArray[np.float32]) -> Pixels:
    """``(H, W, 3)``: a picture at places ``(H, W, 2)``, as (x, y)."""
    return np.asarray(
        cv2.remap(
            picture,
            places[..., 0],
            places[..., 1],
            cv2.INTER_LANCZOS4,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.uint8,
    )


def _remaining_flow(lr: Pixels, view: Pixels) -> NDArray[np.float32]:
    """``(4h, 4w, 2)``: (x, y) from each frame pixel to where ``view`` shows the same."""
    height, width = lr.shape[:2]
    size = _ENLARGED * width, _ENLARGED * height

    def comparable(rgb: Pixels) -> NDArray[np.float32]:
        """Grey, of the LR's detail, at the size of the flow."""
        small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        large = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
        return cv2.cvtColor(large, cv2.COLOR_RGB2GRAY).astype(np.float32)

    ours, theirs = comparable(lr), comparable(view)
    # Another exposure would look like motion.
    theirs = (theirs - theirs.mean()) / max(theirs.std(), 1.0) * ours.std() + ours.mean()
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    levels = (grey.clip(0, 255).astype(np.uint8) for grey in (ours, theirs))
    flow = search.calc(*levels, None)  # type: ignore[call-overload]  # None: nothing is known yet
    factor = SCALE / _ENLARGED
    frame = (SCALE * width, SCALE * height)
    return np.asarray(cv2.resize(flow, frame, interpolation=cv2.INTER_LINEAR) * factor, np.float32)


def transformed(matrix: NDArray[np.float64], points: Points) -> Points:
    """Points ``(n, 2)`` after a homography ``(3, 3)``."""
    homogeneous = np.column_stack((points, np.ones(len(points)))) @ matrix.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def plausible(
    matrix: NDArray[np.float64], size: tuple[int, int], most_zoom: float = _MOST_ZOOM
) -> bool:
    """Whether a camera could have seen a frame of ``size`` (height, width) like this.

    Not so if it is mirrored or folded anywhere, eight times smaller or ``most_zoom`` times larger,
    or so slanted that one side of a square is four times as long as the other.
    """
    for x, y in (*_corners(size), ((size[1] - 1) / 2, (size[0] - 1) / 2)):
        if matrix[2] @ (x, y, 1) <= 0:
            return False  # beyond the horizon
        jacobian = _jacobian(matrix, x, y)
        area = np.linalg.det(jacobian)
        if not 1 / _MOST_ZOOM**2 < area < most_zoom**2:
            return False
        longest, shortest = np.linalg.svd(jacobian, compute_uv=False)
        if longest > _MOST_TILT * shortest:
            return False
    return True


# ---------------------------------------------------------------------------- features


def _for_features(rgb: Pixels, factor: float) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """Grey picture ``factor`` times as large or less, and (x, y) factors from it to ``rgb``."""
    height, width = rgb.shape[:2]
    factor = min(factor, (_MOST_PIXELS / (height * width)) ** 0.5)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    kind = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
    grey = cv2.cvtColor(cv2.resize(rgb, size, interpolation=kind), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, np.uint8), (width / size[0], height / size[1])


def _features(rgb: Pixels, factor: float, scale: int = 1) -> Features | None:
    """SIFT features of a picture at ``factor`` times its size; ``None`` if hardly any.

    Places are in its own pixels, or in those of its enlargement by ``scale``.
    """
    grey, (x, y) = _for_features(rgb, factor)
    points, descriptors = cv2.SIFT.create(enable_precise_upscale=True).detectAndCompute(grey, None)
    if descriptors is None or len(points) < LEAST_AGREEING:
        return None
    places = _rescaled(np.array([p.pt for p in points], np.float64), (scale * x, scale * y))
    return places, np.asarray(descriptors, np.float32)


def _alike(
    ours: NDArray[np.float32], theirs: NDArray[np.float32]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers of features of either picture that resemble each other more than any second one.

    Lowe's ratio test over all pairs, as with OpenCV's brute-force matcher, but six times as fast:
    distances come from products of matrices. Descriptors are whole numbers, so nothing is rounded.
    """
    lengths = np.einsum("ij,ij->i", theirs, theirs)
    nearest = np.empty(len(ours), np.intp)
    squared = np.empty((2, len(ours)), np.float32)  # to the nearest, and to the second
    for start in range(0, len(ours), _COMPARED):
        rows = slice(start, start + _COMPARED)
        some = ours[rows]
        distances = some @ (-2 * theirs.T) + lengths
        distances += np.einsum("ij,ij->i", some, some)[:, None]
        best = distances.argmin(1)[:, None]
        nearest[rows] = best[:, 0]
        squared[0, rows] = np.take_along_axis(distances, best, 1)[:, 0]
        np.put_along_axis(distances, best, np.inf, 1)
        squared[1, rows] = distances.min(1)
    first, second = np.sqrt(squared).astype(float)
    kept = np.flatnonzero(first < _RATIO * second)
    return kept, nearest[kept]


Found = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""A transform ``(3, 3)`` and which points agree with it."""


def _transform(frame: Points, own: Points, size: tuple[int, int], most_zoom: float) -> Found | None:
    """The transform from the frame, of ``size`` (height, width), to own pixels that is believed."""
    found = [_similarity(frame, own), _homography(frame, own)]
    return _believed(found, size, most_zoom) or _believed(
        [_inverted(_similarity(own, frame)), _inverted(_homography(own, frame))], size, most_zoom
    )


def _believed(
    found: Iterable[Found | None], size: tuple[int, int], most_zoom: float
) -> Found | None:
    """Of the plausible transforms, the first one with which most points agree, if enough do."""
    seen = [one for one in found if one is not None and plausible(one[0], size, most_zoom)]
    best = max(seen, key=lambda one: int(one[1].sum()), default=None)
    return None if best is None or best[1].sum() < LEAST_AGREEING else best


def _inverted(found: Found | None) -> Found | None:
    """The way back; ``None`` if there is none."""
    if found is None or np.linalg.cond(found[0]) > _MOST_CONDITION:
        return None
    matrix = np.linalg.inv(found[0])
    return np.asarray(matrix / matrix[2, 2], np.float64), found[1]


_MOST_CONDITION = 1e12  # of a matrix that is not singular but for rounding


def _homography(first: Points, second: Points) -> Found | None:
    """From the first points to the second ones."""
    if len(first) < LEAST_AGREEING:
        return None
    cv2.setRNGSeed(_SEED)
    matrix, agree = cv2.findHomography(
        first, second, cv2.USAC_MAGSAC, _TOLERANCE, maxIters=_TRIES, confidence=_CONFIDENCE
    )
    return None if matrix is None else (np.asarray(matrix, np.float64), agree.ravel() > 0)


def _similarity(first: Points, second: Points) -> Found | None:
    """The same by turn, scale and move alone."""
    if len(first) < LEAST_AGREEING:
        return None
    cv2.setRNGSeed(_SEED)
    matrix, agree = cv2.estimateAffinePartial2D(
        first,
        second,
        method=cv2.RANSAC,
        ransacReprojThreshold=_TOLERANCE,
        maxIters=_TRIES,
        confidence=_CONFIDENCE,
    )
    return None if matrix is None else (np.vstack((matrix, (0.0, 0.0, 1.0))), agree.ravel() > 0)


_TRIES, _CONFIDENCE, _SEED = 10_000, 0.999, 0  # of the search for a transform


# ---------------------------------------------------------------------------- grids


def _corners(size: tuple[int, int]) -> Points:
    height, width = size
    return np.array([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)], np.float64)


def _rescaled(points: NDArray, factors: tuple[float, float]) -> Points:
    """Pixel centres ``(..., 2)``, (x, y), of a resized picture in the one it was made from."""
    return np.asarray((points + 0.5) * np.asarray(factors) - 0.5, np.float64)


def _between_sizes(before: tuple[int, int], after: tuple[int, int]) -> NDArray[np.float64]:
    """Pixel centres of a picture to those of its resized copy; sizes are (height, width)."""
    y, x = (new / old for old, new in zip(before, after, strict=True))
    return np.array([(x, 0, (x - 1) / 2), (0, y, (y - 1) / 2), (0, 0, 1)], np.float64)


def _jacobian(matrix: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    """``(2, 2)``: how a step in (x, y) moves its image."""
    u, v, w = matrix @ (x, y, 1)
    return (matrix[:2, :2] - np.outer((u / w, v / w), matrix[2, :2])) / w


def _least_zoom(matrix: NDArray[np.float64], size: tuple[int, int]) -> float:
    """Own pixels to a frame pixel where, and along the direction in which, they are fewest."""
    return min(
        float(np.linalg.svd(_jacobian(matrix, x, y), compute_uv=False)[1])
        for x, y in (*_corners(size), ((size[1] - 1) / 2, (size[0] - 1) / 2))
    )
