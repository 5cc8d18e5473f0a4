"""The command line, called in this process."""

import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import fill, is_one_sentence, picture
from PIL import ExifTags, Image

from masa.__main__ import COMMANDS, main, parse
from masa.commands.options import positive_gigabytes, references, size
from masa.commands.upscale import plan
from masa.config import MASAConfig
from masa.errors import UserError
from masa.network.model import MASA
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, reduce_x4
from masa.predictor import Predictor
from masa.reference.canvas import canvas_sizes
from masa.weights import load_model, read_state, save_weights

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights for a network so narrow that runs take no time."""
    model = fill(MASA(MASAConfig(channels=4)))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, model.state_dict(), model.config, dtype=torch.float32)
    return path


@pytest.fixture
def upscale(weights, tmp_path):
    """Runs ``masa upscale`` in float32 with paths below the test's folder."""

    def call(*words):
        options = ["--weights", weights, "--device", "cpu", "--precision", "fp32"]
        paths = [w if str(w).startswith("--") else tmp_path / w for w in words]
        return main(["upscale", *map(str, paths), *map(str, options)])

    return call


@pytest.fixture
def photos(tmp_path):
    """Three small photos and a reference for each, in two folders."""
    for folder, side in (("lr", 16), ("ref", 48)):
        (tmp_path / folder).mkdir()
        for seed, name in enumerate("abc"):
            Image.fromarray(picture(side, side + 8, seed)).save(tmp_path / folder / f"{name}.png")
    return tmp_path


def complaint(capsys):
    """The one sentence on standard error, without the command's name."""
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert err.count("\n") == 1, err
    name, _, message = err.strip().partition(": ")
    assert re.fullmatch("masa [a-z]+", name)
    assert is_one_sentence(message), message
    return message


# ---------------------------------------------------------------------------- which goes where


def test_one_photo_to_a_file_or_a_folder(tmp_path):
    photo, refs = tmp_path / "a.jpg", [tmp_path / "r.png", tmp_path / "s.png"]
    assert plan([photo], refs, tmp_path / "out.png") == [(photo, refs, tmp_path / "out.png")]
    new = tmp_path / "new"
    assert plan([photo], [], new) == [(photo, [], new / "a_x4.png")]
    existing = tmp_path / "looks.like.a.png"
    existing.mkdir()
    assert plan([photo], [], existing)[0].out == existing / "a_x4.png"


def test_several_photos_share_their_references(tmp_path):
    photos, refs = [tmp_path / "a.jpg", tmp_path / "b.png"], [tmp_path / "r.png"]
    assert plan(photos, refs, tmp_path) == [
        (photos[0], refs, tmp_path / "a_x4.png"),
        (photos[1], refs, tmp_path / "b_x4.png"),
    ]


def test_folders_are_paired_by_name(photos):
    (photos / "lr" / "notes.txt").write_text("not a picture")
    (photos / "ref" / "b.png").rename(photos / "ref" / "b.JPG")
    jobs = plan([photos / "lr"], [photos / "ref"], photos / "out")
    assert [job.lr.name for job in jobs] == ["a.png", "b.png", "c.png"]
    assert [[ref.name for ref in job.refs] for job in jobs] == [["a.png"], ["b.JPG"], ["c.png"]]
    assert [job.out.name for job in jobs] == ["a_x4.png", "b_x4.png", "c_x4.png"]
    assert {job.out.parent for job in jobs} == {photos / "out"}
    assert plan([photos / "lr" / "b.png"], [photos / "ref"], photos)[0].refs == [
        photos / "ref" / "b.JPG"
    ]


@pytest.mark.parametrize(
    ("lr", "ref", "out", "words"),
    [
        (["lr", "lr/a.png"], [], "out", "one folder"),
        (["lr"], ["ref", "ref/a.png"], "out", "one folder"),
        (["lr"], [], "out.png", "give a folder"),
        (["lr/a.png", "lr/b.png"], [], "out.png", "2 photos"),
        (["lr"], ["partly"], "out", "named like 'b.png' and 1 more"),
        (["empty"], [], "out", "no pictures"),
        (["lr"], ["empty"], "out", "no pictures"),
    ],
)
def test_paths_that_do_not_fit_together(photos, lr, ref, out, words):
    (photos / "empty").mkdir()
    (photos / "partly").mkdir()
    (photos / "ref" / "a.png").rename(photos / "partly" / "a.png")
    (photos / "ref" / "a.png").touch()
    with pytest.raises(UserError) as raised:
        plan([photos / p for p in lr], [photos / p for p in ref], photos / out)
    assert is_one_sentence(str(raised.value))
    assert words in str(raised.value)


