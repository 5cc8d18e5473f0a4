"""``masa convert``: turn a checkpoint into safetensors for RGB pictures.

On the way it may be moved to a newer start, or mixed with another one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from masa.errors import UserError
from masa.network.model import MASA
from masa.weights import find_weights, load_model, read_state, save_weights, trained_full

EPILOG = """examples:
  python -m masa convert masa_rec.pth masa-rec-authors.safetensors
  python -m masa convert my_checkpoint.pth mine.safetensors --bgr
  python -m masa convert runs/full/final.safetensors weights/mine.safetensors --mix masa-photo 0.15
  python -m masa convert mine.safetensors new.safetensors --rebase old-start.safetensors masa-photo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to convert, and to what."""
    parser.add_argument("source", help="a .pth or .safetensors checkpoint")
    parser.add_argument("target", type=Path, help="the .safetensors file to write")
    parser.add_argument(
        "--bgr",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="the checkpoint was trained on BGR pictures (default: by the authors' file names; "
        "these always decide for the weights of --rebase and --mix)",
    )
    parser.add_argument(
        "--rebase",
        nargs=2,
        metavar=("OLD", "NEW"),
        help="for weights that went on from OLD, of which there is a better NEW: add NEW - OLD to "
        "every number, so that what the training changed is kept on the new start (task "
        "arithmetic, Ilharco et al., 2023); it is a start for more training rather than its "
        "replacement, and comes before --mix",
    )
    parser.add_argument(
        "--mix",
        nargs=2,
        metavar=("WEIGHTS", "SHARE"),
        help="put this share (0 to 1) of other weights of the same network into every number: of "
        "those that the checkpoint was trained from, it takes back some sharpness and error "
        "(network interpolation of ESRGAN, Wang et al., 2018)",
    )
    parser.add_argument("--fp32", action="store_true", help="keep float32 instead of float16")


def run(arguments: argparse.Namespace) -> int:
    """Load strictly, rebase and mix if asked to, write RGB weights."""
    if arguments.target.suffix != ".safetensors":
        raise UserError(
            f"'{arguments.target.name}' is no .safetensors file: give a name with that ending."
        )
    model = load_model(arguments.source, arguments.bgr)
    _, metadata = read_state(find_weights(arguments.source))
    state = model.state_dict()
    if arguments.rebase is not None:
        old, new = arguments.rebase
        start, better = _alike(model, old, "--rebase"), _alike(model, new, "--rebase")
        state = {name: value + better[name] - start[name] for name, value in state.items()}
        metadata["rebased"] = f"from {Path(old).stem} to {Path(new).stem}"
        if trained_full(find_weights(new)):
            metadata["stage"] = "full"
    if arguments.mix is not None:
        other, share = arguments.mix[0], _share(arguments.mix[1])
        others = _alike(model, other, "--mix")
        # Every number is moved by this share of the way to the other network's.
        state = {name: value.lerp(others[name], share) for name, value in state.items()}
        metadata["mixed"] = f"{share:g} of {Path(other).stem}"
        if share and trained_full(find_weights(other)):
            metadata["stage"] = "full"
    dtype = torch.float32 if arguments.fp32 else torch.float16
    try:
        save_weights(arguments.target, state, model.config, metadata, dtype)
    except OSError as error:
        raise UserError(
            f"'{arguments.target}' could not be written ({error.strerror}): choose another place."
        ) from None
    print(f"Wrote {arguments.target}.")
    return 0


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"'{text}' is no share of weights: give a number from 0 to 1.")
    return share


def _alike(model: MASA, weights: str, option: str) -> dict[str, Tensor]:
    """The numbers of other weights, if these are of a network of the same kind as ``model``."""
    other = load_model(weights)
    if model.config != other.config:
        raise UserError(
            f"Networks of two kinds have no numbers in common ({model.config.in_words()} and "
            f"{other.config.in_words()}): give {option} weights of the same kind."
        )
    return other.state_dict()
