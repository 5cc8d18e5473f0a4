"""Padding, stacking, and the way back to a visitor's own pixels."""

import numpy as np
import pytest
from helpers import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.config import MASAConfig
from masa.network.matching import Geometry
from masa.pictures.degradation import lr_from_hr
from masa.pictures.resize import enlarge_x4, reduce_x4
from masa.reference.canvas import canvas_sizes, lr_canvas, ref_canvas

DEFAULT = MASAConfig()

lr_size = st.tuples(st.integers(8, 150), st.integers(8, 150))
ref_sizes = st.lists(st.tuples(st.integers(16, 130), st.integers(16, 130)), max_size=5)
few = settings(max_examples=40)


def canvases(lr_size, ref_sizes, config=DEFAULT):
    lr = lr_canvas(picture(*lr_size), config)
    refs = [picture(*size, seed=i + 1) for i, size in enumerate(ref_sizes)]
    return lr, refs, ref_canvas(refs, lr, config)


@few
@given(lr_size)
def test_lr_is_padded_to_whole_blocks(size):
    rgb = picture(*size)
    canvas = lr_canvas(rgb, DEFAULT)
    for padded, side in zip(canvas.rgb.shape, size, strict=False):
        assert padded % 8 == 0
        assert padded >= 16
        assert padded - side < 8 or padded == 16
    assert (canvas.height, canvas.width) == size
    np.testing.assert_array_equal(canvas.crop(canvas.rgb), rgb)
    assert (canvas.rgb[size[0] :] == canvas.rgb[size[0] - 1]).all()
    assert (canvas.rgb[:, size[1] :] == canvas.rgb[:, size[1] - 1 : size[1]]).all()
    large = np.zeros([4 * side for side in canvas.rgb.shape[:2]])
    assert canvas.crop(large, 4).shape == (4 * size[0], 4 * size[1])


@few
@given(lr_size, ref_sizes)
def test_sizes_are_what_the_network_needs(lr_size, ref_sizes):
    lr, _, ref = canvases(lr_size, ref_sizes)
    assert ref.rgb.shape == (4 * ref.down.shape[0], 4 * ref.down.shape[1], 3)
    assert ref.rgb.shape[0] % 16 == ref.rgb.shape[1] % 16 == 0
    # And known before there is a picture.
    known = canvas_sizes(lr_size, ref_sizes, DEFAULT)
    assert known == (lr.rgb.shape[:2], ref.down.shape[:2])
    geometry = Geometry.of(lr.rgb.shape[:2], ref.down.shape[:2], DEFAULT)
    # Ref blocks have the size that the paper's formula wants: none was cut short.
    for side, down, blocks in (
        (geometry.ref_block_height, ref.down.shape[0], geometry.rows),
        (geometry.ref_block_width, ref.down.shape[1], geometry.columns),
    ):
        assert side == 2 * int(down // (2 * blocks) * 1.5) + 1
        assert side + 2 <= down


@few
@given(lr_size, ref_sizes)
def test_every_reference_lies_whole_in_its_own_place(lr_size, ref_sizes):
    _, refs, ref = canvases(lr_size, ref_sizes)
    if not refs:
        refs = [picture(*lr_size)]
    assert len(ref.placements) == len(refs)
    bottoms = [place.top for place in ref.placements[1:]] + [ref.rgb.shape[0]]
    for rgb, place, bottom in zip(refs, ref.placements, bottoms, strict=True):
        assert (place.height, place.width) == rgb.shape[:2]
        assert place.top % 16 == 0
        assert place.top + place.height <= bottom
        own = ref.rgb[place.top : bottom]
        np.testing.assert_array_equal(own[: place.height, : place.width], rgb)
        assert (own[place.height :] == own[place.height - 1]).all()
        assert (own[:, place.width :] == own[:, place.width - 1 : place.width]).all()
        # Reduced apart, so that nothing bleeds from one reference into the next.
        np.testing.assert_array_equal(ref.down[place.top // 4 : bottom // 4], reduce_x4(own))


@few
@given(lr_size, ref_sizes)
def test_locate_is_the_way_back(lr_size, ref_sizes):
    _, _, ref = canvases(lr_size, ref_sizes or [(40, 24)])
    rows, columns = np.mgrid[: ref.down.shape[0], : ref.down.shape[1]]
    number, y, x = ref.locate(rows, columns)
    assert number.shape == y.shape == x.shape == rows.shape
    for index, place in enumerate(ref.placements):
        height, width = place.height // 4, place.width // 4
        own = np.s_[place.top // 4 : place.top // 4 + height, :width]
        # A reduced pixel's centre is that of the 4x4 pixels it was made of.
        assert (number[own] == index).all()
        np.testing.assert_array_equal(y[own], rows[:height, :width] * 4 + 1.5)
        np.testing.assert_array_equal(x[own], columns[:height, :width] * 4 + 1.5)
        mine = number == index
        assert (y[mine] <= place.height - 1).all()
        assert (x[mine] <= place.width - 1).all()
    assert (y >= 0).all()
    assert (x >= 0).all()


def test_locate_takes_single_cells_and_padding_goes_to_the_edge():
    _, _, ref = canvases((16, 16), [(16, 16), (33, 50)])
    second = ref.placements[1]
    number, y, x = ref.locate(np.array([0, second.top // 4 + 8]), np.array([5, 12]))
    assert number.tolist() == [0, 1]
    assert y.tolist() == [1.5, 32]  # cell 8's centre, row 33.5, is the padding's
    assert x.tolist() == [15, 49]  # 21.5 and 49.5 are beyond 16 and 50 columns


def test_without_a_reference_the_lr_is_one():
    lr, _, own = canvases((21, 30), [])
    given_again = ref_canvas([lr.crop(lr.rgb)], lr, DEFAULT)
    np.testing.assert_array_equal(own.rgb, given_again.rgb)
    assert own.placements == given_again.placements
    assert (own.placements[0].height, own.placements[0].width) == (21, 30)


@pytest.mark.parametrize("block", [4, 16])
def test_other_block_sizes(block):
    config = MASAConfig(lr_block=block)
    for size in ((8, 8), (17, 40), (50, 33)):
        lr, _, ref = canvases(size, [(30, 45), (16, 16)], config)
        assert lr.rgb.shape[0] % block == lr.rgb.shape[1] % block == 0
        geometry = Geometry.of(lr.rgb.shape[:2], ref.down.shape[:2], config)
        wanted = 2 * int(ref.down.shape[0] // (2 * geometry.rows) * 1.5) + 1
        assert geometry.ref_block_height == wanted


@given(st.integers(4, 40), st.integers(4, 40))
@few
def test_lr_from_hr(height, width):
    hr = picture(height, width)
    lr, cropped = lr_from_hr(hr)
    np.testing.assert_array_equal(cropped, hr[: height // 4 * 4, : width // 4 * 4])
    assert lr.shape == (height // 4, width // 4, 3)
    np.testing.assert_array_equal(lr, reduce_x4(cropped))
    assert enlarge_x4(lr).shape == cropped.shape
