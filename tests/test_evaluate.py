"""Measuring: the right pictures are compared, by the protocol that is stated."""

import csv
import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import is_one_sentence, picture
from PIL import Image

import masa.measuring.evaluate
import masa.measuring.scenes
from masa.__main__ import main
from masa.errors import UserError
from masa.measuring.evaluate import (
    SceneScores,
    Score,
    evaluate,
    mean_scores,
    measure,
    predictor_upscale,
    protocol,
    reduction,
)
from masa.measuring.scenes import Scene, detect_layout, find_scenes, read_references, stitch
from masa.pictures.degradation import CLEAN, PRESETS, Degradation, lr_from_hr
from masa.pictures.metrics import (
    colour_drift,
    grid_strength,
    high_frequency_ratio,
    psnr_y,
    seam_ratio,
    ssim_y,
)
from masa.pictures.photo import DATA_LIMITS, DEFAULT_LIMITS
from masa.pictures.resize import enlarge_x4, reduce_x4
from masa.pictures.write import write_photo
from masa.predictor import Predictor
from masa.weights import save_weights


def save(path, rgb=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(32, 32) if rgb is None else rgb).save(path)
    return path


@pytest.fixture
def cufed5(tmp_path):
    """Three scenes of 50 x 66 pixels with two references each, all different."""
    for k in range(3):
        for n in range(3):
            save(tmp_path / f"00{k}_{n}.png", picture(50, 66, 10 * k + n))
    return tmp_path


@pytest.fixture
def sun80(tmp_path):
    """Two pictures with twenty references each."""
    for name in ("a", "b"):
        save(tmp_path / f"Sun_Hays_SR_groundtruth/{name}.jpg")
        for k in range(20):
            save(tmp_path / f"Sun_Hays_SR_scenematches/{name}.jpg/{k:02}.jpg")
    return tmp_path


