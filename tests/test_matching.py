"""Matching against the paper's equations written as plain loops, and its promises."""

import numpy as np
import pytest
import torch
from helpers import LargestTensor, inputs, noise, picture
from hypothesis import given, settings
from hypothesis import strategies as st

import masa.network.blocks
import masa.network.matching
from masa.config import MASAConfig
from masa.network.blocks import Geometry, ref_block_side, smallest_ref_side
from masa.network.matching import (
    coarse_match,
    coarse_scores,
    fine_scores,
    match,
    patch_similarity,
    ref_corners,
    sum_shifted,
)
from masa.pictures.resize import to_tensor

DEFAULT = MASAConfig()
CONFIGS = {
    "default": DEFAULT,
    "blocks of 4": MASAConfig(lr_block=4),
    "blocks of 16": MASAConfig(lr_block=16),
    "pixels": MASAConfig(patch=1),
    "patches of 5": MASAConfig(patch=5),
    "one dilation": MASAConfig(dilations=(1,)),
    "far dilations": MASAConfig(dilations=(2, 5)),
    "narrow Ref blocks": MASAConfig(ref_factor=1),
    "wide Ref blocks": MASAConfig(ref_factor=3),
}

# ---------------------------------------------------------------------------- plain equations


def patch_at(image, row, column, radius, step=1):
    """The patch around a pixel of ``(C, H, W)``, flat and of length 1 (or 0)."""
    reach = radius * step
    cut = image[:, row - reach : row + reach + 1 : step, column - reach : column + reach + 1 : step]
    flat = cut.reshape(-1)
    assert flat.size == image.shape[0] * (2 * radius + 1) ** 2
    return flat / max(np.linalg.norm(flat), 1e-12)


