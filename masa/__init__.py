"""MASA-SR: reference-based x4 super-resolution (Lu et al., CVPR 2021).

>>> import masa
>>> predictor = masa.Predictor(masa.load_model())
>>> result = predictor.upscale("photo.jpg", ["reference.jpg"])
>>> masa.write_photo("photo_x4.png", result.rgb, result.alpha)

The parts of the package, in an order in which each uses only those before it:

======================  ==========================================================================
:mod:`masa.pictures`    reading, writing, resizing, degrading and comparing pictures
:mod:`masa.network`     the network, one file per box of the paper's figure 2
:mod:`masa.reference`   several references stacked in one image; coordinates there and back
:mod:`masa.machine`     device and precision, predicted cost and memory, cache of features
:mod:`masa.weights`     loading and saving weights
:mod:`masa.predictor`   pictures of any size in, picture out
:mod:`masa.measuring`   evaluation on folders of pictures and studies of references
:mod:`masa.training`    training data, losses and the training loop
:mod:`masa.bench`       time and memory against the network's convolutions alone
:mod:`masa.commands`    the command line
======================  ==========================================================================
"""

from masa.config import SCALE, MASAConfig
from masa.errors import UserError
from masa.network.model import MASA, Trace
from masa.pictures.photo import ImageError, Limits, Photo
from masa.pictures.read import read_photo
from masa.pictures.write import write_photo
from masa.predictor import Predictor, Result
from masa.weights import choose_weights, load_model, shipped_weights

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
    "choose_weights",
    "load_model",
    "read_photo",
    "shipped_weights",
    "write_photo",
]