def test_photos_of_one_name_do_not_overwrite_each_other(photos):
    """``a.png`` and ``a.jpg``, or one name in two folders, must not both become ``a_x4.png``."""
    same = [photos / "lr" / "a.png", photos / "ref" / "a.png"]
    try:
        outs = [job.out for job in plan(same, [], photos / "out")]
    except UserError:
        return  # refusing is as good
    assert len(set(outs)) == len(outs)


# ---------------------------------------------------------------------------- results


def test_a_photo_is_enlarged(upscale, photos, weights, capsys):
    assert upscale("lr/a.png", "--ref", "ref/a.png", "ref/b.png", "--out", "new/large.png") == 0
    found = read_photo(photos / "new" / "large.png")
    expected = Predictor(load_model(weights), "cpu", "fp32").upscale(
        photos / "lr" / "a.png", [photos / "ref" / "a.png", photos / "ref" / "b.png"]
    )
    np.testing.assert_array_equal(found.rgb, expected.rgb)
    out, _ = capsys.readouterr()
    assert "large.png: 96x64 in" in out


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tif", "x.bmp"])
def test_formats(upscale, photos, name):
    assert upscale("lr/a.png", "--out", name) == 0
    with Image.open(photos / name) as image:
        assert image.size == (96, 64)


def test_transparency_is_written(upscale, photos):
    rgb, alpha = picture(16, 16), picture(16, 16, seed=9)[:, :, 0]
    Image.fromarray(np.dstack([rgb, alpha])).save(photos / "clear.png")
    assert upscale("clear.png", "--ref", "ref/a.png", "--out", "large.png") == 0
    np.testing.assert_array_equal(read_photo(photos / "large.png").alpha, enlarge_x4(alpha))


def test_transparency_of_a_known_hr_is_reduced_and_enlarged_too(upscale, photos):
    rgb, alpha = picture(65, 67), picture(65, 67, seed=9)[:, :, 0]
    Image.fromarray(np.dstack([rgb, alpha])).save(photos / "clear.png")
    assert upscale("clear.png", "--hr", "--ref", "ref/a.png", "--out", "large.png") == 0
    expected = enlarge_x4(reduce_x4(alpha[:64, :64]))
    np.testing.assert_array_equal(read_photo(photos / "large.png").alpha, expected)


def test_what_the_camera_noted_is_kept_unless_told_otherwise(upscale, photos):
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Firma", 6
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    Image.fromarray(picture(64, 32)).save(photos / "phone.jpg", exif=exif)

    def written(*words):
        assert upscale("phone.jpg", *words) == 0
        with Image.open(photos / words[-1]) as image:
            return image.size, image.getexif(), image.getexif().get_ifd(ExifTags.IFD.GPSInfo)

    for name in ("x.jpg", "x.png", "x.webp", "x.tif"):
        for words, expected in (((), (256, 128)), (("--hr",), (64, 32))):
            found, exif, place = written(*words, "--out", name)
            assert found == expected, "upright"
            assert exif[ExifTags.Base.Make] == "Firma" and exif[ExifTags.Base.Orientation] == 1
            assert place[1] == "N"
        _, exif, place = written("--no-exif", "--out", name)
        assert ExifTags.Base.Make not in exif and not place
    assert written("--out", "x.bmp")[0] == (256, 128)


