"""Device and precision are chosen once, and what cannot work is said."""

import pytest
import torch
from helpers import is_one_sentence

import masa.machine.device
from masa.errors import UserError
from masa.machine.device import DTYPES, free_memory, resolve_device, resolve_precision
from masa.network.fused import has_bf16

CPU = torch.device("cpu")


@pytest.fixture
def has(monkeypatch):
    """Pretend that exactly these accelerators are there."""

    def pretend(*kinds, transfers=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in kinds)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)
        monkeypatch.setattr(masa.machine.device, "_mps_can_transfer", lambda: transfers)

    return pretend


@pytest.mark.parametrize(
    ("present", "chosen"), [((), "cpu"), (("mps",), "mps"), (("mps", "cuda"), "cuda")]
)
def test_auto_takes_the_fastest_device(has, present, chosen):
    has(*present)
    assert resolve_device("auto") == torch.device(chosen)
    assert resolve_device() == torch.device(chosen)


def test_an_mps_that_lacks_the_transfer_is_none(has):
    has("mps", transfers=False)
    assert resolve_device("auto") == CPU
    with pytest.raises(UserError, match="'mps'"):
        resolve_device("mps")


def test_the_probe_is_the_operation_of_the_transfer(monkeypatch):
    """On the CPU, which has it; and where it fails."""
    ones = torch.ones
    monkeypatch.setattr(masa.machine.device.torch, "ones", lambda *size, device: ones(*size))
    probe = masa.machine.device._mps_can_transfer.__wrapped__
    assert probe()

    def missing(*args, **kwargs):
        raise NotImplementedError("not implemented for MPS")

    monkeypatch.setattr(masa.machine.device.F, "embedding_bag", missing)
    assert not probe()


def test_what_a_card_can_give(monkeypatch):
    cuda = torch.device("cuda")
    assert free_memory(CPU) is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 4000))
    assert free_memory(cuda) == 900
    # Claimed by PyTorch, but not in use.
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1500)
    assert free_memory(cuda) == 1800

    def lent_later(device):
        raise RuntimeError("no card yet")

    monkeypatch.setattr(torch.cuda, "mem_get_info", lent_later)
    assert free_memory(cuda) is None


def test_the_cpu_is_always_there(has):
    has("cuda")
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "mps", "tpu", "", "cuda:0"])
def test_devices_that_are_not_there(has, name):
    has()
    with pytest.raises(UserError) as raised:
        resolve_device(name)
    assert is_one_sentence(str(raised.value))
    assert f"'{name}'" in str(raised.value)


@pytest.fixture
def onednn(monkeypatch):
    """Pretend that oneDNN has bfloat16 on this processor, or lacks it."""

    def pretend(bf16):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: bf16)

    return pretend


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precisions_by_name(onednn, name, dtype):
    onednn(bf16=True)
    assert resolve_precision(name, CPU) == dtype


@pytest.mark.parametrize("name", ["bf16", "fp16", "int8", ""])
def test_precisions_that_cannot_work(onednn, name):
    onednn(bf16=False)
    with pytest.raises(UserError) as raised:
        resolve_precision(name, CPU)
    assert is_one_sentence(str(raised.value))
    assert name in str(raised.value)


def test_half_precision_needs_a_gpu():
    assert resolve_precision("fp16", torch.device("cuda")) == torch.float16


@pytest.mark.parametrize(("pays", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_on_a_cpu_takes_what_was_measured(monkeypatch, onednn, pays, dtype):
    onednn(bf16=True)
    monkeypatch.setattr(masa.machine.device, "_bf16_pays_on_cpu", lambda: pays)
    assert resolve_precision("auto", CPU) == dtype


def test_where_bfloat16_is_emulated_nothing_is_measured(monkeypatch, onednn):
    onednn(bf16=False)
    monkeypatch.setattr(masa.machine.device, "_bf16_pays_on_cpu", lambda: pytest.fail("measured"))
    assert resolve_precision("auto", CPU) == torch.float32
    assert has_bf16(torch.device("cuda"))
    onednn(bf16=True)
    assert has_bf16(CPU)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not has_bf16(CPU)


@pytest.mark.parametrize(("supported", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_on_a_gpu(monkeypatch, supported, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated=True: supported)
    assert resolve_precision("auto", torch.device("cuda")) == dtype


@pytest.mark.parametrize(("share", "chosen"), [(0.5, "bf16"), (0.9, "fp32"), (2.0, "fp32")])
def test_the_measurement_decides_and_is_made_once(monkeypatch, onednn, share, chosen):
    """On a clock by which a convolution in bfloat16 takes that share of one in float32."""
    onednn(bf16=True)
    now = 0.0

    def convolve(image, weight, padding):
        nonlocal now
        now += share if image.dtype == weight.dtype == torch.bfloat16 else 1.0

    masa.machine.device._bf16_pays_on_cpu.cache_clear()
    monkeypatch.setattr(masa.machine.device.F, "conv2d", convolve)
    monkeypatch.setattr(masa.machine.device.time, "perf_counter", lambda: now)
    try:
        assert resolve_precision("auto", CPU) == DTYPES[chosen]
        taken = now
        assert taken > 0
        assert resolve_precision("auto", CPU) == DTYPES[chosen]
        assert now == taken
    finally:
        masa.machine.device._bf16_pays_on_cpu.cache_clear()  # others measure for themselves
