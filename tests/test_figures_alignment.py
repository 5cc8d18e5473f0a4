"""Aligned references in the figures: all of them draw into the visitor's own photo."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import is_one_sentence, picture

from demo.figures import alignment, blocks, fine, pixel
from demo.figures.draw import WIDE, WIDTH
from demo.figures.figure import pick
from demo.figures.places import (
    aligned_share,
    block_at,
    block_corner,
    coarse_place,
    in_view,
    matched_cells,
    moves,
    padding_share,
    place_words,
    ref_view,
)
from demo.figures.tabs import FIGURES, TABS
from demo.figures.view import View
from demo.runs import request as request_module
from demo.runs.request import Request
from demo.runs.steps import paint
from masa.config import MASAConfig
from masa.reference.alignment import transformed
from masa.reference.canvas import ref_canvas

ALIGN = next(tab for tab in TABS if tab.id == "align")


def middles(x):
    """(x, y), at x4, of the middle of each of the visitor's LR pixels ``(H, W, 2)``."""
    rows, columns = np.indices((x.lr.height, x.lr.width))
    return 4.0 * np.stack((columns, rows), 2) + 1.5


def matched_at(x, position):
    """``x`` whose matches, coarse and fine, are all at their own place in one view."""
    geometry, start = x.matches.geometry, x.ref.rows[position].start
    rows, columns = torch.arange(geometry.lr_height) + start, torch.arange(geometry.lr_width)
    place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
    numbers = range(geometry.blocks)
    half = geometry.block // 2
    index = [
        (start + top + half) * geometry.ref_width + left + half
        for top, left in (block_corner(x, number) for number in numbers)
    ]
    found = replace(x.matches.coarse, index=torch.tensor([index]))
    return replace(x, matches=replace(x.matches, position=place, coarse=found))


# ---------------------------------------------------------------------------- places


def test_matches_lead_to_the_turned_photo_s_own_pixels(turned):
    x, (matrix,) = turned
    assert [place.own is not None for place in x.ref.placements] == [True]
    at = x.ref.locate(*matched_cells(x))
    true = transformed(matrix, middles(x).reshape(-1, 2)).reshape(*at.row.shape, 2)
    apart = np.hypot(at.column - true[..., 0], at.row - true[..., 1])
    # A cell of the view is 4 x 1.4 own pixels; matches move in whole cells, and most do not move.
    assert np.median(apart[4:-4, 4:-4]) < 1.4 / 2
    assert np.percentile(apart[4:-4, 4:-4], 90) < 4 * 1.4
    assert np.median(np.abs(moves(x))) == 0
    assert aligned_share(x) == 1


def test_words_name_the_turned_photo_s_own_pixels(turned):
    x, _ = turned
    row, column = 20, 30
    cell = matched_cells(x)[:, row, column]
    at = x.ref.locate(*cell)
    words = f"row {float(at.row):.0f}, column {float(at.column):.0f} of the reference"
    assert words in pixel.chosen(x, View(row, column)).summary
    assert words in fine.patch_search(x, View(row, column)).summary


def test_a_place_is_found_again_from_its_own_pixels(turned, four_views):
    for x in (turned[0], four_views):
        for place in x.ref.placements:
            top, height, width = place.top, place.height, place.width
            row, column = np.mgrid[top + 8 : top + height - 8 : 5, 8 : width - 8 : 5].astype(float)
            own = place.to_own(row, column)
            back = place.from_own(own[..., 0], own[..., 1])
            known = np.isfinite(back).all(-1)
            assert known.mean() > 0.97
            apart = np.abs(back - np.stack((row, column), -1))[known]
            assert np.percentile(apart, 99) < 0.5
            if place.own is not None:
                far = place.from_own(np.array([-1e5, 1e5]), np.array([1e5, -1e5]))
                assert np.isnan(far).all()


