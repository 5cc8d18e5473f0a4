"""Pictures in, picture out: sizes, files, cache, progress, memory, precision and threads."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import is_one_sentence, needs_bf16, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import masa.predictor
from masa.config import MASAConfig
from masa.errors import UserError
from masa.machine.cache import FeatureCache
from masa.network.aggregation import Branches
from masa.network.matching import fit_scores
from masa.pictures.degradation import lr_from_hr
from masa.pictures.metrics import psnr_y
from masa.pictures.photo import Limits
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, to_tensor, to_uint8
from masa.predictor import MemoryNeededError, Predictor
from masa.reference.canvas import canvas_sizes, lr_canvas
from masa.weights import load_model, save_weights


@pytest.fixture
def counted(small_predictor, monkeypatch):
    """The predictor, and how often its network encoded an LR and a reference."""
    counts = {"encode_lr": 0, "encode_down": 0}
    for name in counts:
        encode = getattr(small_predictor.model, name)

        def counting(*args, name=name, encode=encode, **kwargs):
            counts[name] += 1
            return encode(*args, **kwargs)

        monkeypatch.setattr(small_predictor.model, name, counting)
    return small_predictor, counts


# ---------------------------------------------------------------------------- sizes and files


@settings(max_examples=15)
@given(
    lr=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    refs=st.lists(st.tuples(st.integers(16, 61), st.integers(16, 61)), max_size=5),
)
def test_any_sizes_give_four_times_the_lr(small_model, lr, refs):
    predictor = Predictor(small_model, "cpu", "fp32")
    pictures = [picture(*size, seed=i) for i, size in enumerate(refs)]
    result = predictor.upscale(picture(*lr), pictures)
    assert result.rgb.shape == (4 * lr[0], 4 * lr[1], 3)
    assert result.rgb.dtype == np.uint8
    assert result.alpha is None
    assert result.bicubic.shape == result.rgb.shape
    assert result.self_reference == (not refs)
    assert len(result.ref.placements) == max(len(refs), 1)


def test_the_result_is_the_network_s_output(small_predictor):
    """Where nothing is padded; and every pixel is the visitor's, not the padding's."""
    lr, ref = picture(24, 32), picture(64, 48, seed=1)
    result = small_predictor.run(lr, [ref])
    down = result.ref.down
    with torch.inference_mode():
        output = small_predictor.model(to_tensor(lr), to_tensor(ref), to_tensor(down))
    np.testing.assert_array_equal(result.rgb, to_uint8(output))
    cropped = small_predictor.run(lr[:21, :27], [ref])
    padded = small_predictor.run(lr_canvas(lr[:21, :27], MASAConfig()).rgb, [ref])
    np.testing.assert_array_equal(cropped.rgb, padded.rgb[:84, :108])


def test_every_reference_can_be_used(small_predictor):
    """With the LR's own enlargement among strangers, matches point there, wherever it stands."""
    lr = picture(24, 24)
    exact = lr.repeat(4, 0).repeat(4, 1)
    strangers = [picture(48, 64, seed=seed) // 3 for seed in (1, 2, 3)]
    for place in range(4):
        refs = [*strangers[:place], exact, *strangers[place:]]
        result = small_predictor.run(lr, refs)
        number, _, _ = result.ref.locate(*result.trace.matches.position[0].numpy())
        assert (number == place).mean() > 0.9


def test_without_a_reference_the_lr_is_used(small_predictor):
    lr = picture(24, 19)
    own = small_predictor.upscale(lr)
    given = small_predictor.upscale(lr, [lr])
    np.testing.assert_array_equal(own.rgb, given.rgb)
    assert own.self_reference
    assert not given.self_reference


def test_files_arrays_and_bytes_are_the_same_picture(small_predictor, tmp_path):
    lr, ref = picture(16, 24), picture(48, 40, seed=1)
    Image.fromarray(lr).save(tmp_path / "lr.png")
    Image.fromarray(ref).save(tmp_path / "ref.jpg", quality=90)
    ref = read_photo(tmp_path / "ref.jpg").rgb
    expected = small_predictor.run(lr, [ref]).rgb
    content = (tmp_path / "lr.png").read_bytes()
    for source in (tmp_path / "lr.png", str(tmp_path / "lr.png"), content, Image.fromarray(lr), lr):
        result = small_predictor.upscale(source, [tmp_path / "ref.jpg"])
        np.testing.assert_array_equal(result.rgb, expected)


def test_transparency_is_kept(small_predictor, tmp_path):
    rgb, alpha = picture(16, 24), picture(16, 24, seed=1)[:, :, 0]
    Image.fromarray(np.dstack([rgb, alpha])).save(tmp_path / "lr.png")
    result = small_predictor.upscale(tmp_path / "lr.png", [picture(32, 32)])
    np.testing.assert_array_equal(result.alpha, enlarge_x4(alpha))
    np.testing.assert_array_equal(result.rgb, small_predictor.run(rgb, [picture(32, 32)]).rgb)


def test_the_bicubic_baseline_is_that_of_the_visitor_s_pixels(small_predictor):
    lr = picture(19, 21)
    np.testing.assert_array_equal(small_predictor.run(lr).bicubic, enlarge_x4(lr))


# ---------------------------------------------------------------------------- cache


def test_what_was_encoded_is_not_encoded_again(counted):
    predictor, counts = counted
    lr, other, ref = picture(16, 16), picture(16, 16, seed=1), picture(48, 32, seed=2)
    first = predictor.run(lr, [ref])
    assert counts == {"encode_lr": 1, "encode_down": 1}
    again = predictor.run(lr.copy(), [ref.copy()])
    assert counts == {"encode_lr": 1, "encode_down": 1}
    np.testing.assert_array_equal(first.rgb, again.rgb)
    second = predictor.run(other, [ref])
    assert counts == {"encode_lr": 2, "encode_down": 1}
    assert not np.array_equal(first.rgb, second.rgb)
    predictor.run(lr, [other.repeat(3, 0)])
    assert counts == {"encode_lr": 2, "encode_down": 2}


def test_one_changed_pixel_is_another_picture(counted):
    predictor, counts = counted
    lr, ref = picture(16, 16), picture(48, 32, seed=2)
    predictor.run(lr, [ref])
    ref[47, 31, 2] ^= 1
    predictor.run(lr, [ref])
    assert counts == {"encode_lr": 1, "encode_down": 2}


def test_the_cache_forgets_what_was_used_longest_ago(counted):
    predictor, counts = counted  # of four, one is the LR
    lr, refs = picture(16, 16), [picture(32, 32, seed=seed) for seed in range(1, 5)]
    for number in (0, 1, 2, 0, 3, 0):  # 3 pushes 1 out, as 0 was used since
        predictor.run(lr, [refs[number]])
    assert counts == {"encode_lr": 1, "encode_down": 4}
    predictor.run(lr, [refs[1]])
    assert counts["encode_down"] == 5


def test_nothing_is_kept_if_nothing_may_be(small_model):
    features = FeatureCache(0)
    predictor = Predictor(small_model, "cpu", "fp32", features=features)
    lr = picture(16, 16)
    np.testing.assert_array_equal(predictor.run(lr).rgb, predictor.run(lr).rgb)
    assert features.bytes == 0


def test_views_are_compared_anew_if_nothing_may_be_kept(small_model, monkeypatch):
    compared = []

    def noted(*arguments):
        compared.append(arguments)
        return fit_scores(*arguments)

    monkeypatch.setattr(masa.predictor, "fit_scores", noted)
    refs = [picture(48, 32), picture(48, 32, seed=2)]
    for kept, times in ((0, 2), (4, 1)):  # for each of two views
        predictor = Predictor(small_model, "cpu", "fp32", features=FeatureCache(kept))
        for _ in range(2):
            predictor.run(picture(16, 16), refs, align=True)
        assert len(compared) == 2 * times
        compared.clear()


def test_networks_share_a_cache_and_keep_their_features_apart(small_model, full_model):
    lr, ref = picture(16, 16), picture(48, 32, seed=2)
    models = small_model, full_model
    alone = [Predictor(model, "cpu", "fp32").run(lr, [ref]).rgb for model in models]
    features = FeatureCache()
    sharing = [Predictor(model, "cpu", "fp32", features=features) for model in models]
    for _ in range(2):
        for predictor, expected in zip(sharing, alone, strict=True):
            np.testing.assert_array_equal(predictor.run(lr, [ref]).rgb, expected)


# ---------------------------------------------------------------------------- settings of a run


def test_branches_and_matching_hold_for_one_run(small_predictor):
    lr, ref = picture(24, 24), picture(64, 64, seed=1)
    plain = small_predictor.run(lr, [ref]).rgb
    off = small_predictor.run(lr, [ref], branches=Branches(ref=False))
    assert not np.array_equal(off.rgb, plain)
    config = MASAConfig(channels=8, lr_block=4, dilations=(1,))
    varied = small_predictor.run(lr[:20, :17], [ref], matching=config)
    assert varied.rgb.shape == (80, 68, 3)
    assert varied.trace.matches.geometry.block == 4
    np.testing.assert_array_equal(small_predictor.run(lr, [ref]).rgb, plain)


def test_kept_scales(small_predictor):
    lr = picture(16, 16)
    assert small_predictor.run(lr).trace.x4 is None
    trace = small_predictor.upscale(lr, keep=(2,)).trace
    assert trace.x1 is None
    assert trace.x2 is not None


# ---------------------------------------------------------------------------- progress


def followed(predictor, lr, ref):
    """A run and what it told about its progress."""
    calls = []
    return predictor.run(lr, [ref], lambda *call: calls.append(call)), calls


@pytest.mark.parametrize("tile", [None, 24])
def test_progress_rises_from_0_to_1(small_predictor, monkeypatch, tile):
    monkeypatch.setattr(small_predictor, "choose_tile", lambda *sizes: tile)
    lr, ref = picture(40, 56), picture(160, 200, seed=1)
    for largest_step in (0.2, 1):  # the second run finds everything encoded
        result, calls = followed(small_predictor, lr, ref)
        shares, stages = zip(*calls, strict=True)
        assert shares[0] == 0
        assert list(shares) == sorted(shares)
        assert shares[-1] == 1
        assert len(set(stages)) == 6
        assert max(b - a for a, b in pairwise(shares)) < largest_step  # so often it can be stopped
    assert result.tile == tile
    assert set(result.seconds) == {"encode_lr", "encode_ref", "match", "decode"}
    assert all(seconds >= 0 for seconds in result.seconds.values())


@pytest.mark.parametrize("at", [0.0, 0.3, 0.9, 1.0])
def test_what_progress_raises_ends_the_run(small_predictor, at):
    class CancelledError(Exception):
        pass

    shares = []

    def cancel(share, doing):
        shares.append(share)
        if share >= at:
            raise CancelledError

    lr = picture(16, 16)
    with pytest.raises(CancelledError):
        small_predictor.run(lr, progress=cancel)
    assert sum(share >= at for share in shares) == 1
    assert small_predictor.run(lr).rgb.shape == (64, 64, 3)  # and the next run is none the worse


# ---------------------------------------------------------------------------- limits and memory


def test_six_references_are_too_many(small_predictor):
    with pytest.raises(UserError) as raised:
        small_predictor.upscale(picture(16, 16), [picture(16, 16)] * 6)
    assert "6 references" in str(raised.value)
    assert str(raised.value).endswith("5.")


def test_what_does_not_fit_into_memory_is_refused(small_model):
    predictor = Predictor(small_model, "cpu", "fp32", memory=2**20)
    with pytest.raises(UserError) as raised:
        predictor.upscale(picture(64, 64), [picture(64, 64)])
    assert is_one_sentence(str(raised.value))
    assert "memory" in str(raised.value)


def test_large_references_are_reduced_and_noted(small_model):
    predictor = Predictor(small_model, "cpu", "fp32", Limits(max_ref_pixels=1200))
    result = predictor.upscale(picture(16, 16), [picture(30, 30), picture(80, 60)])
    assert len(result.notes) == 1
    assert is_one_sentence(result.notes[0])
    assert result.notes[0].startswith("Reference 2 was reduced from 60x80 to 30x40")
    assert (result.ref.placements[1].height, result.ref.placements[1].width) == (40, 30)


def test_unknown_devices_and_precisions_are_refused(small_model):
    with pytest.raises(UserError):
        Predictor(small_model, "abacus")
    with pytest.raises(UserError):
        Predictor(small_model, "cpu", "fp16")


def run_tight(model, lr, ref, tile):
    """``lr`` enlarged in one piece and in tiles of at most ``tile``."""
    whole = Predictor(model, "cpu", "fp32").run(lr, [ref])
    assert whole.tile is None
    predictor = Predictor(model, "cpu", "fp32")
    sizes = canvas_sizes(lr.shape[:2], [ref.shape[:2]], predictor.config)
    predictor.memory = predictor.predicted_bytes(*sizes, tile)
    tiled = predictor.run(lr, [ref])
    assert tiled.tile is not None
    assert tiled.tile <= tile
    return whole.rgb.astype(int), tiled.rgb.astype(int)


@pytest.mark.slow
def test_tiles_of_a_large_lr_are_the_same_to_one_grey_level(small_model, all_cores):
    """The narrow network's far pixels matter more than those of any trained one."""
    whole, tiled = run_tight(small_model, picture(256, 256), picture(96, 128, seed=1), 64)
    assert np.abs(whole - tiled).max() <= 1
    assert (whole != tiled).mean() < 0.01


def test_kept_scales_count(small_model):
    predictor = Predictor(small_model, "cpu", "fp32")
    sizes = canvas_sizes((64, 64), [], predictor.config)
    needed = [predictor.predicted_bytes(*sizes, 32, keep) for keep in ((), (1,), (1, 2), (4,))]
    assert needed == sorted(needed) and needed[0] < needed[-1]
    predictor.memory = needed[0]
    assert predictor.choose_tile(*sizes) is not None
    with pytest.raises(MemoryNeededError, match="GB"):
        predictor.run(picture(64, 64), keep=(4,))


def test_without_strips_more_memory_is_foreseen(small_model, monkeypatch):
    predictor = Predictor(small_model, "cpu", "fp32")
    sizes = canvas_sizes((256, 256), [], predictor.config)
    in_strips = predictor.predicted_bytes(*sizes, None)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    whole = predictor.predicted_bytes(*sizes, None)
    a_map = 4 * predictor.config.channels * 1024**2
    assert whole - in_strips == a_map


def test_a_card_that_others_use_too_is_a_sentence(small_predictor, monkeypatch):
    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(small_predictor.model, "decode", full)
    with pytest.raises(MemoryNeededError) as raised:
        small_predictor.run(picture(16, 16))
    assert is_one_sentence(str(raised.value))


def test_what_is_free_on_a_card_now_bounds_a_run(small_model, monkeypatch):
    """Features of earlier runs stay on the card, so less is free than when it was chosen."""
    predictor = Predictor(small_model, "cpu", "fp32", memory=2**40)
    sizes = canvas_sizes((64, 64), [(256, 256)], predictor.config)
    whole, tiled = (predictor.predicted_bytes(*sizes, tile) for tile in (None, 32))
    assert tiled < whole
    for free, tile in ((None, None), (whole, None), (whole - 1, 32), (2**50, None)):
        monkeypatch.setattr("masa.predictor.free_memory", lambda device, free=free: free)
        assert predictor.choose_tile(*sizes) == tile
    monkeypatch.setattr("masa.predictor.free_memory", lambda device: tiled - 1)
    with pytest.raises(
        MemoryNeededError, match=f"{tiled / 2**30:.1f} GB free on the graphics card"
    ):
        predictor.choose_tile(*sizes)
    predictor.memory = 1
    monkeypatch.setattr("masa.predictor.free_memory", lambda device: whole)
    with pytest.raises(MemoryNeededError, match=r"the 0\.0 GB allowed"):
        predictor.choose_tile(*sizes)


def test_what_is_refused_is_never_padded(small_model, monkeypatch):
    """A wide and tall references on one canvas are far larger than they are together."""
    predictor = Predictor(small_model, "cpu", "fp32", memory=2**30)
    monkeypatch.setattr("masa.predictor.ref_canvas", lambda *a: pytest.fail("padded"))
    blank = np.zeros(1, np.uint8)  # seen as pictures of any size
    refs = [np.broadcast_to(blank, (h, w, 3)) for h, w in ((20000, 700), (700, 20000))]
    with pytest.raises(MemoryNeededError, match="GB"):
        predictor.run(picture(16, 16), refs)


def test_pieces_may_be_bounded(small_model):
    predictor = Predictor(small_model, "cpu", "fp32", largest=32)
    for side, tile in ((32, None), (40, 32)):
        assert predictor.choose_tile(*canvas_sizes((side, side), [], predictor.config)) == tile
    whole = Predictor(small_model, "cpu", "fp32").run(picture(40, 40))
    assert np.abs(predictor.run(picture(40, 40)).rgb.astype(int) - whole.rgb).max() <= 1


@pytest.mark.slow
def test_tiles_with_the_shipped_weights(shipped_model, all_cores, examples):
    hr = read_photo(examples / "motorcycle_hr.jpg").rgb[40:, 100:]
    whole, tiled = run_tight(
        shipped_model, hr[:64, :96], read_photo(examples / "motorcycle_ref.jpg").rgb[:48, :64], 32
    )
    assert np.abs(whole - tiled).max() <= 1


# ---------------------------------------------------------------------------- precision, threads


@needs_bf16
@pytest.mark.slow
def test_bfloat16_is_as_good(examples, all_cores):
    hr, ref = (
        read_photo(examples / f"motorcycle_{name}.jpg").rgb[160:288, 240:368]
        for name in ("hr", "ref")
    )
    lr, hr = lr_from_hr(hr)
    single = Predictor(load_model(), "cpu", "fp32").run(lr, [ref])
    half = Predictor(load_model(), "cpu", "bf16").run(lr, [ref])
    assert half.trace.output.dtype == torch.float32
    quality = psnr_y(single.rgb, hr)
    assert abs(psnr_y(half.rgb, hr) - quality) < 0.05
    assert quality > psnr_y(single.bicubic, hr) + 1  # or there would be nothing to lose
    assert not np.array_equal(half.rgb, single.rgb)


def test_a_network_may_be_named(small_model, tmp_path):
    save_weights(tmp_path / "w.safetensors", small_model.state_dict(), small_model.config)
    by_path = Predictor(tmp_path / "w.safetensors", "cpu", "fp32")
    assert by_path.config.channels == 8
    assert Predictor("lab-none", "cpu", "fp32").config.adaptation == "none"


@pytest.mark.parametrize("ref", ["sharp.jpg", picture(32, 32), b"bytes"])
def test_a_single_reference_is_no_list(small_predictor, ref):
    with pytest.raises(TypeError, match=r"\[ref\]"):
        small_predictor.upscale(picture(16, 16), ref)


@pytest.mark.parametrize(
    "odd", [picture(16, 16) / 255, picture(16, 16)[..., 0], np.zeros((16, 16, 4), np.uint8)]
)
def test_arrays_of_another_kind_are_refused(small_predictor, odd):
    for lr, refs in ((odd, []), (picture(16, 16), [odd])):
        with pytest.raises(ValueError, match="uint8 arrays"):
            small_predictor.run(lr, refs)


def test_a_result_can_be_stored_and_copied(small_predictor):
    result = small_predictor.run(picture(16, 16), [picture(32, 32, 1)])
    for again in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert torch.equal(again.trace.output, result.trace.output)
        with again.ref_features.lock:
            assert not result.ref_features.lock.locked()


def test_half_precision_is_what_computes_it(small_model, monkeypatch):
    """Also where the processor has no bfloat16 of its own: PyTorch computes it, slowly."""
    monkeypatch.setattr("masa.machine.device.has_bf16", lambda device: True)
    lr, ref = picture(16, 24, 1), picture(64, 72, 2)
    half = Predictor(small_model, "cpu", "bf16")
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    rough, exact = half.run(lr, [ref]).rgb, Predictor(small_model, "cpu", "fp32").run(lr, [ref]).rgb
    difference = np.abs(rough.astype(int) - exact)
    assert 0 < difference.mean() < 3


def test_threads_do_not_disturb_each_other(small_model):
    jobs = [
        (picture(16 + 4 * (i % 3), 24, seed=i), [picture(40 + i, 48, seed=20 + i % 3)])
        for i in range(12)
    ]
    alone = [Predictor(small_model, "cpu", "fp32").run(*job).rgb for job in jobs]
    shared = Predictor(small_model, "cpu", "fp32")
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: shared.run(*job).rgb, jobs))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
