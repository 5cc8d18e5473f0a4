"""References of any size and kind, from their files to the views that a run uses."""

import gc
import io
import weakref

import cv2
import numpy as np
import pytest
from helpers import is_one_sentence, picture
from PIL import Image

from masa.config import MASAConfig
from masa.pictures.degradation import lr_from_hr
from masa.pictures.metrics import psnr_y
from masa.pictures.photo import Limits, Photo
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, resize_to_fit
from masa.predictor import Predictor
from masa.reference import views as module
from masa.reference.alignment import Alignment, aligned_view
from masa.reference.canvas import View, lr_canvas, ref_canvas
from masa.reference.views import Reference, read_reference, see
from masa.weights import load_model

DEFAULT = MASAConfig()


@pytest.fixture(scope="module")
def photo(examples):
    """``(256, 320, 3)``: a part of a real photo with much detail."""
    return read_photo(examples / "motorcycle_hr.jpg").rgb[60:316, 100:420].copy()


def enlarged(rgb, factor):
    return cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


# ---------------------------------------------------------------------------- full size


def test_a_large_reference_is_sampled_at_its_full_size(photo):
    """Reduced first, it would show no more than a reference of that size."""
    lr = lr_from_hr(photo)[0]
    large = enlarged(photo, 2.5)
    limits = Limits(max_ref_pixels=128 * 160)
    reference = read_reference(large, 1, limits, lr)
    assert reference.plain.rgb.shape == (128, 160, 3)
    assert reference.reduction == "from 800x640 to 160x128 pixels"
    detail = psnr_y(reference.aligned.rgb, photo, border=8)
    reduced = resize_to_fit(Photo(large), limits.max_ref_pixels).rgb
    late = see(reduced, 0, lr, limits.max_ref_pixels)
    assert detail > psnr_y(late.aligned.rgb, photo, border=8) + 6
    assert detail > psnr_y(enlarge_x4(lr), photo, border=8) + 6


def test_as_it_is_a_large_reference_stays_in_proportion_to_the_result(photo):
    lr = lr_from_hr(photo)[0]
    reference = see(enlarged(photo, 3), 0, lr, 10**7)
    assert reference.plain.rgb.shape == (512, 640, 3)  # four times the result's pixels
    assert reference.plain.size == (768, 960)
    unknown = see(enlarged(picture(60, 60), 20), 0, lr, 10**7)
    assert unknown.alignment is None and unknown.plain.rgb.shape == (1200, 1200, 3)


