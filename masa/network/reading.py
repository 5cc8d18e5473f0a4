"""Reading a reference at full size: all of it, or only the parts that matches point to.

Ref-down, a sixteenth of the pixels, is enough to find matches. Of the full-size features only the
cells that are copied count, so the encoder may run over them alone, with as many pixels around them
as they depend on. Reading in parts gives what reading the whole gives, but for rounding.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masa.config import SCALE
from masa.network.encoder import Encoder, Pyramid
from masa.network.progress import OnShare, between
from masa.network.tiling import Tile, tiles_of
from masa.network.transfer import TransferPlan

PART = 8
"""Side, in cells (pixels of Ref-down), of the smallest part of a reference that is read."""

_HALO = Encoder.HALO // SCALE  # cells around a part that its features depend on

Parts = NDArray[np.bool_]
"""``(rows, columns)``: some parts of a reference, each of ``PART`` x ``PART`` cells."""

Pixels = Callable[[Tile], Tensor]
"""Gives the reference's pixels under a rectangle of cells: ``(N, 3, 4 rows, 4 columns)`` in [0, 1],
in the encoder's precision."""


@dataclass(eq=False)
class RefFeatures:
    """An encoded reference, or what was read of one so far."""

    pyramid: Pyramid
    """Of the reference: level 1 is transferred at x4, level 2 at x2, level 3 at x1. Parts that were
    not read are uninitialised. On a CPU most of them cost nothing, as the system gives memory only
    when it is written to; on a GPU they take their full size."""
    down: Tensor
    """Level 1 of Ref-down, ``(N, C, hr, wr)``: what the LR is matched with."""
    parts: Parts | None = None
    """The parts that were read; ``None`` for all."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """Held while parts are read: several runs may use one reference."""

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or stored of it: all but the lock, which belongs to this process."""
        return {name: value for name, value in vars(self).items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, lock=threading.Lock())

    @classmethod
    def unread(cls, down: Tensor) -> RefFeatures:
        """A reference of which only Ref-down is encoded, ``(N, C, hr, wr)``."""
        n, channels, height, width = down.shape
        pyramid = Pyramid(
            *(
                torch.empty(
                    (n, channels, scale * height, scale * width),
                    dtype=down.dtype,
                    device=down.device,
                    memory_format=torch.channels_last,
                )
                for scale in (4, 2, 1)
            )
        )
        return cls(pyramid, down, np.zeros((-(-height // PART), -(-width // PART)), bool))

    def holds(self, plan: TransferPlan) -> bool:
        """Whether all that a transfer copies was read."""
        read = self.parts  # looked up once: another run may finish reading in between
        return read is None or not (used_parts(plan) & ~read).any()


def used_parts(plan: TransferPlan) -> Parts:
    """The parts that hold the cells which a transfer copies."""
    geometry = plan.geometry
    rows, columns = -(-geometry.ref_height // PART), -(-geometry.ref_width // PART)
    used = torch.zeros(rows * columns, dtype=torch.bool, device=plan.row.device)
    row, column = (
        torch.div(index, PART, rounding_mode="floor") for index in (plan.row, plan.column)
    )
    used[(row * columns + column).flatten()] = True
    return used.view(rows, columns).cpu().numpy()


def read_parts(
    encoder: Encoder,
    ref: RefFeatures,
    parts: Parts,
    pixels: Pixels,
    tile: int | None,
    on_share: OnShare,
) -> None:
    """Encode ``parts`` of a reference that were not read yet, in pieces of at most ``tile`` cells
    a side.

    If ``on_share`` raises, the rectangles that are done stay.
    """
    with ref.lock:
        if ref.parts is None:
            return
        height, width = ref.down.shape[2:]
        boxes = _boxes(parts & ~ref.parts, height, width)
        work = [_area(box.grow(_HALO, height, width)) for box in boxes]
        for number, box in enumerate(boxes):
            done = sum(work[:number])
            on_box = between(on_share, done / sum(work), (done + work[number]) / sum(work))
            if box == Tile(0, height, 0, width) and (tile is None or tile >= max(height, width)):
                ref.pyramid, ref.parts = encoder(pixels(box), on_box), None
                break
            pieces = list(tiles_of(box, tile))
            for piece_number, piece in enumerate(pieces):
                grown = piece.grow(_HALO, height, width)
                on_piece = between(
                    on_box, piece_number / len(pieces), (piece_number + 1) / len(pieces)
                )
                found = encoder(pixels(grown), on_piece)
                for target, new in zip(ref.pyramid, found, strict=True):
                    scale = grown.scale_of(new)
                    piece.cut(target, scale).copy_(piece.cut(new, scale, origin=grown))
            top, left = box.top // PART, box.left // PART
            ref.parts[top : -(-box.bottom // PART), left : -(-box.right // PART)] = True


def cells_to_read(parts: Parts, height: int, width: int) -> int:
    """Cells that are encoded to read ``parts`` of an unread reference of ``height`` x ``width``
    cells: with those around them that they depend on."""
    return sum(_area(box.grow(_HALO, height, width)) for box in _boxes(parts, height, width))


def _boxes(parts: Parts, height: int, width: int) -> list[Tile]:
    """The rectangles of cells in which ``parts`` are read."""
    return [
        Tile(*(PART * side for side in box)).grow(0, height, width)
        for box in cover(parts, _HALO // PART)
    ]


def cover(wanted: Parts, halo: int) -> list[Tile]:
    """Disjoint rectangles that cover all ``wanted`` parts and are cheap to read.

    A rectangle costs the number of its parts, with ``halo`` more parts on each side, inside the
    grid. The smallest rectangle
    around all of them is cut in two where that saves most, and so are its halves, as long as a cut
    saves a tenth: a small piece takes longer than its number of cells suggests.
    """

    def cost(box: Tile | None) -> int:
        return 0 if box is None else _area(box.grow(halo, *wanted.shape))

    box = _around(wanted, Tile(0, wanted.shape[0], 0, wanted.shape[1]))
    if box is None:
        return []
    waiting, found = [box], []
    while waiting:
        box = waiting.pop()
        cuts = [
            *(
                (box._replace(bottom=at), box._replace(top=at))
                for at in range(box.top + 1, box.bottom)
            ),
            *(
                (box._replace(right=at), box._replace(left=at))
                for at in range(box.left + 1, box.right)
            ),
        ]
        halves = [[_around(wanted, half) for half in cut] for cut in cuts]
        best = min(halves, key=lambda two: sum(map(cost, two)), default=[])
        if best and sum(map(cost, best)) <= _WORTH_CUTTING * cost(box):
            waiting += [half for half in best if half is not None]
        else:
            found.append(box)
    return sorted(found)


_WORTH_CUTTING = 0.9


def _around(wanted: Parts, inside: Tile) -> Tile | None:
    """The smallest rectangle over what is wanted inside a rectangle, ``None`` if nothing is."""
    part = wanted[inside.top : inside.bottom, inside.left : inside.right]
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    if not len(rows):
        return None
    return Tile(
        inside.top + int(rows[0]),
        inside.top + int(rows[-1]) + 1,
        inside.left + int(columns[0]),
        inside.left + int(columns[-1]) + 1,
    )


def _area(box: Tile) -> int:
    return (box.bottom - box.top) * (box.right - box.left)
