"""Figures of the matching: what they draw and say is what was matched."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import fill, is_one_sentence, picture
from PIL import Image

import masa.network.blocks
from demo.figures import blocks, coarse, fine, pixel
from demo.figures.draw import TALL, WIDE, WIDTH
from demo.figures.figure import pick
from demo.figures.places import (
    block_at,
    block_corner,
    canvas_view,
    coarse_place,
    matched_cells,
    moves,
    padding_share,
    padding_words,
    place_words,
    ref_view,
)
from demo.figures.view import View
from demo.runs.examples import load_examples
from demo.runs.exploration import explore
from demo.runs.request import FinishedRun, Request, run
from masa.config import MASAConfig
from masa.network.blocks import Geometry
from masa.network.model import MASA
from masa.network.transfer import plan_transfer, transfer
from masa.predictor import Predictor
from masa.reference.canvas import Area, lr_canvas

DOWN, RIGHT = 2, 3
"""LR pixels from each pixel to its match in ``shifted``."""

INNER = np.s_[..., 8:-8, 8:-8]
"""LR pixels whose features hardly see the border of the photo, which the reference continues."""


def explored(photo, refs, is_hr=True):
    request = Request(photo, tuple(refs), is_hr, align=False)
    return explore(run(request, lambda share, doing: None))


@pytest.fixture(scope="module")
def motorcycle():
    """HR, reference and disparity of the whole example."""
    example = next(e for e in load_examples() if e.name == "motorcycle")
    hr, ref = (np.asarray(Image.open(path).convert("RGB")) for path in (example.hr, *example.refs))
    return hr, ref, example.true_disparity()


@pytest.fixture(scope="module")
def shifted(motorcycle):
    """The reference is the photo itself with more around it, so that every match is known."""
    wide = motorcycle[0][100:300, 180:420]
    hr = wide[4 * DOWN : 4 * DOWN + 128, 4 * RIGHT : 4 * RIGHT + 160]
    return explored(hr, [wide])


@pytest.fixture(scope="module")
def cameras(motorcycle):
    """A part of the pair of cameras; the reference's part starts 40 columns further left."""
    hr, ref, disparity = (array[150:310] for array in motorcycle)
    x = explored(hr[:, 200:400], [ref[:, 160:400]])
    return replace(x, disparity=disparity[:, 200:400] - 40)


@pytest.fixture(scope="module")
def stacked(motorcycle):
    """Odd sizes, padding everywhere, three references of different shapes."""
    refs = [picture(50, 130), motorcycle[1][:150, :90].copy(), picture(40, 36, 5)]
    return explored(motorcycle[0][::4, ::4][20:41, 30:59].copy(), refs, is_hr=False)


@pytest.fixture(scope="module")
def alone():
    """The smallest photo, without a reference."""
    return explored(picture(8, 8), [], is_hr=False)


@pytest.fixture(scope="module")
def strip():
    """A photo much wider than high with a reference much higher than wide."""
    return explored(picture(9, 90), [picture(200, 20, 3)], is_hr=False)


@pytest.fixture(scope="module")
def unusual():
    """Other blocks, patches and dilations than the shipped weights have."""
    config = MASAConfig(channels=8, lr_block=16, ref_factor=1, dilations=(2, 5), patch=5)
    model = fill(MASA(config), in_blocks=1).requires_grad_(False).eval()
    ref = picture(130, 210, 2)
    result = Predictor(model, "cpu", "fp32").run(picture(41, 30), [ref], keep=(1, 2, 4))
    return explore(FinishedRun(Request("photo.png", align=False), result, None, config))


EXPLORATIONS = ("shifted", "cameras", "stacked", "alone", "strip", "unusual", "four_views")


@pytest.fixture(params=EXPLORATIONS)
def x(request):
    return request.getfixturevalue(request.param)


