"""Sweeps over changes of the reference or the photo: their numbers are those of single runs."""

import math
import weakref
from dataclasses import replace

import numpy as np
import pytest
from helpers import fill, picture

from masa.config import MASAConfig
from masa.errors import UserError
from masa.measuring.ladder import FAMILIES, Substitutes
from masa.measuring.robustness import (
    Baseline,
    Pinned,
    Point,
    Row,
    Subject,
    curves,
    rows_of,
    sweep,
    ways,
)
from masa.network.model import MASA
from masa.pictures.degradation import Degradation, lr_from_hr
from masa.pictures.metrics import psnr_y
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, reduce_x4
from masa.pictures.shifts import Shifted
from masa.predictor import Predictor


def ignore(share, doing):
    pass


@pytest.fixture(scope="module")
def networks():
    models = {
        mode: fill(MASA(MASAConfig(channels=8, adaptation=mode)), in_blocks=1)
        for mode in ("sam", "none")
    }
    return {name: Predictor(m.eval(), "cpu", "fp32") for name, m in models.items()}


@pytest.fixture(scope="module")
def subject():
    hr = picture(72, 88, 1)
    return Subject(reduce_x4(hr), (picture(80, 96, 2),), hr, other=picture(64, 64, 3))


RUNGS = [
    FAMILIES["gain"].rung(0.4),
    FAMILIES["offset"].rung(60),
    FAMILIES["saturation"].rung(2),
    FAMILIES["rotation"].rung(20),
    FAMILIES["other photo"].rung(1),
    FAMILIES["HR itself"].rung(1),
]


@pytest.fixture(scope="module")
def found(subject, networks):
    return list(sweep(subject, RUNGS, networks, ignore, statistics=True))


def test_the_unchanged_reference_comes_first_and_then_the_baselines(found):
    kinds = [(type(f), f.network, f.aligned, getattr(f, "rung", None)) for f in found]
    names, both = ("sam", "none"), (False, True)
    assert kinds == [
        *((Point, name, aligned, None) for name in names for aligned in both),
        *((Baseline, name, aligned, None) for name in names for aligned in both),
        *(
            (Point, name, aligned, rung)
            for rung in RUNGS
            for name in names
            for aligned in (both if rung.family == "rotation" else (False,))
        ),
    ]


def test_features_are_let_go_of_before_the_next_result_is_asked_for(subject, networks, monkeypatch):
    """A sweep may have to wait long for its next turn."""
    alive, run = [], Predictor.run

    def spy(*args, **options):
        result = run(*args, **options)
        alive.append(weakref.ref(result))
        return result

    monkeypatch.setattr(Predictor, "run", spy)
    for _ in sweep(subject, RUNGS[:1], networks, ignore, statistics=True):
        assert alive[-1]() is None
    assert len(alive) == 6


def test_numbers_are_those_of_single_runs(found, subject, networks):
    positions, clipped = {}, []
    for point in (f for f in found if isinstance(f, Point)):
        changed = Shifted(subject.refs[0])
        if point.rung is not None:
            changed = point.rung.apply(changed.rgb, Substitutes(subject.other, subject.hr))
        single = networks[point.network].run(subject.lr, [changed.rgb], align=point.aligned)
        assert np.array_equal(point.rgb, single.rgb)
        assert point.psnr == psnr_y(single.rgb, subject.hr)
        own = single.trace.matches
        assert point.similarity == pytest.approx(own.similarity[0, 0, :18, :22].mean().item())
        place = own.position[0, :, :18, :22].numpy()
        before = positions.setdefault(point.network, place)
        if point.rung is None or point.rung.family in ("gain", "offset", "saturation"):
            assert point.moved == pytest.approx((place != before).any(0).mean())
        else:
            assert point.moved is None
        assert point.clipped == changed.clipped / (changed.rgb.shape[0] * changed.rgb.shape[1])
        clipped.append(point.clipped)
    assert sum(share > 0 for share in clipped) == 2 * len(networks) and max(clipped) <= 1


def test_baselines_are_single_runs_too(found, subject, networks):
    for line in (f for f in found if isinstance(f, Baseline)):
        alone = networks[line.network].run(subject.lr)
        assert np.array_equal(line.rgb, alone.rgb)
        assert line.alone == psnr_y(alone.rgb, subject.hr)
        assert line.bicubic == psnr_y(enlarge_x4(subject.lr), subject.hr)