@pytest.mark.parametrize("words", [[], ["--hr"]])
def test_a_jpeg_that_stops_early_is_enlarged_with_a_note(upscale, photos, capsys, words):
    Image.fromarray(picture(80, 96)).save(photos / "whole.jpg", quality=95)
    data = (photos / "whole.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(data[: len(data) * 2 // 3])
    assert upscale("cut.jpg", *words, "--out", "x.png") == 0
    (note,) = (line for line in capsys.readouterr().out.splitlines() if "stops early" in line)
    assert is_one_sentence(note.strip()) and "'cut.jpg'" in note


def test_folders(upscale, photos):
    assert upscale("lr", "--ref", "ref", "--out", "out") == 0
    assert sorted(p.name for p in (photos / "out").iterdir()) == [f"{n}_x4.png" for n in "abc"]


def test_a_bad_photo_does_not_stop_the_others(upscale, photos, capsys):
    (photos / "lr" / "b.png").write_text("not a picture")
    assert upscale("lr", "--ref", "ref", "--out", "out") == 2
    assert sorted(p.name for p in (photos / "out").iterdir()) == ["a_x4.png", "c_x4.png"]
    out, err = capsys.readouterr()
    (line,) = (line for line in (out + err).splitlines() if line.startswith("b.png: "))
    assert is_one_sentence(line.removeprefix("b.png: "))


def test_a_name_that_is_no_text_does_not_stop_the_others(photos, weights):
    """Old archives unpack to such names, which a strict standard output does not take."""
    try:
        (photos / "lr" / "b.png").rename(os.fsdecode(bytes(photos / "lr") + b"/b\xe9.png"))
    except OSError:
        pytest.skip("this disk takes text alone")
    (photos / "lr" / os.fsdecode(b"bad\xe9.png")).write_text("not a picture")
    options = ["--out", photos / "out", "--weights", weights, "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "masa", "upscale", photos / "lr", *options],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert len(list((photos / "out").iterdir())) == 3
    assert "b\\udce9_x4.png: 96x64" in done.stdout
    assert "bad\\udce9.png: The small photo 'bad.png' cannot be read" in done.stdout


def test_the_lr_of_a_thin_sharp_photo_is_enlarged(upscale, photos):
    """Cropped to a multiple of four, it is thinner than a photo that is handed in may be."""
    Image.fromarray(picture(35, 1120)).save(photos / "thin.png")
    for align in ("off", "auto"):
        words = ("thin.png", "--hr", "--ref", "ref/a.png", f"--align={align}", "--out", "x.png")
        assert upscale(*words) == 0
        with Image.open(photos / "x.png") as image:
            assert image.size == (1120, 32)


def test_weights_for_bgr_pictures(upscale, photos, weights):
    for word, bgr in (("--bgr", True), ("--no-bgr", False)):
        assert upscale("lr/a.png", "--out", "x.png", word) == 0
        network = Predictor(load_model(weights, bgr), "cpu", "fp32")
        expected = network.upscale(photos / "lr" / "a.png").rgb
        np.testing.assert_array_equal(read_photo(photos / "x.png").rgb, expected)
    other = Predictor(load_model(weights, True), "cpu", "fp32").upscale(photos / "lr" / "a.png")
    assert not np.array_equal(other.rgb, expected)


def test_little_memory_means_tiles(upscale, photos, weights, monkeypatch):
    rgb = picture(96, 96)
    Image.fromarray(rgb).save(photos / "large.png")
    predictor = Predictor(load_model(weights), "cpu", "fp32")
    enough = predictor.predicted_bytes(*canvas_sizes((96, 96), [], predictor.config), 32)
    tiles = []
    run = Predictor.run

    def spy(self, *args, **kwargs):
        result = run(self, *args, **kwargs)
        tiles.append(result.tile)
        return result

    monkeypatch.setattr(Predictor, "run", spy)
    assert upscale("large.png", "--out", "x.png") == 0
    assert upscale("large.png", "--out", "x.png", f"--memory={enough / 2**30}") == 0
    assert tiles == [None, 32]


@pytest.mark.slow
def test_a_reference_of_the_same_scene_pays(examples, tmp_path, capsys, all_cores):
    """The shipped weights on a real pair: better than bicubic, and than without the reference."""

    def quality(*ref):
        words = ["upscale", examples / "motorcycle_hr.jpg", *ref, "--hr", "--precision", "fp32"]
        assert main([*map(str, words), "--device", "cpu", "--out", str(tmp_path / "x.png")]) == 0
        out, _ = capsys.readouterr()
        found = re.search(r"MASA ([\d.]+) dB, SSIM ([\d.]+); bicubic ([\d.]+) dB, SSIM", out)
        return tuple(map(float, found.groups()))

    with_ref, ssim, bicubic = quality("--ref", examples / "motorcycle_ref.jpg")
    alone, ssim_alone, _ = quality()
    assert bicubic == pytest.approx(23.98, abs=0.05)
    assert with_ref > bicubic + 2.5
    assert alone > bicubic + 1
    assert with_ref > alone + 1.2
    assert ssim > ssim_alone
    with Image.open(tmp_path / "x.png") as image:
        assert image.size == (512, 344)


# ---------------------------------------------------------------------------- complaints


@pytest.fixture
def troubles(photos):
    """Files that cannot be used."""
    whole = (photos / "ref" / "a.png").read_bytes()
    (photos / "text.png").write_text("Dear all, here is the picture.")
    (photos / "empty.png").touch()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(picture(1, 5000)).save(photos / "strip.png")
    Image.fromarray(picture(7, 20)).save(photos / "tiny.png")
    return photos


@pytest.mark.parametrize(
    "name", ["missing.png", "text.png", "empty.png", "cut.png", "strip.png", "tiny.png"]
)
@pytest.mark.parametrize("role", ["lr", "ref", "hr"])
def test_unusable_pictures(upscale, troubles, capsys, name, role):
    words = {
        "lr": [name],
        "ref": ["lr/a.png", "--ref", name],
        "hr": [name, "--hr"],
    }[role]
    assert upscale(*words, "--out", "x.png") == 2
    assert f"'{name}'" in complaint(capsys)
    assert not (troubles / "x.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lr/a.png", "--ref", *["ref/a.png"] * 6, "--out", "x.png"], "6 references"),
        (["lr", "--ref", "other", "--out", "out"], "'a.png' and 2 more"),
        (["lr", "--out", "x.png"], "3 photos"),
        (["lr/a.png", "--out", "x.doc"], ".png"),
        (["lr/a.png", "--out", "lr/a.png/x.png"], "a.png'"),
        (["lr/a.png", "--out", "lr/a.png/folder"], "folder"),
        (["a" * 300 + ".png", "--out", "x.png"], "could not be opened"),
        (["lr/a.png", "--ref", "a" * 300, "--out", "x.png"], "could not be opened"),
        (["lr/a.png", "--out", "x" * 300 + ".png"], "could not be saved"),
        (["lr/a.png", "--out", "x" * 300], "could not be made"),
    ],
)
def test_unusable_requests(upscale, photos, capsys, words, said):
    (photos / "other").mkdir()
    Image.fromarray(picture(48, 48)).save(photos / "other" / "z.png")
    assert upscale(*words) == 2
    assert said in complaint(capsys)


