"""The discriminator of adversarial training, in the VGG style of ESRGAN."""

from __future__ import annotations

from torch import Tensor, nn


class Discriminator(nn.Module):
    """Five times a 3x3 convolution and a halving 4x4 one, then two linear layers.

    ``size`` is the side of the pictures it judges, a multiple of 32 (128 or 160 in papers); the
    first linear layer depends on it.
    """

    def __init__(self, size: int = 160, channels: int = 64) -> None:
        super().__init__()
        if size < 32 or size % 32:
            raise ValueError(f"size must be a multiple of 32, not {size}")
        self.size = size
        widths = [channels, 2 * channels, 4 * channels, 8 * channels, 8 * channels]
        layers: list[nn.Module] = []
        before = 3
        for level, width in enumerate(widths):
            layers.append(nn.Conv2d(before, width, 3, 1, 1, bias=level == 0))
            if level:
                layers.append(_batch_norm(width))
            layers += [
                nn.LeakyReLU(0.2, inplace=True),
                nn.Conv2d(width, width, 4, 2, 1, bias=False),
                _batch_norm(width),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            before = width
        self.features = nn.Sequential(*layers)
        self.judge = nn.Sequential(
            nn.Linear(before * (size // 32) ** 2, 100),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(100, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """RGB ``(N, 3, size, size)`` in [0, 1] to logits ``(N, 1)``: how real each looks."""
        return self.judge(self.features(image).flatten(1))


def _batch_norm(width: int) -> nn.BatchNorm2d:
    # Running statistics serve evaluation only, and the discriminator is never evaluated. Without
    # them, processes that train together have nothing to keep equal.
    return nn.BatchNorm2d(width, track_running_stats=False)
