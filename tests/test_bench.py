"""The yardstick is the network's own convolutions, and what is measured is told as it is."""

import json
import os
from collections import Counter

import pytest
import torch
from helpers import picture

from demo.commands import bench as command
from masa import bench
from masa.__main__ import main
from masa.bench import Case, Like, Measured, TrainingCase, measure, run_convolutions
from masa.config import MASAConfig
from masa.errors import UserError
from masa.machine.cache import FeatureCache
from masa.machine.cost import executed_cost
from masa.network.model import MASA
from masa.pictures.write import write_photo
from masa.predictor import Predictor

SMALL = MASAConfig(channels=8)


def multiply_adds(call):
    """Of a forward convolution, from its recorded shapes."""
    x, weight, _, stride, _, _, transposed, *_ = call.arguments
    outputs, inputs, height, width = weight.shape
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    if not transposed:
        pixels //= stride[0] * stride[1]
    return pixels * outputs * inputs * height * width


@pytest.mark.parametrize("adaptation", ["sam", "none"])
def test_the_floor_is_every_convolution_of_encoder_and_decoder(adaptation):
    config = MASAConfig(channels=8, adaptation=adaptation)
    lr, down = (32, 48), (40, 24)
    calls = run_convolutions(lr, down, config, torch.float32)
    assert {call.operator for call in calls} == {torch.ops.aten.convolution.default}
    cost = executed_cost(lr, down, config)
    expected = cost.encode_lr + cost.encode_ref + cost.decode
    assert sum(map(multiply_adds, calls)) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_floor_has_the_network_s_types_and_layout(dtype):
    for call in run_convolutions((16, 16), (16, 16), SMALL, dtype):
        tensors = [a for a in call.arguments if isinstance(a, Like)]
        assert {t.dtype for t in tensors} == {dtype}
        image = tensors[0]
        assert image.stride[1] == 1  # channels-last
        assert image.stride[3] == image.shape[1]


def test_a_training_step_is_measured():
    """From pictures that fit the crop, to a step of the trainer."""
    found = measure(TrainingCase(crop=32, batch=1, precision="fp32"), runs=1, device="cpu")
    assert found.seconds > 0 and found.floor is not None and found.floor > 0


def test_a_step_s_floor_is_forward_and_backward():
    calls = bench.step_convolutions(TrainingCase(crop=64, batch=2), SMALL)
    kinds = Counter(call.operator for call in calls)
    forward = kinds[torch.ops.aten.convolution.default]
    assert kinds[torch.ops.aten.convolution_backward.default] == forward
    assert forward == len(run_convolutions((16, 16), (16, 16), SMALL, torch.float32))
    tensors = [a for call in calls for a in call.arguments if isinstance(a, Like)]
    assert torch.float32 not in {t.dtype for t in tensors if len(t.shape) == 4}  # autocast
    assert all(t.stride[1] == 1 for t in tensors if len(t.shape) == 4 and t.shape[1] > 3)


def test_a_case_is_measured_in_a_process_of_its_own():
    """Every part is there and fits the others; how long it takes is not tested."""
    found = measure(Case(16, 32), runs=1, device="cpu")
    assert set(found.stages) == set(found.operations) == set(bench.STAGES)
    assert all(seconds > 0 for seconds in found.stages.values())
    cost = executed_cost((16, 16), (16, 16))  # the reference is padded to what matching needs
    assert found.operations["decode"] == cost.decode
    assert found.ratio == found.seconds / found.floor
    assert min(found.seconds, found.floor, found.same_references, found.same_lr) > 0
    assert found.device.startswith("cpu")
    brief = measure(Case(16, 32), runs=1, device="cpu", stages=False)
    assert brief.stages == {}
    assert brief.same_lr is None


def test_photos_are_measured_with_the_shipped_weights(tmp_path, capsys):
    for name, shape in (("lr", (16, 24)), ("one", (64, 96)), ("other", (80, 80))):
        write_photo(tmp_path / f"{name}.png", picture(*shape))
    files = [str(tmp_path / f"{name}.png") for name in ("lr", "one", "other")]
    out = tmp_path / "photos.json"
    words = ["bench", "--photos", *files, "--runs", "1", "--device", "cpu", "--json", str(out)]
    assert main(words) == 0
    rows = json.loads(out.read_text())["measured"]
    assert [row["case"] for row in rows] == [
        "lr.png with one.png as it is, fp32",
        "lr.png with one.png aligned, fp32",
        "lr.png with 2 references as they are, fp32",
        "lr.png with 2 references aligned, fp32",
    ]
    assert all(row["seconds"] > 0 and row["floor"] is None for row in rows)
    assert capsys.readouterr().out.count("|  |  |") == 8


@pytest.fixture
def here(monkeypatch):
    """Measurements are made in this process, of small networks, and medians without any run."""
    monkeypatch.setattr(bench, "MASA", lambda config=SMALL: MASA(config))
    monkeypatch.setattr(bench, "load_model", bench.MASA)
    monkeypatch.setattr(bench, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(bench, "_median_seconds", lambda *_: 1.0)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("highest", "at_first", "peak"), [(5000, 1200, 3800), (None, 1200, None), (5000, None, None)]
)
def test_memory_is_the_peak_above_an_import(monkeypatch, highest, at_first, peak):
    monkeypatch.setattr(bench, "peak_resident", lambda: highest)
    monkeypatch.setattr(bench, "resident_after_import", lambda: at_first)
    assert bench._measure_run(Case(16, 32), 1, "cpu", False).peak == peak
    photos = bench.PhotosCase("lr.png", ("one.png",), align=False)
    assert bench._measure_photos(photos, 1, "cpu").peak == peak


