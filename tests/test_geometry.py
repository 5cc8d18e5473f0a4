"""References that are turned or resized as a whole, and the table of what they keep."""

import csv
import json

import cv2
import numpy as np
import pytest
from helpers import is_one_sentence, picture

from masa.__main__ import main
from masa.errors import UserError
from masa.measuring.evaluate import SceneScores, Score
from masa.measuring.geometry import (
    USUAL,
    Geometry,
    geometry_called,
    geometry_methods,
    geometry_table,
)
from masa.pictures.metrics import psnr_y
from masa.pictures.resize import enlarge_x4, reduce_x4
from masa.pictures.write import write_photo
from masa.predictor import Predictor


def smooth(height=60, width=84):
    small = picture(height // 6, width // 6, 4)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def test_a_quarter_turn_moves_pixels_and_changes_none():
    rgb = picture(30, 44)
    assert np.array_equal(Geometry(turn=90).apply(rgb), np.rot90(rgb))
    assert np.array_equal(Geometry(turn=180).apply(rgb), np.rot90(rgb, 2))


def test_nothing_is_cut_off_by_a_turn():
    """Turned there and back, every pixel is there again."""
    rgb = smooth()
    there = Geometry(turn=25).apply(rgb)
    back = Geometry(turn=-25).apply(there)
    top, left = ((large - own) // 2 for large, own in zip(back.shape, rgb.shape[:2], strict=False))
    again = back[top : top + rgb.shape[0], left : left + rgb.shape[1]]
    assert there.shape[0] * there.shape[1] > 1.4 * rgb.shape[0] * rgb.shape[1]
    assert psnr_y(again[2:-2, 2:-2], rgb[2:-2, 2:-2]) > 38


@pytest.mark.parametrize(("scale", "shape"), [(0.5, (30, 42)), (1.5, (90, 126)), (2, (120, 168))])
def test_a_scale_resizes_all_of_it(scale, shape):
    rgb = smooth()
    resized = Geometry(scale=scale).apply(rgb)
    assert resized.shape == (*shape, 3)
    again = cv2.resize(resized, rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert psnr_y(again, rgb) > 30


def test_both_at_once():
    rgb = smooth()
    both = Geometry(turn=90, scale=1.5)
    assert np.array_equal(both.apply(rgb), np.rot90(Geometry(scale=1.5).apply(rgb)))
    assert both == geometry_called("turn=90,scale=1.5") == geometry_called("scale=1.5,turn=90")
    assert (both.name, both.title) == ("turn=90,scale=1.5", "turned 90°, seen at 1.5")
    assert all(geometry_called(change.name) == change for change in USUAL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "flip",
        "turn",
        "turn=x",
        "turn=nan",
        "turn=200",
        "scale=0",
        "scale=9",
        "turn=1,turn=2",
        "turn=0",
        "scale=1",
    ],
)
def test_what_is_no_change_is_refused(text):
    with pytest.raises(UserError) as raised:
        geometry_called(text)
    assert is_one_sentence(str(raised.value))


def test_methods_change_the_reference_and_align_it():
    calls = []
    plain, aligning = (
        lambda lr, ref, how=how: calls.append((how, ref)) or lr for how in ("plain", "aligned")
    )
    lr, ref = picture(8, 8), picture(32, 32)
    for method in geometry_methods(plain, aligning, USUAL[:1]).values():
        method(lr, ref)
    turned = USUAL[0].apply(ref)
    wanted = [("aligned", ref), ("plain", turned), ("aligned", turned)]
    for (how, given), (expected, shown) in zip(calls, wanted, strict=True):
        assert how == expected and np.array_equal(given, shown)


def row(name, **psnr):
    return SceneScores(name, {key: Score(value, 1, 1, 1, 0, 0) for key, value in psnr.items()}, {})


def test_the_table_tells_the_share_of_the_upright_gain():
    turn, scale = Geometry(turn=25), Geometry(scale=2)
    keys = ("self", "masa", "aligned", "turn=25", "turn=25 aligned", "scale=2", "scale=2 aligned")
    rows = [
        row("a", **dict(zip(keys, (20, 24, 25, 21, 24, 20, 23), strict=True))),
        row("b", **dict(zip(keys, (30, 31, 31, 30, 31, 30, 30.5), strict=True))),
        row("c", **dict(zip(keys, (40, 40.05, 40, 39, 40, 39, 40), strict=True))),
    ]
    lines = geometry_table(rows, (turn, scale)).splitlines()
    assert lines[0] == "| PSNR, dB | no reference | upright | turned 25° | seen at 2 |"
    assert lines[2] == "| a, as it is | 20.00 | 24.00 (100%) | 21.00 (25%) | 20.00 (0%) |"
    assert lines[4] == "| c, as it is | 40.00 | 40.05 | 39.00 | 39.00 |"  # it gains too little
    assert lines[6] == "| a, aligned | 20.00 | 25.00 (125%) | 24.00 (100%) | 23.00 (75%) |"
    assert lines[7] == "| b, aligned | 30.00 | 31.00 (100%) | 31.00 (100%) | 30.50 (50%) |"
    assert lines[9].startswith("| mean, aligned | 30.00 | 32.00 (119%) |")
    # Means gain 5.05 / 3 dB upright; aligned, 5 / 3 turned and 3.5 / 3 seen at 2.
    assert lines[-1] == (
        "- aligned: 84% of the mean gain over all changes; the lowest is 50% (b, seen at 2)"
    )
    equal = row("d", **dict(zip(keys, (20, float("inf"), *[float("inf")] * 5), strict=True)))
    assert "| d, as it is | 20.00 | inf | inf | inf |" in geometry_table([equal], (turn, scale))
    poor = geometry_table(rows[2:], (turn, scale)).splitlines()
    assert poor[-1].endswith("the upright reference gains less than 0.1 dB")


# -------------------------------------------------------------------------------- command


@pytest.fixture
def scenes(tmp_path):
    """Two scenes with one reference each."""
    for k in range(2):
        write_photo(tmp_path / f"00{k}_0.png", picture(48, 64, 10 * k))
        write_photo(tmp_path / f"00{k}_1.png", picture(40, 56, 10 * k + 1))
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """(LR, references, whether they are aligned) of every run from now on, which is bicubic."""
    seen, run = [], Predictor.run

    def recorded(self, lr, refs, *args, align=False, **kwargs):
        seen.append((lr, refs, align))
        return run(self, lr, refs, *args, align=align, **kwargs)

    monkeypatch.setattr(Predictor, "run", recorded)
    return seen


def evaluate(folder, *more):
    return main(["evaluate", str(folder), "--device", "cpu", "--refs", "1", *more])


def test_command_measures_changed_references(scenes, asked, tmp_path, capsys):
    details, table = tmp_path / "all.json", tmp_path / "all.csv"
    changes = ["--geometry", "turn=90", "scale=0.5"]
    files = ["--json", str(details), "--csv", str(table)]
    assert evaluate(scenes, *changes, "--only", "001", *files) == 0
    hr, ref = picture(48, 64, 10), picture(40, 56, 11)
    given = [
        (ref, False),
        (None, False),
        (ref, True),
        *((Geometry(turn=90).apply(ref), align) for align in (False, True)),
        *((Geometry(scale=0.5).apply(ref), align) for align in (False, True)),
    ]
    assert len(asked) == len(given)
    for (lr, refs, aligned), (expected, align) in zip(asked, given, strict=True):
        assert np.array_equal(lr, reduce_x4(hr)) and aligned == align
        assert (refs == []) if expected is None else np.array_equal(refs[0], expected)
    (found,) = json.loads(details.read_text())["pictures"]
    assert found["bicubic"]["psnr"] == psnr_y(enlarge_x4(reduce_x4(hr)), hr)
    printed = capsys.readouterr().out
    assert f"| 001, as it is | {found['self']['psnr']:.2f} | {found['masa']['psnr']:.2f}" in printed
    assert f" {found['turn=90 aligned']['psnr']:.2f}" in printed
    (numbers,) = csv.DictReader(table.open())
    assert float(numbers["scale=0.5_psnr"]) == pytest.approx(found["scale=0.5"]["psnr"], abs=1e-4)


def test_command_has_its_usual_changes(scenes, asked, capsys):
    assert evaluate(scenes, "--geometry", "--only", "000") == 0
    assert len(asked) == 3 + 2 * len(USUAL)
    header = (
        "no reference | upright | turned 25° | turned 90° | seen at 0.7 | seen at 1.5 | seen at 2"
    )
    assert header in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--geometry", "--align", "auto"], "leave out --align"),
        (["--geometry", "flip"], "'flip' is no change"),
        (["--geometry", "--refs", "all"], "--refs 1"),
        (["--align", "auto", "--refs", "all"], "--refs 1"),
        (["--against", "aligned", "--refs", "all"], "--refs 1"),
        (["--geometry", "--only", "9"], "choose from 000, 001"),
    ],
)
def test_command_says_what_is_wrong(scenes, capsys, more, words):
    write_photo(scenes / "000_2.png", picture(40, 40))
    assert evaluate(scenes, *more) == 2
    told = capsys.readouterr().err.strip().removeprefix("masa evaluate: ")
    assert words in told and is_one_sentence(told)


def test_pictures_without_references_cannot_be_aligned(tmp_path, capsys):
    write_photo(tmp_path / "a.png", picture(32, 32))
    for more in (["--geometry"], ["--against", "aligned"]):
        assert main(["evaluate", str(tmp_path), *more]) == 2
        assert "no reference to align" in capsys.readouterr().err
