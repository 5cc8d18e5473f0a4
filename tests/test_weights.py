"""Weights files: good ones load unchanged, bad ones are refused in one sentence."""

import json
import math
import os
import pickle
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import fill, inputs, is_one_sentence
from safetensors.torch import load_file, save_file

from demo.laboratory import FOR_COMPARISON
from masa import weights
from masa.config import ADAPTATIONS, MASAConfig
from masa.errors import UserError
from masa.network.model import MASA
from masa.pictures.degradation import PRESETS, lr_from_hr
from masa.pictures.metrics import psnr_y
from masa.pictures.read import read_photo
from masa.predictor import Predictor
from masa.weights import (
    DEFAULT_WEIGHTS,
    config_of,
    find_weights,
    load_model,
    read_state,
    save_weights,
    shipped_weights,
    swap_red_and_blue,
)

ROOT = Path(weights.__file__).resolve().parent.parent

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


def same(a, b):
    """Whether two networks hold the same numbers."""
    b = b.state_dict()
    return all(torch.equal(tensor, b[name]) for name, tensor in a.state_dict().items())


@pytest.fixture
def pth(full_model, tmp_path):
    """Writes ``full_model``'s weights, changed by a function, as a .pth file."""

    def write(name="weights.pth", change=dict):
        torch.save(change(full_model.state_dict()), tmp_path / name)
        return tmp_path / name

    return write


# ---------------------------------------------------------------------------- what loads


def test_the_default_is_shipped_and_comes_first():
    assert shipped_weights()[0] == DEFAULT_WEIGHTS


DIFFERENT = {
    "dram1": MASAConfig(channels=32, dram_ref=False, dram_lr=False),
    "dram2": MASAConfig(channels=32, dram_ref=False),
    "dram3": MASAConfig(channels=32, dram_lr=False),
}
"""Networks that are named for something else than their adaptation."""


@pytest.mark.parametrize("name", shipped_weights())
def test_shipped_weights_load(name):
    model = load_model(name)
    assert not model.training
    for parameter in model.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.device.type == "cpu"
        assert parameter.isfinite().all()
        assert not parameter.requires_grad
    if name == DEFAULT_WEIGHTS:
        assert model.config == MASAConfig()
        assert sum(p.numel() for p in model.parameters()) == 4_028_291


def test_the_names_for_comparison_say_what_networks_they_are():
    found = {name: load_model(name).config for name in shipped_weights() if name[:4] == "lab-"}
    shared = MASAConfig(channels=32)
    expected = {name: replace(shared, adaptation=name) for name in ADAPTATIONS} | DIFFERENT
    for name, config in found.items():
        assert config == expected[name.split("-")[1]], name
    assert found.keys() == FOR_COMPARISON.keys()


@pytest.mark.slow
def test_each_network_is_the_better_one_on_the_photos_it_is_for(examples, all_cores):
    hr = read_photo(examples / "motorcycle_hr.jpg").rgb[100:292, 180:372]
    ref = read_photo(examples / "motorcycle_ref.jpg").rgb[100:292, 140:372]

    def gains(preset):
        lr, _ = lr_from_hr(hr, PRESETS[preset])
        return {
            name: psnr_y(result.rgb, hr) - psnr_y(result.bicubic, hr)
            for name in ("masa-rec", "masa-photo")
            for result in [Predictor(load_model(name), "cpu", "fp32").run(lr, [ref])]
        }

    clean, web = gains("clean"), gains("web JPEG 75")
    assert clean["masa-rec"] > 3.5 and 2.5 < clean["masa-photo"] < clean["masa-rec"]
    assert web["masa-photo"] > 2.5 and web["masa-photo"] > web["masa-rec"] + 1


def test_shipped_weights_also_load_by_path(shipped_model):
    assert same(load_model(find_weights(DEFAULT_WEIGHTS)), shipped_model)


@pytest.mark.parametrize(
    "config",
    [
        MASAConfig(channels=4),
        MASAConfig(channels=8, dilations=(1, 4), adaptation="none", lr_block=16, ref_factor=2.0),
        MASAConfig(channels=4, adaptation="adain", dram_ref=False, patch=5),
        MASAConfig(channels=4, adaptation="spade", dram_ref=False, dram_lr=False),
    ],
)
def test_saved_weights_come_back_with_their_configuration(tmp_path, config):
    model, path = fill(MASA(config)), tmp_path / "new" / "w.safetensors"
    save_weights(path, model.state_dict(), config, {"steps": "12"}, torch.float32)
    loaded = load_model(path)
    assert loaded.config == config
    assert same(loaded, model)
    assert read_state(path)[1]["steps"] == "12"
    assert [file.name for file in path.parent.iterdir()] == ["w.safetensors"]


