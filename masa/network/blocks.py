"""How LR and reference are cut into blocks: the sizes that matching and transfer work with.

All in LR pixels and in pixels of Ref-down, the reference reduced four times. Coordinates are (row,
column) of pixel centres, the first pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from masa.config import MASAConfig, Size

FULL_SEARCH = 2**26
"""Up to so many pairs of an LR block and a place in the reference, coarse matching compares all
of them by all channels, as in the paper: those of an LR of 256 x 256 and a reference of 1024 x
1024. An LR of 512 x 512 would spend a quarter of its run on this, one of 1024 x 1024 more than
half."""


@dataclass(frozen=True)
class Geometry:
    """How an LR and a reference of given sizes are cut into blocks."""

    lr_height: int
    """LR pixels, a multiple of ``block``."""
    lr_width: int
    ref_height: int
    """Ref-down pixels."""
    ref_width: int
    block: int
    """Side of an LR block in LR pixels."""
    patch: int
    """Side of a compared patch, odd."""
    ref_block_height: int
    """Patch centres that fine matching searches per block, in Ref-down pixels; odd."""
    ref_block_width: int

    @classmethod
    def of(cls, lr_size: Size, ref_size: Size, config: MASAConfig) -> Geometry:
        """Geometry for sizes ``(h, w)`` of LR and ``(hr, wr)`` of Ref-down.

        Raises ``ValueError`` if the LR is not whole blocks or the reference smaller than a patch.
        """
        block, patch = config.lr_block, config.patch
        if min(lr_size) < block or lr_size[0] % block or lr_size[1] % block:
            raise ValueError(
                f"LR sides must be multiples of {block} pixels, not {lr_size[0]}x{lr_size[1]}"
            )
        if min(ref_size) < patch:
            raise ValueError(
                f"Ref-down must be at least {patch}x{patch} pixels, not {ref_size[0]}x{ref_size[1]}"
            )
        heights, widths = (
            ref_block_side(ref, lr // block, config)
            for ref, lr in zip(ref_size, lr_size, strict=True)
        )
        return cls(*lr_size, *ref_size, block, patch, heights, widths)

    @property
    def radius(self) -> int:
        """Pixels of a patch beside its centre."""
        return self.patch // 2

    @property
    def rows(self) -> int:
        """LR blocks from top to bottom."""
        return self.lr_height // self.block

    @property
    def columns(self) -> int:
        """LR blocks from left to right."""
        return self.lr_width // self.block

    @property
    def blocks(self) -> int:
        """LR blocks in all; block ``b`` is in row ``b // columns``."""
        return self.rows * self.columns

    @property
    def full_search(self) -> bool:
        """Whether coarse matching compares blocks with all places by all channels."""
        return self.blocks * self.ref_height * self.ref_width <= FULL_SEARCH

    def block_corners(self, device: torch.device | None = None) -> Tensor:
        """``(blocks, 2)``: (row, column) of each LR block's first pixel."""
        rows = torch.arange(self.rows, device=device) * self.block
        columns = torch.arange(self.columns, device=device) * self.block
        return torch.cartesian_prod(rows, columns)

    def to_blocks(self, x: Tensor) -> Tensor:
        """``(N, K, h, w)`` on the LR grid to ``(N, blocks, K, block, block)``."""
        n, k = x.shape[:2]
        x = x.reshape(n, k, self.rows, self.block, self.columns, self.block)
        return x.permute(0, 2, 4, 1, 3, 5).reshape(n, self.blocks, k, self.block, self.block)

    def from_blocks(self, x: Tensor) -> Tensor:
        """``(N, blocks, K, s, s)`` to ``(N, K, rows * s, columns * s)``, any block side ``s``."""
        n, _, k, s, _ = x.shape
        x = x.reshape(n, self.rows, self.columns, k, s, s).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(n, k, self.rows * s, self.columns * s)


def ref_block_side(ref_side: int, blocks: int, config: MASAConfig) -> int:
    """Patch centres searched along one side of a Ref block, in Ref-down pixels (odd).

    ``2 int((ref_side // (2 blocks)) factor) + 1``, 13 at the paper's sizes, but never more than
    fit into the reference with the patches' rims.
    """
    room = ref_side - 2 * (config.patch // 2)
    return min(_wanted_side(ref_side, blocks, config), room if room % 2 else room - 1)


def smallest_ref_side(blocks: int, config: MASAConfig) -> int:
    """Least side of Ref-down, a multiple of 4, from which on Ref blocks are never cut short.

    ``blocks`` is the number of LR blocks along that side. Where a Ref block would always be
    larger than the reference, all of it is searched anyway, and 4 is returned.
    """
    rim = 2 * (config.patch // 2)
    fits = [side >= _wanted_side(side, blocks, config) + rim for side in range(4, 129, 4)]
    if not fits[-1]:
        return 4
    return 4 * (len(fits) - fits[::-1].index(False) + 1) if False in fits else 4


def _wanted_side(ref_side: int, blocks: int, config: MASAConfig) -> int:
    """:func:`ref_block_side`, even if that does not fit into the reference."""
    return 2 * int(ref_side // (2 * blocks) * config.ref_factor) + 1
