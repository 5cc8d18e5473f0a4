"""Stated costs against the paper's numbers and against what is really computed."""

import pytest
import torch
from helpers import fill, inputs
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from masa.config import MASAConfig
from masa.machine.cost import (
    MIN_TILE,
    choose_tile,
    dense_matching_cost,
    executed_cost,
    paper_cost,
    peak_bytes,
)
from masa.network.model import MASA

PAPER = (128, 128), (128, 128)
DEFAULT = MASAConfig()


def test_paper_s_numbers():
    cost = paper_cost(*PAPER)
    assert cost.coarse == pytest.approx(7.248e9, rel=1e-3)
    assert cost.fine == pytest.approx(1.595e9, rel=1e-3)
    assert cost.matching == pytest.approx(8.84e9, rel=0.01)
    assert cost.total == pytest.approx(367.93e9, rel=0.01)
    executed = executed_cost(*PAPER)
    convolutions = executed.encode_lr + executed.encode_ref + executed.decode
    # The released code also encodes Ref-down's levels 2 and 3, which nothing uses.
    wasted = 128**2 // 4 * 9 * 64**2 * 9 * 5 // 4
    assert convolutions + wasted == pytest.approx(341.9e9, rel=2e-4)
    assert executed.fine < cost.fine / 4
    assert executed.coarse == cost.coarse


def test_dense_matching_compares_all_pairs():
    assert dense_matching_cost(*PAPER) == 128**4 * 9 * 64
    assert dense_matching_cost(*PAPER) > 17 * paper_cost(*PAPER).matching


CONFIGS = [
    MASAConfig(channels=4),
    MASAConfig(channels=3, adaptation="adain"),
    MASAConfig(channels=4, adaptation="spade"),
    MASAConfig(channels=4, adaptation="none"),
    MASAConfig(channels=4, dram_ref=False),
    MASAConfig(channels=4, dram_lr=False),
    MASAConfig(channels=3, dram_ref=False, dram_lr=False, adaptation="none"),
    MASAConfig(channels=4, lr_block=4, patch=5, dilations=(1, 2)),
]
SIZES = [((16, 16), (16, 16)), ((24, 40), (36, 20)), ((48, 32), (12, 64))]


# Convolutions that PyTorch's counter does not know.
FUSED = {
    torch.ops.mkldnn._convolution_pointwise: lambda x, weight, *_, out_shape: conv_flop_count(
        x, weight, out_shape
    ),
    torch.ops.mkldnn._convolution_pointwise_: lambda total, x, weight, *_, out_shape: (
        conv_flop_count(x, weight, out_shape)
    ),
    torch.ops.mkldnn._convolution_transpose_pointwise: lambda x, weight, *_, out_shape: (
        conv_flop_count(x, weight, out_shape, transposed=True)
    ),
}


def counted(function, *arguments):
    """What ``function`` returns, and the multiply-adds of its convolutions and products."""
    with FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
        result = function(*arguments)
    return result, counter.get_total_flops() // 2


@torch.inference_mode()
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.adaptation}-{c.lr_block}")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_convolutions_are_counted_exactly(config, sizes):
    model = fill(MASA(config))
    cost = executed_cost(*sizes, config)
    lr, ref, ref_down = inputs(*sizes)
    encoded_lr, count = counted(model.encode_lr, lr)
    assert count == cost.encode_lr
    encoded_ref, count = counted(model.encode_ref, ref, ref_down)
    assert count == cost.encode_ref
    matches = model.match(encoded_lr, encoded_ref)
    _, count = counted(model.decode, encoded_lr, encoded_ref, matches)
    assert count == cost.decode
    assert cost.total == cost.encode_lr + cost.encode_ref + cost.matching + cost.decode