def test_maps_over_the_canvas_are_gathered_in_the_own_photo(turned):
    """Every figure pixel of the reference shows the cell that lies there."""
    x, _ = turned
    view = ref_view(x)
    rows, columns = np.indices(x.ref.down.shape[:2])
    seen = view.gathered(np.stack((rows, columns, np.ones_like(rows)), 2))
    known = seen[..., 2] == 1
    assert 0.3 < known.mean() < 0.9  # turned: the corners hold nothing of the photo
    at = x.ref.locate(seen[known][:, 0].astype(int), seen[known][:, 1].astype(int), clip=False)
    down, across = np.nonzero(known)
    half = 4 * 1.4 * 0.75  # half a cell, turned
    inside = (np.abs(at.row - ((down + 0.5) / view.zooms[0] - 0.5)) < half) & (
        np.abs(at.column - ((across + 0.5) / view.zooms[0] - 0.5)) < half
    )
    assert inside.mean() > 0.97


def test_views_of_one_reference_meet_in_it(four_views):
    """What a block took from either view is tinted at the same place of the reference."""
    x = four_views
    assert [(p.number, p.own is not None) for p in x.ref.placements] == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]
    assert len(x.refs) == 2 and len(ref_view(x).corners) == 2
    ones = np.ones((*x.ref.down.shape[:2], 1))
    view = ref_view(x)
    for (left, top), zoom, size in zip(view.corners, view.zooms, view.sizes, strict=True):
        down, across = (int(zoom * side / 2) for side in size)
        middle = view.gathered(ones)[top + down, left + across]
        assert middle == 2  # both views hold it
    panels = blocks.ref_blocks(x, View()).panels
    assert [(p.name, p.rows, p.columns) for p in panels] == [
        (f"ref {number}", *ref.shape[:2]) for number, ref in enumerate(x.refs, start=1)
    ]


@pytest.mark.parametrize("position", range(4))
def test_shares_and_clicks_are_of_references_not_of_views(four_views, position):
    x = matched_at(four_views, position)
    place = x.ref.placements[position]
    summary = pixel.reference_shares(x, View()).summary
    assert f"reference {place.number + 1} gave **100.0%**" in summary
    assert alignment.view_shares(x)[position] == 1
    assert aligned_share(x) == (place.own is not None)
    block = block_at(x, 20, 20)
    at = x.ref.locate(*coarse_place(x, block))
    panel = f"ref {place.number + 1}"
    near = blocks.block_near(x, panel, round(float(at.row) - 2), round(float(at.column) - 2))
    assert near == block
    assert blocks.block_near(x, f"ref {2 - place.number}", 9, 9) is None
    assert f"reference {place.number + 1}" in place_words(x, *coarse_place(x, block))


def test_a_change_of_view_counts_as_a_jump(four_views):
    x = matched_at(four_views, 0)
    position = x.matches.position.clone()
    position[0, 0, :, 10:] += x.ref.rows[2].start
    jumps = fine.find_jumps(replace(x, matches=replace(x.matches, position=position)))
    assert jumps.across[:, 9].all() and jumps.across.sum() == jumps.across[:, 9].sum()


def test_an_aligned_view_beyond_its_reference_is_a_repeated_edge(four_views):
    x = four_views
    shifted = x.ref.placements[1].own + np.float32(x.refs[0].shape[0])
    places = list(x.ref.placements)
    places[1] = replace(places[1], own=shifted)
    x = matched_at(replace(x, ref=replace(x.ref, placements=tuple(places))), 1)
    assert padding_share(x) > 0.9
    assert "the repeated edge at" in place_words(x, *coarse_place(x, 0))


def test_what_is_drawn_of_an_aligned_view_says_so(turned, four_views):
    x, _ = turned
    assert "in an aligned view of a reference" in fine.displacement(x, View()).summary
    assert "in an aligned view" in fine.given(x, View()).summary
    plain = matched_at(four_views, 0)
    assert "aligned" not in fine.displacement(plain, View()).summary
    assert "aligned" not in fine.given(plain, View()).summary
    cells = [coarse_place(matched_at(four_views, position), 0)[0] for position in (0, 1)]
    assert [in_view(four_views, row) for row in cells] == ["", ", as the photo sees it"]


def test_the_truth_is_measured_in_own_pixels(turned):
    """Of an upright reference, the column is the photo's, less the disparity."""
    x, _ = turned
    upright = replace(x.ref.placements[0], own=middles(x)[..., ::-1].astype(np.float32))
    x = replace(x, ref=replace(x.ref, placements=(upright,)))
    x = replace(matched_at(x, 0), disparity=np.full((192, 192), -3, np.float32))
    assert np.nanmedian(fine.match_error(x)) == pytest.approx(3)


