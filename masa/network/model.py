"""The whole network of the paper's figure 2: its parts, and how data flows through them.

In ``torch.profiler`` its stages are named ``masa.encode_ref``, ``masa.coarse`` and so on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from masa.config import SCALE, MASAConfig
from masa.network.adaptation import LearnedAdaptation
from masa.network.aggregation import Branches
from masa.network.decoder import Decoder, ScaleTrace, bicubic
from masa.network.encoder import Encoder, Pyramid
from masa.network.layers import channels_last, initialise
from masa.network.matching import Matches, match
from masa.network.progress import OnShare, between, ignore
from masa.network.reading import Pixels, RefFeatures, cells_to_read, read_parts, used_parts
from masa.network.tiling import Tile, run_tiled
from masa.network.transfer import plan_transfer, transfer


@dataclass(frozen=True)
class LRFeatures:
    """An encoded LR image."""

    image: Tensor
    """``(N, 3, h, w)`` in [0, 1]."""
    pyramid: Pyramid
    """Levels of ``h x w``, half and a quarter of that; level 1 is matched."""


@dataclass(frozen=True)
class Trace:
    """The intermediate results of one forward pass, and its output."""

    matches: Matches
    x1: ScaleTrace | None
    """Merging at the LR's size; like ``x2`` and ``x4``, ``None`` unless kept."""
    x2: ScaleTrace | None
    x4: ScaleTrace | None
    output: Tensor
    """``(N, 3, 4h, 4w)`` float32, not clamped."""


SCALES = (1, 2, 4)
"""Sizes, relative to the LR, at which Ref features are merged."""

_SHARE_X1, _SHARE_X2 = 0.10, 0.35  # share of decoding's multiply-adds done after x1 and x2