@torch.inference_mode()
@pytest.mark.parametrize("config", CONFIGS[:1] + CONFIGS[-1:], ids=lambda c: str(c.patch))
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matching_is_counted_exactly(config, sizes):
    """All but the norms of the coarse search, one channel instead of all."""
    model = fill(MASA(config))
    lr, ref, ref_down = inputs(*sizes)
    encoded = model.encode_lr(lr), model.encode_ref(ref, ref_down)
    with FlopCounterMode(display=False) as flops:
        model.match(*encoded)
    norms = sizes[1][0] * sizes[1][1] * config.patch**2 * len(config.dilations)
    assert flops.get_total_flops() == 2 * (executed_cost(*sizes, config).matching + norms)


def test_paper_counts_transposed_convolutions_at_their_output():
    paper, executed = paper_cost(*PAPER), executed_cost(*PAPER)
    transposed = 2 * 9 * 64**2 * (128**2 + 256**2)  # two per DRAM, at their inputs' sizes
    assert paper.decode - executed.decode == 3 * transposed
    assert (paper.encode_lr, paper.encode_ref) == (executed.encode_lr, executed.encode_ref)


# ---------------------------------------------------------------------------- memory

side = st.integers(1, 64).map(lambda n: 8 * n)
size = st.tuples(side, side)


@given(size, size, size, size)
def test_more_pixels_never_take_less_memory(lr, ref, more_lr, more_ref):
    large_lr = tuple(map(max, zip(lr, more_lr, strict=True)))
    large_ref = tuple(map(max, zip(ref, more_ref, strict=True)))
    for tile in (None, 32, 64):
        smaller = peak_bytes(lr, ref, tile=tile)
        assert smaller <= peak_bytes(large_lr, ref, tile=tile)
        assert smaller <= peak_bytes(lr, large_ref, tile=tile)


@given(size, size, st.integers(4, 60), st.integers(4, 60))
def test_smaller_tiles_and_numbers_never_take_more_memory(lr, ref, one, other):
    small, large = sorted((8 * one, 8 * other))
    needed = [peak_bytes(lr, ref, tile=tile) for tile in (small, large, None)]
    assert needed == sorted(needed)
    assert peak_bytes(lr, ref, itemsize=2, tile=small) <= needed[0]
    assert peak_bytes(lr, ref, MASAConfig(channels=32), tile=small) <= needed[0]


@given(size, size, st.floats(0.05, 1.2))
def test_the_tile_chosen_stays_under_the_limit(lr, ref, share):
    limit = int(peak_bytes(lr, ref) * share)
    if peak_bytes(lr, ref, tile=MIN_TILE) > limit:
        with pytest.raises(MemoryError):
            choose_tile(lr, ref, DEFAULT, 4, limit)
        return
    tile = choose_tile(lr, ref, DEFAULT, 4, limit)
    assert peak_bytes(lr, ref, tile=tile) <= limit
    assert (tile is None) == (share >= 1)
    if tile is not None:
        assert tile >= MIN_TILE
        assert tile % DEFAULT.lr_block == 0
        # Not needlessly small: twice as large would not do.
        assert peak_bytes(lr, ref, tile=2 * tile + DEFAULT.lr_block) > limit


def test_what_is_impossible_says_how_much_it_needs():
    """The number is enough, and nothing less is."""
    for lr, ref in (((160, 240), (160, 240)), ((512, 512), (128, 128)), ((64, 64), (640, 480))):
        with pytest.raises(MemoryError) as raised:
            choose_tile(lr, ref, DEFAULT, 4, 1)
        least = raised.value.args[0]
        assert least == peak_bytes(lr, ref, tile=MIN_TILE)
        choose_tile(lr, ref, DEFAULT, 4, least)


def test_without_strips_a_block_s_own_maps_come_on_top_of_those_to_be_read():
    """A large reference of a small LR: while it is encoded, most memory is needed."""
    map_bytes = 4 * MASAConfig().channels * 256 * 256  # of a map of Ref-down's size
    with_strips, without = (peak_bytes((16, 16), (256, 256), strips=s) for s in (True, False))
    assert without - with_strips == 2 * 16 * map_bytes
