"""The laboratory as plain functions: what a visitor asks for, sees, and can click."""

import csv
import io
import json
import math
import shutil
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers import fill, is_one_sentence, picture, taken

from demo import laboratory
from demo.figures import robustness as figures
from demo.figures.adaptation import channel_plots
from demo.figures.steadiness import table, verdict
from demo.laboratory import (
    KEPT_BYTES,
    LR_SIDE,
    SweepRequest,
    robustness_report,
    robustness_rows,
    subject_of,
)
from demo.page import laboratory_tab
from demo.runs.exploration import ChannelStatistics
from demo.runs.jobs import Turns
from demo.runs.request import Request, predictor_for
from masa.__main__ import main
from masa.config import MASAConfig
from masa.errors import UserError
from masa.measuring.ladder import FAMILIES, NAMED
from masa.measuring.robustness import Row, csv_text, curves
from masa.network.model import MASA
from masa.pictures.degradation import Degradation, lr_from_hr
from masa.pictures.metrics import psnr_y
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, reduce_x4
from masa.pictures.shifts import PRESETS, Shift
from masa.pictures.write import write_photo
from masa.predictor import Predictor
from masa.weights import load_model, save_weights


def ignore(share, doing):
    pass


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    hr = picture(64, 80, 3)
    write_photo(folder / "hr.png", hr)
    write_photo(folder / "lr.png", reduce_x4(hr))
    write_photo(folder / "ref.png", picture(72, 64, 4))
    return folder


@pytest.fixture(scope="module")
def request_(pair):
    return Request(str(pair / "hr.png"), (str(pair / "ref.png"),), is_hr=True)


@pytest.fixture(scope="module")
def found(request_):
    trial = SweepRequest(request_, "gain", ("masa-rec",), 3)
    return list(laboratory.run_sweep(trial, ignore))


def test_a_report_has_the_numbers_of_single_runs(request_):
    trial = SweepRequest(request_, "blur", ("masa-rec",), 3)
    *_, rows = robustness_rows(trial, ignore)
    report = robustness_report(rows, measured=True)
    predictor = predictor_for("masa-rec")
    hr = read_photo(request_.photo).rgb
    ref = read_photo(request_.refs[0]).rgb
    by_family = {(row.family, row.value): row.psnr for row in report.rows if not row.pinned}
    assert by_family["unchanged", 0] == psnr_y(predictor.run(reduce_x4(hr), [ref]).rgb, hr)
    blurred = FAMILIES["blur"].rung(4).apply(ref).rgb
    assert by_family["blur", 4] == psnr_y(predictor.run(reduce_x4(hr), [blurred]).rgb, hr)
    assert by_family["no reference", 0] == psnr_y(predictor.run(reduce_x4(hr)).rgb, hr)
    assert f"{by_family['blur', 4]:.2f}" in report.table
    assert "masa-rec" in report.figure.summary and report.figure.image.ndim == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "flip"}, "There is no change"),
        ({"points": 2}, "choose 3 to"),
        ({"points": 10**6}, "choose 3 to"),
        ({"networks": ()}, "Choose at least one network"),
        ({"networks": ("../x",)}, "Choose one of these weights"),
        ({"networks": tuple("abcdef")}, "at most"),
        ({"family": NAMED, "shifts": {"off": Shift()}}, "at least one change of light"),
    ],
)
def test_what_cannot_be_swept_is_said_in_one_sentence(request_, change, words):
    trial = replace(SweepRequest(request_, "gain", ("masa-rec",), 3), **change)
    with pytest.raises(UserError, match=words):
        list(laboratory.run_sweep(trial, ignore))


def test_networks_are_compared_once_there_are_two(monkeypatch):
    for shipped, expected in (
        (["masa-rec"], ["masa-rec"]),
        (["masa-rec", "lab-sam"], ["masa-rec"]),
        (["masa-rec", "lab-none", "lab-sam"], ["lab-sam", "lab-none"]),
    ):
        monkeypatch.setattr(laboratory, "shipped_weights", lambda shipped=shipped: shipped)
        assert laboratory.default_networks() == expected
        told = laboratory_tab.fairness() if laboratory.twins() else ""
        assert ("lab-none" in told) == ("lab-none" in expected)


def test_without_a_reference_there_is_nothing_to_change(request_):
    with pytest.raises(UserError, match="Add a reference"):
        subject_of(replace(request_, refs=()))