FIGURES = {
    "lr_blocks": blocks.lr_blocks,
    "ref_blocks": blocks.ref_blocks,
    "block_pair": coarse.block_pair,
    "score_maps": coarse.score_maps,
    "score_heat": coarse.score_heat,
    "displacement": fine.displacement,
    "similarity": fine.similarity,
    "discontinuities": fine.discontinuities,
    "given": fine.given,
    "patch_search": fine.patch_search,
    "chosen": pixel.chosen,
    "provenance": pixel.provenance,
    "reference_shares": pixel.reference_shares,
}
VIEWS = (View(), View(7, 5))


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_every_figure_of_every_kind_of_run(x, name, view):
    drawn = FIGURES[name](x, view)
    if name == "reference_shares" and len(x.refs) == 1:
        assert drawn is None and is_one_sentence(pixel.why_no_shares(x, view))
        return
    assert drawn.image.dtype == np.uint8
    assert drawn.image.ndim == 3
    assert drawn.image.shape[1] <= (WIDE if name in ("given", "provenance") else WIDTH + 6)
    assert is_one_sentence(drawn.alt)
    assert drawn.summary.endswith(".")
    assert "nan" not in drawn.summary
    for panel in drawn.panels:
        assert panel.left >= 0
        assert panel.top >= 0
        assert panel.left + round(panel.columns * panel.zoom) <= drawn.image.shape[1]
        assert panel.top + round(panel.rows * panel.zoom) <= drawn.image.shape[0]


def points(panel):
    """Figure pixels in the middle of all picture pixels of a panel."""
    for row, column in np.ndindex(panel.rows, panel.columns):
        yield (
            row,
            column,
            panel.left + panel.zoom * (column + 0.5),
            panel.top + panel.zoom * (row + 0.5),
        )


@pytest.mark.parametrize(
    "name",
    [
        "lr_blocks",
        "score_heat",
        "displacement",
        "similarity",
        "discontinuities",
        "given",
        "chosen",
    ],
)
def test_clicks_name_the_pixel_below(x, name):
    drawn = FIGURES[name](x, VIEWS[1])
    (panel,) = drawn.panels
    scale = 4 if name in ("given", "chosen") else 1
    assert panel.name == ("hr" if scale == 4 else "lr")
    assert (panel.rows, panel.columns) == (scale * x.lr.height, scale * x.lr.width)
    for row, column, at_x, at_y in list(points(panel))[::13]:
        assert pick(drawn.panels, at_x, at_y) == (panel.name, row, column)


def test_panels_lie_on_their_picture(x):
    """What is drawn under a panel is the picture the panel stands for."""
    drawn = fine.given(x, View())
    (panel,) = drawn.panels
    for row, column, at_x, at_y in list(points(panel))[::29]:
        if panel.zoom >= 1:
            assert np.array_equal(drawn.image[int(at_y), int(at_x)], x.moved[row, column])


# Blocks


def test_a_clicked_block_is_the_chosen_one(x):
    drawn = blocks.lr_blocks(x, View())
    (panel,) = drawn.panels
    for _, _, at_x, at_y in points(panel):
        _, row, column = pick(drawn.panels, at_x, at_y)
        top, left = block_corner(x, block_at(x, row, column))
        assert top <= row < top + x.matches.geometry.block
        assert left <= column < left + x.matches.geometry.block


@pytest.mark.parametrize("size", [(409, 500), (500, 409), (313, 480), (512, 512)], ids=str)
def test_blocks_of_large_photos_are_drawn(size):
    """Of the last block, hardly a figure pixel may be seen."""
    lr = lr_canvas(np.zeros((*size, 3), np.uint8), MASAConfig())
    geometry = Geometry.of(lr.rgb.shape[:2], (64, 64), MASAConfig())
    drawn = blocks.lr_blocks(
        SimpleNamespace(lr=lr, matches=SimpleNamespace(geometry=geometry)), View()
    )
    assert drawn.image.shape[1] >= WIDTH


def test_choices_outside_are_moved_inside(x):
    far = View(10**6, 10**6)
    last = View(x.lr.height - 1, x.lr.width - 1)
    assert far.pixel(x) == (last.row, last.column)
    assert far.block(x) == block_at(x, last.row, last.column)
    assert View(-5, -5).block(x) == block_at(x, -5, -5) == 0
    for name in ("lr_blocks", "block_pair", "patch_search", "chosen", "provenance"):
        assert np.array_equal(FIGURES[name](x, far).image, FIGURES[name](x, last).image)
    for name in ("patch_search", "provenance"):
        mixed = FIGURES[name](x, View(-3, 10**6)).summary
        assert mixed == FIGURES[name](x, View(0, x.lr.width - 1)).summary


