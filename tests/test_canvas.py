"""Padding, stacking, and the way back to a visitor's own pixels."""

import numpy as np
import pytest
from helpers import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from masa.config import MASAConfig
from masa.network.blocks import Geometry
from masa.pictures.degradation import lr_from_hr
from masa.pictures.resize import enlarge_x4, reduce_x4
from masa.reference.canvas import Area, View, as_it_is, canvas_sizes, lr_canvas, ref_canvas

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
    assert canvas.crop(large).shape == (4 * size[0], 4 * size[1])
    small = np.zeros([side // 2 for side in canvas.rgb.shape[:2]])  # a pixel half padding stays
    assert canvas.crop(small).shape == (-(-size[0] // 2), -(-size[1] // 2))


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


@few
@given(lr_size, ref_sizes)
def test_a_reference_is_cut_out_of_the_canvas(lr_size, ref_sizes):
    _, refs, ref = canvases(lr_size, ref_sizes or [(40, 24)])
    refs = refs or [picture(40, 24, seed=1)]
    assert ref.count == len(refs)
    assert ref.sizes == tuple(rgb.shape[:2] for rgb in refs)
    for number, (rgb, area) in enumerate(zip(refs, ref.areas, strict=True)):
        np.testing.assert_array_equal(ref.seen(ref.rgb, number), rgb)
        assert ref.pixels(area).shape == (4 * area.height, 4 * area.width, 3)
        np.testing.assert_array_equal(ref.pixels(area)[: rgb.shape[0], : rgb.shape[1]], rgb)
        bottom = ref.placements[number + 1].top if number + 1 < len(refs) else ref.rgb.shape[0]
        down = reduce_x4(ref.rgb[ref.placements[number].top : bottom])
        np.testing.assert_array_equal(ref.cells(area), down[: area.height, : area.width])
        # Cells are repeated, so that every own pixel shows the cell it lies in.
        shown = ref.seen(ref.down, number)
        assert shown.shape == rgb.shape
        row, column = rgb.shape[0] - 1, rgb.shape[1] - 1
        expected = ref.down[area.top + row // 4, column // 4]
        np.testing.assert_array_equal(shown[row, column], expected)


@few
@given(lr_size, ref_sizes)
def test_own_cells_are_those_with_pixels_of_a_reference(lr_size, ref_sizes):
    _, _, ref = canvases(lr_size, ref_sizes or [(40, 24)])
    own = np.zeros(ref.rgb.shape[:2], bool)
    for place in ref.placements:
        own[place.top : place.top + place.height, : place.width] = True
    height, width = ref.down.shape[:2]
    in_cells = own.reshape(height, 4, width, 4).any((1, 3))
    np.testing.assert_array_equal(ref.is_own, in_cells)
    assert sum(area.height * area.width for area in ref.areas) == in_cells.sum()


@few
@given(lr_size, ref_sizes)
def test_unclipped_places_go_on_beyond_the_edge(lr_size, ref_sizes):
    _, _, ref = canvases(lr_size, ref_sizes or [(40, 24)])
    rows, columns = np.mgrid[: ref.down.shape[0], : ref.down.shape[1]]
    number, y, x = ref.locate(rows, columns, clip=False)
    clipped = ref.locate(rows, columns)
    np.testing.assert_array_equal(number, clipped.number)
    tops = np.array([place.top for place in ref.placements])[number]
    np.testing.assert_array_equal(y, 4 * rows + 1.5 - tops)
    np.testing.assert_array_equal(x, 4 * columns + 1.5)
    heights, widths = np.array(ref.sizes).T
    np.testing.assert_array_equal(clipped.row, np.minimum(y, heights[number] - 1))
    np.testing.assert_array_equal(clipped.column, np.minimum(x, widths[number] - 1))


def test_outlines_are_cut_at_a_reference_s_edges():
    _, _, ref = canvases((16, 16), [(33, 50), (40, 18)])
    second = ref.placements[1].top // 4
    inside = ref.outlines(Area(2, 3, 4, 8))
    assert [outline.number for outline in inside] == [0]
    assert inside[0].corners.tolist() == [[7.5, 11.5], [7.5, 31.5], [15.5, 31.5], [15.5, 11.5]]
    # From above the canvas, over all of the first one and its padding, into the second one.
    first, other = ref.outlines(Area(-3, -1, second + 2, 99))
    assert (first.number, other.number) == (0, 1)
    assert first.corners.min(0).tolist() == other.corners.min(0).tolist() == [-0.5, -0.5]
    assert first.corners.max(0).tolist() == [32.5, 49.5]
    assert other.corners.max(0).tolist() == [7.5, 17.5]
    assert ref.outlines(Area(second, 5, second + 2, 12)) == []  # beside 18 columns: 5 cells


def test_areas_in_common():
    area = Area(2, 3, 10, 8)
    assert (area.height, area.width) == (8, 5)
    assert area.within(Area(0, 4, 5, 99)) == Area(2, 4, 5, 8)
    assert area.within(Area(0, 8, 5, 99)) is None
    assert area.within(Area(10, 0, 12, 99)) is None


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


def turned_view(height=40, width=64):
    """An aligned view of a reference that is turned by a quarter, and twice as large."""
    rows, columns = np.mgrid[: height // 4, : width // 4] * 4 + 1.5
    own = np.stack((2 * columns + 0.5, 2 * (height - 1 - rows) + 0.5), 2).astype(np.float32)
    return View(1, (2 * width, 2 * height), picture(height, width, 3), own)


def test_a_view_maps_to_the_own_pixels_of_its_reference():
    lr = lr_canvas(picture(16, 16), DEFAULT)
    plain = as_it_is([picture(32, 48, 1), picture(128, 80, 2)], lr)
    ref = ref_canvas([*plain, turned_view()], lr, DEFAULT)
    assert ref.count == 3
    top = ref.placements[2].top // 4
    number, row, column = ref.locate(np.array([3, top, top + 9]), np.array([2, 0, 15]))
    assert number.tolist() == [0, 1, 1]
    np.testing.assert_allclose(row, [13.5, 3.5, 123.5])
    np.testing.assert_allclose(column, [9.5, 75.5, 3.5])
    # A rectangle of cells is turned with its reference; pixel borders lie between the cells.
    (found,) = ref.outlines(Area(top + 1, 2, top + 3, 5))
    assert found.number == 1
    corners = np.array([(4, 8), (4, 20), (12, 20), (12, 8)]) - 0.5  # canvas pixels of the view
    np.testing.assert_allclose(
        found.corners, np.stack((2 * corners[:, 1] + 0.5, 2 * (39 - corners[:, 0]) + 0.5), 1)
    )


def test_what_a_view_shows_beyond_its_reference_goes_to_the_edge():
    lr = lr_canvas(picture(16, 16), DEFAULT)
    view = turned_view()
    far = View(view.number, (60, 50), view.rgb, view.own)
    ref = ref_canvas([far], lr, DEFAULT)
    rows, columns = np.mgrid[:10, :16]
    _, row, column = ref.locate(rows, columns)
    assert row.max() == 59 and column.max() == 49
    assert row.min() >= 0 and column.min() >= 0
    _, row, column = ref.locate(rows, columns, clip=False)
    assert row.max() > 59 and column.max() > 49
    np.testing.assert_array_equal(ref.rgb[:40, :64], view.rgb)


def test_own_pixels_lead_back_to_the_view():
    lr = lr_canvas(picture(16, 16), DEFAULT)
    ref = ref_canvas([*as_it_is([picture(33, 50, 1)], lr), turned_view()], lr, DEFAULT)
    plain, turned = ref.placements
    row, column = np.mgrid[:33, :50].astype(float)
    back = plain.from_own(row, column)
    np.testing.assert_array_equal(back, np.stack((row, column), -1))
    row, column = np.mgrid[:40, :64].astype(float)
    own = turned.to_own(row + turned.top, column)
    back = turned.from_own(own[..., 0], own[..., 1])
    np.testing.assert_allclose(back, np.stack((row + turned.top, column), -1), atol=1e-4)
    beyond = turned.from_own(np.array([-9.0, 5.0, 900.0]), np.array([5.0, 90.0, 900.0]))
    assert np.isnan(beyond).all()


def test_rows_of_cells_belong_to_views():
    lr = lr_canvas(picture(16, 16), DEFAULT)
    ref = ref_canvas([*as_it_is([picture(33, 50, 1)], lr), turned_view()], lr, DEFAULT)
    first = ref.rows[1].start
    rows = np.array([0, first - 1, first - 0.5, first, ref.down.shape[0] - 1])
    assert ref.view_at(rows).tolist() == [0, 0, 1, 1, 1]
    assert ref.is_aligned(rows).tolist() == [False, False, True, True, True]
    # Half a cell before a centre lies between two centres.
    at = ref.locate(np.array([2, 1.5]), np.array([3, 2.5]))
    assert at.row.tolist() == [9.5, 7.5] and at.column.tolist() == [13.5, 11.5]


def test_what_an_aligned_view_repeats_is_not_the_reference_s_own():
    lr = lr_canvas(picture(16, 16), DEFAULT)
    view = turned_view()
    whole = ref_canvas([view], lr, DEFAULT)
    assert whole.is_own[:10, :16].all() and whole.is_own.sum() == 160
    part = ref_canvas([View(view.number, (60, 50), view.rgb, view.own)], lr, DEFAULT)
    _, row, column = part.locate(*np.mgrid[:10, :16], clip=False)
    np.testing.assert_array_equal(part.is_own[:10, :16], (row < 59.5) & (column < 49.5))