def test_of_a_large_photo_the_middle_is_used(tmp_path, pair):
    hr = picture(4 * (LR_SIDE + 20), 4 * 40, 5)
    write_photo(tmp_path / "large.png", hr)
    subject = subject_of(Request(str(tmp_path / "large.png"), (str(pair / "ref.png"),), True))
    assert subject.lr.shape == (LR_SIDE, 40, 3)
    assert np.array_equal(subject.hr, hr[40 : 40 + 4 * LR_SIDE])
    assert np.array_equal(subject.lr, reduce_x4(hr)[10 : 10 + LR_SIDE])


def test_a_sweep_grows_by_what_was_found(found):
    assert [len(s.results) for s in found] == [1, 1, 2, 3, 3]  # the last adds a number alone
    assert [len(s.rows) for s in found] == [1, 3, 4, 5, 6]
    last = found[-1]
    assert [kept.value for kept in last.results] == [0.4, 1, 1.6]
    for kept in last.results:
        whole = read_photo(kept.picture).rgb
        assert whole.shape == (64, 80, 3)
        assert np.array_equal(last.place.cut(whole), kept.crop)
    for step in found:
        drawn, spots = figures.quality(step.curves, step.measured)
        assert len(spots) == len(step.results)
        assert drawn.alt and drawn.summary
        figures.matching(step.curves)


def test_what_a_session_keeps_is_bounded(found):
    one = found[-1].kept_bytes() / len(found[-1].results)
    lines = 2 * figures.MOST_NETWORKS  # without and with alignment
    assert one * laboratory.MOST_POINTS * lines < KEPT_BYTES


def test_named_changes_of_light(request_):
    shifts = {"off": Shift(), "warm": PRESETS["warm"], "custom": Shift(gain=0.9)}
    trial = SweepRequest(request_, NAMED, ("masa-rec",), shifts=shifts)
    *_, last = laboratory.run_sweep(trial, ignore)
    assert [kept.title for kept in last.results] == ["unchanged", "warm", "custom"]
    ref = read_photo(request_.refs[0]).rgb
    for title, shifted in laboratory.changed_pictures(trial)[1:]:
        assert np.array_equal(shifted.rgb, shifts[title].apply(ref).rgb)


def test_previews_wait_for_one_another_and_are_refused_if_many_wait(request_, monkeypatch):
    turns = Turns(1, "previews")
    monkeypatch.setattr(laboratory, "PREVIEWS", turns)
    opened = []
    read = laboratory.subject_of
    monkeypatch.setattr(laboratory, "subject_of", lambda r: opened.append(r) or read(r))
    asked = SweepRequest(request_, "gain", (), 3)
    found = []
    with taken(turns):
        waiting = threading.Thread(
            target=lambda: found.extend(laboratory.changed_pictures(asked)), daemon=True
        )
        waiting.start()
        wait_until(lambda: turns._line)
        with pytest.raises(UserError, match="1 previews are waiting already") as raised:
            laboratory.changed_pictures(asked)
        assert is_one_sentence(str(raised.value)) and not opened
    waiting.join(60)
    assert [title for title, _ in found] == ["gain 0.4", "unchanged", "gain 1.6"]


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_unrelated_photo_is_none_of_the_pair(examples):
    files = [examples / "motorcycle_hr.jpg", examples / "motorcycle_ref.jpg"]
    subject = subject_of(Request(str(files[0]), (str(files[1]),), True))
    assert subject.other is not None
    for file in files:
        known = read_photo(file).rgb
        assert known.shape != subject.other.shape or not np.array_equal(known, subject.other)


def row(network, family, value, psnr, moved=None):
    return Row("", network, family, value, f"{family} {value:g}", psnr, 0.9, moved, 0.0)


def two(*drops, **known):
    return curves(rows_of_two(*drops, **known))


def rows_of_two(drop_a, drop_b, alone=25.0):
    rows = []
    for name, drop in (("a", drop_a), ("b", drop_b)):
        rows += [row(name, "unchanged", 0, 30.0), row(name, "no reference", 0, alone)]
        rows += [row(name, "bicubic", 0, 24.0), row(name, "gain", 0.4, 30.0 - drop, 0.5)]
    return rows


