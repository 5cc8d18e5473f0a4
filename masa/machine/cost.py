"""Multiply-adds and peak memory of a run, predicted from the sizes of its images."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from masa.config import SCALE, MASAConfig, Size
from masa.network.blocks import Geometry
from masa.network.decoder import Decoder
from masa.network.encoder import Encoder
from masa.network.matching import PRINCIPAL


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of one forward pass, by stage."""

    encode_lr: int
    encode_ref: int
    """What is read of Ref, and the first level of Ref-down."""
    coarse: int
    fine: int
    decode: int
    align: int = 0
    """To compare the views of references, where alignment was asked for."""

    @property
    def matching(self) -> int:
        """Coarse and fine matching."""
        return self.coarse + self.fine

    @property
    def total(self) -> int:
        """All stages. The transfer adds a few sums per pixel, which are not counted."""
        return self.encode_lr + self.align + self.encode_ref + self.matching + self.decode


def executed_cost(
    lr: Size, ref_down: Size, config: MASAConfig | None = None, read: int | None = None
) -> Cost:
    """What this implementation multiplies and adds for one LR and one Ref-down of given sizes.

    ``read`` is how many cells of the reference (pixels of Ref-down) are encoded at full size, all
    by default. Fine matching multiplies each pair of pixels in a block once and sums products along
    diagonals, instead of multiplying each pair of patches.
    """
    config = config or MASAConfig()
    geometry = Geometry.of(lr, ref_down, config)
    rim = config.patch - 1
    fine = (
        geometry.blocks
        * (config.lr_block + rim) ** 2
        * (geometry.ref_block_height + rim)
        * (geometry.ref_block_width + rim)
        * config.channels
    )
    return _cost(lr, ref_down, config, fine, transposed_at_output=False, read=read)


def paper_cost(lr: Size, ref_down: Size, config: MASAConfig | None = None) -> Cost:
    """The same as the paper counts it (its table 2).

    Fine matching compares whole patches, and a transposed convolution is counted at its output's
    size, which is four times too much.
    """
    config = config or MASAConfig()
    geometry = Geometry.of(lr, ref_down, config)
    centres = geometry.ref_block_height * geometry.ref_block_width
    fine = geometry.blocks * config.lr_block**2 * centres * config.patch**2 * config.channels
    return _cost(lr, ref_down, config, fine, transposed_at_output=True)


def coarse_cost(blocks: int, ref_down: Size, config: MASAConfig, full_search: bool) -> int:
    """Multiply-adds of comparing LR blocks with every place in Ref-down: by all channels in a
    ``full_search``, else by a few."""
    channels = config.channels if full_search else min(config.channels, PRINCIPAL)
    places = ref_down[0] * ref_down[1]
    return blocks * places * config.patch**2 * channels * len(config.dilations)


def dense_matching_cost(lr: Size, ref_down: Size, config: MASAConfig | None = None) -> int:
    """Multiply-adds of comparing every LR patch with every Ref-down patch on the same features."""
    config = config or MASAConfig()
    return lr[0] * lr[1] * ref_down[0] * ref_down[1] * config.patch**2 * config.channels


def _cost(
    lr: Size,
    ref_down: Size,
    config: MASAConfig,
    fine: int,
    transposed_at_output: bool,
    read: int | None = None,
) -> Cost:
    geometry = Geometry.of(lr, ref_down, config)
    c, pixels, ref_pixels = config.channels, lr[0] * lr[1], ref_down[0] * ref_down[1]
    conv = 9 * c * c  # per output pixel, C to C
    first = 9 * 3 * c
    level = 8 * conv  # four residual blocks

    def encoder(pixels: int) -> int:
        return pixels * (first + level) + pixels // 4 * (conv + level) * 5 // 4

    transposed = 2 * conv * (4 if transposed_at_output else 1)  # per input pixel, two of them
    # SAM's first convolution reads two maps, SPADE's one; each has two more, for gamma and beta.
    adaptation = {"sam": 4, "spade": 3}.get(config.adaptation, 0) * conv

    def dram(pixels: int) -> int:
        """``pixels`` of the smaller, LR side."""
        downs = config.dram_ref + config.dram_lr
        ups = transposed * (1 + config.dram_ref) // 2
        return pixels * (downs * conv + ups + 4 * 2 * conv)

    context = pixels // 16 * 5 * conv + pixels // 4 * 6 * conv + pixels * 6 * conv
    x1 = pixels * (adaptation + 2 * conv + 24 * conv)
    x2 = 4 * pixels * (adaptation + 16 * conv) + dram(pixels)
    x4 = 16 * pixels * (adaptation + 8 * conv + first) + dram(4 * pixels)
    return Cost(
        encode_lr=encoder(pixels),
        encode_ref=encoder(SCALE**2 * (ref_pixels if read is None else read))
        + ref_pixels * (first + level),
        coarse=coarse_cost(geometry.blocks, ref_down, config, geometry.full_search),
        fine=fine,
        decode=context + x1 + x2 + x4,
    )


