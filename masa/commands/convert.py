"""``masa convert``: turn a checkpoint into safetensors for RGB pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from masa.errors import UserError
from masa.weights import find_weights, load_model, read_state, save_weights

EPILOG = """examples:
  python -m masa convert masa_rec.pth masa-rec-authors.safetensors
  python -m masa convert my_checkpoint.pth mine.safetensors --bgr
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to convert, and to what."""
    parser.add_argument("source", help="a .pth or .safetensors checkpoint")
    parser.add_argument("target", type=Path, help="the .safetensors file to write")
    parser.add_argument(
        "--bgr",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="the checkpoint was trained on BGR pictures (default: by the authors' file names)",
    )
    parser.add_argument("--fp32", action="store_true", help="keep float32 instead of float16")


def run(arguments: argparse.Namespace) -> int:
    """Load strictly, write RGB weights."""
    if arguments.target.suffix != ".safetensors":
        raise UserError(
            f"'{arguments.target.name}' is no .safetensors file: give a name with that ending."
        )
    model = load_model(arguments.source, arguments.bgr)
    _, metadata = read_state(find_weights(arguments.source))
    dtype = torch.float32 if arguments.fp32 else torch.float16
    try:
        save_weights(arguments.target, model.state_dict(), model.config, metadata, dtype)
    except OSError as error:
        raise UserError(
            f"'{arguments.target}' could not be written ({error.strerror}): choose another place."
        ) from None
    print(f"Wrote {arguments.target}.")
    return 0