def test_a_folder_of_pictures_with_an_unwritable_place(photos, upscale, capsys):
    """A full or write-protected disk: a folder stands where the file should go."""
    (photos / "out" / "a_x4.png").mkdir(parents=True)
    assert upscale("lr/a.png", "--out", "out") == 2
    assert "could not be saved" in complaint(capsys)


def test_unknown_weights(photos, capsys):
    words = ["upscale", photos / "lr" / "a.png", "--out", photos / "x.png", "--weights", "nothing"]
    assert main(list(map(str, words))) == 2
    assert "'nothing'" in complaint(capsys)


def test_devices_that_are_not_there(photos, weights, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ["upscale", photos / "lr" / "a.png", "--out", photos / "x.png", "--weights", weights]
    assert main([*map(str, words), "--device", "cuda"]) == 2
    assert "'cuda'" in complaint(capsys)


def test_too_little_memory(photos, weights, capsys):
    words = ["upscale", photos / "lr" / "a.png", "--out", photos / "x.png", "--weights", weights]
    assert main([*map(str, words), "--memory", "0.001"]) == 2
    assert "memory" in complaint(capsys)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["upscale"],
        ["upscale", "a.png"],
        ["upscale", "a.png", "--out", "b.png", "--memory", "0"],
        ["upscale", "a.png", "--out", "b.png", "--memory", "lots"],
        ["upscale", "a.png", "--out", "b.png", "--device", "abacus"],
        ["info", "--lr", "0x5"],
        ["info", "--references", "6"],
        ["convert", "a.pth"],
    ],
)
def test_wrong_usage(words, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_interrupting(photos, monkeypatch, capsys, upscale):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "run", interrupt)
    assert upscale("lr/a.png", "--out", "x.png") == 130
    assert "Traceback" not in capsys.readouterr().err