def test_the_verdict_names_whoever_is_steadier():
    assert "**a is the steadiest along gain, by 1.00 dB" in verdict(two(0.5, 1.5), True)
    assert "**b is the steadiest" in verdict(two(1.5, 0.5), True)
    assert "**No network is steadier" in verdict(two(0.5, 0.52), True)
    nothing = curves([r for r in rows_of_two(0, 0) if r.family != "gain"], ["gain"])
    assert verdict(nothing, True) == "The changed references are still to come."
    assert "less than without any reference" in verdict(two(0.5, 6), True)
    better = [replace(r, psnr=r.psnr + 2) for r in rows_of_two(0.5, 1.5) if r.network == "b"]
    same = [r for r in rows_of_two(0.5, 1.5) if r.network == "a"]
    told = verdict(curves(same + better), True)
    assert "**a is the steadiest" in told and "come from b, by 1.50 dB" in told
    unmeasured = verdict(two(0.5, 1.5), False)
    assert "**a changes least" in unmeasured and "not how good" in unmeasured
    assert "**No network changes less" in verdict(two(0.5, 0.52), False)
    same = [
        replace(r, psnr=math.inf) for r in rows_of_two(0, 0) if r.family in ("unchanged", "gain")
    ]
    assert "**No network changes less" in verdict(curves(same), False)


def test_one_sentence_says_who_keeps_the_gain_and_what_lost_it():
    def told(*pinned, alone=28.0, drops=(0.4, 1.5)):
        rows = rows_of_two(*drops, alone=alone)
        rows += [
            replace(row(name, "gain", 0.4, psnr), similarity=None, pinned=True)
            for name, psnr in zip("ab", pinned, strict=False)
        ]
        return verdict(curves(rows), True)

    assert "what the reference adds" not in told() + told(29.7)  # not before all are there
    words = told(29.7, 28.75)
    assert words.startswith(
        "**a keeps the largest share of what the reference adds at gain 0.4: "
        "a 80% (1.60 of 2.00 dB, matching lost 0.10, the changed features lost 0.30); "
        "b 25% (0.50 of 2.00 dB, matching lost 0.25, the changed features lost 1.25).** "
    )
    assert "b −20% (−0.25 of 1.25 dB" in told(29.7, 28.75, alone=28.75)
    assert "the changed features won 0.20)" in told(30.2, 28.75, drops=(-0.2, 1.5))
    alike = told(29.7, 29.7, drops=(0.4, 0.42))
    assert "**No network keeps a larger share of what the reference adds than another at" in alike
    assert "**Nothing is left of what the reference adds at" in told(28, 28, drops=(3, 2.5))
    assert "what the reference adds" not in told(29.7, 28.75, alone=31.0)
    single = [r for r in rows_of_two(0.4, 1.5) if r.network == "a"]
    single.append(replace(row("a", "gain", 0.4, 29.7), pinned=True))
    single = [replace(r, network="masa-a") for r in single]
    assert "**Kept of what the reference adds at gain 0.4: masa-a 92% (4.60 of 5.00 dB" in verdict(
        curves(single), True
    )


def test_channels_of_a_network_that_adapts_nothing():
    one, other = (ChannelStatistics(np.arange(9.0) + k, np.ones(9)) for k in (0, 1))
    same = {"lr": one, "before": other, "after": other}
    told = figures.statistics("base", "gain 2", same)
    assert "adapts nothing" in told.summary and "adapted" not in told.alt
    assert np.array_equal(told.image, channel_plots({"lr": one, "before": other}, 1))
    adapted = figures.statistics("sam", "gain 2", same | {"after": one})
    assert "after it" in adapted.summary and "adapted" in adapted.alt


def test_networks_are_compared_where_all_have_been():
    """A sweep goes from slight changes to strong ones, network by network, and may be stopped."""
    rows = rows_of_two(0.1, 0.1)
    grown = [*rows, row("a", "gain", 0.7, 28.0)]
    assert verdict(curves(grown), True) == verdict(curves(rows), True)
    assert verdict(curves(grown), False) == verdict(curves(rows), False)


def test_a_reference_that_hurts_is_not_blamed_on_its_changes():
    told = verdict(two(-5, -5, alone=31.0), True)
    assert "bring it 5.00 dB" in told and "without any reference" not in told


