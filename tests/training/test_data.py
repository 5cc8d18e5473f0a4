"""Training pairs: what a sample is made of, that it can be drawn again, and bad folders."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import picture
from PIL import Image

from masa.errors import UserError
from masa.pictures.metrics import psnr_y
from masa.pictures.resize import reduce_x4, to_uint8
from masa.training.data import (
    Augmentation,
    PairDataset,
    SampleStream,
    augmented_crops,
    gradient_energy,
)

PLAIN = Augmentation(swap=False, luminance=False, orient="off", ref_jitter=0)


def save(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)


@pytest.fixture
def folder(tmp_path):
    """Three pairs of 80 x 96 pixels."""
    for k in range(3):
        save(tmp_path / f"input/{k}.png", picture(80, 96, 2 * k))
        save(tmp_path / f"ref/{k}.png", picture(80, 96, 2 * k + 1))
    return tmp_path


def positions(height, width):
    """A picture that says where its pixels are: (row, column, 0)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], axis=2).astype(np.uint8)


def crops(augmentation, first, second=None, count=40, crop=32):
    second = first if second is None else second
    draw = np.random.default_rng(0)
    return [augmented_crops(first, second, crop, augmentation, draw) for _ in range(count)]


def test_a_sample_is_crops_and_their_reductions(folder):
    lr, ref, ref_down, hr = PairDataset(folder, 64)[(0, 1)]
    assert hr.shape == ref.shape == (3, 64, 64)
    assert lr.shape == ref_down.shape == (3, 16, 16)
    for small, large in ((lr, hr), (ref_down, ref)):
        assert small.dtype == torch.float32
        assert np.array_equal(to_uint8(small), reduce_x4(to_uint8(large)))


def test_samples_can_be_drawn_again(folder):
    one, two = PairDataset(folder, 32, seed=3), PairDataset(folder, 32, seed=3, cache=False)
    for key in itertools.product((0, 5), range(3)):
        assert all(map(torch.equal, one[key], two[key]))
    other = PairDataset(folder, 32, seed=4)
    assert not torch.equal(one[(0, 0)].hr, one[(1, 0)].hr)
    assert not torch.equal(one[(0, 0)].hr, other[(0, 0)].hr)


def test_degradation_changes_the_small_pictures_alone(folder):
    clean = PairDataset(folder, 64, seed=1)
    photo = PairDataset(folder, 64, Augmentation(degrade="photo"), seed=1)
    keys = list(itertools.product(range(8), range(3)))
    pairs = [(clean[key], photo[key]) for key in keys]
    assert all(torch.equal(one.hr, other.hr) for one, other in pairs)
    changed = [not torch.equal(one.lr, other.lr) for one, other in pairs]
    assert 0.5 < np.mean(changed) < 1
    refs = [not torch.equal(one.ref, other.ref) for one, other in pairs]
    assert 0 < np.mean(refs) < 0.5
    assert all(
        np.array_equal(to_uint8(other.ref_down), reduce_x4(to_uint8(other.ref)))
        for _, other in pairs
    )
    again = PairDataset(folder, 64, Augmentation(degrade="photo"), seed=1, cache=False)
    assert all(map(torch.equal, again[keys[5]], pairs[5][1]))
    with pytest.raises(UserError, match="off or photo"):
        Augmentation(degrade="heavily")


def test_without_augmentation_the_windows_are_the_same():
    for hr, ref in crops(PLAIN, positions(80, 96)):
        assert np.array_equal(hr, ref)