def naive_coarse(lr, ref, config):
    """Equations (1) and (2): cosine similarities ``(dilations, blocks, hr, wr)``."""
    radius, block = config.patch // 2, config.lr_block
    reach = max(config.dilations) * radius
    rim = ((0, 0), (reach, reach), (reach, reach))
    padded_lr, padded_ref = np.pad(lr, rim, mode="edge"), np.pad(ref, rim)
    result = []
    for step in config.dilations:
        lr_patches = [
            patch_at(padded_lr, top + block // 2 + reach, left + block // 2 + reach, radius, step)
            for top in range(0, lr.shape[1], block)
            for left in range(0, lr.shape[2], block)
        ]
        ref_patches = [
            patch_at(padded_ref, row + reach, column + reach, radius, step)
            for row in range(ref.shape[1])
            for column in range(ref.shape[2])
        ]
        scores = np.array(lr_patches) @ np.array(ref_patches).T
        result.append(scores.reshape(len(lr_patches), *ref.shape[1:]))
    return np.array(result)


def naive_ref_block(lr_size, ref_size, config):
    """Sides of the Ref block, in patch centres, and never more than fit."""
    sides = []
    for lr, ref in zip(lr_size, ref_size, strict=True):
        side = 2 * int(ref // (2 * (lr // config.lr_block)) * config.ref_factor) + 1
        while side + config.patch - 1 > ref:
            side -= 2
        sides.append(side)
    return sides


def naive_corner(best, ref_size, sides, config):
    """Where the crop begins along one axis: around the best place, moved to stay inside."""
    radius = config.patch // 2
    return [
        min(max(b - side // 2 - radius, 0), size - side - 2 * radius)
        for b, side, size in zip(best, sides, ref_size, strict=True)
    ]


def naive_fine(lr, ref, corner, number, sides, config):
    """Equation (4) in one block: similarities ``(block, block, height * width)``."""
    radius, block = config.patch // 2, config.lr_block
    columns = lr.shape[2] // block
    top, left = number // columns * block, number % columns * block
    padded = np.pad(lr, ((0, 0), (radius, radius), (radius, radius)), mode="edge")
    lr_patches = [
        patch_at(padded, top + row + radius, left + column + radius, radius)
        for row in range(block)
        for column in range(block)
    ]
    ref_patches = [
        patch_at(ref, corner[0] + radius + row, corner[1] + radius + column, radius)
        for row in range(sides[0])
        for column in range(sides[1])
    ]
    return (np.array(lr_patches) @ np.array(ref_patches).T).reshape(block, block, -1)


def assert_is_naive(lr, ref, config):
    """``match`` of ``(N, C, ...)`` against the loops; near-ties may fall either way."""
    matches = match(lr, ref, config)
    lr_size, ref_size = lr.shape[2:], ref.shape[2:]
    sides, block, radius = naive_ref_block(lr_size, ref_size, config), config.lr_block, config.patch
    radius //= 2
    assert [matches.geometry.ref_block_height, matches.geometry.ref_block_width] == sides
    similar = 1e-5
    for n in range(lr.shape[0]):
        a, b = lr[n].double().numpy(), ref[n].double().numpy()
        scores = naive_coarse(a, b, config)
        for number, index in enumerate(matches.coarse.index[n].tolist()):
            of_block = scores[:, number].reshape(len(config.dilations), -1)
            assert of_block.sum(0)[index] >= of_block.sum(0).max() - similar
            found = matches.coarse.per_dilation[n, number].numpy()
            np.testing.assert_allclose(found, of_block[:, index], atol=similar)
            assert matches.coarse.score[n, number].item() == pytest.approx(found.sum(), abs=similar)

            corner = naive_corner(divmod(index, ref_size[1]), ref_size, sides, config)
            assert matches.corner[n, number].tolist() == corner
            fine = naive_fine(a, b, corner, number, sides, config)
            row, column = divmod(number, lr_size[1] // block)
            own = np.s_[row * block : (row + 1) * block, column * block : (column + 1) * block]
            index_map = matches.index[n].numpy()[own]
            chosen = np.take_along_axis(fine, index_map[..., None], 2)[..., 0]
            assert (chosen >= fine.max(2) - similar).all()
            similarity = matches.similarity[n, 0].numpy()[own]
            np.testing.assert_allclose(similarity, chosen, atol=similar)
            inside = np.stack(np.divmod(index_map, sides[1]))
            centre = np.array(corner)[:, None, None] + radius + inside
            position = matches.position[n].numpy()[:, own[0], own[1]]
            np.testing.assert_array_equal(position, centre)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_is_the_paper_s_equations(config):
    assert_is_naive(noise(2, 3, 32, 16), noise(2, 3, 21, 27, seed=1), config)


@settings(max_examples=30)
@given(
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    ref_height=st.integers(5, 23),
    ref_width=st.integers(5, 23),
    config=st.sampled_from([c for c in CONFIGS.values() if c.lr_block <= 8]),
    seed=st.integers(0, 2**20),
)
def test_is_the_paper_s_equations_at_any_size(rows, columns, ref_height, ref_width, config, seed):
    lr = noise(1, 2, rows * config.lr_block, columns * config.lr_block, seed=seed)
    assert_is_naive(lr, noise(1, 2, ref_height, ref_width, seed=seed + 1), config)


def test_best_places_are_equal_and_not_only_as_good():
    """Where nothing ties, the very same places as the loops'."""
    lr, ref = noise(1, 8, 16, 24), noise(1, 8, 20, 26, seed=1)
    matches = match(lr, ref, DEFAULT)
    a, b = lr[0].double().numpy(), ref[0].double().numpy()
    scores = naive_coarse(a, b, DEFAULT).sum(0).reshape(6, -1)
    assert matches.coarse.index[0].tolist() == scores.argmax(1).tolist()
    sides = naive_ref_block((16, 24), (20, 26), DEFAULT)
    for number in range(6):
        corner = matches.corner[0, number].tolist()
        best = naive_fine(a, b, corner, number, sides, DEFAULT).argmax(2)
        own = matches.geometry.to_blocks(matches.index[:, None])[0, number, 0]
        np.testing.assert_array_equal(own.numpy(), best)


# ---------------------------------------------------------------------------- identity and shift


def pixels(h, w):
    """``(2, h, w)``: each pixel's own row and column."""
    return torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (64, 48)])
@pytest.mark.parametrize("dilations", [(1,), (1, 2, 3)])
def test_an_image_matches_itself(size, dilations):
    """Every pixel finds itself, but for the outermost ring, where no whole patch is centred."""
    x = noise(2, 8, *size)
    matches = match(x, x, MASAConfig(dilations=dilations))
    inner = np.s_[..., 1:-1, 1:-1]
    assert torch.equal(matches.position[inner], pixels(*size)[inner].expand(2, -1, -1, -1))
    torch.testing.assert_close(
        matches.similarity[inner], torch.ones_like(matches.similarity[inner]), atol=1e-5, rtol=0
    )
    assert matches.similarity.max() <= 1 + 1e-5
    centres = matches.geometry.block_corners() + 4
    assert torch.equal(matches.coarse.index, (centres @ torch.tensor([size[1], 1])).expand(2, -1))
    assert (matches.coarse.score - len(dilations)).abs().max() < 1e-5
    ring = matches.position.clone()
    ring[inner] = 1
    assert ((ring >= 1) & (ring < torch.tensor(size)[:, None, None] - 1)).all()


def test_an_encoded_picture_matches_itself(full_model):
    lr = to_tensor(picture(32, 40))
    features = full_model.encode_lr(lr).pyramid.l1
    matches = match(features, features, DEFAULT)
    inner = np.s_[..., 1:-1, 1:-1]
    assert torch.equal(matches.position[0][inner], pixels(32, 40)[inner])
    assert (matches.similarity[inner] - 1).abs().max() < 1e-5


@pytest.mark.parametrize("shift", [(0, 0), (3, 5), (15, 1), (16, 24)])
def test_a_shifted_reference_gives_the_shift_back(shift):
    lr = noise(1, 8, 16, 24)
    ref = noise(1, 8, 32, 48, seed=1)
    ref[:, :, shift[0] : shift[0] + 16, shift[1] : shift[1] + 24] = lr
    matches = match(lr, ref, DEFAULT)
    found = matches.position[0] - pixels(16, 24)
    inner = np.s_[:, 1:-1, 1:-1]  # the ring's patches are completed by replication, not by Ref
    assert torch.equal(found[inner], torch.tensor(shift)[:, None, None].expand(-1, 14, 22))


def test_brightness_does_not_change_matches():
    lr, ref = noise(1, 8, 16, 16), noise(1, 8, 16, 24, seed=1)
    one, other = match(lr, ref, DEFAULT), match(3 * lr, ref / 5, DEFAULT)
    assert torch.equal(one.position, other.position)
    torch.testing.assert_close(one.similarity, other.similarity, atol=1e-5, rtol=0)


# ---------------------------------------------------------------------------- parts


def test_score_maps_are_those_the_match_was_chosen_from():
    lr, ref = noise(2, 8, 24, 16), noise(2, 8, 21, 19, seed=1)
    geometry = Geometry.of((24, 16), (21, 19), DEFAULT)
    coarse = coarse_match(lr, ref, geometry, DEFAULT.dilations)
    chosen = torch.tensor([4, 0])
    for n in range(2):
        maps = coarse_scores(lr[n], ref[n], geometry, DEFAULT.dilations, chosen)
        assert maps.shape == (3, 2, 21, 19)
        assert maps.abs().max() <= 1 + 1e-5
        best, index = maps.sum(0).flatten(1).max(1)
        assert torch.equal(index, coarse.index[n, chosen])
        torch.testing.assert_close(best, coarse.score[n, chosen], atol=1e-5, rtol=0)


def test_fine_scores_are_cosines_of_whole_blocks():
    lr, ref = noise(3, 16, 24), noise(3, 20, 26, seed=1)
    geometry = Geometry.of((16, 24), (20, 26), DEFAULT)
    lr_corner, ref_corner = torch.tensor([[8, 16], [0, 0]]), torch.tensor([[0, 5], [3, 0]])
    scores = fine_scores(lr, ref, lr_corner, ref_corner, geometry)
    sides = [geometry.ref_block_height, geometry.ref_block_width]
    assert scores.shape == (2, 8, 8, *sides)
    for at, number in enumerate((5, 0)):
        a, b = lr.double().numpy(), ref.double().numpy()
        naive = naive_fine(a, b, ref_corner[at].tolist(), number, sides, DEFAULT)
        np.testing.assert_allclose(scores[at].flatten(2).numpy(), naive, atol=1e-5)


@pytest.mark.parametrize("patch", [1, 3, 5])
def test_similarity_s_gradient(patch):
    lr = noise(2, 2, 3, 4, dtype=torch.double).requires_grad_()
    ref = noise(2, 2, 5, 6, seed=1, dtype=torch.double).requires_grad_()
    rim = patch // 2
    generator = torch.Generator().manual_seed(0)
    position = torch.stack(
        [torch.randint(rim, side - rim, (2, 3, 4), generator=generator) for side in (5, 6)], 1
    )
    assert torch.autograd.gradcheck(lambda a, b: patch_similarity(a, b, position, patch), (lr, ref))


def test_empty_features_are_similar_to_nothing():
    """Where features vanish, as for black without biases, similarity is 0 and not undefined."""
    x, zero = noise(1, 4, 16, 16).requires_grad_(), torch.zeros(1, 4, 16, 16)
    for lr, ref in ((zero, zero), (x, zero), (zero, x)):
        matches = match(lr, ref, DEFAULT)
        assert not matches.similarity.any()
        assert not matches.coarse.score.any()
    match(x, zero, DEFAULT).similarity.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_sum_shifted(count):
    views = [noise(3, 4, seed=seed) for seed in range(count)]
    copies = [view.clone() for view in views]
    torch.testing.assert_close(sum_shifted(views), torch.stack(copies).sum(0))
    assert all(torch.equal(view, copy) for view, copy in zip(views, copies, strict=True))


# ---------------------------------------------------------------------------- large pictures


@pytest.fixture
def pruned(monkeypatch):
    monkeypatch.setattr(masa.network.blocks, "FULL_SEARCH", 0)


def test_only_the_cpu_is_asked_for_float64(pruned, monkeypatch):
    """Apple's graphics cards do not have it."""
    steps = []
    for name in ("cpu", "double"):
        method = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor,
            name,
            lambda self, name=name, method=method: steps.append(name) or method(self),
        )
    match(noise(1, 16, 16, 16), noise(1, 16, 24, 24, seed=1), DEFAULT)
    assert steps == ["cpu", "double"]


def test_in_large_pictures_few_channels_propose_and_all_decide(monkeypatch):
    """Features of few strong directions, as real ones are: nearly all places stay the same."""
    basis = noise(1, 64, 64)[0] * torch.logspace(0, -2, 64)
    lr, ref = (
        torch.einsum("ck,nkhw->nchw", basis, x)
        for x in (noise(2, 64, 32, 48), noise(2, 64, 70, 45, seed=1))
    )
    full = match(lr, ref, DEFAULT)
    monkeypatch.setattr(masa.network.blocks, "FULL_SEARCH", 0)
    few = match(lr, ref, DEFAULT)
    same = few.coarse.index == full.coarse.index
    assert same.float().mean() > 0.8
    torch.testing.assert_close(few.coarse.score[same], full.coarse.score[same])
    torch.testing.assert_close(few.coarse.per_dilation[same], full.coarse.per_dilation[same])
    assert (few.coarse.score <= full.coarse.score + 1e-5).all()
    torch.testing.assert_close(few.coarse.score, few.coarse.per_dilation.sum(2))


def test_scores_of_proposed_places_are_those_of_the_maps(pruned):
    """Also at the rims, where patches reach outside."""
    lr, ref = noise(1, 64, 16, 16), noise(1, 64, 17, 9, seed=1)
    geometry = Geometry.of((16, 16), (17, 9), DEFAULT)
    coarse = coarse_match(lr, ref, geometry, DEFAULT.dilations)
    maps = coarse_scores(lr[0], ref[0], geometry, DEFAULT.dilations, torch.arange(4))
    at = coarse.index[0].expand(3, 4)[..., None]
    told = maps.flatten(2).gather(2, at)[..., 0].T
    torch.testing.assert_close(coarse.per_dilation[0], told, atol=1e-5, rtol=0)


def test_a_part_of_a_large_picture_is_found_in_it(pruned):
    ref = noise(1, 64, 64, 64)
    matches = match(ref[..., 16:48, 24:56].contiguous(), ref, DEFAULT)
    centres = matches.geometry.block_corners() + torch.tensor([20, 28])
    assert torch.equal(matches.coarse.index[0], centres @ torch.tensor([64, 1]))


def test_large_searches_do_not_depend_on_the_memory_used(pruned, monkeypatch):
    lr, ref = noise(2, 64, 24, 16), noise(2, 64, 50, 20, seed=1)
    whole = match(lr, ref, DEFAULT)
    monkeypatch.setattr(masa.network.matching, "SCORE_BYTES", 1)
    parts = match(lr, ref, DEFAULT)
    assert torch.equal(parts.coarse.index, whole.coarse.index)
    assert torch.equal(parts.index, whole.index)


def test_where_the_search_stops_being_full():
    assert Geometry.of((256, 256), (256, 256), DEFAULT).full_search
    assert not Geometry.of((256, 256), (260, 256), DEFAULT).full_search


# ---------------------------------------------------------------------------- geometry


def test_paper_s_ref_block():
    geometry = Geometry.of((128, 128), (128, 128), DEFAULT)
    assert (geometry.ref_block_height, geometry.ref_block_width) == (13, 13)
    assert (geometry.rows, geometry.columns, geometry.blocks) == (16, 16, 256)


@given(st.integers(3, 400), st.integers(1, 40), st.sampled_from(list(CONFIGS.values())))
def test_ref_blocks_are_odd_and_fit(side, blocks, config):
    if side < config.patch:
        return
    found = ref_block_side(side, blocks, config)
    assert found % 2 == 1
    assert 1 <= found <= side - 2 * (config.patch // 2)
    assert found == naive_ref_block((blocks * config.lr_block,), (side,), config)[0]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("blocks", [1, 2, 3, 4, 7, 16, 100])
def test_smallest_ref_side(config, blocks):
    def whole(side):
        wanted = 2 * int(side // (2 * blocks) * config.ref_factor) + 1
        return side >= config.patch and ref_block_side(side, blocks, config) == wanted

    least = smallest_ref_side(blocks, config)
    assert least % 4 == 0
    ever_fits = blocks >= config.ref_factor + 1
    if ever_fits:
        assert all(whole(side) for side in range(least, 800, 4))
        assert least == 4 or not whole(least - 4)


def test_default_blocks_fit_from_two_on():
    """What the canvas relies on: with two blocks a side some reference is large enough."""
    for blocks in range(2, 200):
        least = smallest_ref_side(blocks, DEFAULT)
        geometry = Geometry.of((8 * blocks, 8 * blocks), (least, least), DEFAULT)
        assert geometry.ref_block_height == 2 * int(least // (2 * blocks) * 1.5) + 1


@pytest.mark.parametrize(
    ("lr", "ref"), [((8, 12), (16, 16)), ((0, 8), (16, 16)), ((8, 8), (2, 16)), ((8, 8), (16, 0))]
)
def test_sizes_that_cannot_be_cut_are_refused(lr, ref):
    with pytest.raises(ValueError, match="must be"):
        Geometry.of(lr, ref, DEFAULT)


@given(
    lr=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    ref=st.tuples(st.integers(5, 90), st.integers(5, 90)),
    config=st.sampled_from(list(CONFIGS.values())),
)
def test_ref_crops_are_always_inside(lr, ref, config):
    block = config.lr_block
    geometry = Geometry.of((lr[0] * block, lr[1] * block), ref, config)
    corners = ref_corners(torch.arange(ref[0] * ref[1])[None], geometry)[0]
    crop = torch.tensor([geometry.ref_block_height, geometry.ref_block_width]) + config.patch - 1
    assert (corners >= 0).all()
    assert (corners + crop <= torch.tensor(ref)).all()
    # Centred on the match unless moved: the match itself lies in the crop.
    best = torch.stack(
        (torch.arange(ref[0] * ref[1]) // ref[1], torch.arange(ref[0] * ref[1]) % ref[1]), 1
    )
    assert ((best >= corners) & (best < corners + crop)).all()


def test_blocks_and_back():
    geometry = Geometry.of((16, 24), (16, 16), DEFAULT)
    x = noise(2, 3, 16, 24)
    blocks = geometry.to_blocks(x)
    assert blocks.shape == (2, 6, 3, 8, 8)
    assert torch.equal(blocks[1, 4], x[1, :, 8:16, 8:16])
    assert geometry.block_corners()[4].tolist() == [8, 8]
    assert torch.equal(geometry.from_blocks(blocks), x)
    large = noise(2, 6, 3, 16, 16)
    assert torch.equal(geometry.from_blocks(large)[0, :, 16:32, 32:48], large[0, 5])


# ---------------------------------------------------------------------------- memory


@pytest.mark.parametrize("config", [DEFAULT, MASAConfig(patch=5, lr_block=4)])
def test_results_do_not_depend_on_the_memory_used(monkeypatch, config):
    lr, ref = noise(2, 4, 24, 16), noise(2, 4, 26, 20, seed=1)
    whole = match(lr, ref, config)
    for held in (1, 30_000, 300_000):
        monkeypatch.setattr(masa.network.matching, "SCORE_BYTES", held)
        parts = match(lr, ref, config)
        assert torch.equal(parts.coarse.index, whole.coarse.index)
        assert torch.equal(parts.index, whole.index)
        torch.testing.assert_close(parts.coarse.score, whole.coarse.score, atol=1e-5, rtol=0)
        torch.testing.assert_close(parts.similarity, whole.similarity, atol=1e-5, rtol=0)


def test_the_first_of_equals_is_taken_however_the_search_is_cut(monkeypatch):
    """Small whole numbers, whose sums are exact, in a reference of which all rows are alike."""
    torch.manual_seed(0)
    lr = torch.randint(1, 5, (1, 4, 16, 16)).float()
    ref = torch.randint(1, 5, (1, 4, 1, 24)).float().expand(1, 4, 40, 24).contiguous()
    whole = match(lr, ref, DEFAULT)
    assert (whole.index < whole.geometry.ref_block_width).all()
    for held in (1, 30_000):
        monkeypatch.setattr(masa.network.matching, "SCORE_BYTES", held)
        assert torch.equal(match(lr, ref, DEFAULT).index, whole.index)


@pytest.mark.parametrize(
    ("lr_size", "ref_size"),
    [
        ((32, 32), (48, 32)),
        ((160, 128), (192, 256)),
        ((64, 64), (400, 640)),
        ((8, 8), (512, 640)),
        ((16, 16), (700, 800)),
    ],
)
def test_nothing_as_large_as_all_pairs_of_pixels_is_ever_held(lr_size, ref_size):
    """Scores of all blocks would take 250 to 400 MB at the larger sizes, of all pixels GBs."""
    lr, ref = noise(1, 2, *lr_size), noise(1, 2, *ref_size, seed=1)
    with LargestTensor() as largest:
        match(lr, ref, DEFAULT)
    assert largest.bytes <= masa.network.matching.SCORE_BYTES


def test_gradients_add_nothing_large():
    """What is remembered for gradients is the chosen patches' products, not all pairs'."""
    lr, _, ref_down = inputs((64, 64), (96, 128))
    x = lr.clone().requires_grad_()
    with LargestTensor() as largest:
        match(x, ref_down, DEFAULT).similarity.sum().backward()
    assert largest.bytes <= masa.network.matching.SCORE_BYTES
    assert x.grad.any()


def test_matching_tells_its_progress_and_can_be_stopped():
    lr, ref = noise(2, 4, 16, 24, seed=1), noise(2, 4, 20, 28, seed=2)
    config = MASAConfig(channels=4)
    shares = []
    match(lr, ref, config, shares.append)
    assert shares == sorted(shares) and shares[-1] == 1 and len(set(shares)) >= 4

    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        match(lr, ref, config, stop)