def test_the_best_of_the_drawn_scores_is_the_coarse_match(x):
    geometry = x.matches.geometry
    for number in range(0, geometry.blocks, 3):
        total = coarse.block_scores(x, number).sum(0)
        assert total.shape == (geometry.ref_height, geometry.ref_width)
        place = coarse_place(x, number)
        assert place[0] * geometry.ref_width + place[1] == x.matches.coarse.index[0, number]
        assert total[place] == pytest.approx(float(total.max()), abs=1e-4)
        assert total[place] == pytest.approx(float(x.matches.coarse.score[0, number]), abs=1e-4)


def test_the_best_place_is_ringed(shifted):
    number = block_at(shifted, 16, 20)
    row, column = coarse_place(shifted, number)
    drawn = coarse.score_maps(shifted, View(16, 20))
    view = canvas_view(shifted, shifted.ref.rgb, (WIDTH - 12) // 2, 300)
    at_x, at_y = view.point(row, column)
    title = drawn.image.shape[0]
    ring = (drawn.image == coarse.ORANGE).all(2)
    rows, columns = np.nonzero(ring[:title, : (WIDTH - 12) // 2])
    first = rows < view.picture.shape[0]  # of the upper of two maps
    assert columns[first].mean() == pytest.approx(at_x, abs=1.5)
    assert rows[first].mean() - 24 == pytest.approx(at_y, abs=1.5)


def test_runners_up_are_apart_and_in_order():
    rng = np.random.default_rng(0)
    total = rng.random((40, 60)).astype(np.float32)
    own = np.ones_like(total, bool)
    own[:, 50:] = False
    best = divmod(int(total.argmax()), 60)
    rivals = coarse.runners_up(total, own, best, (6, 4))
    assert len(rivals) == coarse.RIVALS
    assert all(own[place] for place in rivals)
    assert sorted((total[p] for p in rivals), reverse=True) == [total[p] for p in rivals]
    places = [best, *rivals]
    for i, (row, column) in enumerate(places):
        for other_row, other_column in places[:i]:
            assert abs(row - other_row) > 6 or abs(column - other_column) > 4


def test_runners_up_may_not_exist():
    total = np.ones((4, 4), np.float32)
    assert coarse.runners_up(total, total > 0, (0, 0), (6, 6)) == []
    assert coarse.runners_up(total, total < 0, (0, 0), (1, 1)) == []


def test_footprints_count_what_lies_over_each_cell(x):
    geometry = x.matches.geometry
    colours = blocks.block_colours(geometry.rows, geometry.columns).astype(float)
    count = np.zeros((geometry.ref_height, geometry.ref_width))
    total = np.zeros((*count.shape, 3))
    side = geometry.block
    for row in range(-(-x.lr.height // side)):
        for column in range(-(-x.lr.width // side)):
            number = row * geometry.columns + column
            top, left = (v - side // 2 for v in coarse_place(x, number))
            here = np.s_[max(0, top) : top + side, max(0, left) : left + side]
            count[here] += 1
            total[here] += colours[number]
    colour, found = blocks.footprints(x)
    assert np.array_equal(found, count)
    seen = count > 0
    assert np.abs(colour[seen] - total[seen] / count[seen][:, None]).max() <= 0.5


def test_block_colours_differ_and_neighbours_are_alike():
    colours = blocks.block_colours(11, 16).astype(int).reshape(11, 16, 3)
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 11 * 16
    steps = np.abs(np.diff(colours, axis=1)).max(2), np.abs(np.diff(colours, axis=0)).max(2)
    assert max(step.max() for step in steps) < 40
    assert np.abs(colours[0, 0] - colours[-1, -1]).max() > 100
    assert blocks.block_colours(1, 1).shape == (1, 3)


def test_clicks_in_the_reference_find_the_block_that_matched_there(shifted):
    for number in range(shifted.matches.geometry.blocks):
        row, column = coarse_place(shifted, number)
        found = blocks.block_near(shifted, "ref 1", 4 * row + 1, 4 * column + 2)
        assert coarse_place(shifted, found) == (row, column)
    drawn = blocks.ref_blocks(shifted, View())
    (panel,) = drawn.panels
    assert (panel.name, panel.rows, panel.columns) == ("ref 1", 200, 240)


def test_a_click_in_a_reference_chooses_the_block_that_matched_there(shifted):
    before = View(scale=1, channel=2)
    shifted = replace(shifted, scales={1: None})
    for number in range(0, shifted.matches.geometry.blocks, 3):
        row, column = (4 * v + 1 for v in coarse_place(shifted, number))
        view = blocks.matched_block(shifted, before, "ref 1", row, column)
        assert view.block(shifted) == blocks.block_near(shifted, "ref 1", row, column)
        top, left = block_corner(shifted, view.block(shifted))
        assert view == replace(before, row=top + 4, column=left + 4)


def test_clicks_in_one_of_several_references(stacked):
    drawn = blocks.ref_blocks(stacked, View())
    assert [panel.name for panel in drawn.panels] == ["ref 1", "ref 2", "ref 3"]
    number = block_at(stacked, 0, 0)
    row, column = coarse_place(stacked, number)
    assert [(panel.rows, panel.columns) for panel in drawn.panels] == [
        (50, 130),
        (150, 90),
        (40, 36),
    ]
    for panel, area in zip(drawn.panels, stacked.ref.areas, strict=True):
        found = blocks.block_near(stacked, panel.name, 0, 0)
        if found is not None:
            assert area.top <= coarse_place(stacked, found)[0] < area.bottom
        if area.top <= row < area.bottom:
            at = 4 * (row - area.top) + 2, 4 * column + 2
            found = blocks.block_near(stacked, panel.name, *at)
            assert coarse_place(stacked, found) == (row, column)


def test_words_on_a_block(shifted):
    number = block_at(shifted, 12, 17)
    score = float(shifted.matches.coarse.score[0, number])
    for draw in (blocks.ref_blocks, coarse.score_maps):
        drawn = draw(shifted, View(12, 17))
        assert "row 1, column 2" in drawn.summary
        assert f"{score:.2f}" in drawn.summary
    assert score == pytest.approx(3, abs=1e-3)
    # Its centre (12, 20) matches (14, 23): rows 56 to 59 and columns 92 to 95 of the reference.
    assert "row 58, column 94 of the reference" in coarse.block_pair(shifted, View(12, 17)).summary


def test_words_say_how_large_pictures_are_searched(shifted, monkeypatch):
    assert "propose" not in coarse.score_maps(shifted, View()).summary
    monkeypatch.setattr(masa.network.blocks, "FULL_SEARCH", 0)
    assert "8 channels propose places and all 64 decide" in (
        coarse.score_maps(shifted, View()).summary
    )


def test_words_on_unusual_dilations(unusual):
    assert unusual.dilations == (2, 5)
    assert "compared 2 patches of 5 x 5" in coarse.block_pair(unusual, View()).summary
    assert "of at most 2." in coarse.score_maps(unusual, View()).summary


# Views of stacked references


def test_views_are_shown_without_padding(x):
    canvas = np.zeros((*x.ref.down.shape[:2], 3), np.uint8)
    for area in x.ref.areas:
        canvas[area.top : area.bottom, : area.right] = 200
    view = canvas_view(x, canvas, WIDTH, TALL)
    assert set(np.unique(view.picture)) <= {200, 255}
    for area in x.ref.areas:
        for row, column in ((area.top, 0), (area.bottom - 1, area.right - 1)):
            at_x, at_y = view.point(row, column)
            assert view.picture[int(at_y), int(at_x), 0] == 200
    at_x, at_y = view.point(x.matches.geometry.ref_height - 1, x.matches.geometry.ref_width - 1)
    assert view.picture[int(at_y), int(at_x), 0] == 200


def test_boxes_are_cut_at_the_edges_of_references(stacked):
    view = ref_view(stacked)
    outlines = view.outlines(Area(0, 0, 10**4, 10**4))
    assert len(outlines) == 3
    for corners, size, (left, top) in zip(outlines, stacked.ref.sizes, view.corners, strict=True):
        bottom, right = (view.zooms[0] * side for side in size)
        expected = np.array([(0, 0), (right, 0), (right, bottom), (0, bottom)])
        np.testing.assert_allclose(corners, expected + np.array([left, top]))
    height = stacked.ref.areas[0].height
    (corners,) = view.outlines(Area(height - 2, 3, height, 5))
    expected = view.zooms[0] * np.array([(12, 44), (20, 44), (20, 50), (12, 50)])  # of 50 rows
    np.testing.assert_allclose(corners, expected + np.array(view.corners[0]))


# Pixels


def test_places_are_seen_from_the_reference_they_lie_in(x):
    cells, found = matched_cells(x), moves(x)
    position = x.matches.position[0].numpy()
    assert cells.shape == found.shape == (2, x.lr.height, x.lr.width)
    for row, column in ((0, 0), (x.lr.height - 1, x.lr.width - 1), (x.lr.height // 2, 3)):
        cell = position[:, row, column]
        assert tuple(cells[:, row, column]) == tuple(cell)
        top = max(place.top for place in x.ref.placements if place.top <= 4 * cell[0])
        own = np.array([4 * cell[0] - top + 1.5, 4 * cell[1] + 1.5])
        here = np.array([row, column])
        expected = own - here if x.self_reference else (own - (4 * here + 1.5)) / 4
        np.testing.assert_array_equal(found[:, row, column], expected)


def test_a_known_shift_is_told(shifted):
    move = moves(shifted)
    expected = np.array([DOWN, RIGHT])[:, None, None]
    assert (move == expected).all(0).mean() > 0.8
    assert (move == expected)[INNER].all()
    summary = fine.displacement(shifted, View()).summary
    assert f"The median move is {DOWN} down, {RIGHT} right" in summary
    assert "0% find their match at their own place" in summary


@pytest.mark.parametrize(
    ("move", "words"),
    [((0, 0), "0"), ((-2, 0), "2 up"), ((0, -1.5), "1.5 left"), ((1, 7), "1 down, 7 right")],
)
def test_moves_in_words(move, words):
    assert fine.move_words(*move) == words


def test_directions_have_their_own_colours():
    down, across = np.array([[0, 0, 1, -1, 0]]), np.array([[0, 1, 0, 0, -1]])
    colours = fine.direction_colours(down, across)[0].astype(int)
    assert np.ptp(colours[0]) < 6
    for i in range(5):
        for j in range(i):
            assert np.abs(colours[i] - colours[j]).max() > 60
    longer = fine.direction_colours(3 * down, 3 * across)[0]
    assert np.array_equal(longer, colours)


def test_similarity_of_a_copy_is_one(shifted):
    assert "similarity 1.000 or more" in fine.similarity(shifted, View()).summary


def test_the_best_of_the_drawn_patches_is_the_index_map(x):
    geometry = x.matches.geometry
    for row in range(0, x.lr.height, 3):
        for column in range(1, x.lr.width, 5):
            scores = fine.pixel_scores(x, row, column)
            assert scores.shape == (geometry.ref_block_height, geometry.ref_block_width)
            index = int(x.matches.index[0, row, column])
            assert scores.flat[index] == pytest.approx(float(scores.max()), abs=1e-5)
            similarity = float(x.matches.similarity[0, 0, row, column])
            assert scores.flat[index] == pytest.approx(similarity, abs=1e-4)


def test_patch_search_draws_what_is_copied(shifted):
    row, column = 13, 18
    assert tuple(moves(shifted)[:, row, column]) == (DOWN, RIGHT)
    image = fine.patch_search(shifted, View(row, column)).image
    top, left = 4 * (row + DOWN - 1), 4 * (column + RIGHT - 1)
    side = (WIDTH - 12) // 2
    corner = shifted.ref.rgb[top, left]
    # The copied pixels fill the lower right quarter.
    start = image.shape[0] - np.nonzero((image[::-1, -1] != 255).any(1))[0][0] - side
    assert np.array_equal(image[start + 2, WIDTH - side + 2], corner)


def test_no_jumps_in_a_smooth_field_and_one_line_between_blocks(shifted):
    def with_columns(column_of):
        position = shifted.matches.position.clone()
        position[0, 0] = torch.arange(32)[:, None]
        position[0, 1] = column_of(torch.arange(40))
        return replace(shifted, matches=replace(shifted.matches, position=position))

    smooth = fine.find_jumps(with_columns(lambda c: c + 1))
    assert (smooth.share(False), smooth.share(True)) == (0, 0)
    broken = fine.find_jumps(with_columns(lambda c: c + 5 * (c >= 16)))
    assert broken.share(False) == 0
    assert broken.share(True) == pytest.approx(32 / (4 * 32 + 3 * 40))
    assert broken.across[:, 15].all()
    inside = fine.find_jumps(with_columns(lambda c: c + 5 * (c >= 13)))
    assert inside.share(True) == 0
    assert inside.share(False) == pytest.approx(32 / (35 * 32 + 28 * 40))
    one_off = fine.find_jumps(with_columns(lambda c: c + (c >= 13)))
    assert one_off.share(False) == 0


def test_jumps_between_references_count(stacked):
    position = stacked.matches.position.clone()
    first = stacked.ref.placements[1].top // 4
    position[0, 0] = torch.arange(position.shape[2])[:, None]
    position[0, 1] = torch.arange(position.shape[3])
    position[0, 0, :, 3:] += first  # as far from that reference's top
    jumps = fine.find_jumps(replace(stacked, matches=replace(stacked.matches, position=position)))
    assert jumps.across[:first, 2].all()
    assert jumps.across.sum() == jumps.across[:, 2].sum()


def test_without_a_reference_moves_are_in_pixels_of_the_photo():
    """A cell of the photo, taken as its own reference, is 4 x 4 of its pixels."""
    x = explored(picture(40, 56, 7), [], is_hr=False)
    rows, columns = x.matches.position[0, :, :40, :56].numpy()
    home, lengths, moves = 0, [], []
    for row in range(40):
        for column in range(56):
            cell = rows[row, column], columns[row, column]
            home += cell == (row // 4, column // 4)
            moves.append((4 * cell[0] + 1.5 - row, 4 * cell[1] + 1.5 - column))
            lengths.append(np.hypot(*moves[-1]))
    summary = fine.displacement(x, View()).summary
    assert f"{home / (40 * 56):.0%} find their match at their own place in the photo" in summary
    assert f"move by at most {np.percentile(lengths, 90):.1f}" in summary
    assert fine.move_words(*np.median(moves, axis=0)) in summary


def test_what_is_alike_everywhere_has_one_colour_everywhere():
    """The sharp photo as its own reference: scores differ by rounding alone."""
    hr = picture(128, 160, 6)
    x = explored(hr, [hr])
    assert 0 < np.ptp(x.matches.coarse.score.numpy()) < 1e-4
    rounding = 1e-6 * torch.rand(x.matches.similarity.shape)
    x = replace(x, matches=replace(x.matches, similarity=1 - rounding))  # borders match less well
    for drawn in (coarse.score_heat(x, View()), fine.similarity(x, View())):
        (panel,) = drawn.panels
        rows, columns = round(panel.rows * panel.zoom), round(panel.columns * panel.zoom)
        shown = drawn.image[panel.top : panel.top + rows, panel.left : panel.left + columns]
        assert np.ptp(shown.astype(int), axis=(0, 1)).max() < 20


def test_a_single_block_has_no_borders(alone):
    assert fine.find_jumps(alone).share(True) is None
    assert "border" not in fine.discontinuities(alone, View()).summary


def test_given_is_the_moved_reference(shifted):
    image = fine.given(shifted, View()).image
    assert image.shape == (256, 320, 3)
    assert np.array_equal(image[::2, ::2], shifted.moved)
    difference = np.abs(shifted.moved.astype(int) - shifted.hr)
    assert difference[36:-36, 36:-36].max() <= 1


def test_different_places_are_those_of_the_matches(shifted):
    """Their neighbours are copied too."""
    position = torch.full_like(shifted.matches.position, 5)
    position[:, :, ::2] = 7
    one = replace(shifted, matches=replace(shifted.matches, position=position))
    assert "The matches lie at 2 different places (0% of all" in fine.given(one, View()).summary


# Truth


def test_error_against_a_known_shift(shifted):
    """The match is ``4 DOWN`` rows off and ``4 RIGHT`` columns further right."""
    truth = np.full((128, 160), -4.0 * RIGHT, np.float32)
    error = fine.match_error(replace(shifted, disparity=truth))
    assert np.median(error) == pytest.approx(4 * DOWN)
    level = replace(shifted, matches=replace(shifted.matches, position=_at_height(shifted)))
    error = fine.match_error(replace(level, disparity=truth))
    assert (error[INNER] == 0).all()
    summary = fine.disparity_error(replace(level, disparity=truth), View()).summary
    assert "**0.0** HR pixels" in summary
    assert "0% are unknown" in summary
    error = fine.match_error(replace(level, disparity=truth + 3))
    assert np.median(error) == pytest.approx(3)


def _at_height(x):
    position = x.matches.position.clone()
    position[:, 0] -= DOWN
    return position


def test_unknown_truth_is_left_out(shifted):
    truth = np.full((128, 160), -4.0 * RIGHT, np.float32)
    truth[:4, :4] = np.nan
    truth[4:7, :3] = np.nan  # 9 of 16
    truth[8:10, :4] = np.nan  # 8 of 16
    truth[:, -4:] = 1000  # outside the reference
    error = fine.match_error(replace(shifted, disparity=truth))
    unknown = np.isnan(error)
    assert unknown[0, 0]
    assert unknown[1, 0]
    assert not unknown[2, 0]
    assert unknown[:, -1].all()
    assert unknown.sum() == 2 + 32


def test_no_truth_no_figure(shifted, stacked, alone):
    assert fine.disparity_error(shifted, View()) is None
    nothing = np.full((128, 160), np.nan, np.float32)
    assert fine.disparity_error(replace(shifted, disparity=nothing), View()) is None
    assert fine.disparity_error(replace(shifted, disparity=nothing[:100] * 0), View()) is None
    for x in (stacked, alone):
        truth = np.zeros((4 * x.lr.height, 4 * x.lr.width), np.float32)
        assert fine.disparity_error(replace(x, disparity=truth), View()) is None


def test_matches_of_two_cameras_are_close_to_the_truth(cameras):
    error = fine.match_error(cameras)
    known = error[np.isfinite(error)]
    assert known.size > 0.7 * error.size
    assert np.median(known) < 2.5
    assert np.mean(known < 4) > 0.55
    # The sign matters: the other way round, matches would be far off.
    other = fine.match_error(replace(cameras, disparity=-cameras.disparity))
    assert np.nanmedian(other) > 8
    assert f"{np.median(known):.1f}" in fine.disparity_error(cameras, View()).summary


# One pixel, all the way


def test_pieces_are_those_of_the_transfer(x):
    plan = plan_transfer(x.matches)
    for row, column in ((0, 0), (3, 4), (7, x.lr.width - 1), (x.lr.height - 1, 2)):
        pieces = pixel.pieces_of(x, row, column)
        assert sum(piece.weight for piece in pieces) == pytest.approx(1)
        assert [p.weight for p in pieces] == sorted((p.weight for p in pieces), reverse=True)
        expected = {}
        for r, c, weight in zip(
            plan.row[0, row, column].tolist(),
            plan.column[0, row, column].tolist(),
            plan.weight[0, row, column].tolist(),
            strict=True,
        ):
            if weight:
                expected[r, c] = expected.get((r, c), 0) + weight
        assert {(p.row, p.column): p.weight for p in pieces} == pytest.approx(expected)
        number = block_at(x, row, column)
        for voter in (voter for piece in pieces for voter in piece.voters):
            top, left = block_corner(x, number)
            assert top <= voter[0] < top + x.matches.geometry.block
            assert left <= voter[1] < left + x.matches.geometry.block
            apart = max(abs(voter[0] - row), abs(voter[1] - column))
            assert apart <= x.matches.geometry.radius


def test_pieces_make_up_the_given_pixel(x):
    for row, column in ((0, 0), (4, 4), (x.lr.height - 1, x.lr.width - 1)):
        total = sum(
            piece.weight
            * x.ref.rgb[
                4 * piece.row : 4 * piece.row + 4, 4 * piece.column : 4 * piece.column + 4
            ].astype(float)
            for piece in pixel.pieces_of(x, row, column)
        )
        moved = x.moved[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert np.abs(total - moved).max() <= 1


def test_voters_point_at_their_piece(x):
    position = x.matches.position[0].numpy()
    row, column = x.lr.height // 2, x.lr.width // 2
    for piece in pixel.pieces_of(x, row, column):
        for voter in piece.voters:
            at = position[:, voter[0], voter[1]]
            assert (piece.row, piece.column) == (at[0] + row - voter[0], at[1] + column - voter[1])


def test_the_pixel_in_words(shifted):
    summary = pixel.provenance(shifted, View(12, 20)).summary
    assert "Result pixel (row 50, column 82)" in summary
    assert "(row 12, column 20) of the small photo" in summary
    assert "9 matched patches cover it, and all bring the same piece" in summary
    assert "row 58, column 94 of the reference" in summary
    assert "1.000" in summary
    assert "row 58, column 94 of the reference" in pixel.chosen(shifted, View(12, 20)).summary


@pytest.mark.parametrize(("row", "column"), [(0, 0), (12, 20), (17, 30)])
def test_the_factor_is_that_of_the_followed_pixel(shifted, row, column):
    noise = torch.rand(shifted.matches.similarity.shape, generator=torch.Generator().manual_seed(1))
    matches = replace(shifted.matches, similarity=noise)
    x = replace(shifted, matches=matches)
    geometry = matches.geometry
    ones = torch.ones(1, 1, 4 * geometry.ref_height, 4 * geometry.ref_width)
    at = 4 * row + 2, 4 * column + 2
    used = float(transfer(ones, plan_transfer(matches), 4)[0, 0, at[0], at[1]])
    assert pixel.factor_at(x, *at) == pytest.approx(used, abs=1e-6)
    assert abs(used - float(noise[0, 0, row, column])) > 2e-3
    assert f"to this pixel: {used:.3f}." in pixel.provenance(x, View(row, column)).summary


def test_shares_of_one_reference(shifted, alone):
    assert "one reference" in pixel.why_no_shares(shifted, View())
    assert "No reference" in pixel.why_no_shares(alone, View())


def test_shares_of_several_references(stacked):
    number = stacked.ref.locate(*matched_cells(stacked)).number
    drawn = pixel.reference_shares(stacked, View())
    (panel,) = drawn.panels
    for row, column, at_x, at_y in list(points(panel))[::13]:
        assert pick(drawn.panels, at_x, at_y) == ("lr", row, column)
    summary = drawn.summary
    for i in range(3):
        assert f"reference {i + 1} gave **{np.mean(number == i):.1%}**" in summary
    position = stacked.matches.position.clone()
    position[0, 0] = stacked.ref.placements[2].top // 4 + 1
    third = replace(stacked, matches=replace(stacked.matches, position=position))
    assert "reference 3 gave **100.0%**" in pixel.reference_shares(third, View()).summary


@pytest.mark.parametrize("mark", pixel.MARKS)
def test_the_numbers_on_marks_can_be_read(mark):
    """The contrast that WCAG 2 asks of text."""

    def light(colour):
        part = np.array(colour) / 255
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722) + 0.05

    pair = light(mark), light(pixel._ink_on(mark))
    assert max(pair) / min(pair) >= 4.5


def test_matches_with_padding_are_told(stacked, shifted):
    assert padding_share(shifted) == 0
    assert padding_words(shifted) == ""
    outside, inside = (torch.from_numpy(stacked.ref.is_own == own).nonzero() for own in (0, 1))
    position = inside[0][:, None, None].repeat(1, *stacked.matches.position.shape[2:])
    position[:, :7, :29] = outside[0][:, None, None]  # a third of the photo's 21 rows
    x = replace(stacked, matches=replace(stacked.matches, position=position[None]))
    assert padding_share(x) == pytest.approx(1 / 3)
    for words in (padding_words(x), pixel.reference_shares(x, View()).summary):
        assert "33.3% of the photo's pixels matched padding beside a reference" in words
    alone = padding_words(replace(x, references=()))
    assert "matched padding beside the photo itself" in alone
    assert "repeated edge" in place_words(x, *outside[0].tolist())
    assert "repeated edge" not in place_words(x, *inside[0].tolist())