def test_a_share_of_references_is_aligned_and_nothing_else_changes(turned_pairs):
    keys = list(itertools.product(range(10), range(2)))
    still = Augmentation(luminance=False, orient="off", ref_jitter=0)
    off, some, every = (
        [PairDataset(turned_pairs, 64, replace(still, align=share), seed=1)[key] for key in keys]
        for share in (0, 0.5, 1)
    )
    for plain, half, full in zip(off, some, every, strict=True):
        assert torch.equal(plain.hr, half.hr) and torch.equal(plain.hr, full.hr)
        assert torch.equal(plain.lr, full.lr)
        assert torch.equal(half.ref, plain.ref) or torch.equal(half.ref, full.ref)
        assert np.array_equal(to_uint8(full.ref_down), reduce_x4(to_uint8(full.ref)))

    def likeness(samples):
        return np.median([psnr_y(to_uint8(s.ref), to_uint8(s.hr)) for s in samples])

    assert likeness(every) > likeness(off) + 8
    aligned = sum(torch.equal(half.ref, full.ref) for half, full in zip(some, every, strict=True))
    assert 5 <= aligned <= 15
    again = PairDataset(turned_pairs, 64, replace(still, align=0.5), seed=1, cache=False)
    assert all(map(torch.equal, again[keys[7]], some[7]))


def test_a_reference_with_nothing_in_common_stays_as_it_is(folder):
    plain = PairDataset(folder, 64, Augmentation(), seed=1)
    aligned = PairDataset(folder, 64, Augmentation(align=1), seed=1)
    assert all(all(map(torch.equal, plain[0, k], aligned[0, k])) for k in range(3))


def test_windows_reach_everywhere():
    corners = {tuple(hr[0, 0, :2]) for hr, _ in crops(PLAIN, positions(34, 34), count=100)}
    assert corners == set(itertools.product(range(3), range(3)))


def test_jitter_moves_the_reference_at_most_so_far():
    apart = [
        ref[0, 0, :2].astype(int) - hr[0, 0, :2]
        for hr, ref in crops(Augmentation(False, False, "off", 4), positions(200, 200), count=200)
    ]
    assert np.unique(apart).tolist() == list(range(-4, 5))


def test_windows_lie_at_the_same_relative_place_of_unequal_pictures():
    for hr, ref in crops(PLAIN, positions(100, 64), positions(200, 32)):
        assert ref[0, 0, 0] == round(int(hr[0, 0, 0]) * 168 / 68)
        assert ref[0, 0, 1] == 0


def test_swap_happens_half_the_time():
    black, white = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 255, np.uint8)
    augmentation = Augmentation(True, False, "off", 0)
    drawn = crops(augmentation, black, white, count=200)
    assert all({hr.max(), ref.max()} == {0, 255} for hr, ref in drawn)
    assert 70 < sum(hr.max() == 255 for hr, _ in drawn) < 130


def test_luminance_changes_either_the_reference_or_the_picture():
    grey = np.full((40, 40, 3), 128, np.uint8)
    changed = [
        (bool((hr != 128).any()), bool((ref != 128).any()))
        for hr, ref in crops(Augmentation(False, True, "off", 0), grey, count=200)
    ]
    assert not any(both == (True, True) for both in changed)
    assert changed.count((True, False)) > 60
    assert changed.count((False, True)) > 60


def test_samples_are_the_same_without_luminance_but_for_it():
    """So that networks trained with and without it differ in nothing else."""
    places = positions(64, 64)
    lit, plain = (crops(Augmentation(True, on, "together", 4), places) for on in (True, False))
    # The light of one of the two is as it was, and it was cropped and turned alike.
    for first, second in zip(lit, plain, strict=True):
        assert any(map(np.array_equal, first, second))


@pytest.mark.parametrize(("orient", "equal"), [("off", 1), ("together", 1), ("apart", 1 / 8)])
def test_orientation(orient, equal):
    drawn = crops(Augmentation(False, False, orient, 0), positions(32, 32), count=400)
    assert np.mean([np.array_equal(*pair) for pair in drawn]) == pytest.approx(equal, abs=0.06)
    assert len({hr.tobytes() for hr, _ in drawn}) == (1 if orient == "off" else 8)


def test_hard_crops_have_more_texture():
    flat = picture(128, 128) // 8
    flat[:32, :32] = picture(32, 32)

    def energy(hard):
        drawn = crops(Augmentation(False, False, "off", 0, hard), flat, count=100)
        return np.mean([gradient_energy(hr[:, :, 1].astype(np.int16)) for hr, _ in drawn])

    assert energy(1.0) > 1.2 * energy(0.0)


