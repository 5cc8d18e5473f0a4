"""Primitives of drawing: what is asked for is where it belongs, and nothing else changes."""

from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.figures.draw import (
    BLACK,
    BLUE,
    INK,
    NORMAL,
    ORANGE,
    UNKNOWN,
    WHITE,
    WIDTH,
    Box,
    arrange,
    arrow,
    blank,
    blend,
    dot,
    emphasise,
    emphasise_polygon,
    enlarge,
    fit_zoom,
    grey,
    line,
    outline,
    outline_polygon,
    shape,
    shelve,
    stack,
    text,
    text_width,
    wrap,
    written,
)
from demo.figures.heat import colour_bar, cosine_range, heat_map, histogram, paint


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)


def touched(picture, ground):
    """Rows and columns that a mark changed, as (top, bottom, left, right)."""
    rows, columns = np.nonzero((picture != ground).any(2))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_enlarge_by_whole_factors_repeats_pixels(picture):
    assert np.array_equal(enlarge(picture, 3), np.kron(picture, np.ones((3, 3, 1), np.uint8)))


@pytest.mark.parametrize("zoom", [0.01, 0.3, 1, 1.7, 3.67, 40])
def test_enlarge_gives_the_size_asked_for(picture, zoom):
    rows, columns = enlarge(picture, zoom).shape[:2]
    assert (rows, columns) == (max(1, round(7 * zoom)), max(1, round(11 * zoom)))


def test_enlarged_pixels_keep_their_colour_in_the_middle(picture):
    large = enlarge(picture, 3.67)
    for row, column in np.ndindex(7, 11):
        assert np.array_equal(
            large[int(3.67 * (row + 0.5)), int(3.67 * (column + 0.5))], picture[row, column]
        )


def test_enlarge_keeps_the_mean_when_it_shrinks(picture):
    small = enlarge(np.tile(picture, (20, 20, 1)), 1 / 7)
    assert abs(float(small.mean()) - float(picture.mean())) < 1


def test_enlarge_never_returns_its_argument(picture):
    assert not np.shares_memory(enlarge(picture, 1), picture)


def test_blend(picture):
    assert np.array_equal(blend(picture, ORANGE, 0), picture)
    assert (blend(picture, ORANGE, 1) == ORANGE).all()
    share = np.zeros((7, 11))
    share[2, 3] = 1
    mixed = blend(picture, ORANGE, share)
    assert tuple(mixed[2, 3]) == ORANGE
    mixed[2, 3] = picture[2, 3]
    assert np.array_equal(mixed, picture)


def test_grey_has_no_colour(picture):
    assert (np.ptp(grey(picture), axis=2) == 0).all()
    assert grey(picture, 0.5).min() >= 127


def test_outline_stays_on_the_edge_of_its_box():
    page = outline(blank(20, 30), Box(5, 4, 15, 12), BLACK, 2)
    expected = blank(20, 30)
    expected[4:12, 5:15] = BLACK
    expected[6:10, 7:13] = WHITE
    assert np.array_equal(page, expected)


@pytest.mark.parametrize("box", [Box(-5, -5, 3, 3), Box(8, 8, 50, 50), Box(40, 40, 50, 50)])
def test_marks_may_reach_beyond_the_picture(box):
    page = blank(10, 10)
    outline(page, box, BLACK)
    emphasise(page, box)
    text(page, "far\naway", box.left, box.top, anchor="mm", halo=WHITE)
    dot(page, box.centre, 4, BLUE)
    arrow(page, box.centre, (-30, 5))
    assert page.shape == (10, 10, 3)


def test_emphasise_leaves_its_box_alone():
    page = emphasise(blank(30, 30, BLUE), Box(10, 12, 16, 20))
    assert (page[12:20, 10:16] == BLUE).all()
    assert touched(page, blank(30, 30, BLUE)) == (7, 25, 5, 21)


@pytest.mark.parametrize("thickness", [1, 2, 3])
def test_upright_polygons_are_drawn_like_boxes(thickness):
    for box in (Box(9, 8, 25, 17), Box(-3.2, 6.7, 12.4, 60), Box(5.4, 7.6, 31.6, 23.3)):
        corners = np.array(
            [
                (box.left, box.top),
                (box.right, box.top),
                (box.right, box.bottom),
                (box.left, box.bottom),
            ]
        )
        assert Box.around(corners) == box
        for one, other in ((outline, outline_polygon), (emphasise, emphasise_polygon)):
            boxed = one(blank(40, 50, BLUE), box, BLACK, thickness)
            drawn = other(blank(40, 50, BLUE), corners, BLACK, thickness)
            assert np.array_equal(boxed, drawn)


def test_a_turned_polygon_s_edge_lies_inside_it():
    diamond = np.array([(20, 5), (35, 20), (20, 35), (5, 20)], float)
    page = outline_polygon(blank(40, 40), diamond, BLACK, 2)
    x, y = np.meshgrid(np.arange(40) + 0.5, np.arange(40) + 0.5)
    apart = np.abs(x - 20) + np.abs(y - 20)
    dark = (page == BLACK).all(2)
    assert dark[(apart > 13) & (apart < 14)].all()
    assert not dark[apart > 16].any()
    assert not dark[apart < 11].any()