# ---------------------------------------------------------------------------- help and the rest


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    for name, (_, line) in COMMANDS.items():
        assert name in out
        assert line.split()[0] in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command, capsys):
    """Explains every option, and gives examples that name the command."""
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert f"python -m masa {command}" in out
    _, _, examples = out.partition("examples:")
    assert f"python -m masa {command}" in examples


def commands_in(text):
    """What follows ``-m masa`` wherever a text has it, in lines of their own and in sentences."""
    text = text.replace("\\\n", " ")
    quoted = re.compile(r"`python -m masa ([^`]+)`")
    found = [*quoted.findall(text), *re.findall(r"-m masa ([^`#;\n]+)", quoted.sub("", text))]
    return [shlex.split(words) for words in found if not words.startswith("COMMAND")]


@pytest.mark.parametrize(
    "page", ["README.md", "weights/README.md", "masa/BENCHMARKS.md", "masa/TRAINING.md"]
)
def test_commands_in_documents_can_be_called(page):
    found = commands_in((ROOT / page).read_text("utf-8"))
    assert len(found) > 3
    for words in found:
        assert parse(words).command in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_a_command_can_be_called(command):
    found = commands_in(importlib.import_module(COMMANDS[command][0]).EPILOG)
    assert found
    for words in found:
        parse(words)


