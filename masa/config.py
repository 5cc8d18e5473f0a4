"""The network's configuration; its fields include the paper's ablations."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Adaptation = Literal["sam", "spade", "adain", "none"]

ADAPTATIONS: dict[Adaptation, str] = {
    "sam": "SAM",
    "spade": "SPADE",
    "adain": "AdaIN",
    "none": "no adaptation",
}
"""What they are called."""

SCALE = 4
"""Upscaling factor; the network's shape fixes it."""

Size = tuple[int, int]
"""Of a picture or map in pixels: (height, width)."""


@dataclass(frozen=True)
class MASAConfig:
    """Architecture of one network. The defaults are the paper's final model."""

    channels: int = 64
    """Width of every feature map (C)."""
    lr_block: int = 8
    """Side of an LR block in LR pixels, a multiple of 4; one coarse match is made per block."""
    ref_factor: float = 1.5
    """How much larger a Ref block is than an LR block, relative to their images (paper: 1.5)."""
    dilations: tuple[int, ...] = (1, 2, 3)
    """Steps of the dilated patches whose coarse scores are summed (section 3.2)."""
    patch: int = 3
    """Side of the compared and copied patches, in LR pixels; odd."""
    adaptation: Adaptation = "sam"
    """How Ref features are fitted to the LR (the rows of the paper's table 3)."""
    dram_ref: bool = True
    """DRAM refines the Ref features by their residual to the LR (table 4: Models 3 and 4)."""
    dram_lr: bool = True
    """DRAM refines the LR features by their residual to the Ref (table 4: Models 2 and 4).
    Either branch can also be switched off for a single run of a network trained with it."""

    def __post_init__(self) -> None:
        # Also a list is taken, but kept as a tuple, so that configurations can be compared.
        object.__setattr__(self, "dilations", tuple(self.dilations))
        for whole in (self.channels, self.lr_block, self.patch, *self.dilations):
            if type(whole) is not int:
                raise ValueError(
                    f"channels, blocks, patch and dilations are integers, not {whole!r}"
                )
        for switch in (self.dram_ref, self.dram_lr):
            if type(switch) is not bool:
                raise ValueError(f"dram_ref and dram_lr are true or false, not {switch!r}")
        if self.channels < 1:
            raise ValueError(f"channels must be positive, not {self.channels}")
        if self.lr_block < 4 or self.lr_block % 4:
            raise ValueError(f"lr_block must be a positive multiple of 4, not {self.lr_block}")
        if not 0 < self.ref_factor < math.inf:
            raise ValueError(f"ref_factor must be positive and finite, not {self.ref_factor}")
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError(f"dilations must be positive steps, not {self.dilations}")
        if self.patch < 1 or self.patch % 2 == 0:
            raise ValueError(f"patch must be odd, not {self.patch}")
        if self.adaptation not in get_args(Adaptation):
            raise ValueError(
                f"adaptation must be one of {get_args(Adaptation)}, not {self.adaptation!r}"
            )

    @property
    def dram_model(self) -> int:
        """The number of the paper's table 4: DRAM refines neither (1), the LR's features (2), the
        Ref's (3) or both (4)."""
        return 1 + self.dram_lr + 2 * self.dram_ref

    def in_words(self) -> str:
        """What the ablations vary, and the width."""
        adaptation = ADAPTATIONS[self.adaptation]
        return f"{self.channels} channels, {adaptation}, DRAM Model {self.dram_model}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MASAConfig:
        """Inverse of :meth:`to_dict`; unknown fields raise ``ValueError``."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown configuration fields: {', '.join(sorted(unknown))}")
        return cls(**values)
