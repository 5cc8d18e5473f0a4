"""Transfer against explicit patches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import LargestTensor, noise, picture, random_matches

from masa.config import MASAConfig
from masa.network.matching import match
from masa.network.transfer import plan_transfer, scaled_similarity, transfer
from masa.pictures.resize import to_tensor

DEFAULT = MASAConfig()
CONFIGS = {
    "default": DEFAULT,
    "blocks of 4": MASAConfig(lr_block=4),
    "blocks of 16": MASAConfig(lr_block=16),
    "pixels": MASAConfig(patch=1),
    "patches of 5": MASAConfig(patch=5),
}


def naive_transfer(source, matches, scale):
    """Paste whole patches block by block and divide by how many lie on each pixel."""
    geometry, block, patch = matches.geometry, matches.geometry.block, matches.geometry.patch
    rim, side = patch // 2, block * scale
    n, channels = source.shape[:2]
    result = np.zeros((n, channels, geometry.lr_height * scale, geometry.lr_width * scale))
    for image in range(n):
        for top in range(0, geometry.lr_height, block):
            for left in range(0, geometry.lr_width, block):
                total = np.zeros((channels, side + 2 * rim * scale, side + 2 * rim * scale))
                count = np.zeros_like(total)
                for row in range(block):
                    for column in range(block):
                        place = matches.position[image, :, top + row, left + column].tolist()
                        corner = [(p - rim) * scale for p in place]
                        copied = source[image].numpy()[
                            :,
                            corner[0] : corner[0] + patch * scale,
                            corner[1] : corner[1] + patch * scale,
                        ]
                        assert copied.shape[1:] == (patch * scale, patch * scale)
                        on = np.s_[
                            :,
                            row * scale : (row + patch) * scale,
                            column * scale : (column + patch) * scale,
                        ]
                        total[on] += copied
                        count[on] += 1
                inner = np.s_[:, rim * scale : rim * scale + side, rim * scale : rim * scale + side]
                result[
                    image,
                    :,
                    top * scale : top * scale + side,
                    left * scale : left * scale + side,
                ] = total[inner] / count[inner]
    return result


def naive_similarity(similarity, block, scale):
    """The similarity map, each block enlarged alone."""
    n, _, h, w = similarity.shape
    result = torch.zeros(n, 1, scale * h, scale * w)
    for top in range(0, h, block):
        for left in range(0, w, block):
            part = similarity[:, :, top : top + block, left : left + block]
            large = F.interpolate(
                part, size=(scale * block, scale * block), mode="bilinear", align_corners=False
            )
            result[
                :,
                :,
                scale * top : scale * (top + block),
                scale * left : scale * (left + block),
            ] = large
    return result


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_is_explicit_patches_averaged_inside_blocks(config, scale):
    matches = random_matches((16, 32), (15, 22), config, n=2)
    source = noise(2, 3, 15 * scale, 22 * scale, seed=5)
    plan = plan_transfer(matches)
    expected = naive_transfer(source, matches, scale)
    found = transfer(source, plan, scale, weighted=False)
    assert found.shape == (2, 3, 16 * scale, 32 * scale)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    weighted = transfer(source, plan, scale)
    similarity = naive_similarity(matches.similarity, config.lr_block, scale).numpy()
    np.testing.assert_allclose(weighted.numpy(), expected * similarity, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_weights(config):
    """They sum to 1, are 0 for other blocks' patches, and equal among the rest."""
    matches = random_matches((16, 32), (15, 22), config, n=2)
    plan = plan_transfer(matches)
    patch, block = config.patch, config.lr_block
    assert plan.weight.shape == plan.row.shape == plan.column.shape == (2, 16, 32, patch**2)
    torch.testing.assert_close(plan.weight.sum(-1), torch.ones(2, 16, 32))
    assert (plan.weight >= 0).all()
    # In a block's corner (radius + 1)² patches overlap, in its middle all of them.
    corner = (plan.weight[0, 0, 0] > 0).sum()
    assert corner == min(patch // 2 + 1, block) ** 2
    assert torch.equal(plan.weight[0, 0, block], plan.weight[1, 0, 0])
    used = plan.weight > 0
    largest = plan.weight.max(-1, keepdim=True).values.expand_as(plan.weight)
    torch.testing.assert_close(plan.weight[used], largest[used])
    for places, side in ((plan.row, 15), (plan.column, 22)):
        assert ((places >= 0) & (places < side)).all()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_matches_that_lie_side_by_side_copy_the_picture(scale):
    """All pixels point one common step away: the result is a crop, to the last bit of pixels."""
    matches = random_matches((16, 24), (20, 30), DEFAULT)
    rows, columns = torch.arange(16)[:, None] + 2, torch.arange(24)[None] + 3
    position = torch.stack((rows.expand(16, 24), columns.expand(16, 24)))[None]
    source = to_tensor(picture(20 * scale, 30 * scale))
    moved = transfer(source, plan_transfer(replace(matches, position=position)), scale, False)
    expected = source[:, :, 2 * scale : 18 * scale, 3 * scale : 27 * scale]
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_an_image_matched_with_itself_returns(scale):
    """All but two pixels at the border, which patches of the outermost ring also reach."""
    features = noise(1, 8, 24, 32)
    source = to_tensor(picture(24 * scale, 32 * scale))
    plan = plan_transfer(match(features, features, DEFAULT))
    moved = transfer(source, plan, scale)  # similarity is 1 there, and enlarged stays so
    inner = np.s_[..., 2 * scale : -2 * scale, 2 * scale : -2 * scale]
    torch.testing.assert_close(moved[inner], source[inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_similarity_is_enlarged_block_by_block(scale):
    matches = random_matches((16, 24), (16, 20), DEFAULT, n=2)
    found = scaled_similarity(matches.similarity, matches.geometry, scale)
    assert found.shape == (2, 1, 16 * scale, 24 * scale)
    torch.testing.assert_close(found, naive_similarity(matches.similarity, 8, scale))
    # What changes in one block stays there.
    other = matches.similarity.clone()
    other[:, :, :8, 8:16] = 5
    change = scaled_similarity(other, matches.geometry, scale) != found
    assert change[:, :, : 8 * scale, 8 * scale : 16 * scale].all()
    change[:, :, : 8 * scale, 8 * scale : 16 * scale] = False
    assert not change.any()


def test_gradients_flow_through_similarity_and_source():
    lr, ref = noise(1, 4, 16, 16).requires_grad_(), noise(1, 4, 16, 24, seed=1)
    source = noise(1, 2, 32, 48, seed=2).requires_grad_()
    plan = plan_transfer(match(lr, ref, DEFAULT))
    unweighted = transfer(source, plan, 2, weighted=False)
    assert torch.autograd.grad(unweighted.sum(), lr, allow_unused=True)[0] is None
    by_lr, by_source = torch.autograd.grad(transfer(source, plan, 2).square().sum(), (lr, source))
    assert by_lr.any()
    assert by_source.any()
    # Each output pixel is an average: the gradients of its sum are shares of 1.
    shares = torch.autograd.grad(transfer(source, plan, 2, False).sum(), source)[0]
    assert shares.sum().item() == pytest.approx(2 * 32 * 32, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_source_s_precision_and_is_channels_last(dtype):
    matches = random_matches((16, 16), (16, 24), DEFAULT)
    source = noise(1, 8, 64, 96).to(dtype)
    moved = transfer(source, plan_transfer(matches), 4)
    assert moved.dtype == dtype
    assert moved.is_contiguous(memory_format=torch.channels_last)
    exact = transfer(source.float(), plan_transfer(matches), 4)
    torch.testing.assert_close(moved.float(), exact, atol=0.05, rtol=0.02)


def test_overlapping_patches_are_never_held():
    """At x4 they would be nine times the result."""
    matches = random_matches((32, 48), (24, 40), DEFAULT)
    source = noise(1, 64, 96, 160)
    with LargestTensor() as largest:
        moved = transfer(source, plan_transfer(matches), 4)
    allowed = max(source.numel(), moved.numel()) * 4
    assert largest.bytes <= allowed
