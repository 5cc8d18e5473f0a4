"""Weights, pictures and features that anyone can make again."""

import time
import weakref
import zlib
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from demo.runs.jobs import Stopped
from masa.network.blocks import Geometry
from masa.network.fused import has_bf16
from masa.network.matching import CoarseMatch, assemble
from masa.pictures.resize import to_tensor

DATA = Path(__file__).resolve().parent / "data"

needs_bf16 = pytest.mark.skipif(
    not has_bf16(torch.device("cpu")), reason="this processor has no bfloat16"
)


@torch.no_grad()
def fill(model, in_blocks=0.1):
    """Fill every tensor with numbers drawn from its name; returns the model.

    The golden cases were computed with these weights at ``in_blocks=0.1``, the factor of
    residual blocks' weights.
    """
    for name, tensor in model.state_dict().items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = rng.standard_normal(tensor.shape).astype(np.float32)
        if name.endswith("bias"):
            values *= 0.01
        else:
            outputs = tensor.shape[1] if "conv_up" in name else tensor.shape[0]
            values *= 0.5 * np.sqrt(2 / (tensor.shape[2] * tensor.shape[3] * outputs))
            values *= in_blocks if "blk" in name else 1
        tensor.copy_(torch.from_numpy(values))
    return model


def picture(height, width, seed=0):
    """A textured uint8 picture ``(height, width, 3)``: noise at three sizes."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cell in (1, 3, 9):
        noise = rng.uniform(0, 85, (height // cell + 1, width // cell + 1, 3))
        total += noise.repeat(cell, 0).repeat(cell, 1)[:height, :width]
    return total.astype(np.uint8)


def inputs(lr, ref_down, n=1, seed=0):
    """``lr``, ``ref`` and ``ref_down`` tensors for sizes ``(h, w)`` and ``(hr, wr)``.

    The pictures do not belong together, which the network cannot know.
    """

    def batch(height, width, first):
        return torch.cat([to_tensor(picture(height, width, first + 100 * i)) for i in range(n)])

    ref = batch(4 * ref_down[0], 4 * ref_down[1], seed + 1)
    return batch(*lr, seed), ref, torch.nn.functional.avg_pool2d(ref, 4)


def noise(*shape, seed=0, dtype=torch.float32):
    """Normally distributed features."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def random_matches(lr_size, ref_size, config, n=1, channels=4, seed=0):
    """Consistent ``Matches`` of random features that point to random places."""
    geometry = Geometry.of(lr_size, ref_size, config)
    generator = torch.Generator().manual_seed(seed)
    places = geometry.ref_block_height * geometry.ref_block_width
    best = torch.randint(ref_size[0] * ref_size[1], (n, geometry.blocks), generator=generator)
    coarse = CoarseMatch(best, torch.zeros(best.shape), torch.zeros(*best.shape, 1))
    index = torch.randint(places, (n, *lr_size), generator=generator)
    lr, ref = noise(n, channels, *lr_size, seed=seed), noise(n, channels, *ref_size, seed=seed + 1)
    return assemble(lr, ref, geometry, coarse, index)


def placed(photo, degrees=0.0, zoom=1.0, slant=0.0):
    """A reference that shows all of the photo, turned, larger and slanted, and the true matrix."""
    height, width = photo.shape[:2]
    corners = np.float32([(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)])
    angle = np.radians(degrees)
    turn = zoom * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    moved = corners @ turn.T
    moved[1:3, 1] *= 1 - slant
    moved -= moved.min(0)
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    size = tuple(int(side) + 1 for side in moved.max(0))
    return cv2.warpPerspective(photo, matrix, size, flags=cv2.INTER_AREA), matrix


class LargestTensor(TorchDispatchMode):
    """Records the largest piece of memory, in bytes, that any operation inside returns."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.bytes = max(self.bytes, leaf.untyped_storage().nbytes())
        return result


class LiveBytes(TorchDispatchMode):
    """Records the most bytes of results of operations inside that are alive at a time."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {a.untyped_storage()._cdata for a in tree_leaves(args) if torch.is_tensor(a)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in given | self._known:
                    self._known.add(storage._cdata)
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _forget(self, storage, size):
        self._known.discard(storage)
        self.live -= size


@contextmanager
def taken(turns):
    """Somebody's turn, from when it comes to the end of the block."""
    turn = turns.ask()
    try:
        assert turn.wait(60)
        yield
    finally:
        turn.end()


def work_until_stopped(progress, stopped, began=None):
    """A job that never ends by itself; sets ``began`` at its first step, ``stopped`` at its end."""
    try:
        while True:
            if began:
                began.set()
            progress(0.1, "working")
            time.sleep(0.02)
    except Stopped:
        stopped.set()
        raise


def is_one_sentence(message):
    """Whether a message is one sentence fit for a person: a line, a capital or quote, a stop."""
    starts_well = message[0].isupper() or message[0].isdigit() or message[0] in "'\""
    return "\n" not in message and message.endswith(".") and starts_well and "Error" not in message