def test_a_gain_is_no_steadiness():
    """Nor does what one change gives make up for what another takes."""
    better = verdict(two(-8, -0.1), True)
    assert "**b is the steadiest along gain, by 7.90 dB" in better
    assert "the changes bring it 8.00 dB on average" in better
    rows = rows_of_two(3, 0.2)
    rows += [row("a", "gain", 1.6, 33.0), row("b", "gain", 1.6, 29.8)]
    assert "**b is the steadiest along gain, by 2.80 dB" in verdict(curves(rows), True)
    replaced = [
        replace(r, family="HR itself", value=1) if r.family == "gain" else r
        for r in rows_of_two(-8, -0.1)
    ]
    told = verdict(curves(replaced), True)
    assert "steadiest" not in told and "come from a," in told


def test_where_the_change_keeps_places_it_is_told_how_many_matches_moved():
    def drawn(family, moved):
        return figures.matching(
            curves([row("a", "unchanged", 0, 30.0, 0.0), row("a", family, 2, 29.0, moved)])
        )[0]

    none = drawn("saturation", 0.0)
    assert "moves the reference's places" not in none.summary and "another place" in none.alt
    turned = drawn("rotation", None)
    assert "moves the reference's places" in turned.summary and "another place" not in turned.alt
    assert none.image.shape[0] > turned.image.shape[0]
    assert "This change replaces the reference, so" in drawn("HR itself", None).summary


def test_the_mark_under_a_click_is_found():
    curves_ = two(0.5, 1.5)
    drawn, spots = figures.quality(curves_, True)
    for spot in spots:
        if spot.value != 1:  # there both networks' marks lie on each other
            assert figures.nearest(spots, (spot.x + 3, spot.y - 2)) == spot
    assert figures.nearest((), (1, 1)) is None
    circled, _ = figures.quality(curves_, True, chosen=("a", 0.4))
    assert not np.array_equal(circled.image, drawn.image)


def test_lines_without_a_reference_are_told_apart_by_shape_too(monkeypatch):
    """Each holds the mark of its network's curve."""
    marked = []

    def mark(number):
        return lambda _, place: marked.append((number, *place))

    styles = tuple((colour, mark(i)) for i, (colour, _) in enumerate(figures._STYLES))
    monkeypatch.setattr(figures, "_STYLES", styles)
    one, other = two(0.5, 1.5)
    plot = figures._quality_plot([one, replace(other, alone=one.alone + 1)], True, figures.WIDTH)
    places = dict(enumerate(plot.places))
    (_, x, y), (_, other_x, higher) = [
        (number, x, y) for number, x, y in marked if (x, y) not in places[number]
    ]
    assert x == other_x > max(x for x, _ in places[0]) and higher < y
    marked.clear()
    found = curves([replace(row, network=name) for name in "ab" for row in rows_of_photos()])
    baselines = figures._quality_plot(found, True, figures.WIDTH).places[2::2]
    for number, line in enumerate(baselines):
        assert line and {(number, *place) for place in line} <= set(marked)


def test_csv_holds_every_number(found):
    rows = list(csv.DictReader(io.StringIO(csv_text(found[-1].rows))))
    assert [r["family"] for r in rows] == [r.family for r in found[-1].rows]
    assert float(rows[0]["psnr"]) == pytest.approx(found[-1].rows[0].psnr, rel=1e-4)
    assert rows[1]["similarity"] == ""


def test_pictures_are_drawn(found, request_):
    last = found[-1]
    shown = figures.strips(
        [("masa-rec", [(k.title, k.crop) for k in last.results])], list(last.others.items())
    )
    assert cv2.imread(last.bicubic).shape == (64, 80, 3)
    assert shown.image.shape[1] > 3 * 60
    preview = figures.preview(laboratory.changed_pictures(SweepRequest(request_, "offset", (), 3)))
    assert preview.alt == "The reference as it is and changed: offset -60, offset 60."
    assert "to white" in preview.summary and "to black" in preview.summary


@pytest.fixture(scope="module")
def turned(tmp_path_factory, examples):
    """A photo, and itself turned as the only reference: a sweep over rotation."""
    folder = tmp_path_factory.mktemp("turned")
    hr = read_photo(examples / "motorcycle_hr.jpg").rgb[:256, :256]
    write_photo(folder / "hr.png", hr)
    request = Request(str(folder / "hr.png"), (str(folder / "hr.png"),), is_hr=True)
    *_, last = laboratory.run_sweep(SweepRequest(request, "rotation", ("masa-rec",), 3), ignore)
    return last


LINES = ("masa-rec", "masa-rec with alignment")