def test_half_precision_costs_little(shipped_model, tmp_path):
    """The default of ``save_weights``: half the size, and the same picture."""
    model = fill(MASA(), in_blocks=1)
    path = tmp_path / "half.safetensors"
    save_weights(path, model.state_dict(), model.config)
    assert path.stat().st_size < 2.1 * sum(p.numel() for p in model.parameters())
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    loaded, triple = load_model(path), inputs((16, 16), (16, 16))
    with torch.inference_mode():
        matches = model.match(model.encode_lr(triple[0]), model.encode_ref(*triple[1:]))
        outputs = [
            m.decode(m.encode_lr(triple[0]), m.encode_ref(*triple[1:]), matches).output
            for m in (model, loaded)
        ]
    assert (outputs[0] - outputs[1]).abs().max() < 1 / 255
    assert (outputs[0] - outputs[1]).abs().mean() < 0.2 / 255


def test_a_plain_checkpoint(pth, full_model):
    assert same(load_model(pth()), full_model)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": state},
        lambda state: {"params": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {key: value.half().float().double() for key, value in state.items()},
    ],
    ids=["several GPUs", "state_dict", "params", "double"],
)
def test_checkpoints_in_wrappings(pth, full_model, change):
    loaded = load_model(pth(change=change))
    assert loaded.enc.conv_L1.weight.dtype == torch.float32
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, full_model.state_dict()[name], atol=1e-3, rtol=1e-3)


# ---------------------------------------------------------------------------- names


def test_weights_of_an_own_folder_are_known_by_name(pth, full_model, tmp_path, monkeypatch):
    before = shipped_weights()
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(pth(), own / "mine.pth")
    shutil.copy(pth(), own / f"{DEFAULT_WEIGHTS}.pth")  # a shipped name
    shutil.copy(pth(), own / "both.pth")
    save_weights(own / "both.safetensors", full_model.state_dict(), full_model.config)
    (own / "notes.txt").touch()
    monkeypatch.setenv("MASA_WEIGHTS", str(own))
    assert shipped_weights() == [before[0], *sorted([*before[1:], "both", "mine"])]
    assert same(load_model("mine"), full_model)
    assert find_weights("both") == own / "both.safetensors"
    assert find_weights(DEFAULT_WEIGHTS).parent == weights.WEIGHTS_DIR
    monkeypatch.setenv("MASA_WEIGHTS", str(own / "mine.pth"))
    with pytest.warns(UserWarning, match="MASA_WEIGHTS") as warned:
        assert shipped_weights() == before
    assert is_one_sentence(str(warned[0].message))
    monkeypatch.setenv("MASA_WEIGHTS", "")
    assert shipped_weights() == before


