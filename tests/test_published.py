"""The paper's test sets, each measured as the paper did."""

from dataclasses import replace

import pytest
from helpers import fill, picture
from PIL import Image

from masa.__main__ import main
from masa.commands import published as command
from masa.config import MASAConfig
from masa.measuring.ablation import Reached
from masa.measuring.evaluate import evaluate, mean_scores, predictor_upscale
from masa.measuring.published import PUBLISHED, published_table
from masa.measuring.scenes import find_scenes
from masa.network.model import MASA
from masa.predictor import Predictor
from masa.weights import load_model, save_weights

SMALL = MASAConfig(channels=4)


def save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(48, 64, seed)).save(path)


@pytest.fixture
def sets(tmp_path):
    """Two pictures of each set, as the archives hold them; options by layout."""
    for k in range(2):
        for n in range(3):
            save(tmp_path / f"cufed5/00{k}_{n}.png", 10 * k + n)
        save(tmp_path / f"sun80/Sun_Hays_SR_groundtruth/{k}.png", 30 + k)
        for n in range(4):
            save(tmp_path / f"sun80/Sun_Hays_SR_scenematches/{k}.png/{n}.png", 40 + 10 * k + n)
        save(tmp_path / f"urban100/img_00{k}.png", 60 + k)
    return {one.layout: tmp_path / one.layout for one in PUBLISHED}


@pytest.fixture
def networks(tmp_path):
    paths = []
    for name, factor in (("a", 1), ("b", 0.1)):
        paths.append(tmp_path / f"{name}.safetensors")
        model = fill(MASA(SMALL), in_blocks=factor)
        save_weights(paths[-1], model.state_dict(), SMALL)
    return [str(path) for path in paths]


def asked(sets, networks, tmp_path):
    options = [word for name, path in sets.items() for word in (f"--{name}", str(path))]
    return ["published", *options, "--networks", *networks, "--out", str(tmp_path / "out"),
            "--device", "cpu", "--precision", "fp32"]  # fmt: skip


def rows_of(text):
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[1:]}


def test_every_set_is_measured_as_evaluate_does(sets, networks, tmp_path, capsys):
    assert main([*asked(sets, networks, tmp_path), "--seed", "3"]) == 0
    text = (tmp_path / "out/published.md").read_text()
    assert text in capsys.readouterr().out
    rows = rows_of(text)
    assert list(rows) == ["CUFED5", "Sun80", "Urban100"]
    for one in PUBLISHED:
        scenes = find_scenes(sets[one.layout], one.layout, seed=3)
        ours = []
        for path in networks:
            predictor = Predictor(load_model(path), "cpu", "fp32")
            score = mean_scores(list(evaluate(predictor_upscale(predictor), scenes)))["masa"]
            ours.append(f"{score.psnr:.2f} / {score.ssim:.4f}")
        assert rows[one.name][:2] == ours and ours[0] != ours[1]
    assert "- CUFED5: of 126 pictures only 2 scenes; Y of BT.601" in text
    assert "all references, stitched" in text
    assert "one reference, drawn at random with seed 3" in text
    assert "the LR picture itself as its reference" in text


def test_a_whole_set_is_not_called_a_part(sets, networks, tmp_path, monkeypatch):
    whole = tuple(replace(one, pictures=2) for one in PUBLISHED)
    for module in ("masa.measuring.published", "masa.commands.published"):
        monkeypatch.setattr(f"{module}.PUBLISHED", whole)
    urban = {"urban100": sets["urban100"]}
    assert main(asked(urban, networks[:1], tmp_path)) == 0
    text = (tmp_path / "out/published.md").read_text()
    assert list(rows_of(text)) == ["Urban100"] and "- Urban100: 2 scenes; Y" in text


def test_what_was_measured_is_kept_when_it_is_stopped(sets, networks, tmp_path, monkeypatch):
    measured, plain = [], command.measure_case

    def counted(case, predictor, scenes):
        measured.append(scenes[0].name)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return plain(case, predictor, scenes)

    monkeypatch.setattr(command, "measure_case", counted)
    two = {name: sets[name] for name in ("cufed5", "urban100")}
    assert main(asked(two, networks[:1], tmp_path)) == 130
    assert main(asked(two, networks[:1], tmp_path)) == 0
    assert measured == ["000", "001", "img_000", "img_000", "img_001"]


def test_pictures_of_one_name_in_two_formats_are_two(sets, networks, tmp_path):
    folder = tmp_path / "urban100"
    Image.open(folder / "img_001.png").save(folder / "img_000.bmp")
    assert main(asked({"urban100": folder}, networks[:1], tmp_path)) == 0
    predictor = Predictor(load_model(networks[0]), "cpu", "fp32")
    scenes = find_scenes(folder, "urban100")
    score = mean_scores(list(evaluate(predictor_upscale(predictor), scenes)))["masa"]
    rows = rows_of((tmp_path / "out/published.md").read_text())
    assert len(scenes) == 3 and rows["Urban100"][0] == f"{score.psnr:.2f} / {score.ssim:.4f}"


def test_the_paper_s_numbers_stand_beside():
    reached = {one.name: {"a": Reached(29.5, 0.8)} for one in PUBLISHED}
    rows = rows_of(published_table(reached, dict.fromkeys(reached, "all scenes")))
    assert rows == {
        "CUFED5": ["29.50 / 0.8000", "27.54 / –", "24.92 / –"],
        "Sun80": ["29.50 / 0.8000", "–", "–"],
        "Urban100": ["29.50 / 0.8000", "26.09 / 0.786", "–"],
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--networks", "masa-rec"], "give the folder of a test set with --cufed5 or --sun80"),
        (["--urban100", "nowhere"], "There is no folder 'nowhere'"),
        (["--sun80", "."], "is not Sun80 as published"),
        (["--cufed5", "."], "no pictures of the layout cufed5"),
        (["--urban100", ".", "--seed", "-1"], "--seed is -1"),
    ],
)
def test_what_cannot_be_measured_is_said(tmp_path, monkeypatch, capsys, change, words):
    monkeypatch.chdir(tmp_path)
    assert main(["published", "--out", "out", *change]) == 2
    assert words in capsys.readouterr().err
