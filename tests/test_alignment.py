"""Alignment: known transforms are found again on real photos, and impossible ones are refused."""

import cv2
import numpy as np
import pytest
from helpers import picture

from masa.pictures.degradation import lr_from_hr, preset_called
from masa.pictures.metrics import psnr_y
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4
from masa.reference.alignment import align, aligned_view, plausible, transformed


@pytest.fixture(scope="module")
def photo(examples):
    """``(H, W, 3)``, sides multiples of 4."""
    return lr_from_hr(read_photo(examples / "motorcycle_hr.jpg").rgb)[1]


def placed(photo, degrees=0.0, zoom=1.0, slant=0.0):
    """A reference that shows all of the photo, turned, larger and slanted, and the true matrix."""
    height, width = photo.shape[:2]
    corners = np.float32([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)])
    angle = np.radians(degrees)
    turn = zoom * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    moved = corners @ turn.T
    moved[1:3, 1] *= 1 - slant
    moved -= moved.min(0)
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    size = tuple(int(side) + 1 for side in moved.max(0))
    return cv2.warpPerspective(photo, matrix, size, flags=cv2.INTER_AREA), matrix


def grid(photo):
    height, width = photo.shape[:2]
    y, x = np.mgrid[10 : height - 10 : 9, 10 : width - 10 : 9]
    return np.column_stack((x.ravel(), y.ravel())).astype(float)


CASES = {
    "as it is": {},
    "turned a little": {"degrees": 25},
    "turned by a right angle": {"degrees": 90},
    "upside down": {"degrees": 180},
    "farther": {"zoom": 0.7},
    "nearer": {"zoom": 1.5},
    "much nearer": {"zoom": 2.0},
    "turned and nearer": {"degrees": -20, "zoom": 1.5},
    "slanted": {"slant": 0.15},
}


@pytest.mark.parametrize("case", CASES)
def test_known_transforms_are_found_to_half_a_pixel(photo, case):
    ref, matrix = placed(photo, **CASES[case])
    found = align(lr_from_hr(photo)[0], ref)
    assert found is not None
    assert len(found.frame_points) == len(found.own_points) >= 12
    points = grid(photo)
    wrong = np.abs(found.to_own(points) - transformed(matrix, points))
    assert np.median(wrong) < 0.5 * max(1, CASES[case].get("zoom", 1))
    back = found.to_frame(found.to_own(points))
    assert np.abs(back - points).max() < 1e-6


@pytest.mark.parametrize("case", ["turned a little", "much nearer", "turned and nearer"])
def test_the_view_shows_what_the_photo_shows(photo, case):
    ref, _ = placed(photo, **CASES[case])
    lr = lr_from_hr(photo)[0]
    view = aligned_view(lr, ref, align(lr, ref)).rgb
    assert view.shape == photo.shape
    assert psnr_y(view, photo, border=8) > 1 + psnr_y(enlarge_x4(lr), photo, border=8)


def test_words_say_how_the_reference_lies(photo):
    lr = lr_from_hr(photo)[0]
    found = align(lr, placed(photo, 25, 1.5)[0])
    assert found.turn == pytest.approx(25, abs=1)
    assert found.zoom == pytest.approx(1.5, rel=0.03)
    assert found.tilt == pytest.approx(1, abs=0.05)
    assert found.words == "turned by 25°, 1.5 times nearer"
    assert align(lr, photo).words == "upright and of the same scale"
    assert "tilted" in align(lr, placed(photo, slant=0.4)[0]).words
    assert align(lr, placed(photo, zoom=0.5)[0]).words == "2 times farther"


def test_a_large_reference_is_not_aliased(photo):
    large = cv2.resize(photo, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    rng = np.random.default_rng(0)
    noisy = (large + rng.normal(0, 20, large.shape)).clip(0, 255).astype(np.uint8)
    lr = lr_from_hr(photo)[0]
    view = aligned_view(lr, noisy, align(lr, noisy)).rgb
    # The mean of 3x3 pixels has a third of the noise; a picked pixel would have all of it.
    assert np.std(view.astype(float) - photo) < 15


def test_a_jpeg_is_aligned(photo):
    ref, matrix = placed(photo, 25)
    found = align(lr_from_hr(photo, preset_called("web JPEG 75"))[0], ref)
    points = grid(photo)
    assert np.median(np.abs(found.to_own(points) - transformed(matrix, points))) < 1


def test_a_corner_of_the_photo_is_enough(photo):
    height, width = photo.shape[:2]
    part = np.ascontiguousarray(photo[: height // 2, : width // 2])
    found = align(lr_from_hr(photo)[0], part)
    assert np.abs(found.matrix / found.matrix[2, 2] - np.eye(3))[:2].max() < 2


def test_mirrored_unrelated_and_empty_pictures_are_not_aligned(photo, examples):
    lr = lr_from_hr(photo)[0]
    assert align(lr, np.ascontiguousarray(photo[:, ::-1])) is None
    assert align(lr, read_photo(examples / "aloe_ref.jpg").rgb) is None
    assert align(lr, np.full((200, 300, 3), 200, np.uint8)) is None
    assert align(np.full((40, 40, 3), 9, np.uint8), photo) is None
    assert align(lr, picture(16, 16)) is None
    assert align(lr[:8, :8].copy(), photo) is None


def test_what_no_camera_sees_is_not_plausible():
    size = (400, 600)
    assert plausible(np.eye(3), size)
    assert not plausible(np.diag((-1.0, 1, 1)), size)  # mirrored
    assert not plausible(np.diag((9.0, 9, 1)), size)
    assert not plausible(np.diag((0.1, 0.1, 1)), size)
    assert not plausible(np.diag((1.0, 5, 1)), size)  # far too slanted
    folded = np.eye(3)
    folded[2, 0] = -1 / 300  # the horizon runs through the frame
    assert not plausible(folded, size)


def test_the_same_pictures_give_the_same_transform(photo):
    ref, _ = placed(photo, 10)
    lr = lr_from_hr(photo)[0]
    assert np.array_equal(align(lr, ref).matrix, align(lr, ref).matrix)