class Recorder:
    """Enlarges by bicubic interpolation and remembers what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, lr, ref):
        self.calls.append((lr, ref))
        return enlarge_x4(lr)


def names(scenes):
    return [(s.name, s.hr.name, [ref.name for ref in s.refs]) for s in scenes]


# ----------------------------------------------------------------------------- test sets


def test_cufed5_with_all_references(cufed5):
    scenes = find_scenes(cufed5)
    assert names(scenes) == [
        (f"00{k}", f"00{k}_0.png", [f"00{k}_1.png", f"00{k}_2.png"]) for k in range(3)
    ]


def test_cufed5_with_one_reference(cufed5):
    assert names(find_scenes(cufed5, refs=2))[1] == ("001", "001_0.png", ["001_2.png"])


def test_a_reference_that_a_scene_lacks_is_an_error(cufed5):
    with pytest.raises(UserError, match=r"000.*reference 5.*1, 2"):
        find_scenes(cufed5, refs=5)


def test_sun80_draws_one_reference_again_and_again(sun80):
    scenes = find_scenes(sun80)
    assert [scene.name for scene in scenes] == ["a", "b"]
    assert all(scene.refs[0].parent.name == scene.hr.name for scene in scenes)
    assert find_scenes(sun80) == scenes
    assert len({find_scenes(sun80, seed=seed)[0].refs for seed in range(10)}) > 1


def test_sun80_without_references_is_an_error(sun80):
    for path in (sun80 / "Sun_Hays_SR_scenematches/b.jpg").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"b\.jpg"):
        find_scenes(sun80)


def test_archives_beside_sun80s_folders_are_not_taken_for_them(sun80):
    scenes = find_scenes(sun80)
    for name in ("a_groundtruth.zip", "a_scenematches.zip"):
        (sun80 / name).write_bytes(b"PK")
    assert detect_layout(sun80) == "sun80"
    assert find_scenes(sun80) == scenes
    for folder in sun80.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    assert detect_layout(sun80) == "images"  # not unpacked yet


def test_pictures_alone_are_their_own_references(tmp_path):
    save(tmp_path / "img_001.png")
    save(tmp_path / "img_002.png")
    (tmp_path / "notes.txt").write_text("no picture")
    assert names(find_scenes(tmp_path)) == [
        ("img_001", "img_001.png", []),
        ("img_002", "img_002.png", []),
    ]


def test_pairs(tmp_path):
    save(tmp_path / "input/x.png")
    save(tmp_path / "ref/x.jpg")
    assert names(find_scenes(tmp_path)) == [("x", "x.png", ["x.jpg"])]


@pytest.mark.parametrize(
    ("files", "layout"),
    [
        (["000_0.png", "000_1.png"], "cufed5"),
        (["input/a.png", "ref/a.png"], "pairs"),
        (["examples.json", "a_0.png"], "examples"),
        (["x_groundtruth/a.jpg", "x_scenematches/a/b.jpg"], "sun80"),
        (["img_0.png", "scan_1.png"], "images"),
        (["photo.png"], "images"),
    ],
)
def test_layouts_are_recognised(tmp_path, files, layout):
    for file in files:
        if file.endswith("json"):
            (tmp_path / file).write_text("[]")
        else:
            save(tmp_path / file)
    assert detect_layout(tmp_path) == layout


def test_the_page_s_examples_are_a_test_set(examples):
    scenes = find_scenes(examples)
    entries = json.loads((examples / "examples.json").read_text())
    assert [scene.name for scene in scenes] == [entry["name"] for entry in entries]
    assert scenes[0].hr == examples / "motorcycle_hr.jpg"
    assert scenes[0].refs == (examples / "motorcycle_ref.jpg",)


@pytest.mark.parametrize("content", ["no json", "{}", '[{"name": "a"}]', "[1]"])
def test_a_list_of_examples_that_is_none_is_a_sentence(tmp_path, content):
    (tmp_path / "examples.json").write_text(content)
    with pytest.raises(UserError) as raised:
        find_scenes(tmp_path)
    assert is_one_sentence(str(raised.value))


def test_a_folder_that_cannot_be_read_is_a_sentence(tmp_path, monkeypatch):
    def locked(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(UserError, match="Permission denied") as raised:
        find_scenes(tmp_path, "images")
    assert is_one_sentence(str(raised.value))


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        find_scenes(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no pictures"):
        find_scenes(tmp_path)
    with pytest.raises(UserError, match="groundtruth"):
        find_scenes(tmp_path, "sun80")
    with pytest.raises(UserError, match="no layout"):
        find_scenes(tmp_path, "div2k")


# ----------------------------------------------------------------------------- stitching


def test_references_are_centred_and_stacked():
    first, second = picture(100, 200, 1), picture(512, 300, 2)
    whole = stitch([first, second])
    assert whole.shape == (1024, 512, 3)
    assert np.array_equal(whole[206:306, 156:356], first)
    assert np.array_equal(whole[512:, 106:406], second)
    assert (whole[:206, 156:356] == first[0]).all()  # borders are repeated outwards
    assert (whole[512:, :106] == second[:, :1]).all()


def test_large_references_keep_their_size():
    assert stitch([picture(600, 20), picture(20, 700)]).shape == (1200, 700, 3)
    assert stitch([picture(30, 20)]).shape == (30, 20, 3)


# ----------------------------------------------------------------------------- measuring


METRICS = (
    psnr_y,
    ssim_y,
    partial(seam_ratio, block=32),
    high_frequency_ratio,
    colour_drift,
    grid_strength,
)


def test_the_result_is_compared_with_the_cropped_truth(cufed5):
    upscale = Recorder()
    row = next(evaluate(upscale, find_scenes(cufed5, refs=1), keep=1))
    hr = picture(50, 66, 0)[:48, :64]
    lr, ref = upscale.calls[0]
    assert np.array_equal(lr, reduce_x4(hr))
    assert np.array_equal(ref, picture(50, 66, 1))
    expected = Score(*(metric(enlarge_x4(lr), hr) for metric in METRICS))
    assert row.scores == {"bicubic": expected, "masa": expected}
    assert list(row.pictures) == ["bicubic", "masa", "hr", "ref"]
    assert np.array_equal(row.pictures["hr"], hr)


def test_against_self_and_the_next_scenes_reference(cufed5):
    upscale = Recorder()
    rows = list(evaluate(upscale, find_scenes(cufed5, refs=1), ("self", "unrelated")))
    assert all(list(row.scores) == ["bicubic", "masa", "self", "unrelated"] for row in rows)
    refs = [ref for _, ref in upscale.calls]
    assert refs[1] is refs[4] is refs[7] is None
    for own, other in ((0, 8), (3, 2), (6, 5)):
        assert np.array_equal(refs[own], refs[other])
        assert not np.array_equal(refs[own], refs[own + 2])


def test_other_methods_are_given_the_scenes_own_reference(cufed5):
    upscale, other = Recorder(), Recorder()
    scenes = find_scenes(cufed5, refs=1)
    rows = list(evaluate(upscale, scenes, ("unrelated",), others={"twice": other}))
    assert list(rows[0].scores) == ["bicubic", "masa", "unrelated", "twice"]
    for (lr, ref), (own_lr, own) in zip(other.calls, upscale.calls[::2], strict=True):
        assert np.array_equal(lr, own_lr) and np.array_equal(ref, own)
    assert rows[0].scores["twice"] == rows[0].scores["masa"]


def test_the_lr_is_the_reference_where_there_is_no_other(tmp_path):
    save(tmp_path / "a.png")
    upscale = Recorder()
    row = next(evaluate(upscale, find_scenes(tmp_path), keep=1))
    assert upscale.calls[0][1] is None
    assert "ref" not in row.pictures


def test_scenes_can_be_shared_out(cufed5):
    scenes = find_scenes(cufed5, refs=1)
    rows = list(evaluate(Recorder(), scenes, numbers=range(1, 3), keep=2))
    assert [row.name for row in rows] == ["001", "002"]
    assert [bool(row.pictures) for row in rows] == [True, False]


def test_scenes_are_degraded_in_turn(cufed5):
    """By their positions, so that those who share the scenes out degrade them alike."""
    scenes = find_scenes(cufed5, refs=1)
    turns = (CLEAN, PRESETS["camera"])
    whole, part = Recorder(), Recorder()
    assert len(list(evaluate(whole, scenes, degradations=turns))) == 3
    assert len(list(evaluate(part, scenes, numbers=[1], degradations=turns))) == 1
    expected = [
        lr_from_hr(picture(50, 66, 10 * k), turns[turn], seed=k)[0]
        for k, turn in enumerate((0, 1, 0))
    ]
    for (lr, _), wanted in zip([*whole.calls, *part.calls], [*expected, expected[1]], strict=True):
        assert np.array_equal(lr, wanted)


def test_the_border_is_left_out():
    truth = picture(40, 40)
    result = truth.copy()
    result[:4] = 255 - result[:4]
    assert measure(result, truth).psnr < 30
    assert measure(result, truth, 4) == Score(math.inf, 1.0, 1.0, 1.0, 0.0, 0.0)


def test_too_large_a_border_is_refused_before_any_work(cufed5):
    upscale = Recorder()
    with pytest.raises(UserError, match="border"):
        next(evaluate(upscale, find_scenes(cufed5), border=20))
    assert upscale.calls == []


def test_what_cannot_be_shuffled_is_refused(cufed5, tmp_path):
    with pytest.raises(UserError, match="shuffled"):
        next(evaluate(Recorder(), find_scenes(cufed5)[:1], ("unrelated",)))
    alone = [Scene("a", save(tmp_path / "a.png")), Scene("b", save(tmp_path / "b.png"))]
    with pytest.raises(UserError, match="shuffled"):
        next(evaluate(Recorder(), alone, ("unrelated",)))
    with pytest.raises(UserError, match="no such comparison"):
        next(evaluate(Recorder(), alone, ("noise",)))


def test_means():
    rows = [
        SceneScores("a", {"masa": Score(20, 0.5, 1.2, 0.5, 0.2, 0.1)}, {}),
        SceneScores("b", {"masa": Score(30, 0.9, 1.0, 0.7, 0.6, 0.3)}, {}),
    ]
    assert mean_scores(rows) == {"masa": Score(25, *map(pytest.approx, (0.7, 1.1, 0.6, 0.4, 0.2)))}


def test_the_protocol_says_what_was_done():
    assert "no border" in protocol("cufed5", "all", 0)
    assert "4 border pixels" in protocol("cufed5", 1, 4)
    assert "all references, stitched" in protocol("cufed5", "all", 0)
    assert "reference 3" in protocol("cufed5", 3, 0)
    assert "random with seed 3" in protocol("sun80", "all", 0, seed=3)
    assert "LR picture itself" in protocol("urban100", "all", 0)
    assert "the example's reference" in protocol("examples", "all", 0)
    assert "LR by antialiased bicubic reduction (Pillow), HR" in protocol("pairs", "all", 0)
    made_by = reduction(Degradation((0.6, 0.6), "box", 5, quality=80))
    assert made_by == (
        "Gaussian blur of 0.6 x 0.6 LR pixels, then antialiased box reduction (Pillow), then "
        "coloured Gaussian noise of 5 levels, seeded by the scene's position, then JPEG of quality "
        "80, 4:2:0"
    )
    assert f"LR by {made_by}, HR" in protocol("pairs", "all", 0, 0, made_by)
    for word in ("Y of BT.601", "bicubic"):
        assert word in protocol("pairs", "all", 0)


def test_a_predictor_measures_as_it_predicts(cufed5, small_predictor):
    upscale = predictor_upscale(small_predictor)
    lr, ref = reduce_x4(picture(48, 64)), picture(50, 66)
    assert np.array_equal(upscale(lr, ref), small_predictor.run(lr, [ref]).rgb)
    assert np.array_equal(upscale(lr, None), small_predictor.run(lr).rgb)
    assert not np.array_equal(upscale(lr, ref), upscale(lr, None))


# -------------------------------------------------------------------------------- command


@pytest.fixture
def weights(small_model, tmp_path):
    path = tmp_path / "weights" / "small.safetensors"
    save_weights(path, small_model.state_dict(), small_model.config)
    return str(path)


def test_command_prints_and_writes_the_numbers(cufed5, weights, tmp_path, capsys):
    table, details = tmp_path / "new/all.csv", tmp_path / "all.json"
    options = ["--refs", "1", "--against", "self", "--border", "4", "--device", "cpu"]
    files = ["--csv", str(table), "--json", str(details)]
    assert main(["evaluate", str(cufed5), "--weights", weights, *options, *files]) == 0
    printed = capsys.readouterr().out
    content = json.loads(details.read_text())
    assert content["protocol"] in printed
    assert content["degradation"] == "clean"
    assert f"{content['mean']['masa']['psnr']:.3f}" in printed
    assert [p["name"] for p in content["pictures"]] == ["000", "001", "002"]
    rows = list(csv.DictReader(table.open()))
    for row, entry in zip(rows, content["pictures"], strict=True):
        for method in ("bicubic", "masa", "self"):
            assert float(row[f"{method}_psnr"]) == pytest.approx(entry[method]["psnr"], abs=1e-4)
            assert float(row[f"{method}_ssim"]) == pytest.approx(entry[method]["ssim"], abs=1e-6)
            assert float(row[f"{method}_seams"]) == pytest.approx(entry[method]["seams"], abs=1e-4)
            sharpness = entry[method]["sharpness"]
            assert float(row[f"{method}_sharpness"]) == pytest.approx(sharpness, abs=1e-4)
            assert f"{content['mean'][method]['sharpness']:.3f}" in printed
            colour = entry[method]["colour"]
            assert float(row[f"{method}_colour"]) == pytest.approx(colour, abs=1e-4)
            assert f"{content['mean'][method]['colour']:.2f}" in printed
            assert float(row[f"{method}_grid"]) == pytest.approx(entry[method]["grid"], abs=1e-4)
            assert f"{content['mean'][method]['grid']:.2f}" in printed
    mean = np.mean([entry["masa"]["psnr"] for entry in content["pictures"]])
    assert content["mean"]["masa"]["psnr"] == pytest.approx(mean)


def lrs_seen(monkeypatch):
    """The LRs that networks are given from now on."""
    seen, run = [], Predictor.run

    def recorded(self, lr, *args, **kwargs):
        seen.append(lr)
        return run(self, lr, *args, **kwargs)

    monkeypatch.setattr(Predictor, "run", recorded)
    return seen


def test_command_degrades_as_a_preset_says(cufed5, weights, tmp_path, monkeypatch, capsys):
    seen = lrs_seen(monkeypatch)
    table, details = tmp_path / "all.csv", tmp_path / "all.json"
    options = ["--refs", "1", "--weights", weights, "--device", "cpu", "--csv", str(table)]
    options += ["--json", str(details), "--degrade", "camera"]
    assert main(["evaluate", str(cufed5), *options]) == 0
    assert seen
    for k, lr in enumerate(seen):
        expected, _ = lr_from_hr(picture(50, 66, 10 * k), PRESETS["camera"], seed=k)
        assert np.array_equal(lr, expected)
    content = json.loads(details.read_text())
    assert content["degradation"] == "camera"
    assert reduction(PRESETS["camera"]) in content["protocol"]
    assert content["protocol"] in capsys.readouterr().out
    assert {row["degradation"] for row in csv.DictReader(table.open())} == {"camera"}


def test_command_measures_all_presets(cufed5, weights, tmp_path, monkeypatch, capsys):
    seen = lrs_seen(monkeypatch)
    table, details = tmp_path / "all.csv", tmp_path / "all.json"
    options = ["--refs", "1", "--weights", weights, "--device", "cpu", "--csv", str(table)]
    options += ["--json", str(details), "--degrade", "all", "--against", "self"]
    assert main(["evaluate", str(cufed5), *options]) == 0
    assert len(seen) == 2 * 3 * len(PRESETS)
    content, printed = json.loads(details.read_text()), capsys.readouterr().out
    assert content["degradation"] == "all"
    assert list(content["presets"]) == list(PRESETS)
    rows = list(csv.DictReader(table.open()))
    gains = {"masa": [], "self": []}
    for number, (name, preset) in enumerate(PRESETS.items()):
        found = content["presets"][name]
        assert [p["name"] for p in found["pictures"]] == ["000", "001", "002"]
        assert list(found["mean"]) == ["bicubic", "masa", "self"]
        assert found["lr"] == reduction(preset)
        assert f"{name} (3 pictures; {reduction(preset)})" in printed
        for row, entry in zip(rows[3 * number : 3 * number + 3], found["pictures"], strict=True):
            assert (row["name"], row["degradation"]) == (entry["name"], name)
            assert float(row["masa_psnr"]) == pytest.approx(entry["masa"]["psnr"], abs=1e-4)
        for method, gain in gains.items():
            assert f"{found['mean'][method]['psnr']:8.3f}" in printed
            gain.append(found["mean"][method]["psnr"] - found["mean"]["bicubic"]["psnr"])
    for method, gain in gains.items():
        assert content["gain"][method] == pytest.approx(np.mean(gain[1:]))  # clean does not count
        assert f"{content['gain'][method]:+8.3f}" in printed


def test_presets_that_were_not_all_measured_have_no_mean_gain(
    cufed5, weights, tmp_path, monkeypatch, capsys
):
    run, calls = Predictor.run, []

    def stopped(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return run(self, *args, **kwargs)

    monkeypatch.setattr(Predictor, "run", stopped)
    details = tmp_path / "all.json"
    options = ["--refs", "1", "--weights", weights, "--device", "cpu", "--json", str(details)]
    assert main(["evaluate", str(cufed5), *options, "--degrade", "all"]) == 130
    content = json.loads(details.read_text())
    first, second = content["presets"].values()
    assert (first["left_out"], second["left_out"]) == ([], ["001", "002"])
    assert content["gain"] == {}
    assert "mean gain" not in capsys.readouterr().out


def test_command_knows_the_presets(cufed5, weights, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(cufed5), "--weights", weights, "--degrade", "fax"])
    assert "web JPEG 75" in capsys.readouterr().err


def test_command_leaves_out_what_cannot_be_read(cufed5, weights, tmp_path, capsys):
    (cufed5 / "001_0.png").write_text("no picture")
    (cufed5 / "000_1.png").write_text("no picture")
    details = tmp_path / "all.json"
    options = ["--refs", "1", "--weights", weights, "--device", "cpu", "--json", str(details)]
    assert main(["evaluate", str(cufed5), *options]) == 2
    printed, complaints = capsys.readouterr()
    assert "1 of 3 pictures" in printed
    for name, file in (("000", "000_1.png"), ("001", "001_0.png")):
        (line,) = (part for part in complaints.splitlines() if f"{name} is left out: " in part)
        assert f"'{file}'" in line
    content = json.loads(details.read_text())
    assert content["left_out"] == ["000", "001"]
    assert [p["name"] for p in content["pictures"]] == ["002"]
    (cufed5 / "002_0.png").write_text("no picture")
    assert main(["evaluate", str(cufed5), *options]) == 2
    assert "None of the pictures" in capsys.readouterr().err


def test_command_leaves_out_what_needs_too_much_memory(cufed5, weights, tmp_path, capsys):
    save(cufed5 / "001_0.png", picture(960, 960))
    details = tmp_path / "all.json"
    options = ["--refs", "1", "--weights", weights, "--device", "cpu", "--json", str(details)]
    assert main(["evaluate", str(cufed5), *options, "--memory", "0.26"]) == 2
    printed, complaints = capsys.readouterr()
    assert "2 of 3 pictures" in printed
    assert "001 is left out: These pictures need about" in complaints
    assert json.loads(details.read_text())["left_out"] == ["001"]


def test_command_keeps_what_was_measured_when_it_is_stopped(
    cufed5, weights, tmp_path, monkeypatch, capsys
):
    calls = []
    run = Predictor.run

    def stopped(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(self, *args, **kwargs)

    monkeypatch.setattr(Predictor, "run", stopped)
    details = tmp_path / "all.json"
    options = ["--refs", "1", "--weights", weights, "--device", "cpu", "--json", str(details)]
    assert main(["evaluate", str(cufed5), *options]) == 130
    assert "2 of 3 pictures" in capsys.readouterr().out
    content = json.loads(details.read_text())
    assert content["left_out"] == ["002"]
    assert [p["name"] for p in content["pictures"]] == ["000", "001"]
    calls[:] = [1, 1]
    assert main(["evaluate", str(cufed5), *options]) == 130
    assert "Stopped" in capsys.readouterr().err


def test_frames_of_a_film_are_no_scene(tmp_path):
    for number in range(7):
        save(tmp_path / f"frame_{number}.png", picture(32, 32, number))
    assert detect_layout(tmp_path) == "images"
    (tmp_path / "frame_6.png").unlink()
    assert detect_layout(tmp_path) == "cufed5"


def test_large_pictures_of_one_s_own_are_taken(tmp_path, monkeypatch):
    """They are beyond what strangers may upload; references are reduced as for any run."""
    save(tmp_path / "a_0.png", picture(64, 64))
    save(tmp_path / "a_1.png", picture(96, 128, 1))
    small = replace(DATA_LIMITS, max_ref_pixels=48 * 64)
    monkeypatch.setattr(masa.measuring.scenes, "DATA_LIMITS", small)
    (scene,) = find_scenes(tmp_path)
    assert read_references(scene).shape == (48, 64, 3)
    assert DATA_LIMITS.max_pixels > DEFAULT_LIMITS.max_pixels
    assert DATA_LIMITS.max_lr_pixels > DEFAULT_LIMITS.max_lr_pixels


def test_command_shuffles_references_and_draws_them_by_seed(sun80, weights, tmp_path, monkeypatch):
    drawn = []

    def seen(scene):
        drawn.append(scene.refs)
        return read_references(scene)

    monkeypatch.setattr(masa.measuring.evaluate, "read_references", seen)
    details = tmp_path / "all.json"
    options = ["--against", "shuffled", "--seed", "3", "--weights", weights, "--device", "cpu"]
    assert main(["evaluate", str(sun80), *options, "--json", str(details)]) == 0
    a, b = (scene.refs for scene in find_scenes(sun80, seed=3))
    assert drawn == [a, b, b, a]  # each its own and the next one's
    content = json.loads(details.read_text())
    assert content["protocol"] == protocol("sun80", "all", 0, seed=3)
    assert set(content["mean"]) == {"bicubic", "masa", "unrelated"}


def test_command_takes_a_layout_other_than_the_recognised_one(cufed5, weights, capsys):
    options = ["--layout", "images", "--weights", weights, "--device", "cpu"]
    assert main(["evaluate", str(cufed5), *options]) == 0
    printed = capsys.readouterr().out
    assert "(images, 9 pictures)" in printed
    assert "the LR picture itself as its reference" in printed
    assert main(["evaluate", str(cufed5), *options, "--align", "auto"]) == 2
    assert "no reference to align" in capsys.readouterr().err


def test_equal_pictures_have_no_number_in_json(tmp_path, weights, capsys):
    save(tmp_path / "set/a.png", np.zeros((32, 32, 3), np.uint8))
    details = tmp_path / "all.json"
    folder = str(tmp_path / "set")
    assert main(["evaluate", folder, "--weights", weights, "--json", str(details)]) == 0
    assert json.loads(details.read_text())["mean"]["bicubic"]["psnr"] is None


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--border", "-1"], "--border is -1"),
        (["--seed", "-1"], "--seed is -1"),
        (["--refs", "4"], "no reference 4"),
        (["--layout", "sun80"], "groundtruth"),
        (["--layout", "images", "--refs", "1"], "leave out --refs"),
        (["--csv", "."], "could not be written"),
    ],
)
def test_command_says_what_is_wrong(cufed5, weights, capsys, extra, message):
    assert main(["evaluate", str(cufed5), "--weights", weights, *extra]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["nowhere", "n" * 300])  # no disk has such a long name
def test_command_names_a_missing_folder(weights, capsys, folder):
    assert main(["evaluate", folder, "--weights", weights]) == 2
    assert f"There is no folder '{folder}'" in capsys.readouterr().err


def test_references_may_be_aligned_first(tmp_path, capsys, monkeypatch):
    for number in range(2):
        write_photo(tmp_path / f"00{number}_0.png", picture(64, 64, number))
        write_photo(tmp_path / f"00{number}_1.png", picture(64, 64, number + 5))
    asked = []
    run = Predictor.run

    def noted(self, *args, align=False, **options):
        asked.append(align)
        return run(self, *args, align=align, **options)

    monkeypatch.setattr(Predictor, "run", noted)
    command = ["evaluate", str(tmp_path), "--refs", "1", "--device", "cpu"]
    assert main(command) == 0
    assert "reference 1, aligned" not in capsys.readouterr().out
    assert main([*command, "--align", "auto"]) == 0
    assert "reference 1, aligned" in capsys.readouterr().out
    assert asked == [False, False, True, True]


def test_command_compares_with_aligned_references_picture_by_picture(cufed5, weights, capsys):
    options = ["--weights", weights, "--device", "cpu", "--refs", "1"]
    compared = ["--against", "self", "aligned", "--each"]
    assert main(["evaluate", str(cufed5), *options, *compared]) == 0
    printed = capsys.readouterr().out
    titles = ("bicubic", "MASA", "with the LR as reference", "with the reference aligned")
    assert f"| PSNR, dB | {' | '.join(titles)} |" in printed
    rows = [line for line in printed.splitlines() if line.startswith(("| 0", "| mean"))]
    assert [line.split(" | ")[0] for line in rows] == ["| 000", "| 001", "| 002", "| mean"]
    cells = np.array([[float(n) for n in line.strip("| ").split(" | ")[1:]] for line in rows])
    assert cells[3] == pytest.approx(cells[:3].mean(0), abs=0.006)
    assert cells[0, 0] == pytest.approx(
        psnr_y(enlarge_x4(reduce_x4(picture(50, 66)[:48, :64])), picture(50, 66)[:48, :64]),
        abs=0.006,
    )
    assert main(["evaluate", str(cufed5), *options, *compared, "--align", "auto"]) == 2
    assert "leave out --align" in capsys.readouterr().err


def test_command_measures_some_pictures_as_it_would_in_all(
    cufed5, weights, tmp_path, monkeypatch, capsys
):
    """Also the noise of a degraded LR, and whose reference is another scene's."""
    seen, details = lrs_seen(monkeypatch), tmp_path / "some.json"
    options = ["--refs", "1", "--weights", weights, "--device", "cpu", "--degrade", "camera"]
    some = ["--only", "002", "--against", "shuffled", "--json", str(details)]
    assert main(["evaluate", str(cufed5), *options, *some]) == 0
    expected, _ = lr_from_hr(picture(50, 66, 20), PRESETS["camera"], seed=2)
    assert len(seen) == 2 and all(np.array_equal(lr, expected) for lr in seen)
    assert [p["name"] for p in json.loads(details.read_text())["pictures"]] == ["002"]
    assert main(["evaluate", str(cufed5), *options, "--only", "009"]) == 2
    assert "choose from 000, 001, 002" in capsys.readouterr().err
