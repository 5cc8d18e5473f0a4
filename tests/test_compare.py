"""The sheet of several networks' results: its pictures and numbers are those of single runs."""

import numpy as np
import pytest
from helpers import fill, picture
from PIL import Image

from demo.figures.parts import busiest, luma_change
from demo.figures.sheet import MOST_PICTURES, MOST_ROWS, Compared, comparison, side_shown
from masa.__main__ import main
from masa.config import MASAConfig
from masa.network.model import MASA
from masa.pictures.degradation import PRESETS, lr_from_hr
from masa.pictures.metrics import psnr_y
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, reduce_x4
from masa.predictor import Predictor
from masa.weights import load_model, save_weights

SMALL = MASAConfig(channels=4)
PRESET = "camera"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for k in range(2):
        Image.fromarray(picture(200, 240, 10 + k)).save(folder / f"00{k}_0.png")
        Image.fromarray(picture(160, 192, 20 + k)).save(folder / f"00{k}_1.png")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, factor in (("a", 1), ("masa", 0.1)):  # the second as the authors called theirs
        model = fill(MASA(SMALL), in_blocks=factor)
        save_weights(folder / f"{name}.safetensors", model.state_dict(), SMALL)
    return folder


def test_the_sheet_shows_results_of_single_runs(folder, weights, tmp_path, capsys):
    networks = [str(weights / f"{name}.safetensors") for name in ("a", "masa")]
    asked = ["compare", str(folder), "--refs", "1", "--only", "001", "--networks", *networks]
    asked += ["--degrade", "messenger JPEG 50", PRESET, "--device", "cpu", "--precision", "fp32"]
    assert main([*asked, "--out", str(tmp_path / "new" / "sheet.png")]) == 0
    told = capsys.readouterr().out
    sheet = read_photo(tmp_path / "new" / "sheet.png").rgb
    hr = read_photo(folder / "001_0.png").rgb
    ref = read_photo(folder / "001_1.png").rgb
    side = side_shown(4)
    place = busiest(luma_change(hr, enlarge_x4(reduce_x4(hr))), side, side)
    for name in (PRESET, "messenger JPEG 50"):
        lr, _ = lr_from_hr(hr, PRESETS[name], seed=1)  # of the scene's position
        results = {"bicubic": enlarge_x4(lr)}
        for network in networks:
            results[network] = Predictor(load_model(network), "cpu", "fp32").run(lr, [ref]).rgb
        numbers = (f"{psnr_y(result, hr):.2f} dB" for result in results.values())
        assert "001, {}: bicubic {}, a {}, masa {}\n".format(name, *numbers) in told
        for shown in (*results.values(), hr):
            assert _contains(sheet, place.cut(shown).repeat(2, 0).repeat(2, 1))


def _contains(sheet, part):
    rows, columns = part.shape[:2]
    corners = np.argwhere((sheet == part[0, 0]).all(2))
    return any(
        np.array_equal(sheet[top : top + rows, left : left + columns], part)
        for top, left in corners
    )


@pytest.mark.parametrize(
    ("names", "only", "out", "words"),
    [
        ("abcde", "001", "s.png", "5 networks are too many: choose 4 or fewer"),
        ("a", "7", "s.png", "no picture '7' for --only: choose from 000, 001"),
        ("a", "many", "s.png", "42 rows are too many for a sheet: choose 40 or fewer"),
        ("a", "001", "s.xyz", "'s.xyz' should end in one of .png"),
    ],
)
def test_what_cannot_be_compared_is_said(
    folder, weights, tmp_path, capsys, names, only, out, words
):
    for name in names:
        if not (copy := weights / f"{name}.safetensors").exists():
            copy.write_bytes((weights / "a.safetensors").read_bytes())
    networks = [str(weights / f"{name}.safetensors") for name in names]
    asked = ["compare", str(folder), "--refs", "1", "--networks", *networks]
    if only == "many":
        for k in range(42):
            Image.fromarray(picture(32, 32, k)).save(tmp_path / f"{k:03}_0.png")
            Image.fromarray(picture(32, 32, k)).save(tmp_path / f"{k:03}_1.png")
        asked[1] = str(tmp_path)
    else:
        asked += ["--only", only]
    assert main([*asked, "--out", str(tmp_path / out)]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / out).exists()


def test_several_references_are_not_aligned_as_one_picture(folder, weights, tmp_path, capsys):
    for name in ("000_0", "000_1", "000_2"):
        Image.fromarray(picture(32, 32)).save(tmp_path / f"{name}.png")
    asked = ["compare", str(tmp_path), "--networks", str(weights / "a.safetensors")]
    out = tmp_path / "new" / "sheet.png"
    assert main([*asked, "--align", "auto", "--out", str(out)]) == 2
    assert "choose one of them, as with --refs 1" in capsys.readouterr().err and not out.exists()


def test_networks_of_one_name_cannot_be_told_apart(folder, weights, tmp_path, capsys):
    other = tmp_path / "a.safetensors"
    other.write_bytes((weights / "a.safetensors").read_bytes())
    networks = [str(weights / "a.safetensors"), str(other)]
    asked = ["compare", str(folder), "--refs", "1", "--networks", *networks]
    assert main([*asked, "--out", str(tmp_path / "sheet.png")]) == 2
    assert "Two of the networks are called 'a'" in capsys.readouterr().err


def test_the_most_pictures_still_fit(folder):
    hr = read_photo(folder / "000_0.png").rgb
    part = hr[: side_shown(MOST_PICTURES), : side_shown(MOST_PICTURES)]
    parts = {f"a network of a long name {n}": part for n in range(MOST_PICTURES - 1)}
    drawn = comparison([Compared(f"row {n}", parts, part) for n in range(MOST_ROWS)])
    assert drawn.image.shape[1] <= 960 and "row 0; row 1" in drawn.alt
    assert drawn.image.shape[0] < 16383  # which is as much as WebP holds
