"""Weights: by name those that were shipped or lie in a named folder, others from a file.

All are checked before they are used.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from masa.config import MASAConfig
from masa.errors import UserError
from masa.files import write_whole
from masa.network.model import MASA

_PACKAGE = Path(__file__).resolve().parent
_INSIDE = _PACKAGE / "_weights"
WEIGHTS_DIR = _INSIDE if _INSIDE.is_dir() else _PACKAGE.parent / "weights"
"""Where shipped weights lie, as ``NAME.safetensors``: inside the package where it was installed,
beside it in the repository."""

OWN_WEIGHTS = "MASA_WEIGHTS"
"""Environment variable: a folder of more weights, which are then known by name too."""

DEFAULT_WEIGHTS = "masa-rec"
"""Weights for LRs that are reduced from a sharp picture and nothing else."""

PHOTO_WEIGHTS = "masa-photo"
"""Weights for photos as people have them, with JPEG blocks, noise or blur."""

AUTO = "auto"
"""What stands for a name where the photo decides which weights are taken."""

_BGR_NAMES = {"masa_rec.pth", "masa.pth"}  # the released checkpoints, trained on BGR pictures
_CONFIG_KEY = "masa_config"
_KINDS = (".safetensors", ".pth", ".pt")


def shipped_weights() -> list[str]:
    """Names of weights, the default first: those that came with the project, and those of files in
    the folder that ``MASA_WEIGHTS`` names. Warns if that is no folder.
    """
    return sorted(_named(), key=lambda name: (name != DEFAULT_WEIGHTS, name))


def choose_weights(made_clean: bool, asked: str = AUTO) -> str:
    """The name of the weights to take: ``asked`` itself, unless it is ``auto``.

    ``auto`` takes ``masa-photo`` for a photo that is small already or was degraded, and
    ``masa-rec`` if ``made_clean``: the LR is made from a sharp picture by bicubic reduction alone.
    Where ``masa-photo`` is not among :func:`shipped_weights`, ``auto`` is always ``masa-rec``.
    """
    if asked != AUTO:
        return asked
    if made_clean or PHOTO_WEIGHTS not in shipped_weights():
        return DEFAULT_WEIGHTS
    return PHOTO_WEIGHTS


def invents_detail(name: str) -> bool:
    """Whether the weights of that name were trained in the stage ``full`` too.

    Then results are sharper, and some of their detail is invented. The file says so itself; a .pth
    file does not, and neither do weights that are not there.
    """
    path = _named().get(name)
    return path is not None and trained_full(path)


def trained_full(path: Path) -> bool:
    """:func:`invents_detail`, of a file."""
    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("stage") == "full"
    except Exception:  # of a file that holds anything; who loads it is told
        return False


def _named() -> dict[str, Path]:
    """Files of weights by name; of two with one name the shipped one, or the safetensors."""
    files = sorted(WEIGHTS_DIR.glob("*.safetensors"))
    if own := os.environ.get(OWN_WEIGHTS):
        folder = Path(own).expanduser()
        if not folder.is_dir():
            warnings.warn(
                f"The variable {OWN_WEIGHTS} names '{own}', which is no folder: let it name one "
                "that holds weights, or unset it.",
                stacklevel=3,
            )
        files += [path for kind in _KINDS for path in sorted(folder.glob(f"*{kind}"))]
    named: dict[str, Path] = {}
    for path in files:
        named.setdefault(path.stem, path)
    return named


def load_model(name_or_path: str | Path = DEFAULT_WEIGHTS, bgr: bool | None = None) -> MASA:
    """A ready network (float32, on the CPU, in evaluation mode, without gradients).

    ``name_or_path`` is one of :func:`shipped_weights` or a ``.safetensors``, ``.pth`` or ``.pt``
    file. ``bgr`` says that the file was trained on BGR pictures, as the released checkpoints were;
    by default they are recognised by their file names. Raises ``UserError`` if the file cannot be
    used.
    """
    path = find_weights(name_or_path)
    state, metadata = read_state(path)
    if bgr if bgr is not None else path.name in _BGR_NAMES:
        state = swap_red_and_blue(state)
    config = config_of(metadata)
    _check_width(config, state)
    model = MASA(config)
    _check_keys(path, state, model.state_dict())
    model.load_state_dict(state)
    return model.requires_grad_(False).eval()


def find_weights(name_or_path: str | Path) -> Path:
    """The file behind a name or a path; ``UserError`` if there is none."""
    name, named = str(name_or_path), _named()
    if name in named:
        return named[name]
    path = Path(name_or_path)
    with contextlib.suppress(OSError):  # a name that is too long for a file
        if path.is_file():
            return path
    raise UserError(
        f"There are no weights '{name}': give the path of a .safetensors or .pth file, or one of "
        f"{', '.join(sorted(named)) or 'the shipped names (none is installed)'}."
    )


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict in float32 and metadata of a weights file, without running any code in it.

    A ``module.`` prefix, left by training on several GPUs, is removed, and so is a single
    enclosing ``state_dict`` or ``params``. Raises ``UserError`` if the file is no such thing.
    """
    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                content: Any = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # arbitrary bytes make a reader raise nearly every built-in exception
        raise UserError(
            f"'{path.name}' is not a weights file that can be read safely: give a .safetensors "
            "file or a .pth file that holds tensors only."
        ) from None
    if isinstance(content, dict):
        for wrapper in ("state_dict", "params"):
            if isinstance(content.get(wrapper), dict):
                content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(
            f"'{path.name}' holds something other than a network's weights: give a file with a "
            "state dict of named tensors."
        )
    state = {str(key).removeprefix("module."): value.float() for key, value in content.items()}
    return state, metadata