def test_a_turned_reference_has_two_lines(turned):
    assert turned.lines == LINES
    assert [(kept.line, kept.value) for kept in turned.results] == [
        (line, value) for value in (0, 45, 90) for line in LINES
    ]
    assert list(turned.others) == ["the sharp photo", "bicubic", "masa-rec, no reference"]
    plain, aligned = turned.curves
    assert plain.unchanged.psnr - plain.worst.psnr > 3
    assert plain.levels[2].psnr < aligned.levels[2].psnr - 3
    rows = list(csv.DictReader(io.StringIO(csv_text(turned.rows))))
    assert [r["aligned"] for r in rows if r["family"] == "rotation"] == ["False", "True"] * 2
    kept = turned.result(LINES[1], 90)
    row = next(r for r in turned.rows if (r.line, r.value) == (LINES[1], 90))
    assert kept.line == LINES[1] and kept.value == 90
    told = laboratory.words_on(turned, kept)
    assert told.startswith(f"**{LINES[1]}, rotation 90: {row.psnr:.2f} dB")
    assert "turned by 90°" in told
    assert "aligned" not in laboratory.words_on(turned, turned.result(LINES[0], 90))


def test_both_lines_are_drawn_and_told(turned):
    drawn, spots = figures.quality(turned.curves, True)
    assert [(s.line, s.value) for s in spots] == [(n, v) for n in LINES for v in (0, 45, 90)]
    assert "masa-rec, masa-rec with alignment as the reference is changed" in drawn.alt
    assert f"**{LINES[1]} is the steadiest along rotation" in drawn.summary
    alone = figures.quality(turned.curves[:1], True)[0]
    assert not np.array_equal(drawn.image[:200], alone.image[:200])
    matched, spots = figures.matching(turned.curves)
    assert f"{LINES[1]}: " in matched.summary and len(spots) == 6
    assert ", ".join(LINES) in laboratory.strips(turned).alt
    units, _, heading, *_ = table(turned.curves, True).splitlines()
    assert heading == f"| change | {' | '.join(LINES)} |"
    assert units.startswith("PSNR in dB; in brackets") and "the reference as it is" in units


def test_a_network_s_two_lines_share_colour_and_not_the_mark():
    rows = [replace(r, family="scale") if r.family == "gain" else r for r in rows_of_two(1, 2)]
    found = curves([*rows, *(replace(r, aligned=True) for r in rows)])
    assert [c.line for c in found] == ["a", "b", "a with alignment", "b with alignment"]
    styles = figures._styles(found)
    assert [colour for colour, _ in styles[:2]] == [colour for colour, _ in styles[2:]]
    drawn = []
    for _, mark in styles:
        page = np.full((20, 20, 3), 255, np.uint8)
        mark(page, (10, 10))
        drawn.append(page)
    assert len({page.tobytes() for page in drawn}) == 4


def rows_of_photos():
    """A network that the degraded photo brings below what it reaches without a reference."""
    return [
        row("a", "unchanged", 0, 30.0),
        row("a", "no reference", 0, 28.0),
        row("a", "bicubic", 0, 26.0),
        replace(row("a", "photo jpeg", 25, 27.0, 0.2), alone=26.5, bicubic=25.5),
        replace(row("a", "photo jpeg", 50, 25.0, 0.4), alone=25.25, bicubic=24.75),
    ]


def test_a_photo_s_baselines_are_those_of_the_same_photo():
    found = curves(rows_of_photos())
    lines = table(found, True).splitlines()
    assert "the photo as it is" in lines[0]
    assert [line.split("|")[1:3] for line in lines[4:]] == [
        [" unchanged 0 ", " 30.00 "],
        [" – no reference ", " 28.00 "],
        [" – bicubic ", " 26.00 "],
        [" photo jpeg 25 ", " 27.00 (−3.00) "],
        [" – no reference ", " 26.50 "],
        [" – bicubic ", " 25.50 "],
        [" photo jpeg 50 ", " 25.00 (−5.00) "],
        [" – no reference ", " 25.25 "],
        [" – bicubic ", " 24.75 "],
    ]
    assert verdict(curves(rows_of_photos()[:3], ["photo jpeg"]), True) == (
        "The changed photos are still to come."
    )
    told = verdict(found, True)
    assert "30.00 dB with the photo as it is" in told
    assert "(photo jpeg 50); it then has less than without any reference" in told
    above = [replace(r, alone=r.alone and r.alone - 1) for r in rows_of_photos()]
    assert "without any reference" not in verdict(curves(above), True)
    drawn, spots = figures.quality(found, True)
    assert "as the photo is changed" in drawn.alt and "thin lines" in drawn.alt
    assert [(spot.line, spot.value) for spot in spots] == [("a", 0), ("a", 25), ("a", 50)]
    lower = [replace(r, bicubic=r.bicubic and r.bicubic - 3) for r in rows_of_photos()]
    assert not np.array_equal(drawn.image, figures.quality(curves(lower), True)[0].image)
    matched = figures.matching(found)[0]
    assert "with the photo unchanged" in matched.summary and "another place" in matched.alt


