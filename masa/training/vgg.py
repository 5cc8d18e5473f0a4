"""VGG16 or VGG19 up to the last convolution, whose features the perceptual loss compares."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from masa.errors import UserError
from masa.weights import read_state

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
"""Torchvision's published ImageNet weights of VGG19; the end of the name is the file's hash."""

VGG19, VGG16 = "VGG19 conv5_4", "VGG16 conv5_3"
"""The networks, with the layer whose features are compared, before its ReLU."""
_CONVOLUTIONS = {VGG19: (2, 2, 4, 4, 4), VGG16: (2, 2, 3, 3, 3)}  # before each halving
_WIDTHS = (64, 128, 256, 512, 512)
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class VGGFeatures(nn.Module):
    """All convolutions of the network called ``name``; modules are numbered as torchvision does."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = VGG19) -> None:
        super().__init__()
        self.name = name
        layers: list[nn.Module] = []
        channels = 3
        for width, count in zip(_WIDTHS, _CONVOLUTIONS[name], strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-2])  # without the last ReLU and halving
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """RGB ``(N, 3, H, W)`` in [0, 1], sides at least 16, to ``(N, 512, H / 16, W / 16)``."""
        return self.features((image - self.mean) / self.std)


def load_vgg(path: str | Path | None = None) -> VGGFeatures:
    """The network whose ImageNet weights a file holds, VGG16 or VGG19, frozen.

    The file is laid out as torchvision's, as safetensors or as a .pth file of tensors, for RGB
    pictures; what else it holds, as the classifier, is left out. Without ``path``, torchvision's
    VGG19 is fetched once into PyTorch's cache. Raises ``UserError`` if the file can be neither
    found nor fetched, or holds neither network.
    """
    state: Mapping[str, Tensor] = _fetch() if path is None else _read(Path(path))
    for name in _CONVOLUTIONS:
        model = VGGFeatures(name)
        wanted = {key: state.get(key) for key in model.state_dict()}
        if all(
            value is not None and value.shape == model.state_dict()[key].shape
            for key, value in wanted.items()
        ):
            model.load_state_dict(wanted)
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            return model.requires_grad_(False).eval()
    raise UserError(
        f"'{path or URL}' holds neither VGG19 nor VGG16 as torchvision lays them out: give "
        f"torchvision's file, {URL}."
    )


def _fetch() -> dict[str, Tensor]:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return torch.hub.load_state_dict_from_url(
            URL, map_location="cpu", check_hash=True, weights_only=True
        )
    except Exception:  # of the network, the disk, or of the file, which may hold anything
        raise UserError(
            f"VGG19's weights, which --stage full needs, could not be downloaded: fetch {URL} "
            f"(550 MB) and put it into '{folder}', or name it, or a file with VGG16's, with --vgg."
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    if not os.path.isfile(path):  # unlike a Path's method, it never raises
        raise UserError(f"There is no file '{path}': give VGG16's or VGG19's weights, as {URL}.")
    return read_state(path)[0]
