"""Tiles give what the whole gives."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
import torch
from helpers import fill, inputs, noise
from torch import nn

import masa.network.decoder
from masa.config import Adaptation, MASAConfig
from masa.network.adaptation import channel_stats
from masa.network.aggregation import Branches
from masa.network.decoder import Decoder
from masa.network.encoder import Encoder
from masa.network.layers import residual_blocks, upsample2
from masa.network.model import MASA, SCALES
from masa.network.progress import ignore
from masa.network.tiling import Tile, run_tiled, tiles


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 12), (24, 16)])
@pytest.mark.parametrize("side", [1, 5, 8, 100, None])
def test_tiles_cover_everything_once(height, width, side):
    count = np.zeros((height, width), int)
    for tile in tiles(height, width, side):
        assert side is None or max(tile.bottom - tile.top, tile.right - tile.left) <= side
        count[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert (count == 1).all()
    if side is None:
        assert len(list(tiles(height, width, side))) == 1


def test_grow_stays_inside():
    assert Tile(4, 8, 0, 3).grow(2, 9, 20) == Tile(2, 9, 0, 5)


def test_cut_is_a_view_in_pixels():
    x = torch.arange(48.0).view(1, 1, 6, 8)
    tile = Tile(1, 2, 2, 4)
    assert torch.equal(tile.cut(x, 2), x[:, :, 2:4, 4:8])
    assert tile.cut(x, 2).data_ptr() == x[:, :, 2:, 4:].data_ptr()
    grown = tile.grow(1, 3, 4)
    assert torch.equal(tile.cut(grown.cut(x, 2), 2, origin=grown), x[:, :, 2:4, 4:8])


@pytest.fixture
def net():
    """Reads 5 pixels to each side: a convolution and two residual blocks."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), residual_blocks(4, 2)).requires_grad_(False)


def on_net(net):
    """``net`` as a function to run in tiles, done in two halves."""

    def function(x, on_share):
        on_share(0.5)
        result = net(x)
        on_share(1)
        return (result,)

    return function


@pytest.mark.parametrize("side", [1, 4, 7, 16, 50, None])
def test_tiles_of_a_convolutional_net(net, side):
    x = noise(2, 3, 21, 30)
    (found,) = run_tiled(on_net(net), [(x, 1)], side, 5, ignore)
    torch.testing.assert_close(found, net(x), atol=1e-5, rtol=0)


def test_a_halo_too_small_would_show(net):
    x = noise(2, 3, 21, 30)
    (found,) = run_tiled(on_net(net), [(x, 1)], 7, 1, ignore)
    assert not torch.allclose(found, net(x), atol=1e-3)


@pytest.mark.parametrize("side", [2, 5, None])
def test_several_inputs_and_outputs_of_different_scales(net, side):
    a, b = noise(1, 3, 9, 12), noise(1, 3, 18, 24, seed=1)

    def function(a, b, on_share=ignore):
        both = net(upsample2(a) + b)
        return both, both[:, :, ::2, ::2], upsample2(both)

    found = run_tiled(function, [(a, 1), (b, 2)], side, 5, ignore)
    for one, other in zip(found, function(a, b), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_shares_rise_to_one_and_what_they_raise_ends_the_run(net):
    x, shares = noise(1, 3, 8, 12), []
    run_tiled(on_net(net), [(x, 1)], 4, 5, shares.append)
    assert shares == pytest.approx([i / 12 for i in range(1, 13)])

    def stop(share):
        if share >= 0.5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run_tiled(on_net(net), [(x, 1)], 4, 5, stop)
    with pytest.raises(InterruptedError):
        run_tiled(on_net(net), [(x, 1)], None, 5, stop)


# ---------------------------------------------------------------------------- the network's tiles


@pytest.fixture(scope="module", params=get_args(Adaptation))
def encoded(request):
    """A network whose far pixels matter, an LR and a reference larger than tiles with halo."""
    config = MASAConfig(channels=4, adaptation=request.param)
    model = fill(MASA(config), in_blocks=1).requires_grad_(False).eval()
    lr, ref, ref_down = inputs((48, 64), (56, 72))
    features = model.encode_lr(lr), model.encode_ref(ref, ref_down)
    return model, ref, ref_down, features, model.decode(*features, keep=SCALES)


@pytest.mark.parametrize("tile", [8, 16, 24])
def test_decoding_in_tiles(encoded, tile):
    model, _, _, features, whole = encoded
    tiled = model.decode(*features, tile=tile)
    torch.testing.assert_close(tiled.output, whole.output, atol=1e-5, rtol=0)


def test_what_tiles_keep(encoded):
    model, _, _, features, whole = encoded
    kept = model.decode(*features, keep=SCALES, tile=16)
    for name in ("x1", "x2", "x4"):
        one, other = getattr(kept, name), getattr(whole, name)
        for a, b in (
            (one.lr, other.lr),
            (one.ref, other.ref),
            *zip(one.adapted, other.adapted, strict=True),
            *zip(one.aggregated or (), other.aggregated or (), strict=True),
        ):
            if a is None:
                assert b is None
            else:
                torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("tile", [8, 16, 24])
def test_encoding_a_reference_in_tiles(encoded, tile):
    model, ref, ref_down, features, _ = encoded
    tiled = model.encode_ref(ref, ref_down, tile=tile)
    for one, other in zip(tiled.pyramid, features[1].pyramid, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert torch.equal(tiled.down, features[1].down)


def test_decoding_s_shares_rise_to_one(encoded):
    model, _, _, features, _ = encoded
    shares = []
    model.decode(*features, tile=24, on_share=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) >= 2 * 6  # 2x3 tiles at x2 and at x4
    assert max(b - a for a, b in pairwise(shares)) < 0.25


def reach_of(gradient, cells, cell):
    """How many of ``cells`` rows lie between row ``cell`` and the furthest one that matters."""
    rows = gradient.abs().sum((0, 1, 3)).nonzero()[:, 0] * cells // gradient.shape[2]
    return max(cell - rows[0].item(), rows[-1].item() - cell)


def test_the_encoder_s_halo_is_as_large_as_needed():
    """Which input pixels a level-3 pixel depends on, found by its gradient."""
    encoder = fill(Encoder(4), in_blocks=1)
    image = noise(1, 3, 192, 192).requires_grad_()
    encoder(image).l3[:, :, 24].sum().backward()
    reach = 4 * reach_of(image.grad, 48, 24)
    assert reach <= Encoder.HALO <= reach + 8


@pytest.mark.parametrize("scale", [1, 2])
def test_the_decoder_s_halos_are_as_large_as_needed(monkeypatch, scale):
    """The same for an LR pixel's outputs, with statistics taken as given."""

    def given(parts):
        stats = channel_stats(part.detach() for part in parts)
        return stats._replace(mean=stats.mean.detach(), var=stats.var.detach())

    monkeypatch.setattr(masa.network.decoder, "channel_stats", given)
    decoder = fill(Decoder(MASAConfig(channels=16)), in_blocks=1)
    step, halo = {1: (decoder.at_x2, Decoder.HALO_X2), 2: (decoder.at_x4, Decoder.HALO_X4)}[scale]
    x = noise(1, 16, 40 * scale, 40 * scale).requires_grad_()
    ref = noise(1, 16, 80 * scale, 80 * scale, seed=1).requires_grad_()
    out, _ = step(x, ref, Branches(), False, None, ignore)
    out[:, :, 40 * scale : 42 * scale].sum().backward()  # the outputs of LR row 20
    reach = max(reach_of(x.grad, 40, 20), reach_of(ref.grad, 40, 20))
    assert reach <= halo <= reach + 4