def test_a_sweep_of_the_photo_starts_from_the_clean_one(request_):
    asked = replace(request_, degradation="camera")
    *_, last = laboratory.run_sweep(SweepRequest(asked, "photo jpeg", ("masa-rec",), 3), ignore)
    hr, ref = read_photo(request_.photo).rgb, read_photo(request_.refs[0]).rgb
    predictor = predictor_for("masa-rec")
    unchanged = last.unchanged("masa-rec")
    clean = predictor.run(lr_from_hr(hr)[0], [ref]).rgb
    assert np.array_equal(read_photo(unchanged.picture).rgb, clean)
    assert [kept.value for kept in last.results] == [0, 47.5, 95]
    for kept in last.results[1:]:
        lr, _ = lr_from_hr(hr, Degradation(quality=round(100 - kept.value)))
        assert np.array_equal(read_photo(kept.picture).rgb, predictor.run(lr, [ref]).rgb)
        own = f"bicubic {psnr_y(enlarge_x4(lr), hr):.2f} dB"
        assert f"{own}." in laboratory.words_on(last, kept)
        unmeasured = replace(last, measured=False)  # as if the sharp photo were not known
        assert f"{own}, of likeness too." in laboratory.words_on(unmeasured, kept)
        _, (left, _) = laboratory_tab.choose(last, "masa-rec", kept.value, "bicubic")
        assert np.array_equal(read_photo(left).rgb, enlarge_x4(lr))
    assert laboratory_tab.choose(last, "masa-rec", 0, "bicubic")[1][0] == last.bicubic
    shown = laboratory.changed_pictures(SweepRequest(asked, "photo jpeg", (), 3))
    assert [title for title, _ in shown] == ["unchanged", "photo jpeg 47.5", "photo jpeg 95"]
    assert np.array_equal(shown[0][1].rgb, lr_from_hr(hr)[0])
    drawn = figures.preview(shown, "the photo")
    assert drawn.alt.startswith("The photo as it is and changed") and "clip" not in drawn.summary
    assert "change of the photo" in laboratory.strips(last).alt


def test_the_photo_s_own_degradation_stays_where_the_reference_changes(request_):
    asked = replace(request_, degradation="camera")
    assert SweepRequest(asked, "gain", ("masa-rec",), 3).pair is asked


# ---------------------------------------------------------------------------- the command