# ---------------------------------------------------------------------------- the tab


def test_a_reduced_reference_is_drawn_in_its_own_pixels(turned, monkeypatch):
    """It was aligned at its full size, and what is kept to be shown of it is smaller."""
    x, (matrix,) = turned
    ref = x.refs[0]
    fewer = ref.shape[0] * ref.shape[1] // 5
    limits = replace(request_module.LIMITS, max_ref_pixels=fewer)
    monkeypatch.setattr(request_module, "LIMITS", limits)
    small = paint(Request(x.hr, (ref,), is_hr=True))
    assert small.refs[0].size < 3 * fewer + 1 and small.ref_sizes == (ref.shape[:2],)
    np.testing.assert_array_equal(small.result, x.result)  # of the full size
    figures = drawn(small) | {"blocks": blocks.ref_blocks(small, View(20, 20))}
    for name in ("alignment", "blocks"):
        panel = next(p for p in figures[name].panels if p.name == "ref 1")
        assert (panel.rows, panel.columns) == ref.shape[:2]
        row, column = (round(0.7 * side) for side in ref.shape[:2])
        at_y, at_x = (
            first + panel.zoom * (v + 0.5) for first, v in ((panel.top, row), (panel.left, column))
        )
        name, down, across = pick((panel,), int(at_x), int(at_y))
        assert name == "ref 1" and max(abs(down - row), abs(across - column)) <= 1 / panel.zoom + 1
    true = transformed(matrix, middles(small).reshape(-1, 2)).reshape(*middles(small).shape)
    at = small.ref.locate(*matched_cells(small))
    apart = np.hypot(at.column - true[..., 0], at.row - true[..., 1])
    assert np.median(apart[4:-4, 4:-4]) < 1.4 / 2
    # What is drawn may be a pixel smaller than the own size promises.
    view = ref_view(small)
    larger = replace(view, zooms=(view.zooms[0] * (1 + 1.5 / view.picture.shape[0]),))
    ones = np.ones((*small.ref.down.shape[:2], 1))
    tinted = view.gathered(ones).sum()
    assert tinted > 0.3 * view.picture[..., 0].size
    assert larger.gathered(ones).sum() == pytest.approx(tinted, rel=0.05)


def drawn(x):
    return {figure.id: figure.draw(x, View(20, 20)) for figure in ALIGN.figures}


def test_the_tab_shows_how_a_turned_reference_lies(turned):
    x, _ = turned
    figures = drawn(x)
    for name, figure in figures.items():
        assert figure.image.shape[1] <= (WIDE if FIGURES[name].wide else WIDTH + 6)
        assert is_one_sentence(figure.alt) and figure.summary.endswith(".")
    assert "**turned by 30°, 1.4 times as large**" in figures["alignment"].summary
    assert "**100%** of the photo's blocks took the aligned view of the reference" in (
        figures["views"].summary
    )
    agreed = len(x.alignments[0].frame_points)
    assert f"of the {agreed} features that agree are joined." in figures["agreeing"].summary


def test_the_frame_is_drawn_where_the_photo_lies(turned):
    """Its corners are orange in the picture of the reference."""
    x, (matrix,) = turned
    figure = drawn(x)["alignment"]
    panel = next(panel for panel in figure.panels if panel.name == "ref 1")
    corners = transformed(matrix, np.array([(0, 0), (191, 0), (191, 191), (0, 191)], float))
    for start, end in zip(corners, np.roll(corners, 1, 0), strict=True):
        at = panel.zoom * ((start + end) / 2 + 0.5) + (panel.left, panel.top)
        across, down = np.round(at).astype(int)
        near = figure.image[down - 6 : down + 7, max(0, across - 6) : across + 7]
        assert (near == (230, 120, 0)).all(-1).any()