def test_info(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for found in ("4,028,291", "367.13", "7.25", "1.59", "128x128", "512x512"):
        assert found in out


def test_info_of_sizes_that_a_run_would_refuse_or_reduce(capsys):
    assert main(["info", "--lr", "64x64", "--ref", "6000x4000"]) == 0
    assert "was reduced from 6000x4000" in capsys.readouterr().out
    for words in (["--ref", "30000x30000"], ["--lr", "9000x9000"], ["--lr", "1000000x2000000"]):
        assert main(["info", *words]) == 2
        assert "pixels" in capsys.readouterr().err


def test_info_of_other_sizes(capsys, weights):
    words = ["info", "--lr", "100x75", "--ref", "300x200", "--references", "2"]
    assert main([*words, "--weights", str(weights), "--precision", "fp32"]) == 0
    out = capsys.readouterr().out
    assert "100x75, padded to 104x80" in out
    assert "400x300" in out
    assert "304x416" in out
    assert "each reference that is aligned may add a view of 400x300 pixels" in out


def test_the_process_ends_with_the_command_s_exit_code(tmp_path):
    words = ["upscale", str(tmp_path / "missing.png"), "--out", str(tmp_path / "x.png")]
    done = subprocess.run(
        [sys.executable, "-m", "masa", *words], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2 and "missing.png" in done.stderr
    assert "Traceback" not in done.stderr


def test_converted_weights_keep_what_they_tell_of_themselves(small_model, tmp_path):
    """Such as the stage, by which the page knows that they invent detail."""
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_weights(source, small_model.state_dict(), small_model.config, {"stage": "full"})
    assert main(["convert", str(source), str(target)]) == 0
    assert read_state(target)[1]["stage"] == "full"


def test_weights_are_mixed(small_model, weights, tmp_path, capsys):
    one, other, target = (tmp_path / f"{name}.safetensors" for name in ("one", "other", "target"))
    state = small_model.state_dict()
    save_weights(one, state, small_model.config, {"stage": "full"}, torch.float32)
    doubled = {name: 2 * value for name, value in state.items()}
    save_weights(other, doubled, small_model.config, dtype=torch.float32)
    command = ["convert", str(one), str(target), "--fp32", "--mix", str(other)]
    assert main([*command, "0.25"]) == 0
    found, told = read_state(target)
    for name, value in found.items():
        torch.testing.assert_close(value, 1.25 * state[name])
    assert told["stage"] == "full" and told["mixed"] == "0.25 of other"
    # Those of the stage full invent detail, and so does what holds a part of them.
    for share, stage in (("0.25", "full"), ("0", None)):
        assert main(["convert", str(other), str(target), "--mix", str(one), share]) == 0
        assert read_state(target)[1].get("stage") == stage
    for share in ("1.5", "-1", "nan", "much"):
        assert main([*command, share]) == 2
        assert "from 0 to 1" in capsys.readouterr().err
    assert main([*command[:-1], str(weights), "0.5"]) == 2
    said = capsys.readouterr().err
    assert (
        "8 channels" in said
        and "4 channels" in said
        and is_one_sentence(said.partition(": ")[2].strip())
    )


def test_weights_move_to_a_newer_start(small_model, weights, tmp_path, capsys):
    """What a training changed, 0.5 in every number, is kept on the new start."""
    old, trained, new, target = (
        tmp_path / f"{name}.safetensors" for name in ("old", "trained", "new", "target")
    )
    start = small_model.state_dict()
    for path, numbers, told in (
        (old, start, {}),
        (trained, {name: value + 0.5 for name, value in start.items()}, {"stage": "full"}),
        (new, {name: 3 * value for name, value in start.items()}, {}),
    ):
        save_weights(path, numbers, small_model.config, told, torch.float32)
    command = ["convert", str(trained), str(target), "--fp32", "--rebase", str(old), str(new)]
    assert main(command) == 0
    found, told = read_state(target)
    for name, value in found.items():
        torch.testing.assert_close(value, 3 * start[name] + 0.5)
    assert told["stage"] == "full" and told["rebased"] == "from old to new"
    # A part of other weights is mixed into the moved ones, not into those before.
    assert main([*command, "--mix", str(old), "0.5"]) == 0
    for name, value in read_state(target)[0].items():
        torch.testing.assert_close(value, 2 * start[name] + 0.25)
    # The new start decides too whether detail is invented.
    command = ["convert", str(new), str(target), "--rebase", str(old), str(trained)]
    assert main(command) == 0
    assert read_state(target)[1]["stage"] == "full"
    for pair in ((str(weights), str(new)), (str(old), str(weights))):
        assert main([*command[:-2], *pair]) == 2
        said = capsys.readouterr().err
        assert "give --rebase" in said and is_one_sentence(said.partition(": ")[2].strip())


def test_convert(full_model, tmp_path, capsys):
    torch.save(full_model.state_dict(), tmp_path / "masa_rec.pth")
    torch.save(full_model.state_dict(), tmp_path / "mine.pth")
    for source, words, swapped in (
        ("masa_rec.pth", [], True),
        ("masa_rec.pth", ["--no-bgr"], False),
        ("mine.pth", ["--bgr", "--fp32"], True),
    ):
        target = tmp_path / "new.safetensors"
        assert main(["convert", str(tmp_path / source), str(target), *words]) == 0
        weight = load_model(target).enc.conv_L1.weight
        expected = full_model.enc.conv_L1.weight
        expected = expected.flip(1) if swapped else expected
        torch.testing.assert_close(weight, expected, atol=1e-3, rtol=1e-3)
        assert torch.equal(weight, expected) == ("--fp32" in words)
    assert "new.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("nothing.pth", "x.safetensors", "nothing.pth"),
        ("text.pth", "x.safetensors", "'text.pth'"),
        ("good", "x.pth", ".safetensors"),
        ("good", "text.pth/x.safetensors", "could not be written"),
    ],
)
def test_what_cannot_be_converted(weights, tmp_path, capsys, source, target, said):
    (tmp_path / "text.pth").write_text("Dear all, here are the weights.")
    source = weights if source == "good" else tmp_path / source
    assert main(["convert", str(source), str(tmp_path / target)]) == 2
    assert said in complaint(capsys)


def test_sizes_and_memory_as_words():
    assert size("160x120") == (120, 160)
    assert size("64") == (64, 64)
    assert positive_gigabytes("1.5") == 3 * 2**29
    assert references("all") == "all" and references("2") == 2


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (size, "0x5", "128 or 160x120"),
        (positive_gigabytes, "lots", "such as 8 or 0.5"),
        (positive_gigabytes, "-1", "such as 8 or 0.5"),
        (references, "0", "neither all nor a number"),
        (references, "some", "neither all nor a number"),
    ],
)
def test_words_that_are_no_sizes(read, text, said):
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is .*{said}"):
        read(text)