def test_the_stream_is_a_new_permutation_each_epoch():
    keys = list(itertools.islice(SampleStream(10, seed=1), 30))
    for epoch in range(3):
        part = keys[10 * epoch : 10 * epoch + 10]
        assert sorted(part) == [(epoch, k) for k in range(10)]
    assert [k for _, k in keys[:10]] != [k for _, k in keys[10:20]]
    assert keys != list(itertools.islice(SampleStream(10, seed=2), 30))


@pytest.mark.parametrize("start", [3, 10, 27])
def test_the_stream_goes_on_where_it_was_left(start):
    keys = list(itertools.islice(SampleStream(10), 40))
    assert list(itertools.islice(SampleStream(10, start=start), 40 - start)) == keys[start:]


def test_a_damaged_picture_is_named_and_left_out(folder):
    data = (folder / "ref/1.png").read_bytes()
    (folder / "ref/1.png").write_bytes(data[:200])  # the header remains
    with pytest.warns(UserWarning, match=r"1\.png"):
        dataset = PairDataset(folder, 64)
    assert [pair[0].name for pair in dataset.pairs] == ["0.png", "2.png"]
    assert len(dataset) == 2


@pytest.mark.parametrize("cache", [True, False])
def test_a_file_that_is_no_picture_is_named_and_left_out(folder, cache):
    (folder / "input/2.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"2\.png"):
        dataset = PairDataset(folder, 64, cache=cache)
    assert [pair[0].name for pair in dataset.pairs] == ["0.png", "1.png"]


def test_the_next_pair_stands_in_for_a_damaged_one(folder):
    data = (folder / "ref/0.png").read_bytes()
    (folder / "ref/0.png").write_bytes(data[:200])
    dataset = PairDataset(folder, 64, PLAIN, cache=False)
    with pytest.warns(UserWarning, match="0.png"):
        hr = to_uint8(dataset[(0, 0)].hr)
    whole = picture(80, 96, 2)
    windows = np.lib.stride_tricks.sliding_window_view(whole, (64, 64, 3))[:, :, 0]
    assert (windows == hr).all((2, 3, 4)).any()


def test_small_pairs_are_left_out(folder):
    save(folder / "input/0.png", picture(60, 96))
    with pytest.warns(UserWarning, match="1 pairs"):
        assert len(PairDataset(folder, 64)) == 2


@pytest.mark.parametrize(
    ("crop", "match"), [(96, "smaller crop"), (48, "multiple"), (0, "multiple")]
)
def test_impossible_crops_are_refused(folder, crop, match):
    with pytest.raises(UserError, match=match):
        PairDataset(folder, crop)


def test_a_picture_without_partner_is_named(folder):
    (folder / "ref/1.png").unlink()
    with pytest.raises(UserError, match=r"1\.png.*no partner.*ref"):
        PairDataset(folder, 64)


def test_two_pictures_of_one_name_are_refused(folder):
    save(folder / "ref/1.jpg", picture(80, 96))
    with pytest.raises(UserError, match=r"1\.jpg.*1\.png"):
        PairDataset(folder, 64)


def test_bad_folders_are_named(tmp_path, folder):
    with pytest.raises(UserError, match="nowhere"):
        PairDataset(tmp_path / "nowhere", 64)
    for path in folder.glob("*/*"):
        path.unlink()
    with pytest.raises(UserError, match="no pictures"):
        PairDataset(folder, 64)


@pytest.mark.filterwarnings("ignore")
def test_nothing_but_damaged_pictures_is_an_error(folder):
    for path in folder.glob("input/*"):
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="can be read"):
        PairDataset(folder, 64)
    dataset = PairDataset(folder, 64, cache=False)
    with pytest.raises(UserError, match="can be read"):
        dataset[(0, 0)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"orient": "sideways"},
        {"ref_jitter": -1},
        {"hard": 1.5},
        {"hard": -0.1},
        {"align": float("nan")},
    ],
)
def test_impossible_augmentations_are_refused(wrong):
    with pytest.raises(UserError):
        Augmentation(**wrong)