def test_statistics_are_the_adaptation_s_own(found, subject, networks):
    point = next(f for f in found if f.network == "none" and getattr(f, "rung", None) is RUNGS[0])
    changed = RUNGS[0].apply(subject.refs[0]).rgb
    trace = networks["none"].run(subject.lr, [changed], keep=(1,)).trace.x1
    for kept, features in (
        (point.statistics.lr, trace.lr),
        (point.statistics.before, trace.ref),
        (point.statistics.after, trace.adapted.out),
    ):
        assert kept.mean.flatten().numpy() == pytest.approx(
            features[0].mean((1, 2)).numpy(), abs=1e-5
        )
    assert point.statistics.before.mean.equal(point.statistics.after.mean)  # it adapts nothing


def test_the_lr_is_encoded_once_per_network(subject, networks, monkeypatch):
    network = Predictor(networks["sam"].model, "cpu", "fp32")
    calls = []
    encode = network.model.encode_lr
    monkeypatch.setattr(network.model, "encode_lr", lambda lr: calls.append(1) or encode(lr))
    rungs = FAMILIES["gain"].rungs(FAMILIES["gain"].values(3))
    assert len(list(sweep(subject, rungs, {"sam": network}, ignore))) == 4
    assert len(calls) == 1


def test_without_the_truth_likeness_to_the_unchanged_result_is_measured(subject, networks):
    blind = Subject(subject.lr, subject.refs)
    first, line, changed = sweep(blind, RUNGS[:1], {"sam": networks["sam"]}, ignore)
    assert math.isinf(first.psnr)
    assert line.alone == psnr_y(line.rgb, first.rgb)
    assert changed.psnr == psnr_y(changed.rgb, first.rgb)


def test_each_photo_has_baselines_of_its_own(subject, networks):
    rungs = [FAMILIES["photo jpeg"].rung(50), FAMILIES["photo noise"].rung(16)]
    shares = []
    found = list(sweep(subject, rungs, networks, lambda share, _: shares.append(share)))
    assert shares == sorted(shares) and max(shares) == pytest.approx(1)
    for point in found[4:]:
        how = {"photo jpeg": Degradation(quality=50), "photo noise": Degradation(noise=16)}
        lr = lr_from_hr(subject.hr, how[point.rung.family])[0]
        network = networks[point.network]
        single, alone = network.run(lr, subject.refs), network.run(lr)
        assert np.array_equal(point.rgb, single.rgb)
        assert point.psnr == psnr_y(single.rgb, subject.hr) and point.clipped == 0
        assert np.array_equal(point.baseline.rgb, alone.rgb)
        assert point.baseline.alone == psnr_y(alone.rgb, subject.hr)
        assert np.array_equal(point.baseline.enlarged, enlarge_x4(lr))
        assert point.baseline.bicubic == psnr_y(enlarge_x4(lr), subject.hr)
        before = found[["sam", "none"].index(point.network)]
        unchanged = network.run(subject.lr, subject.refs)
        assert np.array_equal(before.rgb, unchanged.rgb)
        places = [r.trace.matches.position[0, :, :18, :22].numpy() for r in (single, unchanged)]
        assert point.moved == pytest.approx((places[0] != places[1]).any(0).mean())
        (kept,) = rows_of(point)
        assert (kept.alone, kept.bicubic) == (point.baseline.alone, point.baseline.bicubic)


def test_a_small_photo_is_degraded_as_it_is(subject, networks):
    blind = Subject(subject.lr, subject.refs)
    rung = FAMILIES["photo blur"].rung(1)
    first, _, point = sweep(blind, [rung], {"sam": networks["sam"]}, ignore)
    lr = Degradation(blur=(1, 1)).degrade_small(subject.lr, np.random.default_rng(0))
    assert np.array_equal(point.rgb, networks["sam"].run(lr, subject.refs).rgb)
    assert point.baseline.bicubic == psnr_y(enlarge_x4(lr), first.rgb)


def test_curves_of_the_photo_carry_their_baselines():
    rows = [
        row("s", "unchanged", 0, 30),
        row("s", "no reference", 0, 28),
        row("s", "bicubic", 0, 26),
        replace(row("s", "photo jpeg", 50, 27), alone=25.5, bicubic=25.0),
        row("s", "jpeg", 50, 29),
    ]
    photo, reference = curves(rows)
    numbers = [(level.value, level.psnr, level.alone, level.bicubic) for level in photo.levels]
    assert numbers == [(0, 30, 28, 26), (50, 27, 25.5, 25)]
    assert all(level.alone is None and level.bicubic is None for level in reference.levels)


