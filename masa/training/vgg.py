"""VGG19 up to conv5_4, whose features the perceptual loss compares."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from masa.errors import UserError

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
"""Torchvision's published ImageNet weights; the end of the name is the file's hash."""

_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class VGG19Features(nn.Module):
    """The network's first 16 convolutions; modules are numbered as torchvision does."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in _WIDTHS:
            if width:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])  # conv5_4's features before its ReLU
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """RGB ``(N, 3, H, W)`` in [0, 1], sides at least 16, to ``(N, 512, H / 16, W / 16)``."""
        return self.features((image - self.mean) / self.std)


def load_vgg(path: str | Path | None = None) -> VGG19Features:
    """The network with ImageNet weights, frozen.

    Without ``path``, torchvision's file is fetched once into PyTorch's cache. Raises
    ``UserError`` if it can be neither found nor fetched, or does not hold VGG19.
    """
    state = _fetch() if path is None else _read(Path(path))
    model = VGG19Features()
    wanted = {key: state.get(key) for key in model.state_dict()}
    if any(value is None for value in wanted.values()):
        raise UserError(
            f"'{path or URL}' does not hold VGG19's weights: give torchvision's file, {URL}."
        )
    try:
        model.load_state_dict(wanted)
    except RuntimeError:
        raise UserError(
            f"'{path or URL}' holds a network other than VGG19: give torchvision's file, {URL}."
        ) from None
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.requires_grad_(False).eval()


def _fetch() -> dict[str, Tensor]:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        return torch.hub.load_state_dict_from_url(
            URL, map_location="cpu", check_hash=True, weights_only=True
        )
    except Exception:  # of the network, the disk, or of the file, which may hold anything
        raise UserError(
            f"VGG19's weights, which --stage full needs, could not be downloaded: fetch {URL} "
            f"(550 MB) and put it into '{folder}', or name it with --vgg."
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"There is no file '{path}': give VGG19's weights, from {URL}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # arbitrary bytes make a reader raise nearly every built-in exception
        state = None
    if not isinstance(state, dict):
        raise UserError(f"'{path}' cannot be read: give VGG19's weights, from {URL}.")
    return state
