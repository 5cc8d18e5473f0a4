"""Fused, in strips and written over an operand: the values are those of plain convolutions."""

import pytest
import torch
import torch.nn.functional as F
from helpers import LargestTensor, LiveBytes, fill, inputs, noise
from torch import nn

import masa.network.fused
import masa.network.tiling
from masa.config import MASAConfig
from masa.network.fused import fuses
from masa.network.layers import (
    ResidualBlock,
    add_convolved,
    channels_last,
    conv3x3,
    conv_cat_relu,
    conv_relu,
    deconv_relu,
    residual_blocks,
    run_blocks,
)
from masa.network.model import MASA
from masa.network.progress import ignore
from masa.network.tiling import write_over

C = 8
TYPES = [torch.float32, torch.bfloat16]


def features(height, width, dtype=torch.float32, n=1, seed=0):
    x = noise(n, C, height, width, seed=seed).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


def layer(module, dtype):
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0, 0.2)
    channels_last(module)
    return module.to(dtype)


def compare(found, expected):
    """Equal up to the order of sums in float32, and to roundings between steps in bfloat16."""
    tolerance = 1e-5 if found.dtype == torch.float32 else 0.05
    torch.testing.assert_close(found, expected.detach(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("n", [1, 2])
def test_fused_convolutions_are_the_plain_ones(dtype, n):
    a, b = features(12, 20, dtype, n), features(12, 20, dtype, n, seed=1)
    conv, down = layer(conv3x3(C, C), dtype), layer(conv3x3(C, C, stride=2), dtype)
    pair = layer(conv3x3(2 * C, C), dtype)
    up = layer(nn.ConvTranspose2d(C, C, 3, 2, 1, output_padding=1), dtype)
    with torch.inference_mode():
        compare(conv_relu(conv, a), F.relu(conv(a)))
        compare(conv_relu(down, a), F.relu(down(a)))
        compare(deconv_relu(up, a), F.relu(up(a)))
        compare(conv_cat_relu(pair, a, b), F.relu(pair(torch.cat((a, b), 1))))
        total = b.clone()
        compare(add_convolved(total, a, conv.weight, conv.bias), conv(a) + b)
        assert torch.equal(total, b) != fuses(total.device, dtype)  # written over


def test_they_are_fused_at_all():
    """Else this file would compare plain convolutions with themselves."""
    assert torch.backends.mkldnn.is_available()
    conv, x = layer(conv3x3(C, C), torch.float32), features(8, 8)
    with torch.inference_mode():
        assert masa.network.fused.can_fuse(x, conv.weight)
        with torch.autocast("cpu", torch.bfloat16):
            assert not masa.network.fused.can_fuse(x, conv.weight)
    assert not masa.network.fused.can_fuse(x, conv.weight)


def test_in_bfloat16_they_are_used_where_the_processor_has_it(monkeypatch):
    cpu = torch.device("cpu")
    for has in (True, False):
        monkeypatch.setattr(masa.network.fused, "has_bf16", lambda device, has=has: has)
        assert fuses(cpu, torch.bfloat16) == has
        assert fuses(cpu, torch.float32)
        assert not fuses(cpu, torch.float16)
        assert not fuses(torch.device("cuda"), torch.bfloat16)


@pytest.mark.parametrize("pixels", [1, 90, 200, 1000, 10**6])
@pytest.mark.parametrize("size", [(4, 5), (9, 10), (31, 8), (64, 3)])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_a_residual_block_in_strips(monkeypatch, pixels, size, dtype):
    block, x = layer(ResidualBlock(C), dtype), features(*size, dtype)
    expected = block(x)  # with gradients: plain
    monkeypatch.setattr(masa.network.fused, "_STRIP", pixels)
    with torch.inference_mode():
        compare(block(x.clone()), expected)
        several = features(*size, dtype, n=3)
        expected = torch.cat([block(one[None].clone()) for one in several])
        compare(block(several.clone()), expected)


def test_blocks_leave_their_input_alone_while_gradients_are_recorded():
    blocks, x = residual_blocks(C, 2), features(16, 16).requires_grad_()
    before = x.detach().clone()
    run_blocks(blocks, x, ignore).sum().backward()
    assert torch.equal(x, before)
    assert x.grad.any()


@pytest.mark.parametrize("halo", [0, 1, 2, 3])
@pytest.mark.parametrize("pixels", [1, 60, 200, 10**6])
@pytest.mark.parametrize("size", [(1, 4), (7, 10), (23, 6), (40, 3)])
def test_writing_over_gives_what_a_second_map_would(monkeypatch, halo, pixels, size):
    """A sum over ``halo`` rows to each side of the map itself and of another."""
    monkeypatch.setattr(masa.network.tiling, "_STRIP", pixels)
    target, other = noise(2, 3, *size), noise(2, 3, *size, seed=1)

    def blur(x):
        return F.avg_pool2d(x, (2 * halo + 1, 1), 1, (halo, 0))

    expected = blur(target) * blur(other)
    strips = []

    def function(rows):
        strips.append(rows)
        return blur(target[:, :, rows]) * blur(other[:, :, rows])

    found = write_over(target, function, halo)
    assert found is target
    torch.testing.assert_close(found, expected)
    if pixels == 60 and size == (23, 6):
        assert len(strips) > 1


# ---------------------------------------------------------------------------- memory


@torch.inference_mode()
@pytest.mark.parametrize("adaptation", ["sam", "none"])
def test_few_maps_are_alive_at_a_time(monkeypatch, adaptation):
    """What decoding holds beside the features: four maps of the result's size, strips aside."""
    monkeypatch.setattr(masa.network.fused, "_STRIP", 2**10)
    monkeypatch.setattr(masa.network.tiling, "_STRIP", 2**10)
    model = fill(MASA(MASAConfig(channels=16, adaptation=adaptation)))
    lr, ref, ref_down = inputs((64, 64), (64, 64))
    encoded = model.encode_lr(lr), model.encode_ref(ref, ref_down)
    matches = model.match(*encoded)
    a_map = 4 * 16 * 256**2
    with LiveBytes() as memory, LargestTensor() as largest:
        model.decode(*encoded, matches)
    assert largest.bytes <= a_map
    assert 2 * a_map < memory.peak < 4 * a_map
    with LiveBytes() as whole:
        model.decode(*encoded, matches, keep=(4,))
    assert whole.peak > 1.5 * memory.peak  # the count sees what is kept


@torch.inference_mode()
def test_encoding_holds_little_more_than_the_features(monkeypatch):
    monkeypatch.setattr(masa.network.fused, "_STRIP", 2**10)
    model = fill(MASA(MASAConfig(channels=16)))
    _, ref, ref_down = inputs((16, 16), (64, 64))
    with LiveBytes() as memory:
        encoded = model.encode_ref(ref, ref_down)
    features = sum(4 * level.numel() for level in (*encoded.pyramid, encoded.down))
    assert features <= memory.peak < 1.3 * features