@pytest.mark.usefixtures("here")
def test_what_is_kept_is_not_encoded_again(monkeypatch):
    encoded = Counter()

    def counting(name):
        encode = getattr(MASA, name)

        def counted(self, *args, **kwargs):
            encoded[name] += 1
            return encode(self, *args, **kwargs)

        monkeypatch.setattr(MASA, name, counted)

    counting("encode_lr")
    counting("encode_down")

    def noted(function, device):
        encoded.clear()
        function()
        return dict(encoded)

    monkeypatch.setattr(bench, "_seconds", noted)
    monkeypatch.setattr(bench, "_stages", lambda *_: {})
    found = bench._measure_run(Case(16, 32, references=2), 1, "cpu", True)
    assert found.same_references == {"encode_lr": 1}
    assert found.same_lr == {"encode_down": 1}


def test_the_clock_waits_for_the_device(monkeypatch):
    """What a graphics card was given is done before the time is read."""
    done = []
    monkeypatch.setattr(bench, "synchronise", lambda device: done.append(device.type))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: float(len(done)))
    assert bench._seconds(lambda: done.append("work"), torch.device("mps")) == 2
    assert done == ["work", "mps"]


def killed(*arguments):
    os._exit(9)


def test_a_measurement_that_the_system_ends_is_a_sentence(monkeypatch):
    monkeypatch.setattr(bench, "_measure_run", killed)
    with pytest.raises(UserError, match="memory"):
        measure(Case(16, 32), runs=1, device="cpu")


def test_the_profiler_finds_every_stage():
    """The network's names are those the bench asks for."""
    predictor = Predictor(MASA(SMALL), "cpu", "fp32", features=FeatureCache(0))
    lr, ref = picture(16, 16), picture(64, 64)
    stages = bench._stages(lambda: predictor.run(lr, [ref]), torch.device("cpu"))
    assert list(stages) == list(bench.STAGES)
    assert all(seconds > 0 for seconds in stages.values())


# ------------------------------------------------------------------------------ command


def made_up(case, runs, device, stages=True):
    found = Measured(3.0, 500_000_000, "cpu, 2 threads", floor=2.0)
    if isinstance(case, Case):
        found.seconds = case.lr / 64 + case.ref / 512
        found.floor = found.seconds / 1.25
        if stages:
            found.stages = dict.fromkeys(bench.STAGES, 0.5)
            found.operations = {**dict.fromkeys(bench.STAGES, 10**9), "transfer": 0}
            found.same_references, found.same_lr = 1.0, 2.0
    return found


def test_table_json_and_plot(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "measure", made_up)
    monkeypatch.setattr(command, "has_bf16", lambda device: True)
    out = tmp_path / "bench.json"
    assert (
        main(["bench", "--runs", "1", "--json", str(out), "--plot", str(tmp_path / "b.png")]) == 0
    )
    text = capsys.readouterr().out
    row = "| LR 128x128, Ref 512x512, fp32 | 3.00 | 2.40 | 1.25 | 500 | 1.00 | 2.00 |"
    assert row in text
    assert "| training step, batch 6 of 160x160, bf16 | 3.00 | 2.00 | 1.50 | 500 |  |  |" in text
    assert "| coarse | 0.500 | 1.0 | 4 |" in text
    assert "| transfer | 0.500 |  |  |" in text
    rows = json.loads(out.read_text())["measured"]
    assert rows[0]["lr"] == 128
    assert rows[0]["ratio"] == pytest.approx(1.25)
    assert {row["lr"] for row in rows if "lr" in row} >= {64, 128, 256, 512}
    assert (tmp_path / "b.png").stat().st_size < 200_000


def test_without_bfloat16_every_case_is_in_float32_and_measured_once(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "measure", made_up)
    monkeypatch.setattr(command, "has_bf16", lambda device: False)
    out = tmp_path / "bench.json"
    words = ["bench", "--device", "cpu", "--json", str(out), "--plot", str(tmp_path / "b.png")]
    assert main(words) == 0
    rows = json.loads(out.read_text())["measured"]
    assert {row["precision"] for row in rows} == {"fp32"}
    table = [row["case"] for row in rows if row["stages"] or "crop" in row]
    assert len(table) == len(set(table)) == 4


def test_one_case_of_one_s_own(monkeypatch, capsys):
    asked = []

    def noted(case, runs, device, stages=True):
        asked.append((case, runs, device))
        return made_up(case, runs, device)

    monkeypatch.setattr(command, "measure", noted)
    words = "bench --lr 64 --ref 256 --references 2 --precision bf16 --runs 2 --device cpu"
    assert main(words.split()) == 0
    assert asked == [(Case(64, 256, 2, "bf16"), 2, "cpu")]
    assert "LR 64x64, 2 references of 256x256, bf16" in capsys.readouterr().out


def test_the_figure_s_name_is_looked_at_before_anything_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(command, "measure", lambda *_, **__: pytest.fail("measured"))
    assert main(["bench", "--plot", "bench.pdf"]) == 2
    assert "ends in .png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--runs 0", "give --runs 1 or more"),
        ("--lr 4", "give larger ones"),
        ("--lr 64 --ref 4", "give larger ones"),
        ("--lr 64 --ref 0", "give larger ones"),
        ("--lr 64 --photos a.png b.png", "leave out --lr or --photos"),
        ("--ref 256", "give --lr too"),
        ("--photos a.png b.png --references 2", "give --lr too"),
        ("--precision bf16", "leave out --precision"),
        ("--photos alone.png", "name its references after it"),
        ("--photos no.png neither.png", "no.png"),
        ("--lr 64 --precision fp16 --device cpu", "Precision fp16 needs a GPU"),
    ],
)
def test_what_cannot_be_measured_is_said(words, sentence, capsys):
    assert main(["bench", *words.split()]) == 2
    assert sentence in capsys.readouterr().err