def test_turned_references_are_also_aligned(examples, networks):
    """On a real photo, where there is something to align."""
    hr = lr_from_hr(read_photo(examples / "motorcycle_hr.jpg").rgb[:256, :256])[1]
    subject = Subject(reduce_x4(hr), (hr,), hr)
    rung, network = FAMILIES["rotation"].rung(20), networks["sam"]
    shares = []
    found = list(sweep(subject, [rung], {"sam": network}, lambda share, _: shares.append(share)))
    assert shares == sorted(shares) and max(shares) == pytest.approx(1)
    plain, aligned = found[-2:]
    assert (plain.aligned, aligned.aligned) == (False, True)
    turned = rung.apply(hr).rgb
    assert np.array_equal(plain.rgb, network.run(subject.lr, [turned]).rgb)
    single = network.run(subject.lr, [turned], align=True)
    assert np.array_equal(aligned.rgb, single.rgb) and not np.array_equal(plain.rgb, aligned.rgb)
    assert plain.notes == () and aligned.notes == single.notes
    assert "turned by 20°" in aligned.notes[0] and aligned.similarity > plain.similarity
    one, other = curves([row for item in found for row in rows_of(item)])
    assert (one.line, other.line) == ("sam", "sam with alignment")
    assert [level.psnr for level in other.levels] == [found[1].psnr, aligned.psnr]
    assert one.alone == other.alone and one.bicubic == other.bicubic


def test_without_the_truth_each_line_is_compared_with_its_own_result(examples, networks):
    hr = read_photo(examples / "motorcycle_hr.jpg").rgb[:256, :256]
    blind = Subject(reduce_x4(hr), (np.ascontiguousarray(hr[8:, 8:]),))
    rung = FAMILIES["scale"].rung(1.5)
    plain, aligned, *lines, _, scaled = sweep(blind, [rung], {"sam": networks["sam"]}, ignore)
    assert not np.array_equal(plain.rgb, aligned.rgb)
    assert math.isinf(plain.psnr) and math.isinf(aligned.psnr)
    assert scaled.psnr == psnr_y(scaled.rgb, aligned.rgb)
    for line, first in zip(lines, (plain, aligned), strict=True):
        assert line.alone == psnr_y(line.rgb, first.rgb)


def test_only_families_that_ask_for_it_have_a_line_with_alignment():
    rows = [row("s", kind, 0, 30) for kind in ("unchanged", "no reference", "bicubic")]
    rows += [replace(r, aligned=True) for r in rows]
    rows += [row("s", "gain", 0.4, 29), row("s", "rotation", 45, 25)]
    rows += [replace(row("s", "rotation", 45, 29.5), aligned=True)]
    assert [(c.family, c.line) for c in curves(rows)] == [
        ("gain", "a"),
        ("rotation", "a"),
        ("rotation", "a with alignment"),
    ]


def test_matches_of_an_earlier_run_can_be_given(subject, networks):
    network = networks["sam"]
    before = network.run(subject.lr, subject.refs)
    darker = FAMILIES["gain"].rung(0.4).apply(subject.refs[0]).rgb
    again = network.run(subject.lr, subject.refs, matches=before.trace.matches)
    assert np.array_equal(again.rgb, before.rgb)
    plain, pinned = (
        network.run(subject.lr, [darker], matches=m) for m in (None, before.trace.matches)
    )
    assert pinned.trace.matches is before.trace.matches
    assert not np.array_equal(plain.rgb, pinned.rgb)
    assert not np.array_equal(plain.trace.matches.similarity, before.trace.matches.similarity)
    smaller = np.ascontiguousarray(darker[:64])
    with pytest.raises(ValueError, match="not aligned"):
        network.run(subject.lr, [darker], align=True, matches=before.trace.matches)
    with pytest.raises(ValueError, match="other sizes"):
        network.run(subject.lr, [smaller], matches=before.trace.matches)


