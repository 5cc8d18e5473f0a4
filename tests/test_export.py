"""Everything of a run as files, and the run repeated from them."""

import dataclasses
import io
import json
import runpy
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from asking import last
from conftest import seen_again
from helpers import picture, taken
from PIL import ExifTags, Image
from serving import ROOT

from demo.export import ARCHIVES, pack, run_numbers, snippet
from demo.figures.places import matched_cells
from demo.figures.result import measure
from demo.figures.tabs import FIGURES, TABS
from demo.figures.view import View
from demo.runs import request
from demo.runs.request import Request
from demo.runs.served import serve_png
from demo.runs.steps import paint
from masa.__main__ import main
from masa.pictures.photo import DEFAULT_LIMITS
from masa.pictures.read import read_photo
from masa.pictures.shifts import PRESETS, Shift
from masa.pictures.write import write_photo


def test_the_zip_holds_pictures_figures_maps_and_code(x, tmp_path, monkeypatch):
    with zipfile.ZipFile(io.BytesIO(last(pack(lambda: x)))) as archive:
        archive.extractall(tmp_path)
    result = cv2.cvtColor(cv2.imread(str(tmp_path / "result.png")), cv2.COLOR_BGR2RGB)
    assert np.array_equal(result, x.result)
    with np.load(tmp_path / "maps.npz") as maps:
        assert np.array_equal(maps["position"], x.matches.position[0].numpy())
        assert np.array_equal(maps["similarity"], x.matches.similarity[0, 0].numpy())
    figures = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert len(figures) == len(FIGURES) - 3
    words = (tmp_path / "figures.md").read_text()
    for tab in TABS:
        for figure in tab.figures:
            part = words.partition(f"## {figure.title}\n\n{figure.caption}\n\n")[2]
            name, missing = f"{tab.id}_{figure.id}", figure.missing(x, View.opening(x))
            if name in figures:
                assert f"`figures/{name}.png`" in part.partition("\n\n## ")[0]
            else:
                assert missing and part.startswith(f"Not drawn: *{missing}*")
    monkeypatch.chdir(tmp_path)
    again = runpy.run_path("repeat.py")["result"]
    assert np.array_equal(again.trace.matches.position, x.matches.position)
    assert np.array_equal(read_photo(tmp_path / "repeated.png").rgb, x.result)


def test_scores_have_the_names_of_a_run_alone(x):
    scores = run_numbers(x)["scores_on_y_no_border_cropped"]
    assert set(scores) == {"result", "plain", "bicubic"}
    assert scores["result"] == dataclasses.asdict(measure(x).masa)


def test_one_archive_is_packed_at_a_time(x):
    with taken(ARCHIVES):
        packing = pack(lambda: x)
        assert next(packing).in_line
        packing.close()
    assert not ARCHIVES.are_wanted()


def test_downloads_hold_nothing_that_a_camera_noted(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Firma"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    for name, seed in (("lr.jpg", 1), ("ref.jpg", 2)):
        Image.fromarray(picture(32, 32, seed)).save(tmp_path / name, exif=exif)
    assert b"Firma" in read_photo(tmp_path / "lr.jpg").exif
    x = paint(Request(str(tmp_path / "lr.jpg"), (str(tmp_path / "ref.jpg"),)))
    download = Path(serve_png(x.result, "masa_x4.png", x.alpha))
    with zipfile.ZipFile(io.BytesIO(last(pack(lambda: x)))) as archive:
        written = {name: archive.read(name) for name in archive.namelist()}
    written[download.name] = download.read_bytes()
    pictures = {name: data for name, data in written.items() if name.endswith(".png")}
    assert {"lr.png", "ref_1.png", "result.png", download.name} < set(pictures)
    assert not any(b"Firma" in data for data in written.values())
    for data in pictures.values():
        with Image.open(io.BytesIO(data)) as found:
            assert not found.getexif() and set(found.info) <= {"transparency"}
    (_, kept) = (ROOT / "demo" / "HOSTING.md").read_text().split("## What the page keeps")
    assert "hold no EXIF" in kept.partition("\n## ")[0]


def test_a_run_is_packed_into_the_same_bytes_on_any_day(x, monkeypatch):
    first = last(pack(lambda: x))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10**6)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(now + 10**6))
    assert last(pack(lambda: dataclasses.replace(x))) == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        entries = archive.infolist()
        with zipfile.ZipFile(io.BytesIO(archive.read("maps.npz"))) as maps:
            entries += maps.infolist()
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}


def test_a_transparent_photo_is_repeated_from_the_zip(tmp_path, monkeypatch):
    """Also what the network read where the photo is not seen."""
    rgba = np.dstack((picture(64, 96, 1), np.tile(np.arange(96, dtype=np.uint8) * 2, (64, 1))))
    rgba[20:50, 10:60, 3] = 0
    cv2.imwrite(str(tmp_path / "photo.png"), rgba)
    write_photo(tmp_path / "ref.png", picture(80, 96, 2))
    x = paint(Request(str(tmp_path / "photo.png"), (str(tmp_path / "ref.png"),), is_hr=True))
    with zipfile.ZipFile(io.BytesIO(last(pack(lambda: x)))) as archive:
        archive.extractall(tmp_path / "out")
        json.loads(archive.read("run.json"), parse_constant=pytest.fail)
    monkeypatch.chdir(tmp_path / "out")
    again = runpy.run_path("repeat.py")["result"]
    assert np.array_equal(again.trace.matches.position, x.matches.position)
    assert np.array_equal(read_photo("repeated.png").rgb, x.result)
    assert np.array_equal(read_photo("result.png").alpha, x.alpha)
    assert np.array_equal(read_photo("lr_alpha.png").rgb[:, :, 0], x.lr_alpha)
    assert np.array_equal(read_photo("sharp.png").rgb, x.hr)


