"""How long the network takes and how much memory, against the time of its convolutions alone.

The yardstick is the *convolution floor*: the convolutions of encoder and decoder with the same
sizes, types and layouts, one after the other on random numbers, with nothing between them. No
implementation that calls the same library can be faster; what a run takes beyond it is its own.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from masa.config import SCALE, MASAConfig, Size
from masa.errors import UserError
from masa.machine.cache import FeatureCache
from masa.machine.cost import Cost, executed_cost
from masa.machine.device import resolve_device, resolve_precision, synchronise
from masa.machine.memory import keep_freed_memory, peak_resident
from masa.network.model import MASA
from masa.pictures.photo import Limits, Pixels
from masa.predictor import Predictor
from masa.reference.canvas import canvas_sizes
from masa.training.settings import Settings
from masa.training.trainer import Trainer
from masa.weights import load_model

STAGES = ("encode_lr", "encode_ref", "coarse", "fine", "transfer", "decode")
"""What a run consists of, in order."""

_MEMORY = 64 * 2**30  # bytes a run may take: no tiles
_LIMITS = Limits(max_lr_pixels=2**24, max_ref_pixels=2**26)


@dataclass(frozen=True)
class Case:
    """What to measure: one square LR with square references."""

    lr: int
    """Side of the LR in pixels."""
    ref: int
    """Side of each reference in pixels."""
    references: int = 1
    precision: str = "fp32"


@dataclass(frozen=True)
class PhotosCase:
    """Photos from files, enlarged with masa-rec.

    Matches of noise are spread over all of a reference; of photos, only parts need be encoded.
    """

    photo: str
    """The LR."""
    refs: tuple[str, ...]
    align: bool
    """Whether the references are aligned with it."""
    precision: str = "fp32"


@dataclass(frozen=True)
class TrainingCase:
    """A training step to measure."""

    crop: int = 160
    """Side of the HR crops in pixels."""
    batch: int = 6
    precision: str = "bf16"


@dataclass
class Measured:
    """What a case took; times are medians over several runs after one that does not count."""

    seconds: float
    """A whole run on uint8 pictures in memory, everything encoded anew; of photos,
    also reading the files and, if asked for, aligning."""
    peak: int | None
    """Bytes above a process that has only imported PyTorch; on a GPU, bytes of tensors there.
    ``None`` where the system does not tell."""
    device: str
    floor: float | None = None
    """Its convolutions alone, in seconds; ``None`` for photos, which need not all be read."""
    stages: dict[str, float] = field(default_factory=dict)
    """Seconds of each of :data:`STAGES`, in one run under PyTorch's profiler."""
    operations: dict[str, int] = field(default_factory=dict)
    """Multiply-adds of the stages."""
    same_references: float | None = None
    """Seconds of a run with another LR and the references of the run before, not encoded again."""
    same_lr: float | None = None
    """Seconds of a run with other references and the LR of the run before, not encoded again."""

    @property
    def ratio(self) -> float | None:
        """Seconds per second of the floor."""
        return None if self.floor is None else self.seconds / self.floor


AnyCase = Case | PhotosCase | TrainingCase


def measure(case: AnyCase, runs: int = 5, device: str = "auto", stages: bool = True) -> Measured:
    """Measure one case in a process of its own, so that its peak memory is its own.

    For noise the weights are untrained, as the time does not depend on them; for photos they are
    masa-rec's, because matches decide what is read. Stages and floor are measured for noise alone,
    and without ``stages`` only the run as a whole and the floor. Raises ``UserError`` for a device
    or precision that cannot work, photos that cannot be used, or if the process dies.
    """
    resolve_precision(case.precision, resolve_device(device))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        try:
            if isinstance(case, Case):
                return process.submit(_measure_run, case, runs, device, stages).result()
            if isinstance(case, PhotosCase):
                return process.submit(_measure_photos, case, runs, device).result()
            return process.submit(_measure_training, case, runs, device).result()
        except BrokenProcessPool:
            raise UserError(
                "A measurement was ended by the system, most likely because it took more memory "
                "than there is: measure smaller pictures."
            ) from None