_DAMAGED_CONFIG = "The weights file's own configuration is damaged: convert or download it again."


def config_of(metadata: Mapping[str, str]) -> MASAConfig:
    """The configuration stored beside weights; the default one where none is stored."""
    try:
        return MASAConfig.from_dict(json.loads(metadata.get(_CONFIG_KEY, "{}")))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(_DAMAGED_CONFIG) from None


def save_weights(
    path: Path,
    state: Mapping[str, Tensor],
    config: MASAConfig,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write weights, configuration and ``metadata`` as safetensors, atomically.

    Half precision halves the file and costs less than 0.01 dB. Raises ``OSError``.
    """
    tensors = {key: value.detach().to("cpu", dtype).contiguous() for key, value in state.items()}
    content = save(tensors, {**(metadata or {}), _CONFIG_KEY: json.dumps(config.to_dict())})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def swap_red_and_blue(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same network for RGB pictures instead of BGR ones, or the other way round."""
    swapped = dict(state)
    if "enc.conv_L1.weight" in swapped:
        swapped["enc.conv_L1.weight"] = swapped["enc.conv_L1.weight"].flip(1)
    for key in ("decoder.conv_out.weight", "decoder.conv_out.bias"):
        if key in swapped:
            swapped[key] = swapped[key].flip(0)
    return swapped


_LEAST_CONVOLUTIONS = 50
"""Every network has more than twice as many from C to C channels."""


def _check_width(config: MASAConfig, state: Mapping[str, Tensor]) -> None:
    """Raise ``UserError`` if a file is far too small for the width that its configuration states.

    A network is built before its weights are looked at one by one; a wide one takes much memory.
    """
    least = _LEAST_CONVOLUTIONS * 9 * config.channels**2
    if config.channels > MASAConfig.channels and sum(map(Tensor.numel, state.values())) < least:
        raise UserError(_DAMAGED_CONFIG)


def _check_keys(path: Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    wrong_shape = [
        key for key in expected if key in state and state[key].shape != expected[key].shape
    ]
    faults = {
        "missing": sorted(set(expected) - set(state)),
        "unexpected": sorted(set(state) - set(expected)),
        "of another shape": wrong_shape,
    }
    found = [f"{_short_list(keys)} {fault}" for fault, keys in faults.items() if keys]
    if found:
        raise UserError(
            f"'{path.name}' does not hold MASA's weights ({'; '.join(found)}): give a file made "
            "by this project or one of the released checkpoints."
        )
    infinite = [key for key in expected if not state[key].isfinite().all()]
    if infinite:
        raise UserError(
            f"'{path.name}' holds values that are no numbers ({_short_list(infinite)}): the "
            "training that made it went wrong, so take an earlier checkpoint."
        )


def _short_list(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
