"""The script that trains the laboratory's networks: they differ in what they should alone."""

import subprocess
from pathlib import Path

import pytest
import torch
from helpers import picture
from PIL import Image

from demo.laboratory import FOR_COMPARISON
from masa.__main__ import parse
from masa.commands.train import settings_from
from masa.config import MASAConfig
from masa.training.build import make_model
from masa.training.trainer import train
from masa.weights import load_model

SCRIPT = Path(__file__).parents[2] / "masa/training/twins.sh"


def commands():
    """What the script has ``python`` do, with a stand-in that only tells."""
    tell = 'python() { printf "%s\\n" "$*"; }; export -f python; bash "$0" PAIRS SCENES OUT'
    done = subprocess.run(["bash", "-c", tell, SCRIPT], capture_output=True, text=True, check=True)
    return [line.removeprefix("-m masa ").split() for line in done.stdout.splitlines()]


COMMANDS = {Path(words[words.index("--out") + 1]).name: words for words in commands()}


def settings_of(words):
    return settings_from(parse(words))


def test_the_networks_differ_in_what_their_names_say_alone():
    found = {name: settings_of(words) for name, words in COMMANDS.items()}
    assert list(COMMANDS) != [] and set(found) == set(FOR_COMPARISON)
    apart = {"out", "config", "augmentation", "seed"}
    alike = [{k: v for k, v in s.to_dict().items() if k not in apart} for s in found.values()]
    assert all(one == alike[0] for one in alike)
    assert {s.config["channels"] for s in found.values()} == {32}
    assert found["lab-sam"].steps >= 6000 and (found["lab-sam"].batch, found["lab-sam"].crop) == (
        4,
        128,
    )
    told = {
        name: (
            MASAConfig.from_dict(s.config).in_words().partition(", ")[2],
            s.augmentation.luminance,
            s.seed - found["lab-sam"].seed,
        )
        for name, s in found.items()
    }
    assert told == {
        "lab-sam": ("SAM, DRAM Model 4", True, 0),
        "lab-none": ("no adaptation, DRAM Model 4", True, 0),
        "lab-adain": ("AdaIN, DRAM Model 4", True, 0),
        "lab-spade": ("SPADE, DRAM Model 4", True, 0),
        "lab-dram1": ("SAM, DRAM Model 1", True, 0),
        "lab-dram2": ("SAM, DRAM Model 2", True, 0),
        "lab-dram3": ("SAM, DRAM Model 3", True, 0),
        "lab-sam-plain": ("SAM, DRAM Model 4", False, 0),
        "lab-sam-seed2": ("SAM, DRAM Model 4", True, 1),
        "lab-none-seed2": ("no adaptation, DRAM Model 4", True, 1),
    }


def test_they_begin_alike():
    """Else two networks would differ by chance too, in every layer after one that only one has."""
    begun = {}
    for name, words in COMMANDS.items():
        settings = settings_of(words)
        torch.manual_seed(settings.seed)
        begun[name] = make_model(settings).state_dict()
    first, second = begun["lab-sam"], begun["lab-sam-seed2"]
    for name, tensors in begun.items():
        own = second if name.endswith("-seed2") else first
        shared = [key for key in tensors if key in own and tensors[key].shape == own[key].shape]
        assert len(shared) > 190, name
        assert all(torch.equal(tensors[key], own[key]) for key in shared), name
    assert not torch.equal(first["decoder.conv_out.weight"], second["decoder.conv_out.weight"])


@pytest.mark.parametrize("name", [name for name in COMMANDS if "seed" not in name])
def test_each_of_them_trains(name, tmp_path):
    """A step of the command as it is, narrower and on small crops."""
    for part in ("pairs/input", "pairs/ref", "scenes"):
        (tmp_path / part).mkdir(parents=True)
    for k in range(2):
        for place in (f"pairs/input/{k}", f"pairs/ref/{k}", f"scenes/00{k}_0", f"scenes/00{k}_1"):
            Image.fromarray(picture(48, 48, k)).save(tmp_path / f"{place}.png")
    places = ["--data", tmp_path / "pairs", "--val", tmp_path / "scenes", "--out", tmp_path / name]
    small = ["--channels", 4, "--crop", 32, "--batch", 1, "--steps", 1, "--device", "cpu"]
    settings = settings_of([*COMMANDS[name], *map(str, [*places, *small])])
    assert train(settings).finished
    model = load_model(tmp_path / name / "final.safetensors")
    assert model.config == MASAConfig.from_dict(settings.config)
