"""Alignment: known transforms are found again on real photos, and impossible ones are refused."""

import cv2
import numpy as np
import pytest
import torch
from helpers import is_one_sentence, picture, placed

from masa.__main__ import main
from masa.machine.cost import executed_cost
from masa.network.blocks import Geometry
from masa.network.matching import coarse_match, fit_scores, spread_blocks
from masa.network.progress import ignore
from masa.pictures.degradation import lr_from_hr, preset_called
from masa.pictures.metrics import psnr_y
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4
from masa.pictures.write import write_photo
from masa.predictor import MemoryNeededError, Predictor, _Comparison
from masa.reference import alignment
from masa.reference.alignment import (
    Alignment,
    align,
    align_reference,
    aligned_view,
    plausible,
    transformed,
)
from masa.reference.canvas import View, choose_views, lr_canvas
from masa.reference.views import Reference, notes_on, see
from masa.weights import load_model


@pytest.fixture(scope="module")
def photo(examples):
    """``(H, W, 3)``, sides multiples of 4."""
    return lr_from_hr(read_photo(examples / "motorcycle_hr.jpg").rgb)[1]


def grid(photo):
    height, width = photo.shape[:2]
    y, x = np.mgrid[10 : height - 10 : 9, 10 : width - 10 : 9]
    return np.column_stack((x.ravel(), y.ravel())).astype(float)


CASES = {
    "as it is": {},
    "turned a little": {"degrees": 25},
    "turned by a right angle": {"degrees": 90},
    "upside down": {"degrees": 180},
    "farther": {"zoom": 0.7},
    "nearer": {"zoom": 1.5},
    "much nearer": {"zoom": 2.0},
    "turned and nearer": {"degrees": -20, "zoom": 1.5},
    "slanted": {"slant": 0.15},
}


@pytest.mark.parametrize("case", CASES)
def test_known_transforms_are_found_to_half_a_pixel(photo, case):
    ref, matrix = placed(photo, **CASES[case])
    found = align(lr_from_hr(photo)[0], ref)
    assert found is not None
    assert len(found.frame_points) == len(found.own_points) >= 12
    points = grid(photo)
    wrong = np.abs(found.to_own(points) - transformed(matrix, points))
    assert np.median(wrong) < 0.5 * max(1, CASES[case].get("zoom", 1))
    back = found.to_frame(found.to_own(points))
    assert np.abs(back - points).max() < 1e-6


@pytest.mark.parametrize("case", ["turned a little", "much nearer", "turned and nearer"])
def test_the_view_shows_what_the_photo_shows(photo, case):
    ref, _ = placed(photo, **CASES[case])
    lr = lr_from_hr(photo)[0]
    view = aligned_view(lr, ref, align(lr, ref)).rgb
    assert view.shape == photo.shape
    assert psnr_y(view, photo, border=8) > 1 + psnr_y(enlarge_x4(lr), photo, border=8)


def test_words_say_how_the_reference_lies(photo):
    lr = lr_from_hr(photo)[0]
    found = align(lr, placed(photo, 25, 1.5)[0])
    assert found.turn == pytest.approx(25, abs=1)
    assert found.zoom == pytest.approx(1.5, rel=0.03)
    assert found.tilt == pytest.approx(1, abs=0.05)
    assert found.words == "turned by 25°, 1.5 times as large"
    assert align(lr, photo).words == "upright and of the same scale"
    assert "seen at a slant" in align(lr, placed(photo, slant=0.4)[0]).words
    assert align(lr, placed(photo, zoom=0.5)[0]).words == "2 times smaller"


def test_a_thumbnail_is_found_in_a_large_photo(photo):
    """The photo is compared in a copy: what counts is how large things are in that one."""
    small = lr_from_hr(cv2.resize(photo, (480, 320), interpolation=cv2.INTER_AREA))[0]
    large = cv2.resize(photo, (4200, 2800), interpolation=cv2.INTER_CUBIC)
    found = align(small, large)
    assert found.zoom == pytest.approx(4200 / 480, rel=0.01)