def test_places_in_both_views_are_those_of_the_own_full_size(photo):
    lr = lr_from_hr(photo)[0]
    reference = read_reference(enlarged(photo, 2.5), 1, Limits(max_ref_pixels=128 * 160), lr)
    canvas = ref_canvas(reference.views, lr_canvas(lr, DEFAULT), DEFAULT)
    plain, aligned = canvas.placements
    rows, columns = np.mgrid[4:28:6, 4:36:6]
    found = canvas.locate(rows, columns)  # a cell is 4 pixels of 5 own ones each, a side
    assert (found.number == 0).all()
    np.testing.assert_allclose(found.row, 20 * rows + 9.5)
    np.testing.assert_allclose(found.column, 20 * columns + 9.5)
    rows, columns = np.mgrid[8:56:12, 8:72:12]
    found = canvas.locate(rows + aligned.top // 4, columns)  # a cell is 4 pixels of 2.5 own ones
    assert np.abs(found.row - (10 * rows + 4.5)).max() < 2.5
    assert np.abs(found.column - (10 * columns + 4.5)).max() < 2.5
    (outline,) = canvas.outlines(plain.area)
    np.testing.assert_allclose(outline.corners.max(0), (639.5, 799.5))


def test_without_alignment_a_large_reference_is_reduced_as_before(photo):
    limits = Limits(max_ref_pixels=1200)
    reference = read_reference(photo, 2, limits)
    assert np.array_equal(reference.rgb, resize_to_fit(Photo(photo), 1200).rgb)
    assert reference.plain.size == reference.rgb.shape[:2] and reference.views == (reference.plain,)
    (note,) = reference.notes
    assert note.startswith("Reference 2 was reduced from 320x256 to ") and is_one_sentence(note)


def held_bytes(reference):
    """What keeps living with a reference."""
    arrays = [array for view in reference.views for array in (view.rgb, view.own)]
    return sum((a if a.base is None else a.base).nbytes for a in arrays if a is not None)


def test_one_large_reference_at_a_time_is_held_at_full_size(photo, monkeypatch, small_model):
    """So five of 25 megapixels take no more than one, besides their small views."""
    whole = []

    def watched(source, role, limits):
        gc.collect()
        assert not any(seen() is not None for seen in whole), "the last one is still held"
        found = read_photo(source, role, limits)
        if role == "reference":
            whole.append(weakref.ref(found.rgb))
        return found

    monkeypatch.setattr(module, "read_photo", watched)
    limits = Limits(max_ref_pixels=128 * 160)
    files = []
    for factor in (2.0, 2.25, 2.5):
        file = io.BytesIO()
        Image.fromarray(enlarged(photo, factor)).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    lr = lr_from_hr(photo)[0]
    predictor = Predictor(small_model, "cpu", "fp32", limits)
    _, references = predictor.read(lr, files, align=True)
    gc.collect()
    assert len(whole) == 3 and not any(seen() is not None for seen in whole)
    frame, cells, plain = photo.nbytes, lr.shape[0] * lr.shape[1] * 8, 3 * 128 * 160
    for reference in references:
        assert reference.aligned is not None
        assert held_bytes(reference) <= frame + cells + plain


def test_what_happened_to_a_file_is_noted(photo, small_predictor):
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=95)
    early = file.getvalue()[: int(0.7 * len(file.getvalue()))]
    for align in (False, True):
        result = small_predictor.upscale(picture(32, 32), [early], align=align)
        assert "stops early" in result.notes[0] and all(map(is_one_sentence, result.notes))
        assert len(result.notes) == 1 + align
        (note,) = small_predictor.upscale(early, align=align).notes
        assert "small photo stops early" in note


def test_a_result_s_references_serve_another_run(photo, small_predictor, monkeypatch):
    lr = lr_from_hr(photo)[0]
    first = small_predictor.upscale(lr, [enlarged(photo, 1.5)], align=True)
    unsought = small_predictor.read(lr, [enlarged(photo, 1.5)])[1]
    assert np.array_equal(small_predictor.run(lr, unsought, align=True).rgb, first.rgb)
    assert first.alignments[0] is not None and first.seconds["align"] > 0
    monkeypatch.setattr(module, "align_reference", lambda *a: pytest.fail("aligned again"))
    encoded = []
    monkeypatch.setattr(
        small_predictor.model, "encode_down", lambda *a: encoded.append(a) or pytest.fail("again")
    )
    again = small_predictor.run(lr, first.references, align=True)
    assert np.array_equal(first.rgb, again.rgb) and again.notes == first.notes
    assert first.cost == again.cost and first.cost.align > 0


def test_a_reference_is_counted_by_where_it_stands(photo, small_predictor):
    """Also one that was read together with others."""
    lr = lr_from_hr(photo)[0]
    _, (_, second) = small_predictor.read(lr, [picture(64, 64), enlarged(photo, 1.5)], align=True)
    result = small_predictor.run(lr, [second], align=True)
    assert {placement.number for placement in result.ref.placements} == {0}
    assert result.notes[0].startswith("Reference 1 was aligned")
    rows, columns = result.trace.matches.position[0].numpy()
    assert (result.ref.locate(rows, columns).number == 0).all()
    assert second.plain.number == second.aligned.number == 1  # as it was


# ---------------------------------------------------------------------------- odd ones


@pytest.fixture(scope="module")
def predictor():
    return Predictor(load_model("masa-rec"), "cpu", "fp32")