@pytest.fixture
def scenes(tmp_path):
    """Two scenes with a reference each, and two networks that differ in adaptation."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for number in range(2):
        write_photo(folder / f"{number:03}_0.png", picture(48, 64, 10 + number))
        write_photo(folder / f"{number:03}_1.png", picture(64, 48, 20 + number))
    for mode in ("sam", "none"):
        config = MASAConfig(channels=8, adaptation=mode)
        model = fill(MASA(config), in_blocks=1)
        save_weights(tmp_path / f"{mode}.safetensors", model.state_dict(), config)
    return folder


def sweep_command(scenes, *more, networks=("sam", "none")):
    files = [str(scenes.parent / f"{name}.safetensors") for name in networks]
    base = ["robustness", str(scenes), "--device", "cpu", "--precision", "fp32", "--points", "3"]
    return main([*base, "--out", str(scenes.parent / "out"), "--networks", *files, *more])


def test_networks_of_one_name_are_refused(scenes, capsys):
    """As those of two runs are, which are all called best."""
    (scenes.parent / "other").mkdir()
    shutil.copy(scenes.parent / "sam.safetensors", scenes.parent / "other")
    assert sweep_command(scenes, networks=("sam", "other/sam")) == 2
    assert "Two of the networks are called 'sam'" in capsys.readouterr().err


def test_networks_of_two_runs_go_by_their_folders(scenes, capsys):
    for name in ("sam", "none"):
        (scenes.parent / "runs" / name).mkdir(parents=True)
        file = scenes.parent / "runs" / name / "final.safetensors"
        shutil.copy(scenes.parent / f"{name}.safetensors", file)
    files = ["runs/sam/final", "runs/none/final"]
    assert sweep_command(scenes, "--families", "gain", "--limit", "1", networks=files) == 0
    assert ["sam", "none"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_next_scene_s_reference_is_the_other_photo_whatever_the_limit(scenes):
    asked = ["--families", "other photo"]
    assert sweep_command(scenes, *asked, "--limit", "1", networks=["sam"]) == 0
    path = scenes.parent / "out/robustness.json"
    first = json.loads(path.read_text())["rows"]
    path.unlink()
    assert sweep_command(scenes, *asked, networks=["sam"]) == 0
    assert [row for row in json.loads(path.read_text())["rows"] if row["scene"] == "000"] == first


def test_a_picture_that_bicubic_repeats_is_kept_and_read_again(scenes):
    """PSNR of equal pictures is infinite, which JSON does not have."""
    for number in range(2):
        write_photo(scenes / f"{number:03}_0.png", np.full((48, 64, 3), 128, np.uint8))
    asked = ["--families", "photo jpeg", "--values", "3"]
    csv_files = []
    for _ in range(2):
        assert sweep_command(scenes, *asked, networks=["sam"]) == 0
        csv_files.append((scenes.parent / "out/robustness.csv").read_text())
    assert "inf" in csv_files[0] and csv_files[0] == csv_files[1]
    rows = json.loads((scenes.parent / "out/robustness.json").read_text())["rows"]
    assert [row["bicubic"] for row in rows if row["family"] == "photo jpeg"] == [None, None]


def test_a_folder_is_swept_to_table_csv_json_and_figure(scenes, capsys):
    assert sweep_command(scenes, "--families", "gain", "other photo") == 0
    printed = capsys.readouterr().out
    out = scenes.parent / "out"
    assert cv2.imread(str(out / "robustness.png")).shape[1] > 600
    rows = list(csv.DictReader((out / "robustness.csv").open()))
    assert len(rows) == 2 * 2 * (3 + 2 + 1)
    predictor = Predictor(load_model(scenes.parent / "sam.safetensors"), "cpu", "fp32")
    drops = []
    for number in range(2):
        hr = read_photo(scenes / f"{number:03}_0.png").rgb
        ref = read_photo(scenes / f"{number:03}_1.png").rgb
        dark = FAMILIES["gain"].rung(0.4).apply(ref).rgb
        found = [psnr_y(predictor.run(reduce_x4(hr), [r]).rgb, hr) for r in (ref, dark)]
        drops.append(found[0] - found[1])
    line = next(part for part in printed.splitlines() if "gain 0.4" in part)
    assert float(line.split()[2]) == pytest.approx(sum(drops) / 2, abs=0.0051)
    wanted = ("000", "sam", "other photo")
    other = next(r for r in rows if (r["scene"], r["network"], r["family"]) == wanted)
    next_ref = read_photo(scenes / "001_1.png").rgb
    hr = read_photo(scenes / "000_0.png").rgb
    expected = psnr_y(predictor.run(reduce_x4(hr), [next_ref]).rgb, hr)
    assert float(other["psnr"]) == pytest.approx(expected, rel=1e-4)


def test_turned_references_are_swept_with_alignment_beside_light(scenes, capsys):
    families = ["--families", "gain", "rotation", "--limit", "1"]
    assert sweep_command(scenes, *families, networks=["sam"]) == 0
    printed = capsys.readouterr().out.splitlines()
    heading = next(line for line in printed if "with alignment" in line)
    assert heading.split(None, 1) == ["sam", "sam with alignment"]
    counts = {}
    for line in printed:
        for title in ("unchanged", "no reference", "gain 0.4", "rotation 90"):
            if line.startswith(f"  {title} "):
                counts[title] = len(line.removeprefix(f"  {title}").split())
    assert counts == {"unchanged": 2, "no reference": 2, "gain 0.4": 1, "rotation 90": 2}
    rows = list(csv.DictReader((scenes.parent / "out/robustness.csv").open()))
    assert len(rows) == 2 * 3 + 2 + 2 * 2
    assert sum(r["aligned"] == "True" for r in rows) == 3 + 2


def test_a_sweep_without_alignment_is_completed(scenes, monkeypatch):
    """As it was written before there was alignment."""
    rotation = ["--families", "rotation", "--limit", "1"]
    assert sweep_command(scenes, *rotation, networks=["sam"]) == 0
    path = scenes.parent / "out/robustness.json"
    content = json.loads(path.read_text())
    old = [row for row in content["rows"] if not row.pop("aligned")]
    path.write_text(json.dumps({**content, "rows": old}))
    assert sweep_command(scenes, *rotation, networks=["sam"]) == 0
    again = json.loads(path.read_text())["rows"]
    assert len(again) == len(content["rows"])
    assert sum(row["aligned"] for row in again) == len(again) - len(old)


def test_a_sweep_is_continued_where_it_stopped(scenes, monkeypatch):
    calls = []
    run = Predictor.run

    def counted(self, *args, **kwargs):
        calls.append(1)
        return run(self, *args, **kwargs)

    monkeypatch.setattr(Predictor, "run", counted)
    assert sweep_command(scenes, "--families", "gain", networks=["sam"]) == 0
    assert len(calls) == 2 * 4
    assert sweep_command(scenes, "--families", "gain") == 0
    assert len(calls) == 2 * 2 * 4  # the first network's numbers were known
    save = scenes.parent / "sam.safetensors"
    model = load_model(save)
    model.decoder.conv_out.bias += 0.01
    save_weights(save, model.state_dict(), model.config)
    assert sweep_command(scenes, "--families", "gain") == 0
    assert len(calls) == 3 * 2 * 4  # other weights under the same name are measured anew


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--limit", "0"], "leaves no scene"),
        (["--points", "2"], "choose 3 or more"),
        (["--families", "gain", "blur", "--values", "1"], "single family"),
        (["--families", "gain", "--values", "1"], "change nothing"),
        (["--families", "gain", "--values", "9"], "choose a value from"),
        (["--networks", "nowhere"], "no weights"),
    ],
)
def test_what_is_wrong_ends_the_command_with_one_sentence(scenes, capsys, more, words):
    assert sweep_command(scenes, *more) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1].removeprefix("masa robustness: ")
    assert words in told and is_one_sentence(told)


def test_numbers_of_another_kind_are_not_overwritten(scenes, capsys):
    (scenes.parent / "out").mkdir()
    (scenes.parent / "out" / "robustness.json").write_text("[1, 2]")
    assert sweep_command(scenes) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_numbers_measured_otherwise_are_not_overwritten(scenes, capsys):
    asked = ["--families", "gain", "--limit", "1"]
    assert sweep_command(scenes, *asked, networks=["sam"]) == 0
    path = scenes.parent / "out/robustness.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "precision": "bfloat16"}))
    before = path.read_text()
    assert sweep_command(scenes, *asked, networks=["sam"]) == 2
    assert "measured otherwise (precision): choose another --out" in capsys.readouterr().err
    assert path.read_text() == before


def test_numbers_of_other_scenes_are_not_overwritten(scenes, capsys):
    """With a scene more, the photo of something else is another one for the last scene."""
    asked = ["--families", "other photo", "--limit", "1"]
    assert sweep_command(scenes, *asked, networks=["sam"]) == 0
    before = (scenes.parent / "out/robustness.json").read_text()
    for part in (0, 1):
        shutil.copy(scenes / f"000_{part}.png", scenes / f"002_{part}.png")
    assert sweep_command(scenes, *asked, networks=["sam"]) == 2
    assert "measured otherwise (scenes): choose another --out" in capsys.readouterr().err
    assert (scenes.parent / "out/robustness.json").read_text() == before


def test_several_references_are_not_turned_as_one_picture(scenes, capsys):
    shutil.copy(scenes / "001_1.png", scenes / "001_2.png")
    assert sweep_command(scenes, "--families", "gain", "rotation", "--limit", "1") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1].removeprefix("masa robustness: ")
    assert "--refs 1" in told and is_one_sentence(told)
    one = ["--families", "rotation", "--values", "90", "--refs", "1", "--limit", "1"]
    assert sweep_command(scenes, *one, networks=["none"]) == 0


def test_scenes_without_references_are_refused(scenes, capsys):
    for ref in scenes.glob("*_1.png"):
        ref.unlink()
    assert sweep_command(scenes) == 2
    assert "no reference to change" in capsys.readouterr().err