def test_a_large_reference_is_not_aliased(photo):
    large = cv2.resize(photo, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    rng = np.random.default_rng(0)
    noisy = (large + rng.normal(0, 20, large.shape)).clip(0, 255).astype(np.uint8)
    lr = lr_from_hr(photo)[0]
    view = aligned_view(lr, noisy, align(lr, noisy)).rgb
    # The mean of 3x3 pixels has a third of the noise; a picked pixel would have all of it.
    assert np.std(view.astype(float) - photo) < 15


def test_a_jpeg_is_aligned(photo):
    ref, matrix = placed(photo, 25)
    found = align(lr_from_hr(photo, preset_called("web JPEG 75"))[0], ref)
    points = grid(photo)
    assert np.median(np.abs(found.to_own(points) - transformed(matrix, points))) < 1


def test_a_corner_of_the_photo_is_enough(photo):
    height, width = photo.shape[:2]
    part = np.ascontiguousarray(photo[: height // 2, : width // 2])
    found = align(lr_from_hr(photo)[0], part)
    assert np.abs(found.matrix / found.matrix[2, 2] - np.eye(3))[:2].max() < 2


def test_mirrored_unrelated_and_empty_pictures_are_not_aligned(photo, examples):
    lr = lr_from_hr(photo)[0]
    assert align(lr, np.ascontiguousarray(photo[:, ::-1])) is None
    assert align(lr, read_photo(examples / "aloe_ref.jpg").rgb) is None
    assert align(lr, np.full((200, 300, 3), 200, np.uint8)) is None
    assert align(np.full((40, 40, 3), 9, np.uint8), photo) is None
    assert align(lr, picture(16, 16)) is None
    assert align(lr[:8, :8].copy(), photo) is None


def test_a_panorama_larger_than_opencv_samples_is_aligned():
    """Sides above 32766 pixels are reduced first."""
    ref = np.zeros((1100, 33000, 3), np.uint8)
    ref[...] = (np.arange(33000) // 130)[None, :, None]
    matrix = np.array([(1, 0, 20000), (0, 1, 100), (0, 0, 1)], float)
    lies = Alignment(matrix, (160, 160), np.zeros((0, 2)), np.zeros((0, 2)), 0)
    lr = ref[100:260:4, 20000:20160:4].copy()
    view = aligned_view(lr, ref, lies)
    assert np.abs(view.rgb.astype(int) - ref[100:260, 20000:20160]).max() <= 1
    assert np.abs(view.own[..., 0].mean() - 179.5) < 2  # in pixels of what was given


def test_a_photo_whose_frame_opencv_cannot_sample_is_not_aligned():
    lr = picture(24, 8192)
    assert align(lr, lr) is None


def test_noise_of_a_frame_pixel_is_allowed_in_a_reference_from_nearer():
    """Where too few features agree to four of its own pixels, frame pixels count."""
    rng = np.random.default_rng(10)
    size = 600, 800
    frame = rng.uniform((0, 0), (799, 599), (50, 2))
    own = 4 * frame + (300, 200)
    own[:30] += rng.normal(0, 4, (30, 2))  # one frame pixel
    own[30:] = rng.uniform((0, 0), (3600, 2600), (20, 2))
    strict = alignment._similarity(frame, own), alignment._homography(frame, own)
    assert alignment._believed(strict, size, most_zoom=8) is None
    matrix, agree = alignment._transform(frame, own, size, most_zoom=8)
    assert agree[:30].sum() >= 25 and agree[30:].sum() <= 2
    middle = transformed(matrix, np.array([(400.0, 300.0)]))
    assert np.abs(middle - (1900, 1400)).max() < 8
    assert alignment._transform(frame, rng.permutation(own), size, most_zoom=8) is None
    assert alignment._inverted((np.zeros((3, 3)), agree)) is None


def test_what_no_camera_sees_is_not_plausible():
    size = (400, 600)
    assert plausible(np.eye(3), size)
    assert not plausible(np.diag((-1.0, 1, 1)), size)  # mirrored
    assert not plausible(np.diag((9.0, 9, 1)), size)
    assert plausible(np.diag((9.0, 9, 1)), size, most_zoom=10)
    assert not plausible(np.diag((0.1, 0.1, 1)), size)
    assert not plausible(np.diag((1.0, 5, 1)), size)  # far too slanted
    folded = np.eye(3)
    folded[2, 0] = -1 / 300  # the horizon runs through the frame
    assert not plausible(folded, size)


def test_features_of_an_lr_are_found_once_for_all_references(photo, monkeypatch):
    looked_at, features = [], alignment._features

    def noted(rgb, *how):
        looked_at.append(rgb.shape)
        return features(rgb, *how)

    monkeypatch.setattr(alignment, "_features", noted)
    lr = lr_from_hr(photo)[0]
    refs = [placed(photo, turn)[0] for turn in (10, 20)]
    _, found = Predictor(load_model("lab-none")).read(lr, refs, align=True)
    assert [round(ref.alignment.turn) for ref in found] == [10, 20]
    assert looked_at == [lr.shape, *(ref.shape for ref in refs)]


def test_the_same_pictures_give_the_same_transform(photo):
    ref, _ = placed(photo, 10)
    lr = lr_from_hr(photo)[0]
    assert np.array_equal(align(lr, ref).matrix, align(lr, ref).matrix)


# ---------------------------------------------------------------------------- in a run


@pytest.fixture(scope="module")
def predictor():
    return Predictor(load_model(), "cpu", "fp32")


@pytest.fixture(scope="module")
def pair(examples):
    """LR, HR and reference of a scene with two cameras, cut to a size that is quick."""
    hr = read_photo(examples / "graf_hr.jpg").rgb[:256, :256]
    return *lr_from_hr(hr), read_photo(examples / "graf_ref.jpg").rgb[:384, :384]


@pytest.mark.slow
def test_a_turned_reference_is_worth_as_much_as_an_upright_one(predictor, pair):
    lr, hr, ref = pair
    turned, _ = placed(ref, 25, 1.3)
    alone, upright = (predictor.run(lr, refs) for refs in ((), (ref,)))
    plain, aligned = (predictor.run(lr, [turned], align=align) for align in (False, True))
    gain = {
        name: psnr_y(result.rgb, hr) - psnr_y(alone.rgb, hr)
        for name, result in {"upright": upright, "plain": plain, "aligned": aligned}.items()
    }
    assert gain["aligned"] > gain["plain"] + 0.5
    assert gain["aligned"] > gain["upright"]
    assert aligned.alignments[0].turn == pytest.approx(25, abs=20)  # the scene itself is tilted
    assert "was aligned with the photo: it is turned by" in aligned.notes[0]
    assert is_one_sentence(aligned.notes[0])
    # Every place that was used lies in the turned reference's own pixels.
    where = aligned.ref.locate(*aligned.trace.matches.position[0].numpy())
    assert (where.number == 0).all()
    assert where.row.max() <= turned.shape[0] - 1
    assert where.column.max() <= turned.shape[1] - 1


def test_nothing_changes_where_nothing_in_common_is_found(small_predictor):
    lr, ref = picture(32, 40, 1), picture(96, 96, 2)
    plain, aligned = (small_predictor.run(lr, [ref], align=align) for align in (False, True))
    np.testing.assert_array_equal(plain.rgb, aligned.rgb)
    assert aligned.alignments == (None,)
    assert "not aligned" in aligned.notes[0] and is_one_sentence(aligned.notes[0])
    assert plain.notes == plain.alignments == ()


def test_an_aligned_view_maps_back_to_the_turned_reference(photo):
    """The place that the canvas gives for each cell shows what the cell shows."""
    ref, matrix = placed(photo, 25, 1.5)
    lr = lr_from_hr(photo)[0]
    one = align_reference(lr, ref)
    rows, columns = np.mgrid[4 : lr.shape[0] - 4 : 3, 4 : lr.shape[1] - 4 : 3]
    centres = np.stack((4 * columns.ravel() + 1.5, 4 * rows.ravel() + 1.5), 1)
    true = transformed(matrix, centres)
    found = one.own[rows, columns].reshape(-1, 2)[:, ::-1]
    assert np.median(np.abs(found - true)) < 0.5 * 1.5  # half a pixel of the frame


def test_notes_say_what_became_of_each_reference(photo):
    lies = align(lr_from_hr(photo)[0], placed(photo, 25)[0])
    plain, aligned = (
        [View(number, (16, 16), picture(16, 16), own) for number in range(5)]
        for own in (None, np.zeros((4, 4, 2), np.float32))
    )
    views = [plain[0], plain[1], aligned[2], plain[3], aligned[3]]
    references = [
        Reference(plain[0], notes=("The reference stops early.",)),
        *(Reference(plain[number], aligned[number], lies) for number in range(1, 5)),
    ]
    notes = notes_on(references, views, align=True)
    assert all(map(is_one_sentence, notes))
    for note, words in zip(
        notes,
        (
            "stops early",
            "not aligned",
            "used unaligned, because",
            "was aligned",
            "was aligned",
            "also searched unaligned",
            "left out",
        ),
        strict=True,
    ):
        assert words in note
    assert "turned by 25°" in notes[3]
    assert notes_on(references, plain, align=False) == ("The reference stops early.",)


def test_notes_say_with_how_many_pixels_a_large_reference_was_used(photo):
    lies = align(lr_from_hr(photo)[0], photo)
    small = View(0, (300, 400), picture(30, 40))
    aligned = View(0, (300, 400), picture(16, 16), np.zeros((4, 4, 2), np.float32))
    reference = Reference(small, aligned, lies)
    for views, count, words in (
        ([aligned], 2, "used with its 400x300 pixels where it was aligned."),
        ([small, aligned], 3, "where it was aligned, and with 40x30 where it was not."),
        ([small], 2, "Reference 1 was reduced from 400x300 to 40x30 pixels."),
    ):
        notes = notes_on([reference], views, align=True)
        assert len(notes) == count and all(map(is_one_sentence, notes))
        assert notes[-1].endswith(words)
    assert len(notes_on([Reference(small)], [small], align=True)) == 2


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([[2.0, 2.0], [2.5, 2.5]], [1]),
        ([[2.5, 2.5], [2.51, 2.51]], [0]),  # sampled without need
        ([[2.5, 2.5], [2.4, 2.57]], [0]),  # adds less than reading it costs
        ([[2.0, 2.9], [2.8, 2.0]], [0, 1]),
        ([[2.9, 2.9], [2.9, 2.9]], [0]),
        ([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.5, 1.5, 1.0]], [0, 1]),
    ],
)
def test_only_views_that_add_something_are_read(scores, chosen):
    own = np.zeros((4, 4, 2), np.float32)
    views = [View(number, (16, 16), picture(16, 16), own) for number in range(len(scores))]
    views[0] = View(0, (16, 16), picture(16, 16))
    assert sorted(choose_views(views, np.array(scores), dilations=3)) == chosen


def test_the_view_that_adds_most_comes_first():
    views = [View(number, (16, 16), picture(16, 16)) for number in range(3)]
    scores = np.array([[1.0, 2.0, 1.0], [1.0, 1.0, 1.4], [2.9, 2.9, 1.0]])
    assert choose_views(views, scores, dilations=3) == [2, 1]


def test_views_that_memory_does_not_allow_are_left_out(small_model, photo, monkeypatch):
    """An aligned view is as large as the result, however small its reference is."""
    monkeypatch.setattr("masa.predictor.choose_views", lambda *_: [1])
    lr = lr_from_hr(photo)[0]
    small = cv2.resize(photo, None, fx=0.45, fy=0.45, interpolation=cv2.INTER_AREA)
    predictor = Predictor(small_model, "cpu", "fp32")
    whole = predictor.run(lr, [small], align=True)
    assert "was aligned" in whole.notes[0]
    sizes = whole.lr.rgb.shape[:2], whole.ref.down.shape[:2]

    def fits(memory):
        predictor.memory = memory
        try:
            predictor.choose_tile(*sizes)
        except MemoryNeededError:
            return False
        return True

    assert not all(fits(memory) for memory in range(10**9, 0, -(10**6)))  # stops at one too small
    plain = predictor.run(lr, [small], align=True)
    (note,) = plain.notes
    assert "used unaligned, because the run would need more memory" in note
    assert is_one_sentence(note)
    np.testing.assert_array_equal(plain.rgb, predictor.run(lr, [small]).rgb)


def test_of_several_views_those_that_add_least_are_left_out(small_predictor, monkeypatch):
    lr, refs = picture(32, 40, 1), [picture(96, 96, seed) for seed in (2, 3, 4)]
    monkeypatch.setattr("masa.predictor.choose_views", lambda *_: [2, 0])
    monkeypatch.setattr("masa.reference.views.align_reference", lambda *_: None)
    sizes = []

    def only_one_fits(lr_size, ref_down, keep=()):
        sizes.append(ref_down)
        if ref_down[0] == 48 and len(sizes) > 1:
            raise MemoryNeededError("Too large.")

    monkeypatch.setattr(small_predictor, "choose_tile", only_one_fits)
    result = small_predictor.run(lr, refs, align=True)
    assert [placement.number for placement in result.ref.placements] == [2]
    assert "left out: the run would need more memory" in result.notes[0]
    assert "left out: it adds nothing" in result.notes[1]
    assert all(map(is_one_sentence, result.notes))


def test_views_lie_in_the_order_in_which_they_were_given(small_predictor, monkeypatch):
    lr, refs = picture(32, 40, 1), [picture(96, 96, seed) for seed in (2, 3, 4)]
    monkeypatch.setattr("masa.predictor.choose_views", lambda *_: [2, 0])
    monkeypatch.setattr("masa.reference.views.align_reference", lambda *_: None)
    result = small_predictor.run(lr, refs, align=True)
    assert [placement.number for placement in result.ref.placements] == [0, 2]


def test_features_are_compared_as_opencv_compares_them(photo):
    ours, theirs = (alignment._features(rgb, 1.0)[1] for rgb in (photo, placed(photo, 25, 1.3)[0]))
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(ours, theirs, k=2)
    kept = [best for best, second in pairs if best.distance < 0.8 * second.distance]
    first, second = alignment._alike(ours, theirs)
    assert len(ours) > alignment._COMPARED and len(kept) > 50
    assert first.tolist() == [match.queryIdx for match in kept]
    assert second.tolist() == [match.trainIdx for match in kept]


def test_of_two_references_of_one_scene_the_sharper_one_is_used(predictor, pair):
    """Their reduced pictures are alike."""
    lr, _, ref = pair
    small = cv2.resize(ref, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    small, ref = (see(rgb, number, lr[:56, :56], 10**6) for number, rgb in enumerate((small, ref)))
    canvas = lr_canvas(lr[:56, :56], predictor.config)
    features = predictor.model.encode_lr(predictor._tensor(canvas.rgb))
    comparison = _Comparison([*small.views, *ref.views], canvas, predictor.config)
    chosen = predictor._chosen(comparison, features, ignore)
    assert [(view.number, view.own is not None) for view in chosen] == [(1, True)]
    assert small.aligned.detail < ref.aligned.detail <= 1


@pytest.mark.parametrize("full_search", [True, False])
def test_a_reference_is_scored_as_by_the_coarse_search(small_model, monkeypatch, full_search):
    config = small_model.config
    lr, ref = torch.randn(1, 8, 32, 40), torch.randn(1, 8, 48, 24)
    monkeypatch.setattr("masa.network.matching.PRINCIPAL", 2)
    monkeypatch.setattr("masa.network.blocks.FULL_SEARCH", 2**26 if full_search else 0)
    geometry = Geometry.of((32, 40), (48, 24), config)
    whole = coarse_match(lr, ref, geometry, config.dilations).score[0]
    shares = []
    scores = fit_scores(lr, ref, config, 256, full_search, shares.append)
    torch.testing.assert_close(scores, whole)
    assert shares == sorted(shares) and shares[-1] == 1
    gained = fit_scores(lr, ref, config, 256, not full_search) - scores
    assert gained.abs().max() > 0.1 and (gained.max() > 1e-5) != full_search
    few = fit_scores(lr, ref, config, 4, full_search)
    torch.testing.assert_close(few, whole[spread_blocks(4, 5, 4)])


def test_views_are_compared_in_the_same_way(small_model, monkeypatch):
    """Also where coarse matching would compare one of them by all channels and another by few."""
    config = small_model.config
    views = [
        View(number, (side, side), picture(side, side)) for number, side in enumerate((64, 96))
    ]
    canvas = lr_canvas(picture(32, 32), config)
    sizes = [((32, 32), (side // 4, side // 4)) for side in (64, 96)]
    monkeypatch.setattr("masa.network.matching.PRINCIPAL", 2)
    monkeypatch.setattr("masa.machine.cost.PRINCIPAL", 2)
    for most, full_search in ((2**26, True), (16 * 16 * 16, False)):
        monkeypatch.setattr("masa.network.blocks.FULL_SEARCH", most)
        comparison = _Comparison(views, canvas, config)
        assert comparison.full_search is full_search
        monkeypatch.setattr("masa.network.blocks.FULL_SEARCH", 2**26 if full_search else 0)
        alone = [executed_cost(*both, config, read=0) for both in sizes]
        assert comparison.costs == [cost.encode_ref + cost.coarse for cost in alone]
        assert comparison.work == sum(comparison.costs)
    assert _Comparison(views[:1], canvas, config).work == 0


def test_views_are_compared_one_after_the_other(small_predictor, monkeypatch):
    """A canvas of all of them would be as wide as the widest and as high as all together."""
    lr = picture(16, 96, 1)
    refs = [picture(240, 48, seed) for seed in (2, 3, 4)]
    turned = np.array([[0, -0.75, 47], [0.625, 0, 0], [0, 0, 1]])
    found = Alignment(turned, (64, 384), np.zeros((0, 2)), np.zeros((0, 2)), 0)
    monkeypatch.setattr("masa.reference.alignment.align", lambda *_: found)
    cells, encode_down = [], small_predictor.model.encode_down

    def noted(down):
        cells.append(down.shape[2] * down.shape[3])
        return encode_down(down)

    monkeypatch.setattr(small_predictor.model, "encode_down", noted)
    told = []
    small_predictor.run(lr, refs, lambda *call: told.append(call), align=True)
    comparing = [share for share, doing in told if doing == "Comparing the references"]
    assert len(cells) == 6 + 1 and max(cells[:6]) <= 64 * 96
    assert comparing == sorted(comparing) and len(set(comparing)) > 6  # so often it can be stopped


@pytest.mark.parametrize(
    ("rows", "columns", "most", "row_gap", "column_gap"),
    [
        (64, 64, 256, 1, 1),
        (128, 128, 256, 1, 1),
        (64, 128, 256, 1, 1),
        (128, 64, 256, 1, 1),
        (96, 128, 256, 1, 2),
        (256, 256, 256, 1, 2),
        (100, 7, 50, 2, 1),
        (5, 4, 256, 1, 1),
        (5, 4, 7, 1, 1),
        (1, 300, 256, 1, 2),
        (300, 1, 256, 2, 1),
        (300, 2, 256, 2, 1),
        (1, 1, 256, 1, 1),
    ],
)
def test_few_blocks_cover_rows_and_columns(rows, columns, most, row_gap, column_gap):
    """So that a reference that shows only a few columns of the photo is not overlooked."""
    blocks = spread_blocks(rows, columns, most)
    assert len(blocks) == min(rows * columns, most)
    assert (np.diff(blocks) > 0).all()  # in order, and none twice
    for used, side, gap in (
        (blocks // columns, rows, row_gap),
        (blocks % columns, columns, column_gap),
    ):
        assert np.diff([-1, *np.unique(used), side]).max() <= gap
    again = spread_blocks(rows, columns, most)
    np.testing.assert_array_equal(blocks, again)
    np.testing.assert_array_equal(spread_blocks(rows, columns, 10**6), np.arange(rows * columns))


def test_the_command_aligns_unless_told_not_to(tmp_path, pair, capsys):
    lr, _, ref = pair
    write_photo(tmp_path / "lr.png", lr[:32, :32].copy())
    write_photo(tmp_path / "ref.png", ref[:64, :64].copy())
    command = ["upscale", str(tmp_path / "lr.png"), "--ref", str(tmp_path / "ref.png")]
    command += ["--out", str(tmp_path / "out.png"), "--device", "cpu", "--precision", "fp32"]
    assert main(command) == 0
    assert "aligned" in capsys.readouterr().out
    assert main([*command, "--align", "off"]) == 0
    assert "aligned" not in capsys.readouterr().out