def share_aligned(result):
    """Share of the LR pixels that took the aligned view."""
    tops = np.array([place.top // 4 for place in result.ref.placements])
    rows = result.trace.matches.position[0, 0].numpy()
    which = np.searchsorted(tops, rows.ravel(), side="right") - 1
    aligned = np.array([place.own is not None for place in result.ref.placements])
    return aligned[which].mean()


@pytest.mark.slow
def test_a_reference_of_a_corner_helps_there_and_harms_nowhere(predictor, photo):
    hr = photo[:192, :256]
    lr = lr_from_hr(hr)[0]
    corner = enlarged(photo[:112, :144], 1.5)
    alone, aligned = predictor.run(lr), predictor.run(lr, [corner], align=True)
    assert aligned.alignments[0] is not None
    there = np.s_[8:96, 8:128]
    assert psnr_y(aligned.rgb[there], hr[there]) > psnr_y(alone.rgb[there], hr[there]) + 1
    beyond = np.s_[128:, 160:]
    assert psnr_y(aligned.rgb[beyond], hr[beyond]) > psnr_y(alone.rgb[beyond], hr[beyond]) - 0.5


def test_a_panorama_is_aligned_where_it_shows_the_photo(examples):
    wide = read_photo(examples / "motorcycle_hr.jpg").rgb[120:280]
    assert wide.shape[1] > 3 * wide.shape[0]
    left = 240
    hr = wide[16:144, left : left + 160]
    reference = see(enlarged(wide, 1.5), 0, lr_from_hr(hr)[0], 10**6)
    assert reference.alignment is not None
    corner = reference.alignment.to_own(np.array([(0.0, 0.0)]))[0]
    np.testing.assert_allclose(corner, (1.5 * left, 1.5 * 16), atol=3)
    assert psnr_y(reference.aligned.rgb, hr, border=8) > psnr_y(
        enlarge_x4(lr_from_hr(hr)[0]), hr, border=8
    )


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [(1.0, 24.0), (1.3, 0.0)], ids=["half a window", "too near"])
def test_a_wrong_transform_of_a_facade_loses(predictor, examples, wrong):
    """Windows are all alike, so that features may agree on a wrong place."""
    window = read_photo(examples / "leuven_hr.jpg").rgb[100:148, 200:248]
    facade = np.tile(window, (3, 3, 1))[:128, :128].copy()
    rng = np.random.default_rng(0)
    facade = (facade + rng.normal(0, 3, facade.shape)).clip(0, 255).astype(np.uint8)
    lr = lr_from_hr(facade)[0]
    zoom, move = wrong
    matrix = np.array([(zoom, 0, move), (0, zoom, move), (0, 0, 1)])
    nothing = np.zeros((12, 2))
    found = aligned_view(lr, facade, Alignment(matrix, facade.shape[:2], nothing, nothing, 12))
    size = facade.shape[:2]
    reference = Reference(
        View(0, size, facade), View(0, size, found.rgb, found.own), found.alignment
    )
    result = predictor.run(lr, [reference], align=True)
    plain = predictor.run(lr, [facade])
    assert share_aligned(result) < 0.2
    assert psnr_y(result.rgb, facade) > psnr_y(plain.rgb, facade) - 0.1


def test_an_empty_sky_is_not_aligned(small_predictor):
    """Next to no features, and those are noise."""
    rng = np.random.default_rng(0)
    sky = np.linspace(150, 220, 256)[:, None, None] + np.array((0, 10, 30))
    first, second = (
        (sky + rng.normal(0, 1, (256, 256, 3))).clip(0, 255).astype(np.uint8) for _ in range(2)
    )
    result = small_predictor.run(lr_from_hr(first)[0], [second], align=True)
    assert result.alignments == (None,) and "not aligned" in result.notes[0]


@pytest.mark.parametrize("which", ["photo", "reference"])
def test_grey_is_aligned_with_colour(photo, which):
    grey = np.repeat(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    hr, other = (grey, photo) if which == "photo" else (photo, grey)
    reference = see(enlarged(other, 1.3), 0, lr_from_hr(hr)[0], 10**6)
    assert psnr_y(reference.aligned.rgb, hr, border=8) > 28


def test_a_camera_s_orientation_tag_is_followed_first(photo):
    """Stored lying on its side, and said to be: it is upright when it is aligned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(photo))).save(file, "PNG", exif=exif)
    lr = lr_from_hr(photo)[0]
    reference = read_reference(file.getvalue(), 1, lr=lr)
    assert np.array_equal(reference.rgb, photo)
    assert abs(reference.alignment.turn) < 1
    untold = read_reference(np.ascontiguousarray(np.rot90(photo)), 1, lr=lr)
    assert abs(abs(untold.alignment.turn) - 90) < 1