def test_an_aligned_run_is_repeated_from_the_zip(turned, tmp_path, monkeypatch):
    x, (matrix,) = turned
    with zipfile.ZipFile(io.BytesIO(last(pack(lambda: x)))) as archive:
        archive.extractall(tmp_path)
    found = json.loads((tmp_path / "run.json").read_text())
    (lies,) = found["alignments"]
    assert found["align"] and lies["used_aligned"] and not lies["used_as_it_is"]
    assert lies["turn"] == pytest.approx(30, abs=1) and lies["zoom"] == pytest.approx(1.4, rel=0.05)
    own = np.array(lies["matrix"]) @ (100, 60, 1)
    true = matrix @ (100, 60, 1)
    assert np.abs(own[:2] / own[2] - true[:2] / true[2]).max() < 1
    assert found["references"] == [list(x.refs[0].shape[1::-1])]
    assert np.array_equal(read_photo(tmp_path / "ref_1.png").rgb, x.refs[0])
    assert np.array_equal(read_photo(tmp_path / "ref_1_aligned.png").rgb, x.ref.rgb)
    with np.load(tmp_path / "maps.npz") as maps:
        at = x.ref.locate(*matched_cells(x))
        np.testing.assert_allclose(maps["place"], np.stack((at.row, at.column)), atol=1e-3)
        assert (maps["reference"] == 0).all()
    monkeypatch.chdir(tmp_path)
    again = runpy.run_path("repeat.py")["result"]
    assert np.array_equal(again.trace.matches.position, x.matches.position)
    assert np.array_equal(again.rgb, x.result)


def test_the_numbers_say_how_photo_and_references_were_changed():
    hr, ref = picture(64, 96, 1), picture(64, 96, 2)
    warm = paint(Request(hr, (ref,), True, shift=PRESETS["warm"], degradation="camera"))
    found = json.loads(json.dumps(run_numbers(warm)))
    assert found["is_hr"] and found["degradation"] == "camera"
    assert Shift(**found["shift"]) == PRESETS["warm"]
    assert any("light was changed: “warm”" in note for note in found["notes"])
    plain = run_numbers(paint(Request(picture(16, 24), (ref,))))
    assert not plain["is_hr"] and plain["degradation"] is None
    assert Shift(**plain["shift"]).is_identity and plain["references"] == [[96, 64]]


def test_a_photo_that_is_its_own_reference_has_none_in_the_numbers():
    found = run_numbers(paint(Request(picture(16, 24))))
    assert found["self_reference"] and found["references"] == []


def test_a_run_with_more_views_than_references_are_allowed_is_repeated(
    examples, tmp_path, monkeypatch
):
    """Three references, each both aligned and as it is, are six files."""
    x, _ = seen_again(examples, (0, 1.1), (-25,), (25,), every_view=True)
    assert len(x.ref.placements) == 6 > DEFAULT_LIMITS.max_references
    with zipfile.ZipFile(io.BytesIO(last(pack(lambda: x)))) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    again = runpy.run_path("repeat.py")["result"]
    assert np.array_equal(again.trace.matches.position, x.matches.position)
    assert np.array_equal(again.rgb, x.result)


def test_the_code_names_a_limit_only_where_it_has_to():
    most = DEFAULT_LIMITS.max_references
    assert "limits" not in snippet("masa-rec", ["ref.png"] * most)
    assert f"max_references={most + 1}" in snippet("masa-rec", ["ref.png"] * (most + 1))


def test_a_run_with_a_reduced_and_aligned_reference_is_repeated(turned, tmp_path, monkeypatch):
    x, _ = turned
    write_photo(tmp_path / "photo.png", x.visitors_lr()[:32, :32].copy())
    write_photo(tmp_path / "large.png", x.refs[0])
    files = [str(tmp_path / name) for name in ("photo.png", "large.png")]
    with monkeypatch.context() as patched:
        patched.setattr(request, "LIMITS", dataclasses.replace(request.LIMITS, max_ref_pixels=9000))
        reduced = paint(Request(files[0], (files[1],)))
    assert reduced.references[0].rgb.size < x.refs[0].size and reduced.alignments[0] is not None
    with zipfile.ZipFile(io.BytesIO(last(pack(lambda: reduced)))) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    again = runpy.run_path("repeat.py")["result"]
    assert np.array_equal(again.trace.matches.position, reduced.matches.position)
    assert np.array_equal(again.rgb, reduced.result)


def test_explaining_may_leave_the_reference_as_it_is(turned, tmp_path):
    x, _ = turned
    write_photo(tmp_path / "lr.png", x.visitors_lr()[:24, :24].copy())
    write_photo(tmp_path / "ref.png", x.refs[0])
    command = ["explain", str(tmp_path / "lr.png"), "--ref", str(tmp_path / "ref.png")]
    assert main([*command, "--align", "off", "--out", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "run.json").read_text())
    assert not found["align"] and found["alignments"] == []
    assert "['ref_1.png']" in (tmp_path / "out" / "repeat.py").read_text()
    assert not list(tmp_path.glob("out/figures/align_*"))


def test_a_run_is_explained_without_a_browser(files, tmp_path, capsys):
    command = ["explain", str(files / "lr.png"), "--ref", str(files / "ref.png")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    written = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {"result.png", "maps.npz", "run.json", "repeat.py", "fine_given.png"} <= written
    assert "align_alignment.png" in written
    (tmp_path / "file").write_text("in the way")
    assert main([*command, "--out", str(tmp_path / "file" / "out")]) == 2
    assert "choose another folder" in capsys.readouterr().err