@pytest.mark.parametrize("filled", [True, False])
def test_dot_is_centred(filled):
    page = dot(blank(41, 41), (20.5, 20.5), 6, BLACK, filled)
    top, bottom, left, right = touched(page, blank(41, 41))
    assert top + bottom == left + right == 41
    assert np.array_equal(page[20, 20] == BLACK, [filled] * 3)


def test_lines_shapes_and_arrows_are_where_they_should_be():
    ground = blank(50, 60, (128, 128, 128))
    page = line(ground.copy(), [(10, 25), (50, 25)], BLACK, 2)
    assert touched(page, ground) == pytest.approx((23, 27, 8, 52), abs=2)
    page = shape(ground.copy(), [(20, 20), (30, 20), (30, 30), (20, 30)], BLACK)
    assert touched(page, ground) == pytest.approx((20, 30, 20, 30), abs=3)
    assert tuple(page[25, 25]) == BLACK
    page = arrow(ground.copy(), (10, 10), (40, 30), BLACK)
    top, bottom, left, right = touched(page, ground)
    assert (top, bottom, left, right) == pytest.approx((10, 30, 10, 40), abs=4)


@pytest.mark.parametrize(
    ("anchor", "x", "y"), [("la", 0, 0), ("mm", 0.5, 0.5), ("rd", 1, 1), ("lm", 0, 0.5)]
)
def test_text_is_anchored(anchor, x, y):
    page = text(blank(80, 200), "Hxg", 100, 40, 20, BLACK, anchor)
    top, bottom, left, right = touched(page, blank(80, 200))
    assert 100 - x * (right - left) == pytest.approx(left, abs=3)
    assert 40 - y * 27 - 3 <= top < bottom <= 40 - y * 27 + 30


def test_letters_have_their_size():
    page = text(blank(60, 60), "H", 10, 10, 13, BLACK)
    top, bottom, _, _ = touched(page, blank(60, 60))
    assert 9 <= bottom - top <= 13


@given(st.text("abc xyz", max_size=60), st.integers(20, 300))
def test_wrap_keeps_words_and_width(words, width):
    wrapped = wrap(words, width)
    assert wrapped.split() == words.split()
    for part in wrapped.split("\n"):
        assert " " not in part.strip() or text_width(part) <= width


def test_paint_spans_the_colour_map_and_greys_the_unknown():
    values = np.array([[0.0, 1.0, 2.0], [-5.0, 7.0, np.nan]])
    colours = paint(values, 0, 2, "viridis")
    table = np.asarray(matplotlib.colormaps["viridis"]([0.0, 1.0]))[:, :3] * 255
    for place, end in (((0, 0), 0), ((1, 0), 0), ((0, 2), 1), ((1, 1), 1)):
        assert np.abs(colours[place] - table[end]).max() <= 1
    assert tuple(colours[1, 2]) == UNKNOWN


@pytest.mark.parametrize("value", [0.0, -3.5, np.nan, 1e9])
def test_heat_map_of_one_value(value):
    image = heat_map(np.full((4, 6), value), "label", "unit")
    assert image.dtype == np.uint8
    assert image.shape[1] == WIDTH