def test_weights_are_found_from_any_folder_and_inside_the_installed_package(tmp_path):
    """As in a notebook: the package lies elsewhere, without the repository around it."""
    site = tmp_path / "site"
    shutil.copytree(ROOT / "masa", site / "masa", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(weights.WEIGHTS_DIR, site / "masa" / "_weights")
    (tmp_path / "empty").mkdir()
    code = "import masa; print(masa.__file__, masa.shipped_weights()); masa.load_model()"
    for path in (site, ROOT):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path / "empty",
            env=os.environ | {"PYTHONPATH": str(path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [
            str(path / "masa" / "__init__.py"),
            *str(shipped_weights()).split(),
        ]


# ---------------------------------------------------------------------------- BGR


@torch.inference_mode()
def test_weights_for_bgr_pictures(pth, full_model):
    """On RGB pictures the converted network does what the other does on BGR pictures."""
    converted = load_model(pth(), bgr=True)
    lr, ref, ref_down = inputs((16, 16), (16, 16))
    expected = full_model(lr.flip(1), ref.flip(1), ref_down.flip(1)).flip(1)
    torch.testing.assert_close(converted(lr, ref, ref_down), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(full_model(lr, ref, ref_down), expected, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "bgr", "swapped"),
    [
        ("masa_rec.pth", None, True),
        ("masa.pth", None, True),
        ("masa_rec.pth", False, False),
        ("mine.pth", None, False),
        ("mine.pth", True, True),
    ],
)
def test_which_files_are_taken_for_bgr(pth, full_model, name, bgr, swapped):
    """The authors' checkpoints by their names, unless told otherwise."""
    loaded = load_model(pth(name), bgr)
    assert same(loaded, full_model) != swapped
    if swapped:
        expected = full_model.enc.conv_L1.weight.flip(1)
        assert torch.equal(loaded.enc.conv_L1.weight, expected)


def test_swapping_twice_changes_nothing(full_model):
    state = full_model.state_dict()
    once = swap_red_and_blue(state)
    changed = {key for key in state if not torch.equal(state[key], once[key])}
    assert changed == {"enc.conv_L1.weight", "decoder.conv_out.weight", "decoder.conv_out.bias"}
    twice = swap_red_and_blue(once)
    assert all(torch.equal(state[key], twice[key]) for key in state)


# ---------------------------------------------------------------------------- what is refused


def refused(path, **options):
    """The sentence with which a file is refused."""
    with pytest.raises(UserError) as raised:
        load_model(path, **options)
    message = str(raised.value)
    assert is_one_sentence(message), message
    return message


def test_unknown_names():
    message = refused("no-such-weights")
    assert "no-such-weights" in message
    assert DEFAULT_WEIGHTS in message


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".bin"])
@pytest.mark.parametrize(
    "content",
    [b"", b"Dear all,\nhere are the weights.\n", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(1000)],
    ids=["empty", "text", "picture", "zeros"],
)
def test_other_files(tmp_path, suffix, content):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    assert "file" in refused(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_random_bytes(tmp_path, suffix):
    path = tmp_path / f"random{suffix}"
    for seed in range(60):
        path.write_bytes(random.Random(seed).randbytes(1 + 7 * seed))
        refused(path)


@pytest.mark.parametrize("protocol", range(2, 5))
def test_damaged_pickles(tmp_path, protocol):
    """A pickle with some bytes changed either loads as something else or is refused."""
    path, rng = tmp_path / "damaged.pth", random.Random(protocol)
    whole = pickle.dumps({"a": [1, 2.5], "b": {"c": "text"}}, protocol)
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        refused(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_and_cut_files(tmp_path, small_model, suffix):
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"damaged{suffix}"
    if suffix == ".pth":
        torch.save(small_model.state_dict(), whole)
    else:
        save_weights(whole, small_model.state_dict(), small_model.config)
    content, rng = whole.read_bytes(), random.Random(0)
    for share in (0.0, 0.001, 0.1, 0.5, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        refused(path)
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(5):
            damaged[rng.randrange(3000)] = rng.randrange(256)
        path.write_bytes(damaged)
        complaint = None
        try:
            load_model(path)
        except UserError as error:
            complaint = str(error)
        assert complaint is None or is_one_sentence(complaint)


def test_files_that_would_run_code(tmp_path):
    evidence = tmp_path / "evidence"

    class Trap:
        def __reduce__(self):
            return open, (str(evidence), "w")

    for name, write in (("old.pth", pickle.dump), ("new.pth", torch.save)):
        with (tmp_path / name).open("wb") as file:
            write({"enc.conv_L1.weight": Trap()}, file)
        assert "safely" in refused(tmp_path / name)
    assert not evidence.exists()


@pytest.mark.parametrize(
    "content", [[1, 2], {"epoch": 3}, {"state_dict": 5}, torch.zeros(3), "weights", None]
)
def test_checkpoints_of_other_things(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    assert "other.pth" in refused(tmp_path / "other.pth")


def test_another_network_s_weights(tmp_path):
    torch.save(torch.nn.Linear(3, 4).state_dict(), tmp_path / "linear.pth")
    message = refused(tmp_path / "linear.pth")
    assert "bias, weight unexpected" in message
    assert "missing" in message


def test_missing_and_superfluous_and_misshapen_weights_are_named(pth):
    def change(state):
        state = dict(state)
        del state["decoder.conv_out.bias"]
        state["enc.conv_L9.weight"] = torch.zeros(1)
        state["enc.conv_L1.weight"] = torch.zeros(64, 1, 3, 3)
        return state

    message = refused(pth(change=change))
    assert "decoder.conv_out.bias missing" in message
    assert "enc.conv_L9.weight unexpected" in message
    assert "enc.conv_L1.weight of another shape" in message


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_no_numbers_are_refused(pth, value):
    """What a training leaves that went wrong; a rectifier would hide them."""

    def change(state):
        bias = state["enc.conv_L1.bias"].clone()
        bias[3] = value
        return {**state, "enc.conv_L1.bias": bias}

    assert "no numbers (enc.conv_L1.bias)" in refused(pth(change=change))


def test_long_lists_are_cut_short(tmp_path):
    torch.save({}, tmp_path / "empty.pth")
    assert "and 207 more missing" in refused(tmp_path / "empty.pth")


@pytest.mark.parametrize(
    "stored",
    [
        "{",
        "5",
        "null",
        '{"colour": 1}',
        *(json.dumps({"channels": value}) for value in ("many", 0, 8.5, True, 200_000)),
        '{"dram_ref": "x"}',
        '{"dram_lr": 1}',
        "[" * 100_000,
        *(json.dumps({"dilations": value}) for value in ([1.5], 3, [])),
        *(json.dumps({"ref_factor": value}) for value in (math.inf, math.nan, 0)),
        '{"patch": 3.0}',
    ],
)
def test_damaged_configurations(tmp_path, small_model, stored):
    path = tmp_path / "w.safetensors"
    state = {key: value.contiguous() for key, value in small_model.state_dict().items()}
    save_file(state, path, {"masa_config": stored})
    assert "configuration" in refused(path)


def test_configuration_is_optional():
    assert config_of({}) == MASAConfig()
    assert config_of({"masa_config": json.dumps({"channels": 8})}) == MASAConfig(channels=8)
    assert hash(MASAConfig(dilations=[1, 2])) == hash(MASAConfig(dilations=(1, 2)))