def feature_bytes(
    lr: Size, ref_down: Size, config: MASAConfig | None = None, itemsize: int = 4
) -> tuple[int, int]:
    """Bytes of an encoded LR and of an encoded reference; ``itemsize`` is that of a feature."""
    config = config or MASAConfig()
    per_map = config.channels * itemsize
    pixels, ref_pixels = lr[0] * lr[1], ref_down[0] * ref_down[1]
    pyramid = 21 / 16  # a map and its half and its quarter
    picture = 3 * 4 * pixels  # the LR's own, kept for the skip connection
    return (
        int(pixels * pyramid * per_map) + picture,
        int(ref_pixels * (16 * pyramid + 1) * per_map),
    )


MIN_TILE = 32
"""Smallest side of a tile in LR pixels; below it, overlaps cost more than they save."""


def peak_bytes(
    lr: Size,
    ref_down: Size,
    config: MASAConfig | None = None,
    itemsize: int = 4,
    tile: int | None = None,
    keep: Collection[int] = (),
    strips: bool = True,
) -> int:
    """Predicted peak memory of one run above the network's own, in bytes.

    Counts the feature maps that are in memory together when the reference is encoded, when it is
    matched and when the x4 features are merged, whichever is most; ``itemsize`` is the size of a
    feature in bytes. ``keep`` are the scales whose intermediates are kept, and ``strips`` says that
    residual blocks are computed in strips, as on a CPU. It is meant as an upper bound, also for the
    later of several runs in a row.
    """
    config = config or MASAConfig()
    per_map = config.channels * itemsize
    pixels, ref_pixels = lr[0] * lr[1], ref_down[0] * ref_down[1]
    lr_features, ref_features = feature_bytes(lr, ref_down, config, itemsize)

    def worked_on(size: Size, halo: int, maps: float, copies: float) -> float:
        """Cells in memory at a time, where ``maps`` maps of ``size`` cells are needed together.

        In tiles, ``copies`` more maps of a tile are needed for what it reads and returns, but in
        all never more than without tiles.
        """
        whole = maps * size[0] * size[1]
        if tile is None or tile >= max(size):
            return whole
        cells = min(tile + 2 * halo, size[0]) * min(tile + 2 * halo, size[1])
        return min((maps + copies) * cells, whole)

    # Without strips, a residual block holds one more map between its two convolutions. A graphics
    # card also takes the room for what is to be read of the reference at once; on a CPU it is taken
    # bit by bit, as it is filled.
    inner = 0 if strips else 1
    levels = worked_on(ref_down, Encoder.HALO // SCALE, 1 + 2 * inner, 5 / 16)
    encoding = ref_features + 16 * levels * per_map
    # Ref-down's features in float32 and a padded copy of them; four maps of the LR's size.
    searching = ref_features + lr_features + 4 * config.channels * (2 * ref_pixels + 4 * pixels)
    merging = 16 * worked_on(lr, Decoder.HALO_X4, _MERGE_MAPS + inner, 5 / 4)
    moved = 16 * pixels + 3 * 4 * pixels  # transferred features at x4; three maps at x2
    kept = _KEPT_MAPS * sum(scale**2 for scale in keep) * pixels
    decoding = ref_features + lr_features + (moved + merging + kept) * per_map
    pictures = 16 * (
        36 * pixels + 30 * ref_pixels
    )  # images as uint8 and, in two memory layouts, as floats
    plan = pixels * config.patch**2 * SCALE * 8 * 2  # indices of the copies at x4, twice
    return int(max(encoding, searching, decoding) + pictures + plan + _WORKSPACE)


_MERGE_MAPS = 2.4  # x4 maps in memory together inside adaptation and aggregation
_KEPT_MAPS = 9.5  # maps of a scale that a trace keeps; fewer without tiles
_WORKSPACE = 250 * 2**20  # at any size: libraries' buffers, strips, scores, fragmented memory


def choose_tile(
    lr: Size,
    ref_down: Size,
    config: MASAConfig,
    itemsize: int,
    limit: int,
    keep: Collection[int] = (),
    strips: bool = True,
) -> int | None:
    """A tile side (``None``: no tiles) with which a run stays under ``limit`` bytes.

    Sides are halved until one fits. Arguments are those of :func:`peak_bytes`.

    Raises ``MemoryError`` with the least number of bytes a run needs if none does.
    """
    tile: int | None = None
    while (needed := peak_bytes(lr, ref_down, config, itemsize, tile, keep, strips)) > limit:
        if tile == MIN_TILE:
            raise MemoryError(needed)
        tile = max(*lr, *ref_down) // 2 if tile is None else tile // 2
        tile = max(tile - tile % config.lr_block, MIN_TILE)
    return tile