def test_a_single_value_has_the_colour_above_its_tick():
    image = heat_map(np.full((4, 6), 0.7), "label", zoom=10)
    bar = image[40 + 6 + 9, 20 : WIDTH - 20]
    assert np.array_equal(image[20, 30], bar[len(bar) // 2])


def test_cosines_that_hardly_differ_look_alike():
    low, high = cosine_range(2.9999986, 3.000001, 3)
    values = np.linspace(2.9999986, 3.000001, 50).reshape(5, 10)
    assert np.ptp(paint(values, low, high).astype(int), axis=(0, 1)).max() <= 1
    assert cosine_range(0.2, 0.9) == (0.2, 0.9)
    assert cosine_range(0.9, 0.91)[1] == 0.91


@pytest.mark.parametrize(
    ("values", "span", "words"),
    [
        ([2.99, 3.0, 3.01], 0.02, ["2.99", "3", "3.01"]),
        ([0.5, 0.500001], 1e-6, ["0.5", "0.500001"]),
        ([-20, 0, 20], 40, ["−20", "0", "20"]),
        ([0, 2e-5], 2e-5, ["0.0e+00", "2.0e−05"]),
        ([0, 100000], 1e5, ["0.0e+00", "1.0e+05"]),
        ([-0.25], 0, ["−0.25"]),
    ],
)
def test_ticks_are_told_apart(values, span, words):
    assert [written(value, span) for value in values] == words


def test_heat_map_starts_with_the_map():
    values = np.arange(12.0).reshape(3, 4)
    image = heat_map(values, "label", "unit", zoom=10)
    assert np.array_equal(image[:30, :40], enlarge(paint(values, 0, 11), 10))
    seen = []
    heat_map(values, "label", zoom=10, mark=lambda picture: seen.append(picture.shape))
    assert seen == [(30, 40, 3)]


def test_colour_bar_shows_its_range_and_its_ends():
    plain = colour_bar("label", 0, 1)
    shades = plain[9, 20 : WIDTH - 20]
    assert np.array_equal(shades[0], paint(np.zeros((1, 1)), 0, 1)[0, 0])
    assert np.array_equal(shades[-1], paint(np.ones((1, 1)), 0, 1)[0, 0])
    assert (plain[9, :20] == WHITE).all()
    assert (plain[9, -20:] == WHITE).all()
    pointed = colour_bar("label", 0, 1, below=True, above=True)
    assert (pointed[9, 14] != WHITE).any()
    assert (pointed[9, -15] != WHITE).any()
    assert (colour_bar("label", 0, 1, unknown=True) == UNKNOWN).all(2).sum() > 80
    assert not (plain == UNKNOWN).all(2).any()


def test_long_labels_make_room():
    narrow = colour_bar("a label of so many words that no line can hold it", 0, 1, width=150)
    assert narrow.shape[1] == 150
    assert narrow.shape[0] > colour_bar("short", 0, 1, width=150).shape[0]


def test_histogram_counts():
    values = np.concatenate((np.zeros(50), np.ones(100), [np.nan]))
    heights = (histogram(values, 0, 1)[:-1] != WHITE).any(2).sum(0)
    assert heights[21] == pytest.approx(heights[-25] / 2, abs=2)
    assert heights[WIDTH // 2] == 0
    assert (histogram(np.array([np.nan]), 0, 1) == WHITE).all()


def test_arrange_keeps_pictures_whole(picture):
    page, corners = arrange([picture, picture[:3]], ["one title that is rather long", ""], 5, 50)
    assert len(corners) == 2
    for (left, top), part in zip(corners, (picture, picture[:3]), strict=True):
        assert np.array_equal(page[top : top + len(part), left : left + 11], part)
    assert corners[1][0] - corners[0][0] >= 55


def test_untitled_pictures_stand_side_by_side(picture):
    page, _ = arrange([picture, picture], ["", ""], gap=3)
    assert page.shape == (7, 25, 3)
    assert (page[:, 11:14] == WHITE).all()


def test_stack(picture):
    page = stack([picture, picture[:, :5]], gap=2)
    assert page.shape == (16, 11, 3)
    assert np.array_equal(page[9:, :5], picture[:, :5])


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=5))
def test_shelved_pictures_fit_and_do_not_overlap(sizes):
    zoom, corners = shelve(sizes, 460, 560)
    assert zoom > 0
    taken = np.zeros((600, 500), int)
    for (rows, columns), (left, top) in zip(sizes, corners, strict=True):
        height, width = max(1, round(zoom * rows)), max(1, round(zoom * columns))
        assert left + width <= 464
        assert top + height <= 564
        taken[top : top + height, left : left + width] += 1
    assert taken.max() == 1


def test_shelve_knows_a_largest_factor():
    assert shelve([(2, 2), (3, 3)], 460, 560, most=8)[0] == 8


def test_fit_zoom():
    assert fit_zoom(10, 20, 100, 100) == 5
    assert fit_zoom(20, 10, 100, 100) == 5


def test_boxes():
    box = Box(1, 2, 3, 5)
    assert box.scaled(2, 10, 20) == Box(12, 24, 16, 30)
    assert box.within(Box(2, 0, 9, 3)) == Box(2, 2, 3, 3)
    assert box.within(Box(3, 0, 9, 3)) is None
    assert box.centre == (2, 3.5)


def test_text_in_many_threads():
    def draw(number):
        return text(blank(30, 90), f"{number % 3} words", 2, 2, NORMAL, INK)

    alone = [draw(number) for number in range(3)]
    with ThreadPoolExecutor(4) as pool:
        for number, image in enumerate(pool.map(draw, range(60))):
            assert np.array_equal(image, alone[number % 3])


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 115])
def test_a_turned_outline_is_as_thick_on_all_sides(degrees):
    angle = np.deg2rad(degrees)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    corners = np.array([(-30, -20), (30, -20), (30, 20), (-30, 20)]) @ turn + 60
    page = outline_polygon(blank(120, 120), corners, ORANGE, 4)
    inked = (page == ORANGE).all(2).sum()
    assert inked == pytest.approx(4 * 2 * (60 + 40 - 8), rel=0.25)
    for start, end in zip(corners, np.roll(corners, -1, 0), strict=True):
        inside = (start + end) / 2 + 2 * (60 - (start + end) / 2) / np.hypot(
            *((start + end) / 2 - 60)
        )
        column, row = inside.astype(int)
        assert tuple(page[row, column]) == ORANGE