def _measure_run(case: Case, runs: int, device: str, stages: bool) -> Measured:
    where = resolve_device(device)
    baseline = resident_after_import() if where.type == "cpu" else 0
    rng = np.random.default_rng(0)

    def picture(side: int) -> Pixels:
        return rng.integers(0, 256, (side, side, 3), np.uint8)

    def pictures() -> tuple[Pixels, list[Pixels]]:
        return picture(case.lr), [picture(case.ref) for _ in range(case.references)]

    predictor = _predictor(MASA(), device, case, FeatureCache(0))
    inputs, others = pictures(), pictures()
    seconds = _median_seconds(lambda: predictor.run(*inputs), runs, where)
    found = Measured(seconds, _peak(where, baseline), _device_name(where))
    ref_sizes = [(case.ref, case.ref)] * case.references
    sizes = canvas_sizes((case.lr, case.lr), ref_sizes, predictor.config)
    if stages:
        cached = _predictor(predictor.model, device, case, FeatureCache())
        cached.run(*inputs)
        found.same_references = _seconds(lambda: cached.run(others[0], inputs[1]), where)
        found.same_lr = _seconds(lambda: cached.run(*others), where)
        found.stages = _stages(lambda: predictor.run(*inputs), where)
        found.operations = _operations(executed_cost(*sizes, predictor.config))
        del cached
    calls = run_convolutions(*sizes, predictor.config, predictor.dtype)
    found.floor = _floor(calls, runs, where)
    return found


def _measure_photos(case: PhotosCase, runs: int, device: str) -> Measured:
    where = resolve_device(device)
    baseline = resident_after_import() if where.type == "cpu" else 0
    predictor = _predictor(load_model(), device, case, FeatureCache(0))
    seconds = _median_seconds(
        lambda: predictor.upscale(case.photo, case.refs, align=case.align), runs, where
    )
    return Measured(seconds, _peak(where, baseline), _device_name(where))


def _predictor(
    model: MASA, device: str, case: Case | PhotosCase, features: FeatureCache
) -> Predictor:
    return Predictor(model, device, case.precision, _LIMITS, _MEMORY, features)


def _measure_training(case: TrainingCase, runs: int, device: str) -> Measured:
    where = resolve_device(device)
    baseline = resident_after_import() if where.type == "cpu" else 0
    with tempfile.TemporaryDirectory() as folder:
        _write_pairs(Path(folder), case.crop + 64, 2 * case.batch)
        settings = Settings(
            data=folder,
            out=str(Path(folder) / "run"),
            steps=1000,
            crop=case.crop,
            batch=case.batch,
            precision=case.precision,
            device=device,
        )
        trainer = Trainer(settings, resume=False)
        batches = trainer.batches()
        seconds = _median_seconds(lambda: trainer.advance(next(batches)), runs, where)
    found = Measured(seconds, _peak(where, baseline), _device_name(where))
    found.floor = _floor(step_convolutions(case, trainer.model.config), runs, where)
    return found


def _write_pairs(folder: Path, side: int, count: int) -> None:
    rng = np.random.default_rng(0)
    for part in ("input", "ref"):
        (folder / part).mkdir()
        for number in range(count):
            noise = rng.integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(noise).save(folder / part / f"{number}.jpg")


# ------------------------------------------------------------------------------ the floor


class Convolution(NamedTuple):
    """One call of the library, with its tensors' shapes in place of the tensors."""

    operator: Callable[..., Any]
    arguments: tuple[Any, ...]


class Like(NamedTuple):
    """A tensor's shape, strides and type, without its values."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class _Recorder(TorchDispatchMode):
    """Notes every convolution that is called, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Convolution] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        if func in (aten.convolution.default, aten.convolution_backward.default):
            noted = (
                Like(tuple(a.shape), a.stride(), a.dtype) if isinstance(a, Tensor) else a
                for a in args
            )
            self.calls.append(Convolution(func, tuple(noted)))
        return func(*args, **(kwargs or {}))


