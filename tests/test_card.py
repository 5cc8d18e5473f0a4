"""The card tells what the log says, and no more."""

import json

import pytest
import torch

from demo.commands.card import part, with_part
from masa.__main__ import main
from masa.errors import UserError
from masa.training.history import TrainingRun, history_json, read_history, total_hours
from masa.weights import WEIGHTS_DIR


def write_run(folder, init=None, hours=2.0):
    folder.mkdir()
    numbers = {"val_self": 28.0, "val_unrelated": 27.5, "bicubic": 27.0, "val_ssim": 0.9}
    lines = [
        {"step": 0, "seconds": 1.0, "val_ref": 29.0, **numbers},
        {"step": 10, "seconds": 60.0, "lr": 1e-4, "loss": 0.03},
        {"step": 800, "seconds": 3600 * hours, "val_ref": 30.25, **numbers},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {"init": init, "crop": 96, "batch": 3, "lr": 2e-4, "lr_final": 1e-5}
    settings |= {"optimizer": "muon", "data": "/x"}
    torch.save({"format": 1, "settings": settings}, folder / "last.pt")


def evaluation(path):
    keys = ("psnr", "ssim", "seams")
    scores = {"bicubic": (27.0, 0.8, 1.01), "masa": (30.25, 0.9, 1.04)}
    mean = {name: dict(zip(keys, values, strict=True)) for name, values in scores.items()}
    path.write_text(
        json.dumps(
            {"protocol": "PSNR on Y.", "mean": mean, "pictures": [{"name": "0"}, {"name": "1"}]}
        )
    )
    return path


def card(tmp_path, *more):
    return main(["card", *map(str, more), "--name", "mine", "--out", str(tmp_path)])


def test_a_card_from_a_log_and_an_evaluation(tmp_path):
    write_run(tmp_path / "first")
    (tmp_path / "README.md").write_text("# Weights\n\nWords of my own.\n")
    scores = evaluation(tmp_path / "scores.json")
    assert card(tmp_path, tmp_path / "first", "--evaluation", scores) == 0
    text = (tmp_path / "README.md").read_text()
    assert "Words of my own." in text
    assert "Trained for 2.0 hours of wall-clock time in 800 steps" in text
    reached = "30.25 dB with the nearest reference"
    row = f"| first | 2.0 | 800 | 3 of 96x96 | 0.0002 to 1e-05, muon | {reached} |"
    assert row in text
    assert "2 scenes; PSNR on Y." in text
    assert "| nearest reference | 30.25 dB | 0.9000 | 1.04 |" in text
    assert "another scene" not in text  # was not measured
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")
    assert "/x" not in (tmp_path / "mine.json").read_text()  # where data lay is nobody's business
    # What is infinite, JSON holds as nothing.
    told = json.loads(scores.read_text())
    told["mean"]["masa"]["psnr"] = None
    scores.write_text(json.dumps(told))
    assert card(tmp_path, tmp_path / "first", "--evaluation", scores) == 0
    assert "| nearest reference | ∞ dB | 0.9000 | 1.04 |" in (tmp_path / "README.md").read_text()
    # Older files have another name for the unrelated reference.
    told["mean"]["shuffled"] = told["mean"]["bicubic"]
    scores.write_text(json.dumps(told))
    assert card(tmp_path, tmp_path / "first", "--evaluation", scores) == 0
    row = "| another scene's reference | 27.00 dB | 0.8000 | 1.01 |"
    assert row in (tmp_path / "README.md").read_text()
    # Again: the part is replaced, not repeated.
    assert card(tmp_path, tmp_path / "first") == 0
    again = (tmp_path / "README.md").read_text()
    assert again.count("### mine") == 1
    assert "Words of my own." in again
    assert "2 scenes" not in again


def test_a_card_tells_the_degradation_and_shows_the_presets(tmp_path, capsys):
    write_run(tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    told = {"crop": 96, "batch": 4, "augmentation": {"degrade": "photo", "align": 0.25}}
    line = json.dumps({"step": 0, "seconds": 0.0, "settings": told})
    log.write_text(f"{line}\n{log.read_text()}")
    numbers = {
        name: {m: {"psnr": p} for m, p in zip(("bicubic", "masa"), both, strict=True)}
        for name, both in {"clean": (27.0, 32.0), "web JPEG 75": (25.0, 28.125)}.items()
    }
    presets = {
        name: {"mean": mean, "pictures": [{"name": "0"}, {"name": "1"}]}
        for name, mean in numbers.items()
    }
    content = {"degradation": "all", "protocol": "PSNR on Y.", "presets": presets}
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps(content | {"gain": {"masa": 3.125}}))
    assert card(tmp_path, tmp_path / "run", "--evaluation", scores) == 0
    text = (tmp_path / "README.md").read_text()
    assert "| 4 of 96x96, LRs degraded (photo), 25% of references aligned |" in text
    assert "2 scenes; PSNR on Y." in text
    assert "| PSNR, dB | nearest reference | bicubic |\n|---|---:|---:|\n" in text
    assert "| clean | 32.00 | 27.00 |\n| web JPEG 75 | 28.12 | 25.00 |\n" in text
    assert "| degraded ones, mean gain over bicubic | +3.12 |  |" in text
    scores.write_text(json.dumps(content | {"gain": {}}))  # not all presets were measured
    assert card(tmp_path, tmp_path / "run", "--evaluation", scores) == 0
    assert "mean gain" not in (tmp_path / "README.md").read_text()
    for name in presets:
        presets[name]["left_out"] = ["2"]
    scores.write_text(json.dumps(content | {"gain": {}}))
    assert card(tmp_path, tmp_path / "run", "--evaluation", scores) == 0
    assert "\n2 scenes (1 left out); PSNR on Y." in (tmp_path / "README.md").read_text()
    presets["clean"]["pictures"].append({"name": "2"})
    scores.write_text(json.dumps(content | {"gain": {}}))
    assert card(tmp_path, tmp_path / "run", "--evaluation", scores) == 2
    assert "not measured on the same scenes" in capsys.readouterr().err


def test_later_kinds_of_scores_are_shown_where_they_were_measured(tmp_path):
    write_run(tmp_path / "run")
    scores = evaluation(tmp_path / "scores.json")
    kinds, numbers = "| | PSNR | SSIM | seams |", "| nearest reference | 30.25 dB | 0.9000 | 1.04 |"
    for kind, others, nearest, shown in (
        (None, 0, 0, ""),
        ("sharpness", 0.25, 0.75, "0.75"),
        ("colour", 0.25, 0.5, "0.50"),
        ("grid", 0.25, 0.125, "0.12"),
    ):
        if kind:
            told = json.loads(scores.read_text())
            for method, mean in told["mean"].items():
                mean[kind] = nearest if method == "masa" else others
            scores.write_text(json.dumps(told))
            kinds, numbers = f"{kinds} {kind} |", f"{numbers} {shown} |"
        assert card(tmp_path, tmp_path / "run", "--evaluation", scores) == 0
        text = (tmp_path / "README.md").read_text()
        assert f"{kinds}\n|---|{'---:|' * (kinds.count('|') - 2)}\n" in text
        assert f"{numbers}\n" in text


def test_hours_reach_back_to_the_first_step(tmp_path, capsys):
    write_run(tmp_path / "second", init="mine", hours=3.0)
    assert card(tmp_path, tmp_path / "second") == 2
    assert "--before" in capsys.readouterr().err
    before = [TrainingRun("first", 3600.0, 100, note="from its description")]
    (tmp_path / "before.json").write_text(history_json(before))
    assert card(tmp_path, tmp_path / "second", "--before", tmp_path / "before.json") == 0
    runs = read_history(tmp_path / "mine.json")
    assert [run.name for run in runs] == ["first", "second"]
    assert total_hours(runs) == pytest.approx(4.0)
    text = (tmp_path / "README.md").read_text()
    assert "Trained for 4.0 hours of wall-clock time in 900 steps" in text
    assert "from its description" in text
    write_run(tmp_path / "third")
    assert card(tmp_path, tmp_path / "third", "--before", tmp_path / "before.json") == 2
    assert "started from nothing: leave out --before" in capsys.readouterr().err


def test_each_row_is_told_with_its_own_settings(tmp_path):
    write_run(tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    lines = log.read_text().splitlines()
    told = [
        {"step": step, "seconds": seconds, "settings": {"crop": crop, "batch": 8}}
        for step, seconds, crop in ((0, 0.0, 64), (200, 1800.0, 96), (800, 7200.0, 128))
    ]
    lines[2:2] = ['{"step": 150, "seco', json.dumps(told[1])]  # torn while the disk was full
    log.write_text("\n".join([json.dumps(told[0]), *lines, json.dumps(told[2])]))
    assert card(tmp_path, tmp_path / "run") == 0
    text = (tmp_path / "README.md").read_text()
    assert "Trained for 2.0 hours of wall-clock time in 800 steps" in text
    first = "29.00 dB with the nearest reference before its first step; not measured at its end"
    assert f"| run | 0.5 | 200 | 8 of 64x64 |  | {first} |" in text
    assert "| run | 1.5 | 600 | 8 of 96x96 |  | 30.25 dB with the nearest reference |" in text
    assert "128x128" not in text  # started with, but not trained with
    assert "at step" not in text
    _, second = read_history(tmp_path / "mine.json")
    assert [(line["step"], line["seconds"]) for line in second.validations] == [(600, 5400.0)]
    # A run that went on after its last validation says at which step that was.
    with log.open("a") as file:
        file.write("\n" + json.dumps({"step": 850, "seconds": 7500.0, "loss": 0.03}))
    log.write_text(log.read_text().replace(json.dumps(told[2]), ""))
    assert card(tmp_path, tmp_path / "run") == 0
    last = "| run | 1.6 | 650 | 8 of 96x96 |  | 30.25 dB with the nearest reference at step 600 |"
    assert last in (tmp_path / "README.md").read_text()


def test_a_card_that_is_made_again_counts_its_run_once(tmp_path):
    write_run(tmp_path / "first")
    write_run(tmp_path / "second", init="first", hours=1.0)
    assert card(tmp_path, tmp_path / "first") == 0
    again = (tmp_path / "second", "--before", tmp_path / "mine.json")
    for _ in range(2):  # the second time, --before tells of the run too
        assert card(tmp_path, *again) == 0
        runs = read_history(tmp_path / "mine.json")
        assert [run.name for run in runs] == ["first", "second"]
    # Also if the run went on meanwhile.
    with (tmp_path / "second" / "log.jsonl").open("a") as file:
        told = read_history(tmp_path / "mine.json")[1].validations[-1]
        file.write(json.dumps(told | {"step": 900, "seconds": 7200.0}) + "\n")
    assert card(tmp_path, *again) == 0
    assert [run.steps for run in read_history(tmp_path / "mine.json")] == [800, 900]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "holds no run"),
        (["n" * 300], "holds no run"),  # no disk has such a long name
        ([], "no runs to describe"),
        (["--before", "README.md"], "not a history"),
        (["--evaluation", "README.md", "run"], "holds no evaluation"),
    ],
)
def test_what_cannot_be_told_is_said(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run")
    (tmp_path / "README.md").write_text("# Weights\n")
    assert card(tmp_path, *words) == 2
    assert sentence in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "# Weights\n"


def test_a_part_without_its_end_is_not_guessed():
    with pytest.raises(UserError, match="end of mine"):
        with_part("a\n<!-- mine -->\nb\n", "mine", "c\n")


def test_a_card_names_the_network_and_what_sets_its_training_apart(tmp_path):
    write_run(tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    told = {"crop": 96, "batch": 4, "augmentation": {"luminance": False, "degrade": "off"}}
    told["config"] = {"channels": 32, "adaptation": "spade", "dram_ref": False}
    lines = log.read_text()
    log.write_text(json.dumps({"step": 0, "seconds": 0.0, "settings": told}) + "\n" + lines)
    assert card(tmp_path, tmp_path / "run") == 0
    text = (tmp_path / "README.md").read_text()
    assert "The network: 32 channels, SPADE, DRAM Model 2." in text
    assert "| 4 of 96x96, no changes of light |" in text
    assert "minimised" not in text  # L1 alone, as ever
    told["config"] = {"colour": 1}
    log.write_text(json.dumps({"step": 0, "seconds": 0.0, "settings": told}) + "\n" + lines)
    assert card(tmp_path, tmp_path / "run") == 2


@pytest.mark.parametrize("history", sorted(WEIGHTS_DIR.glob("*.json")), ids=lambda path: path.stem)
def test_the_shipped_cards_tell_what_the_histories_hold(history):
    card = (WEIGHTS_DIR / "README.md").read_text("utf-8")
    start, end = f"<!-- {history.stem} -->\n", f"<!-- end of {history.stem} -->"
    told = part(history.stem, read_history(history), None)
    assert card.partition(start)[2].partition(end)[0].startswith(told)