class MASA(nn.Module):
    """Matching acceleration and spatial adaptation for reference-based x4 super-resolution.

    Call it with ``lr`` ``(N, 3, h, w)``, ``ref`` ``(N, 3, 4 hr, 4 wr)`` and ``ref_down``
    ``(N, 3, hr, wr)``, RGB in [0, 1]; it returns ``(N, 3, 4h, 4w)``, not clamped. ``h`` and ``w``
    are multiples of the LR block (8), and the reference's sides of 16; ``ref_down`` is ``ref``
    reduced four times with an antialiased bicubic filter.
    """

    def __init__(self, config: MASAConfig | None = None) -> None:
        super().__init__()
        self.config = config or MASAConfig()
        self.enc = Encoder(self.config.channels)
        self.decoder = Decoder(self.config)
        initialise(self)
        if isinstance(self.decoder.pAda, LearnedAdaptation):
            self.decoder.pAda.start_at_zero()
        channels_last(self)

    def forward(self, lr: Tensor, ref: Tensor, ref_down: Tensor) -> Tensor:
        """The x4 picture, ``(N, 3, 4h, 4w)`` float32."""
        return self.trace(lr, ref, ref_down, keep=()).output

    def trace(
        self, lr: Tensor, ref: Tensor, ref_down: Tensor, keep: Collection[int] = SCALES
    ) -> Trace:
        """As :meth:`forward`, with the intermediates at the scales to ``keep``: 1, 2 and 4."""
        return self.decode(self.encode_lr(lr), self.encode_ref(ref, ref_down), keep=keep)

    def encode_lr(self, lr: Tensor) -> LRFeatures:
        """Encode ``(N, 3, h, w)``. Raises ``ValueError`` for sides that are no multiples of 4."""
        _check("lr", lr, SCALE)
        with record_function("masa.encode_lr"):
            return LRFeatures(lr, self.enc(self._prepared(lr)))

    def encode_ref(
        self, ref: Tensor, ref_down: Tensor, tile: int | None = None, on_share: OnShare = ignore
    ) -> RefFeatures:
        """Encode a reference; ``tile`` limits the Ref-down pixels a side worked on at a time.

        Raises ``ValueError`` if sizes do not fit each other.
        """
        _check("ref", ref, SCALE)
        if ref.shape[0] != ref_down.shape[0]:
            raise ValueError(
                f"ref and ref_down must be of one batch, not of {ref.shape[0]} and "
                f"{ref_down.shape[0]} pictures"
            )
        if tuple(ref.shape[2:]) != tuple(SCALE * side for side in ref_down.shape[2:]):
            raise ValueError(
                f"ref must be {SCALE} times ref_down's size, not {tuple(ref.shape[2:])} "
                f"for {tuple(ref_down.shape[2:])}"
            )
        with record_function("masa.encode_ref"):
            halo = Encoder.HALO // SCALE
            pyramid = run_tiled(self.enc, [(self._prepared(ref), SCALE)], tile, halo, on_share)
        return RefFeatures(pyramid, self.encode_down(ref_down))

    def encode_down(self, ref_down: Tensor) -> Tensor:
        """Encode Ref-down alone, ``(N, 3, hr, wr)`` to ``(N, C, hr, wr)``: what is matched."""
        with record_function("masa.encode_ref"):
            return self.enc.level1(self._prepared(ref_down))

    def read_ref(
        self,
        ref: RefFeatures,
        matches: Matches,
        pixels: Pixels,
        tile: int | None = None,
        on_share: OnShare = ignore,
    ) -> int:
        """Encode the parts of a reference that ``matches`` point to and that were not read yet.

        ``ref`` begins as :meth:`RefFeatures.unread` and is filled by one run after another;
        ``pixels`` gives the reference under a rectangle of cells, ``(1, 3, 4 rows, 4 columns)`` in
        [0, 1]. Returns how many cells have to be encoded for these matches, with those around them
        that they depend on, whether they were read before or not.
        """

        def prepared(part: Tile) -> Tensor:
            return self._prepared(pixels(part))

        parts = used_parts(plan_transfer(matches))
        with record_function("masa.encode_ref"):
            read_parts(self.enc, ref, parts, prepared, tile, on_share)
        return cells_to_read(parts, *ref.down.shape[2:])

    def match(
        self,
        lr: LRFeatures,
        ref: RefFeatures,
        config: MASAConfig | None = None,
        on_share: OnShare = ignore,
    ) -> Matches:
        """Matches of encoded images; ``config`` may vary the matching's own settings."""
        return match(lr.pyramid.l1, ref.down, config or self.config, on_share)

    def decode(
        self,
        lr: LRFeatures,
        ref: RefFeatures,
        matches: Matches | None = None,
        keep: Collection[int] = (),
        branches: Branches | None = None,
        tile: int | None = None,
        on_share: OnShare = ignore,
    ) -> Trace:
        """Match (unless ``matches`` are given), transfer and merge encoded images.

        The trace holds the intermediate results at the scales to ``keep``; at x4 these are
        eight feature maps of 16 times the LR's pixels. ``branches`` may switch off a branch of
        DRAM. ``tile`` limits the LR pixels a side decoded at a time; the result does not depend on
        it. Raises ``ValueError`` if matches point to parts of the reference that were not read.
        """
        matches = matches or self.match(lr, ref)
        branches = branches or Branches(self.config.dram_ref, self.config.dram_lr)
        with record_function("masa.transfer"):
            plan = plan_transfer(matches)
            if not ref.holds(plan):
                raise ValueError("matches point to parts of the reference that were not read")
            transferred = transfer(ref.pyramid.l3, plan, 1)
        with record_function("masa.decode"):
            context = self.decoder.context(lr.pyramid)
            x1, trace_x1 = self.decoder.at_x1(
                context, transferred, 1 in keep, between(on_share, 0, _SHARE_X1)
            )
        with record_function("masa.transfer"):
            transferred = transfer(ref.pyramid.l2, plan, 2)
        with record_function("masa.decode"):
            x2, trace_x2 = self.decoder.at_x2(
                x1, transferred, branches, 2 in keep, tile, between(on_share, _SHARE_X1, _SHARE_X2)
            )
        with record_function("masa.transfer"):
            transferred = transfer(ref.pyramid.l1, plan, 4)
        on_share(_SHARE_X2)  # so that the run can be cancelled here: transfer at x4 takes long
        with record_function("masa.decode"):
            out, trace_x4 = self.decoder.at_x4(
                x2, transferred, branches, 4 in keep, tile, between(on_share, _SHARE_X2, 1)
            )
            output = out.float() + bicubic(lr.image)
        return Trace(matches, trace_x1 if 1 in keep else None, trace_x2, trace_x4, output)

    def _prepared(self, image: Tensor) -> Tensor:
        """In the weights' precision, and in channels-last, the fastest layout for convolutions."""
        weight = self.enc.conv_L1.weight
        return image.to(dtype=weight.dtype, memory_format=torch.channels_last)


def _check(name: str, image: Tensor, multiple: int) -> None:
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(f"{name} must be (N, 3, height, width), not {tuple(image.shape)}")
    if image.shape[2] % multiple or image.shape[3] % multiple:
        raise ValueError(
            f"{name}'s sides must be multiples of {multiple}, not {tuple(image.shape[2:])}"
        )
