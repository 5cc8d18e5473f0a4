"""MASA-SR: reference-based x4 super-resolution (Lu et al., CVPR 2021)."""

from masa.config import SCALE, MASAConfig
from masa.model import MASA, Trace

__all__ = ["MASA", "SCALE", "MASAConfig", "Trace"]
