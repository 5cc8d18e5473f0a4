"""Tables 3 and 4 and figure 5 in kind: their numbers are those of single evaluations."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import fill, picture
from PIL import Image

from demo.figures.tradeoff import tradeoff
from masa.__main__ import main, parse
from masa.config import MASAConfig
from masa.errors import UserError
from masa.machine.cost import executed_cost
from masa.measuring import ablation
from masa.measuring.ablation import (
    ALONE,
    NEAREST,
    Case,
    Network,
    Reached,
    Setting,
    Tradeoff,
    light_cases,
    measure_case,
    measure_setting,
    settings,
    tables,
)
from masa.measuring.evaluate import evaluate, mean_scores, predictor_upscale
from masa.measuring.ladder import FAMILIES, LIGHT
from masa.measuring.scenes import find_scenes
from masa.network.model import MASA
from masa.predictor import Predictor
from masa.weights import save_weights

SMALL = MASAConfig(channels=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two scenes with a reference each."""
    folder = tmp_path_factory.mktemp("scenes")
    for k in range(2):
        Image.fromarray(picture(64, 64, 10 + k)).save(folder / f"00{k}_0.png")
        Image.fromarray(picture(64, 80, 20 + k)).save(folder / f"00{k}_1.png")
    return folder


@pytest.fixture(scope="module")
def predictor():
    return Predictor(fill(MASA(SMALL), in_blocks=1).eval(), "cpu", "fp32")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Networks of all kinds, two of them seeds of one."""
    folder = tmp_path_factory.mktemp("weights")
    kinds = {
        "a": (SMALL, 1),
        "a-seed2": (SMALL, 0.1),
        "b": (replace(SMALL, adaptation="spade"), 1),
        "c": (replace(SMALL, dram_ref=False, dram_lr=False), 1),
    }
    for name, (config, factor) in kinds.items():
        model = fill(MASA(config), in_blocks=factor)
        save_weights(folder / f"{name}.safetensors", model.state_dict(), config)
    return folder


# ---------------------------------------------------------------------------- tables 3 and 4


def test_the_cases_are_both_ends_of_every_change_of_light():
    names = [case.name for case in light_cases()]
    ends = [(FAMILIES[name].low, FAMILIES[name].high) for name in LIGHT]
    assert names == [f"{n} {v:g}" for n, pair in zip(LIGHT, ends, strict=True) for v in pair]


def test_cases_are_measured_as_evaluate_does(folder, predictor):
    scenes = find_scenes(folder, refs=1)
    rows = evaluate(predictor_upscale(predictor), scenes, ["self"])
    means = mean_scores(list(rows))
    for case, method in ((NEAREST, "masa"), (ALONE, "self")):
        found = measure_case(case, predictor, scenes)
        assert (found.psnr, found.ssim) == (means[method].psnr, means[method].ssim)


def test_a_change_is_that_of_the_references_alone(folder, predictor, tmp_path):
    scenes = find_scenes(folder, refs=1)
    rung = FAMILIES["gamma"].rung(2.5)
    for k in range(2):
        Image.open(folder / f"00{k}_0.png").save(tmp_path / f"00{k}_0.png")
        changed = rung.apply(picture(64, 80, 20 + k)).rgb
        Image.fromarray(changed).save(tmp_path / f"00{k}_1.png")
    found = measure_case(Case(rung.title, rung), predictor, scenes)
    assert found == measure_case(NEAREST, predictor, find_scenes(tmp_path, refs=1))
    assert found != measure_case(NEAREST, predictor, scenes)


CASES = [Case("gain 0.4"), Case("gain 1.6")]


def network(name, nearest, alone, changed, **config):
    numbers = dict(zip((NEAREST.name, ALONE.name, "gain 0.4", "gain 1.6"),
                       (nearest, alone, *changed), strict=True))  # fmt: skip
    reached = {key: Reached(value, value / 40) for key, value in numbers.items()}
    return Network(name, MASAConfig(**config), 1000 + len(name), reached)


def rows_of(text, title):
    """Cells of a table by the first."""
    part = text.partition(f"### {title}")[2].partition("###")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("| ")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_tables_have_a_row_for_each_network_with_the_spread_over_its_seeds():
    text = tables(
        [
            network("s", 32, 30, (31, 31.5)),
            network("s-seed2", 32.5, 30, (31, 32)),
            network("n", 31, 30, (29, 30), adaptation="none"),
            network("m1", 31.5, 30, (30, 31), dram_ref=False, dram_lr=False),
            network("p", 30.01, 30, (30, 30), adaptation="spade"),
        ],
        CASES,
    )
    adaptation, dram = rows_of(text, "Adaptation"), rows_of(text, "Aggregation")
    assert [name for name in adaptation if name != "network"] == ["s (2 seeds)", "n", "p"]
    assert [name for name in dram if name != "network"] == ["s (2 seeds)", "m1"]
    kept = (1.25 / 2 + 1.5 / 2.5) / 2
    assert adaptation["s (2 seeds)"] == [
        "SAM",
        "1,001",
        "32.25 ± 0.25 / 0.8063",
        "30.00 ± 0.00 / 0.7500",
        "31.38 ± 0.12 / 0.7844",
        f"{kept:.0%}",
        "27.54",
    ]
    assert adaptation["n"][-2:] == ["-50%", "27.32"] and adaptation["n"][0] == "no adaptation"
    assert adaptation["p"][-2:] == ["–", "–"]  # a share of nothing; a number that is not known
    assert dram["m1"][0] == "Model 1" and dram["s (2 seeds)"][-1] == "27.54"
    light = rows_of(text, "Under each change")
    assert light["gain 1.6"] == [
        "31.75 ± 0.25 / 0.7937", "30.00 / 0.7500", "31.00 / 0.7750", "30.00 / 0.7500",
    ]  # fmt: skip


def test_only_seeds_of_one_training_share_a_row():
    text = tables(
        [
            network("s-seed2", 32, 30, (31, 31)),
            network("n", 31, 30, (29, 30), adaptation="none"),
            network("n-seed2", 33, 30, (29, 30), adaptation="none", channels=32),
        ],
        CASES,
    )
    rows = rows_of(text, "Adaptation")
    assert {name: rows[name][2] for name in ("s-seed2", "n", "n-seed2")} == {
        "s-seed2": "32.00 / 0.8000", "n": "31.00 / 0.7750", "n-seed2": "33.00 / 0.8250",
    }  # fmt: skip


def test_equal_pictures_are_kept_as_numbers_that_json_has(folder, weights, tmp_path, monkeypatch):
    asked = ["ablation", str(folder), "--refs", "1", "--device", "cpu", "--precision", "fp32"]
    asked += ["--out", str(tmp_path), "--networks", str(weights / "a.safetensors")]
    monkeypatch.setattr("masa.commands.ablation.light_cases", list)
    monkeypatch.setattr(
        "masa.commands.ablation.measure_case", lambda *_: Reached(float("inf"), 1.0)
    )
    for _ in range(2):  # measured, and read again
        assert main(asked) == 0
        assert "Infinity" not in (tmp_path / "ablation.json").read_text()
        assert "| inf / 1.0000 |" in (tmp_path / "ablation.md").read_text()


def test_without_a_network_for_a_table_that_is_said():
    text = tables([network("n", 31, 30, (29, 30), adaptation="none")], CASES)
    assert "None of the networks belongs here." in text.partition("### Aggregation")[2]


def test_the_command_measures_what_it_does_not_know_yet(
    folder, weights, tmp_path, monkeypatch, capsys
):
    asked = ["ablation", str(folder), "--refs", "1", "--device", "cpu", "--precision", "fp32"]
    out = ["--out", str(tmp_path)]
    measured = []
    plain = ablation.measure_case

    def counted(case, *others):
        measured.append(case.name)
        return plain(case, *others)

    monkeypatch.setattr("masa.commands.ablation.measure_case", counted)
    monkeypatch.setattr("masa.commands.ablation.light_cases", lambda: light_cases()[:2])
    first = [str(weights / f"{name}.safetensors") for name in ("a", "c")]
    assert main([*asked, *out, "--networks", *first]) == 0
    assert len(measured) == 2 * 4
    kept = (tmp_path / "ablation.json").read_text()
    every = [str(path) for path in sorted(weights.iterdir())]
    assert main([*asked, *out, "--networks", *every]) == 0
    assert len(measured) == 4 * 4
    assert (
        json.loads(kept)["numbers"].items()
        <= json.loads((tmp_path / "ablation.json").read_text())["numbers"].items()
    )
    text = (tmp_path / "ablation.md").read_text()
    assert text.startswith("2 scenes; Y of BT.601")
    assert set(rows_of(text, "Adaptation")) == {"network", "a (2 seeds)", "b"}
    assert set(rows_of(text, "Aggregation")) == {"network", "a (2 seeds)", "c"}
    # On other scenes, the numbers would be others: they do not take the place of these.
    kept = (tmp_path / "ablation.json").read_text()
    assert main([*asked, *out, "--networks", first[0], "--limit", "1"]) == 2
    assert "measured otherwise (scenes, protocol)" in capsys.readouterr().err
    assert (tmp_path / "ablation.json").read_text() == kept and len(measured) == 4 * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--limit", "0"], "leaves no scene"),
        (["--networks", "a/final.safetensors", "b/a.safetensors"], "Two of the networks"),
        (["--networks", "nowhere"], "There are no weights"),
        (["--out", "n" * 300, "--limit", "1"], "could not be written"),  # no disk has such a name
    ],
)
def test_what_cannot_be_compared_is_said(folder, weights, tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    for name in ("a/final", "b/a"):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir()
        path.write_bytes((weights / "a.safetensors").read_bytes())
    asked = ["ablation", str(folder), "--refs", "1", "--networks", "a/final.safetensors"]
    arguments = parse([*asked, "--out", str(tmp_path / "out"), *change])
    with pytest.raises(UserError, match=words):
        arguments.run(arguments)


def test_numbers_of_something_else_are_left_alone(folder, weights, tmp_path, capsys):
    (tmp_path / "ablation.json").write_text("[1, 2]")
    asked = ["ablation", str(folder), "--refs", "1", "--out", str(tmp_path), "--networks"]
    assert main([*asked, str(weights / "a.safetensors")]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert (tmp_path / "ablation.json").read_text() == "[1, 2]"


# ---------------------------------------------------------------------------- figure 5


def test_every_series_has_the_network_s_own_setting_once():
    for config in (SMALL, replace(SMALL, lr_block=12, ref_factor=1.25, dilations=(2,))):
        found = settings(config)
        for varied in ("LR block", "Ref block", "dilations"):
            own = [s for s in found if s.varied == varied and s.is_own]
            assert len(own) == 1 and own[0].config == config
        assert len({s.key for s in found}) == len(found) - 2


def test_a_setting_is_measured_with_its_cost(folder, predictor):
    scenes = find_scenes(folder, refs=1)
    own = next(s for s in settings(SMALL) if s.is_own)
    found = measure_setting(own, predictor, scenes)
    plain = measure_case(NEAREST, predictor, scenes)
    assert (found.psnr, found.ssim) == (plain.psnr, plain.ssim)
    cost = executed_cost((16, 16), (16, 20), SMALL)
    assert (found.matching, found.total) == (cost.matching, cost.total)
    few = measure_setting(
        Setting("dilations", "1", replace(SMALL, dilations=(1,)), False), predictor, scenes
    )
    assert few.matching < found.matching and few.total < found.total


def test_the_command_draws_and_tells_what_it_measured(folder, weights, tmp_path, capsys):
    asked = ["tradeoff", str(folder), "--refs", "1", "--device", "cpu", "--precision", "fp32"]
    asked += ["--weights", str(weights / "a.safetensors"), "--out", str(tmp_path)]
    assert main(asked) == 0
    text = (tmp_path / "tradeoff.md").read_text()
    assert text in capsys.readouterr().out
    numbers = next(iter(json.loads((tmp_path / "tradeoff.json").read_text())["numbers"].values()))
    for setting in settings(SMALL):
        reached = Tradeoff(**numbers[setting.key])
        row = f"| {setting.varied} | {setting.value} | {reached.psnr:.2f} dB |"
        assert row in text and f" {reached.matching / 1e9:.2f} |" in text
    best = max(reached["psnr"] for reached in numbers.values())
    assert f"The most is {best:.2f} dB" in text
    assert re.search(r"a as it was trained has \d+\.\d\d dB", text)
    with Image.open(tmp_path / "tradeoff.png") as drawn:
        assert drawn.size[0] == 940 and len(drawn.getcolors(2**16)) > 10


def test_what_is_far_worse_is_told_instead_of_drawn():
    """Else the axis would be so long that all others look alike."""
    reached = {setting: Tradeoff(30.0, 0.9, 4e9, 2e11) for setting in settings(SMALL)}
    alike = tradeoff("a", list(reached.items()))
    assert "Too far" not in alike.summary
    worst = next(setting for setting in reached if setting.value == "0.5")
    reached[worst] = Tradeoff(28.25, 0.9, 4e9, 2e11)
    told = tradeoff("a", list(reached.items()))
    assert told.summary.endswith("Too far below to be drawn: Ref block 0.5 (28.25 dB).")
    others = tradeoff("a", [pair for pair in reached.items() if pair[0] is not worst])
    assert np.array_equal(told.image, others.image)