def test_what_matching_lost_is_told_from_what_adaptation_lost(subject, networks):
    rungs = [*RUNGS, FAMILIES["photo jpeg"].rung(50)]
    shares = []
    found = list(sweep(subject, rungs, networks, lambda share, _: shares.append(share), pin=True))
    assert shares == sorted(shares) and max(shares) == pytest.approx(1)
    assert [item.network for item in found if isinstance(item, Pinned)] == ["sam", "none"]
    points = [f for f in found if isinstance(f, Point) and f.rung and f.rung.keeps_places]
    together = {rung.title: sum(p.psnr for p in points if p.rung is rung) for rung in rungs[:3]}
    hardest = min(together, key=together.get)
    for item in found[-2:]:
        assert item.rung.title == hardest
        network = networks[item.network]
        matches = network.run(subject.lr, subject.refs).trace.matches
        changed = item.rung.apply(subject.refs[0]).rgb
        single = network.run(subject.lr, [changed], matches=matches)
        assert item.psnr == psnr_y(single.rgb, subject.hr)
        (kept,) = rows_of(item)
        assert kept.pinned and (kept.family, kept.value) == (item.rung.family, item.rung.value)
    for curve in curves([row for item in found for row in rows_of(item)]):
        own = curve.pinned is not None
        assert own == (curve.family == found[-1].rung.family)
        if own:
            assert curve.pinned.title == hardest and len(curve.levels) == 2


@pytest.mark.parametrize(
    ("known", "rungs"),
    [(False, RUNGS[:1]), (True, RUNGS[3:]), (True, [FAMILIES["photo jpeg"].rung(50)])],
)
def test_nothing_is_pinned_where_nothing_could_be_told_apart(subject, networks, known, rungs):
    pair = subject if known else Subject(subject.lr, subject.refs, other=subject.other)
    shares = []
    found = list(sweep(pair, rungs, networks, lambda share, _: shares.append(share), pin=True))
    assert not any(isinstance(item, Pinned) for item in found)
    assert max(shares) == pytest.approx(1)


def test_a_picture_that_is_not_known_is_missed_before_anything_runs(subject, networks):
    unknown = replace(subject, hr=None)
    with pytest.raises(UserError, match="no sharp photo to replace"):
        next(sweep(unknown, RUNGS, networks, ignore))


def test_progress_grows_and_ends_the_sweep_by_raising(subject, networks):
    shares = []

    def watch(share, doing):
        shares.append(share)
        if share > 0.5:
            raise KeyboardInterrupt

    found = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(sweep(subject, RUNGS, networks, watch))
    assert shares == sorted(shares) and shares[0] == 0
    assert sum(share > 0.5 for share in shares) == 1


def row(scene, family, value, psnr, network="a"):
    return Row(scene, network, family, value, f"{family} {value:g}", psnr, 0.5, 0.25, 0.0)


def test_curves_are_means_over_scenes():
    rows = []
    for scene, high in (("one", 30.0), ("two", 32.0)):
        rows += [row(scene, "unchanged", 0, high), row(scene, "no reference", 0, 28.0)]
        rows += [row(scene, "bicubic", 0, 27.0)]
        rows += [row(scene, "gain", 0.4, high - 2), row(scene, "gain", 1.6, high - 1)]
    rows.append(row("one", "gain", 1.3, 31))  # the other scene's is not there yet
    (curve,) = curves(rows)
    assert [(level.value, level.psnr) for level in curve.levels] == [(0.4, 29), (1, 31), (1.6, 30)]
    assert (curve.alone, curve.bicubic) == (28, 27)
    assert [curve.drop(level) for level in curve.levels] == [2, 0, 1]
    assert curve.worst.value == 0.4 and curve.mean_drop == 1.5
    assert curve.mean_change == 1.5
    assert curves(rows[1:]) == []  # without every scene's unchanged result nothing is comparable


def test_what_helps_does_not_make_up_for_what_hurts():
    (curve,) = curves(
        [row("", "unchanged", 0, 30), row("", "gain", 0.4, 27), row("", "gain", 1.6, 33)]
    )
    assert curve.mean_drop == 0 and curve.mean_change == 3


def test_rows_repeat_the_sweep_s_numbers(found):
    rows = [row for f in found for row in rows_of(f, "scene")]
    families = [r.family for r in rows if r.network == "sam"]
    wanted = [*["unchanged"] * 2, *["no reference", "bicubic"] * 2]
    assert families == [*wanted, *(rung.family for rung in RUNGS for _ in ways([rung]))]
    gains = [c for c in curves(rows) if c.family == "gain"]
    assert [c.network for c in gains] == ["sam", "none"]
    point = next(f for f in found if f.network == "sam" and getattr(f, "rung", None) is RUNGS[0])
    assert gains[0].levels[0].psnr == point.psnr
