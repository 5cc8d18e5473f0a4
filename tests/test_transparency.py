"""Colours under full transparency never reach what is seen."""

import cv2
import numpy as np
import pytest
from photos import heic, noise, stored
from PIL import Image

from masa.pictures import transparency
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, reduce_x4, resize_to_fit
from masa.pictures.transparency import fill_hidden


def disc(side=64, radius=20.5):
    """A red disc of level 220 with a soft rim on transparent black: (side, side, 4)."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.rint(255 * np.clip(radius - np.hypot(x, y), 0, 1)).astype(np.uint8)
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[alpha > 0, 0] = 220
    pixels[:, :, 3] = alpha
    return pixels


def sources():
    pixels = disc()
    palette = np.where(pixels[:, :, 3] > 127, 1, 0).astype(np.uint8)
    image = Image.fromarray(palette, "P")
    image.putpalette([0, 0, 0, 220, 0, 0])
    return {
        "array": pixels,
        "image": Image.fromarray(pixels),
        "PNG": stored(pixels, "PNG"),
        "WEBP": stored(pixels, "WEBP", lossless=True, exact=True),
        "TIFF": stored(pixels, "TIFF"),
        "HEIC": heic(pixels, "RGBA"),
        "palette": stored(image, "PNG", transparency=0),
        "GIF": stored(image, "GIF", transparency=0),
    }


SOURCES = sources()


def rim(rgb, alpha):
    """Reds of what can be seen at all."""
    return rgb[alpha > 0][:, 0]


@pytest.mark.parametrize("kind", SOURCES)
def test_a_disc_keeps_its_colour_at_the_rim(kind):
    photo = read_photo(SOURCES[kind], "small photo")
    # The network adds to this enlargement; and its convolutions see this picture.
    enlarged, alpha = enlarge_x4(photo.rgb), enlarge_x4(photo.alpha)
    assert (rim(enlarged, alpha) == 220).all()
    assert rim(enlarge_x4(disc()[:, :, :3]), enlarge_x4(disc()[:, :, 3])).min() < 155, "no trial"
    assert (photo.rgb == [220, 0, 0]).all()


def test_reduced_references_keep_theirs():
    photo = read_photo(disc(128, 50.5))
    fitted = resize_to_fit(photo, 60 * 60)
    assert fitted.width < 128
    assert (rim(fitted.rgb, fitted.alpha) == 220).all()
    reduced = reduce_x4(photo.rgb)
    assert (rim(reduced, reduce_x4(photo.alpha)) == 220).all()


def test_each_hidden_pixel_takes_the_nearest_visible_colour():
    rgb, alpha = noise(20, 31), noise(20, 31, 0, seed=1)
    alpha[alpha < 200] = 0
    filled = rgb.copy()
    fill_hidden(filled, alpha)
    ys, xs = np.nonzero(alpha)
    for y, x in np.ndindex(alpha.shape):
        if alpha[y, x]:
            assert (filled[y, x] == rgb[y, x]).all()
            continue
        distances = np.hypot(ys - y, xs - x)
        # OpenCV's distances are right to within a twentieth.
        near = distances <= distances.min() * 1.05
        assert (rgb[ys[near], xs[near]] == filled[y, x]).all(1).any()


def test_far_pixels_are_filled_too():
    rgb, alpha = np.zeros((300, 9000, 3), np.uint8), np.zeros((300, 9000), np.uint8)
    rgb[-1, -1], alpha[-1, -1] = (200, 100, 50), 1
    fill_hidden(rgb, alpha)
    assert (rgb == [200, 100, 50]).all()


def test_a_large_picture_is_filled_in_blocks_as_well_as_at_once(monkeypatch):
    rgb, alpha = noise(90, 130), np.zeros((90, 130), np.uint8)
    alpha[20:31, 36:90:3] = 255
    alpha[70, 5:8] = 1
    at_once, in_blocks = rgb.copy(), rgb.copy()
    fill_hidden(at_once, alpha)
    monkeypatch.setattr(transparency, "_BLOCK", 32)
    monkeypatch.setattr(transparency, "REACH", 12)
    fill_hidden(in_blocks, alpha)
    near = cv2.dilate(alpha, np.ones((17, 17), np.uint8)) > 0  # up to 8 each way, 11.3 askew
    assert (in_blocks[near] == at_once[near]).all() and not near.all()
    seen = {tuple(colour) for colour in rgb[alpha > 0]}
    mean = tuple(np.rint(rgb[alpha > 0].mean(0)).astype(int))
    assert {tuple(colour) for colour in in_blocks.reshape(-1, 3)} == seen | {mean}


def test_a_large_transparent_picture_takes_little_memory(monkeypatch):
    most = []
    search = cv2.distanceTransformWithLabels
    monkeypatch.setattr(
        cv2,
        "distanceTransformWithLabels",
        lambda a, *b, **c: most.append(a.size) or search(a, *b, **c),
    )
    rgb, alpha = np.zeros((3000, 2500, 3), np.uint8), np.zeros((3000, 2500), np.uint8)
    alpha[::700, ::600] = 255
    fill_hidden(rgb, alpha)
    assert len(most) == 9 and max(most) < 2 * 2**20


def test_faint_pixels_are_seen_and_keep_their_colours():
    pixels = noise(20, 20, 4)
    pixels[:, :, 3] = 1
    np.testing.assert_array_equal(read_photo(pixels).rgb, pixels[:, :, :3])


@pytest.mark.parametrize("alpha", [0, 255, None])
def test_nothing_hidden_or_nothing_else(alpha):
    rgb = noise(20, 20)
    before, plane = rgb.copy(), None if alpha is None else np.full((20, 20), alpha, np.uint8)
    fill_hidden(rgb, plane)
    np.testing.assert_array_equal(rgb, before)
    if alpha is not None:
        photo = read_photo(stored(np.dstack([rgb, plane]), "PNG"))
        np.testing.assert_array_equal(photo.rgb, rgb)
        assert (photo.alpha == alpha).all()


def test_what_is_given_stays_as_it_is():
    given = noise(20, 20, 4)
    given[:, :, 3] = 0
    given[3:9, 4:7, 3] = 90
    before = given.copy()
    photo = read_photo(given)
    np.testing.assert_array_equal(given, before)
    assert photo.rgb.flags.c_contiguous and (photo.rgb != given[:, :, :3]).any()
