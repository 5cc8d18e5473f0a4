"""Reading parts of a reference gives what reading all of it gives."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import fill, inputs, picture
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_cost import counted

from masa.config import MASAConfig
from masa.machine.cost import executed_cost
from masa.network.model import MASA
from masa.network.reading import PART, RefFeatures, cells_to_read, cover, used_parts
from masa.network.tiling import Tile
from masa.network.transfer import plan_transfer
from masa.predictor import Predictor

grids = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def area(tile):
    return (tile.bottom - tile.top) * (tile.right - tile.left)


def cost(box, grid):
    return area(box.grow(2, *grid.shape))


@given(grids)
def test_rectangles_cover_what_is_wanted_once_and_cost_no_more_than_one(wanted):
    boxes = cover(wanted, 2)
    count = np.zeros(wanted.shape, int)
    for box in boxes:
        count[box.top : box.bottom, box.left : box.right] += 1
    assert (count[wanted] == 1).all() and count.max(initial=0) <= 1
    rows, columns = np.nonzero(wanted)
    if not len(rows):
        assert boxes == []
        return
    around = Tile(rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    assert sum(cost(box, wanted) for box in boxes) <= cost(around, wanted)


def test_far_corners_are_read_apart_and_neighbours_together():
    wanted = np.zeros((40, 40), bool)
    wanted[0:2, 0:3] = wanted[38:, 39] = True
    assert cover(wanted, 2) == [Tile(0, 2, 0, 3), Tile(38, 40, 39, 40)]
    wanted[:] = False
    wanted[10, 10] = wanted[12, 12] = True
    assert cover(wanted, 2) == [Tile(10, 13, 10, 13)]


# ---------------------------------------------------------------------------- a network


@pytest.fixture(scope="module")
def net():
    """A narrow network whose far pixels matter, a reference with parts far apart, and matches."""
    model = fill(MASA(MASAConfig(channels=4)), in_blocks=1).requires_grad_(False).eval()
    lr, ref, down = inputs((16, 16), (100, 76))
    return model, lr, ref, down


def matches_at(model, lr, down, place):
    """Matches of all LR pixels with cells around ``place``."""
    features = model.encode_lr(lr)
    matches = model.match(features, RefFeatures.unread(model.encode_down(down)))
    position = torch.tensor(place)[None, :, None, None] + torch.stack(
        torch.meshgrid(torch.arange(16) // 2, torch.arange(16) // 2, indexing="ij")
    )
    return features, type(matches)(
        matches.geometry,
        matches.coarse,
        matches.corner,
        matches.index,
        position,
        matches.similarity,
    )


@torch.inference_mode()
@pytest.mark.parametrize("tile", [None, 16, 24])
@pytest.mark.parametrize("place", [(1, 1), (90, 66), (50, 30), (1, 40)], ids=str)
def test_parts_are_as_the_whole(net, tile, place):
    model, lr, ref, down = net
    features, matches = matches_at(model, lr, down, place)
    whole = model.decode(features, model.encode_ref(ref, down), matches).output
    parts = RefFeatures.unread(model.encode_down(down))
    for level in parts.pyramid:  # whatever memory holds
        level.fill_(torch.nan)
    model.read_ref(parts, matches, lambda box: box.cut(ref, 4), tile)
    found = model.decode(features, parts, matches).output
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
    assert not parts.parts.all()


@torch.inference_mode()
def test_what_was_not_read_is_not_used(net):
    model, lr, _, down = net
    features, matches = matches_at(model, lr, down, (1, 1))
    with pytest.raises(ValueError, match="not read"):
        model.decode(features, RefFeatures.unread(model.encode_down(down)), matches)


@torch.inference_mode()
def test_nothing_is_read_twice(net):
    model, lr, ref, down = net
    parts, boxes = RefFeatures.unread(model.encode_down(down)), []

    def pixels(box):
        boxes.append(box)
        return box.cut(ref, 4)

    _, first = matches_at(model, lr, down, (1, 1))
    features, second = matches_at(model, lr, down, (85, 60))
    cells = model.read_ref(parts, first, pixels)
    assert cells == sum(map(area, boxes)) == area(boxes[0])
    assert model.read_ref(parts, first, pixels) == cells and len(boxes) == 1
    model.read_ref(parts, second, pixels)
    assert len(boxes) == 2
    whole = model.decode(features, model.encode_ref(ref, down), second).output
    found = model.decode(features, parts, second).output
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_where_all_is_used_it_is_read_in_one_piece(net):
    model, lr, ref, down = net
    parts, boxes = RefFeatures.unread(model.encode_down(down)), []
    features, matches = matches_at(model, lr, down, (1, 1))
    matches.position[:] = torch.stack(
        torch.meshgrid(
            torch.linspace(1, 98, 16).long(), torch.linspace(1, 74, 16).long(), indexing="ij"
        )
    )
    model.read_ref(parts, matches, lambda box: boxes.append(box) or box.cut(ref, 4))
    assert boxes == [Tile(0, 100, 0, 76)] and parts.parts is None
    whole = model.encode_ref(ref, down)
    assert all(map(torch.equal, parts.pyramid, whole.pyramid))
    model.decode(features, parts, matches)


@torch.inference_mode()
def test_a_run_that_is_stopped_keeps_what_it_has_read(net):
    model, lr, ref, down = net
    parts = RefFeatures.unread(model.encode_down(down))
    _, matches = matches_at(model, lr, down, (1, 1))
    matches.position[:, :, 8:] += torch.tensor((80, 60))[None, :, None, None]
    boxes = []

    def pixels(box):
        if len(boxes) == 1:
            raise InterruptedError
        boxes.append(box)
        return box.cut(ref, 4)

    with pytest.raises(InterruptedError):
        model.read_ref(parts, matches, pixels)
    assert parts.parts.any() and not parts.parts.all()
    shares = []
    model.read_ref(
        parts, matches, lambda box: boxes.append(box) or box.cut(ref, 4), 16, shares.append
    )
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    assert max(b - a for a, b in pairwise(shares)) < 0.8
    assert parts.holds(plan_transfer(matches))


@torch.inference_mode()
def test_another_run_may_finish_reading_while_one_asks_what_was_read(net):
    model, lr, _, down = net
    _, matches = matches_at(model, lr, down, (1, 1))
    answers = [np.ones((13, 10), bool), None]  # what was read, from one look to the next

    class Shared:
        parts = property(lambda self: answers.pop(0))

    assert RefFeatures.holds(Shared(), plan_transfer(matches))


@torch.inference_mode()
def test_what_is_read_is_counted_exactly(net):
    model, lr, ref, down = net
    _, matches = matches_at(model, lr, down, (30, 30))
    parts = RefFeatures.unread(model.encode_down(down))
    cells, count = counted(model.read_ref, parts, matches, lambda box: box.cut(ref, 4))
    sizes = (16, 16), (100, 76)
    reduced = executed_cost(*sizes, model.config, read=0).encode_ref
    assert count == executed_cost(*sizes, model.config, read=cells).encode_ref - reduced
    assert cells == cells_to_read(used_parts(plan_transfer(matches)), 100, 76)
    assert 0 < cells < 100 * 76
    assert cells == area(Tile(24, 40, 24, 40).grow(16, 100, 76)) and PART == 8


# ---------------------------------------------------------------------------- runs


def test_of_several_references_only_the_used_parts_are_read(small_model):
    """Of five references only a part of one resembles the LR."""
    lr = picture(24, 24)
    refs = [np.full((256, 256, 3), 40 * number, np.uint8) for number in range(5)]
    refs[3][80:176, 80:176] = lr.repeat(4, 0).repeat(4, 1)
    predictor = Predictor(small_model, "cpu", "fp32")
    result = predictor.run(lr, refs)
    number = result.ref.locate(*result.trace.matches.position[0].numpy()).number
    assert (number == 3).all()
    read = result.ref_features.parts
    assert read is not None and read.mean() < 0.1
    whole = executed_cost(lr.shape[:2], result.ref.down.shape[:2], predictor.config)
    assert result.cost.encode_ref < 0.3 * whole.encode_ref
    again = predictor.run(lr, refs)
    assert np.array_equal(result.rgb, again.rgb) and again.cost == result.cost