def run_convolutions(
    lr: Size, ref_down: Size, config: MASAConfig, dtype: torch.dtype
) -> list[Convolution]:
    """The convolutions of encoder and decoder for an LR and a Ref-down of given sizes.

    The network is run on fake tensors, without values, and with gradients, so that nothing is fused
    or computed in strips. The convolutions of the matching do not count.
    """
    model = MASA(config).to(dtype)
    with FakeTensorMode(allow_non_fake_inputs=True):
        image, down, ref = (
            torch.empty(1, 3, scale * height, scale * width)
            for (height, width), scale in ((lr, 1), (ref_down, 1), (ref_down, SCALE))
        )
        with _Recorder() as recorder:
            lr_features, ref_features = model.encode_lr(image), model.encode_ref(ref, down)
        matches = model.match(lr_features, ref_features)
        with recorder:
            model.decode(lr_features, ref_features, matches)
    return recorder.calls


def step_convolutions(case: TrainingCase, config: MASAConfig) -> list[Convolution]:
    """The convolutions of a training step, forward and backward, matching's left out."""
    low = case.crop // SCALE
    with FakeTensorMode():
        model = MASA(config)
        lr, down, ref = (torch.empty(case.batch, 3, side, side) for side in (low, low, case.crop))
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bf16")
        with _Recorder() as recorder, autocast:
            lr_features, ref_features = model.encode_lr(lr), model.encode_ref(ref, down)
        with autocast:
            matches = model.match(lr_features, ref_features)
        with recorder:
            with autocast:
                output = model.decode(lr_features, ref_features, matches).output
            output.abs().mean().backward()
    return recorder.calls


def _floor(calls: Iterable[Convolution], runs: int, device: torch.device) -> float:
    """Median seconds of all ``calls``, on random numbers."""
    keep_freed_memory()  # so that no time is spent on getting memory from the system
    tensors: dict[Like, Tensor] = {}

    def tensor(like: Like) -> Tensor:
        if like not in tensors:
            empty = torch.empty_strided(like.shape, like.stride, dtype=like.dtype, device=device)
            tensors[like] = empty.normal_()
        return tensors[like]

    ready = [
        (call.operator, [tensor(a) if isinstance(a, Like) else a for a in call.arguments])
        for call in calls
    ]

    @torch.inference_mode()
    def run() -> None:
        for operator, arguments in ready:
            operator(*arguments)

    return _median_seconds(run, runs, device)


# ------------------------------------------------------------------------------ measuring


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    function()
    synchronise(device)
    return time.perf_counter() - start


def _median_seconds(function: Callable[[], object], runs: int, device: torch.device) -> float:
    """Median over ``runs``, after one that does not count."""
    return median([_seconds(function, device) for _ in range(1 + runs)][1:])


def _stages(run: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Seconds of each stage in one run, by the names the network gives its stages."""
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    with profile(activities=activities, acc_events=True) as profiler:
        run()
    found = {event.key: event for event in profiler.key_averages()}

    def seconds(stage: str) -> float:
        event = found[f"masa.{stage}"]
        return (event.device_time_total if cuda else event.cpu_time_total) / 1e6

    return {stage: seconds(stage) for stage in STAGES}


def _operations(cost: Cost) -> dict[str, int]:
    """Multiply-adds of the stages; the transfer's few sums are not counted."""
    return {stage: getattr(cost, stage, 0) for stage in STAGES}


def _peak(device: torch.device, baseline: int | None) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = peak_resident()
    return None if peak is None or baseline is None else peak - baseline


def resident_after_import() -> int | None:
    """Bytes resident in a process that has imported PyTorch and nothing else."""
    program = "import torch; print(next(l for l in open('/proc/self/status') if 'VmRSS' in l))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return 1024 * int(found.stdout.split()[1]) if found.returncode == 0 else None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"
