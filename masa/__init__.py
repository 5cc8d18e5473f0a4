"""MASA-SR: reference-based x4 super-resolution (Lu et al., CVPR 2021).

>>> import masa
>>> predictor = masa.Predictor(masa.load_model())
>>> result = predictor.upscale("photo.jpg", ["reference.jpg"])
>>> masa.write_photo("photo_x4.png", result.rgb, result.alpha)
"""

from masa.config import SCALE, MASAConfig
from masa.errors import UserError
from masa.network.model import MASA, Trace
from masa.pictures.photo import ImageError, Limits, Photo
from masa.pictures.read import read_photo
from masa.pictures.write import write_photo
from masa.predictor import Predictor, Result
from masa.weights import load_model, shipped_weights

__all__ = [
    "MASA",
    "SCALE",
    "ImageError",
    "Limits",
    "MASAConfig",
    "Photo",
    "Predictor",
    "Result",
    "Trace",
    "UserError",
    "load_model",
    "read_photo",
    "shipped_weights",
    "write_photo",
]
