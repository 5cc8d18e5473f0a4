"""Choice of device and precision, and the device's free memory."""

from __future__ import annotations

import math
import time
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F

from masa.errors import UserError
from masa.network.fused import has_bf16

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def resolve_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` is CUDA, else MPS, else the CPU.

    Raises ``UserError`` for an unknown name or a device this machine lacks.
    """
    if name not in get_args(Device):
        raise UserError(f"There is no device '{name}'; use one of {', '.join(get_args(Device))}.")
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available() and _mps_can_transfer(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, present in available.items() if present)
    if not available[name]:
        raise UserError(
            f"This machine or this PyTorch has no '{name}' device; use --device cpu or auto."
        )
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """The float type for ``name`` on ``device``; ``auto`` is the fastest that is safe there.

    That is bfloat16 on GPUs that have it and on CPUs where it is measured to be faster than
    float32 (many emulate it), else float32. On NVIDIA GPUs PyTorch may round the factors of float32
    convolutions to TF32 (10-bit mantissa) unless ``torch.backends.cudnn.allow_tf32`` is off.
    Raises ``UserError`` for an unknown name or a precision that ``device`` lacks.
    """
    if name not in get_args(Precision):
        raise UserError(
            f"There is no precision '{name}'; use one of {', '.join(get_args(Precision))}."
        )
    if name == "fp16" and device.type == "cpu":
        raise UserError("Precision fp16 needs a GPU; use fp32, bf16 or auto on the CPU.")
    if name == "bf16" and not has_bf16(device):
        raise UserError(
            "Precision bf16 needs a GPU or a newer processor; use fp32 or auto on this one."
        )
    if name != "auto":
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    if device.type == "cpu" and has_bf16(device) and _bf16_pays_on_cpu():
        return torch.bfloat16
    return torch.float32


@lru_cache(maxsize=1)
def _mps_can_transfer() -> bool:
    """Whether this PyTorch implements ``embedding_bag``, which the transfer uses, on MPS."""
    ones = torch.ones(1, 1, device="mps")
    try:
        F.embedding_bag(ones.long() - 1, ones, mode="sum", per_sample_weights=ones)
    except (NotImplementedError, RuntimeError):
        return False
    return True


def free_memory(device: torch.device) -> int | None:
    """90 % of a GPU's free memory in bytes; ``None`` if not known, or for other devices."""
    if device.type != "cuda":
        return None
    try:
        unclaimed = torch.cuda.mem_get_info(device)[0]
    except (RuntimeError, AssertionError):  # no GPU attached yet, as on Hugging Face's ZeroGPU
        return None
    # PyTorch reuses the blocks that it has reserved before it claims more.
    idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(0.9 * (unclaimed + idle))


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all that it was given, so that a clock sees what it took."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


_ROUNDS = 20


@lru_cache(maxsize=1)
def _bf16_pays_on_cpu() -> bool:
    """Times one of the network's convolutions in both types, once per process (about 150 ms)."""
    dtypes = (torch.bfloat16, torch.float32)
    operands = [
        [
            torch.zeros(n, 64, side, side, dtype=dtype).to(memory_format=torch.channels_last)
            for n, side in ((1, 96), (64, 3))
        ]
        for dtype in dtypes
    ]
    # Alternating, and the fastest of many rounds, so that other processes do not matter.
    fastest = [math.inf, math.inf]
    with torch.inference_mode():
        for _ in range(_ROUNDS):
            for kind, (image, weight) in enumerate(operands):
                start = time.perf_counter()
                F.conv2d(image, weight, padding=1)
                fastest[kind] = min(fastest[kind], time.perf_counter() - start)
    bf16, fp32 = fastest
    return bf16 < 0.8 * fp32