def test_a_click_finds_the_same_thing_in_all_pictures(turned):
    x, (matrix,) = turned
    figure = drawn(x)["alignment"]
    assert [panel.name for panel in figure.panels] == ["lr", "ref 1", "lr"]
    wanted = 10, 33
    own = transformed(matrix, np.array([(4 * 33 + 1.5, 4 * 10 + 1.5)]))[0]
    for panel, at in zip(figure.panels, ((33.5, 10.5), own + 0.5, (33.5, 10.5)), strict=True):
        place = panel.left + panel.zoom * at[0], panel.top + panel.zoom * at[1]
        assert pick(figure.panels, *place)[0] == panel.name
        view = alignment.pixel_under(x, View(), *pick(figure.panels, *place))
        assert (view.row, view.column) == wanted
    assert alignment.pixel_under(x, View(), "ref 1", 0, 0) is None  # beside the photo's frame


def test_a_click_on_the_ring_leads_back_to_its_pixel(turned):
    """The ring and the click use one way between photo and reference, optical flow included."""
    x, _ = turned
    moved = [
        place if place.own is None else replace(place, own=place.own + np.float32((10, -8)))
        for place in x.ref.placements
    ]
    flowed = replace(x, ref=replace(x.ref, placements=tuple(moved)))
    for shown in (x, flowed):
        for row in range(8, x.lr.height - 8, 5):
            for column in range(8, x.lr.width - 8, 5):
                across, down = alignment._own_of(shown, 0, x.alignments[0], row, column)
                view = alignment.pixel_under(shown, View(), "ref 1", round(down), round(across))
                assert (view.row, view.column) == (row, column)


def test_features_that_are_joined_lie_apart_and_agree(turned):
    x, (matrix,) = turned
    found = x.alignments[0]
    shown = alignment.spread(found)
    assert 5 <= len(shown) <= 20 and len(set(shown)) == len(shown)
    wrong = transformed(matrix, found.frame_points[shown]) - found.own_points[shown]
    assert np.abs(wrong).max() < 8


def test_several_references_have_a_row_each(four_views):
    figures = drawn(four_views)
    names = [panel.name for panel in figures["alignment"].panels]
    assert names == ["lr", "ref 1", "lr", "lr", "ref 2", "lr"]
    for number in (1, 2):
        assert f"Reference {number} is **" in figures["alignment"].summary
        assert f"for reference {number}." in figures["agreeing"].summary
    shares = alignment.view_shares(four_views)
    assert shares.sum() == pytest.approx(1)
    assert f"**{shares[1]:.0%}** of the photo's blocks took the aligned view of reference 1" in (
        figures["views"].summary
    )


def told(x):
    """What the tab says instead of figures."""
    return {f.id: f.missing(x, View()) for f in ALIGN.figures if f.draw(x, View()) is None}


def test_that_nothing_was_found_is_an_answer():
    x = paint(Request(picture(32, 40, 1), (picture(96, 96, 2),)))
    assert x.alignments == (None,)
    assert set(told(x)) == {"views", "agreeing"}
    assert set(told(x).values()) == {alignment.NOTHING_IN_COMMON}
    assert "not aligned: nothing in common was found." in drawn(x)["alignment"].summary
    off = paint(Request(picture(32, 40, 1), (picture(96, 96, 2),), align=False))
    np.testing.assert_array_equal(off.result, x.result)
    assert len(told(off)) == 3
    assert all("switched off" in words and is_one_sentence(words) for words in told(off).values())
    alone = paint(Request(picture(32, 40, 1)))
    assert all("No reference was given" in words for words in told(alone).values())
    assert len(told(alone)) == 3


def test_that_the_reference_as_it_is_fitted_better_is_an_answer(four_views):
    plain = ref_canvas([ref.plain for ref in four_views.references], four_views.lr, MASAConfig())
    x = matched_at(replace(four_views, ref=plain), 0)
    assert "the reference as it is fits as well, or has more detail." in told(x)["views"]
    assert (
        "not used: the reference as it is fits as well, or has more detail."
        in drawn(x)["alignment"].summary
    )
    short = replace(x, beyond=(1,))
    assert "the run would need more memory than is allowed." in told(short)["views"]
    summary = drawn(short)["alignment"].summary
    reasons = (
        "the reference as it is fits as well, or has more detail.",
        "the run would need more memory",
    )
    assert [summary.count(f"not used: {words}") for words in reasons] == [1, 1]
    only = replace(plain, placements=plain.placements[:1])
    summary = drawn(replace(x, ref=only))["alignment"].summary
    assert "not used: this reference adds nothing to the others." in summary
