"""What long measurements of several networks share: scenes, and numbers written down as they come.

No command of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from masa.commands.options import add_device, add_memory, add_refs, write
from masa.errors import UserError
from masa.machine.device import resolve_device, resolve_precision
from masa.measuring.evaluate import finite, protocol
from masa.measuring.scenes import Layout, Refs, Scene, check_refs, detect_layout, find_scenes
from masa.predictor import Predictor
from masa.weights import load_model

_Numbers = TypeVar("_Numbers")
"""A dataclass of numbers."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The scenes, where to write and where to compute."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the test set")
    add_refs(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="the first N scenes only")
    add_places(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where to write and where to compute."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    add_device(parser)
    add_memory(parser)


@dataclass(frozen=True)
class Chosen:
    """The scenes that are measured, and how they were found."""

    folder: Path
    layout: Layout
    refs: Refs
    scenes: Sequence[Scene]
    seed: int = 0
    """It drew Sun80's references."""


def scenes_with_references(args: argparse.Namespace) -> Chosen:
    """Those that the options name. Raises ``UserError`` if one has no reference."""
    layout = detect_layout(args.folder)
    check_refs(layout, args.refs)
    if args.limit is not None and args.limit < 1:
        raise UserError(f"A limit of {args.limit} leaves no scene: give --limit 1 or more.")
    scenes = find_scenes(args.folder, layout, args.refs)[: args.limit]
    if not all(scene.refs for scene in scenes):
        raise UserError(
            "A scene here has no reference: give a folder in which every scene has one."
        )
    return Chosen(args.folder, layout, args.refs, scenes)


def check_same(path: Path, before: Mapping[str, Any], how: Mapping[str, Any]) -> None:
    """Raises ``UserError`` if the numbers in a file were measured otherwise than is asked now."""
    other = [key for key in how if before[key] != how[key]]
    if other:
        raise UserError(
            f"'{path}' holds numbers that were measured otherwise ({', '.join(other)}): choose "
            "another --out."
        )


class Study:
    """Scenes, and what networks reach on them, kept in a JSON file.

    Numbers that an earlier call measured on the same scenes in the same way are not measured again;
    those of another kind are never overwritten.
    """

    def __init__(self, args: argparse.Namespace, file: str, chosen: Chosen) -> None:
        """``file`` is the name of the JSON file in ``--out``. Raises ``UserError``."""
        self._args, self._path = args, args.out / file
        self.scenes = chosen.scenes
        device = resolve_device(args.device)
        dtype = resolve_precision(args.precision, device)
        told = protocol(chosen.layout, chosen.refs, 0, chosen.seed)
        self.protocol = f"{len(self.scenes)} scenes; {told}"
        self._how: dict[str, Any] = {
            "folder": str(chosen.folder),
            "scenes": [scene.name for scene in self.scenes],
            "protocol": self.protocol,
            "device": device.type,
            "precision": str(dtype).removeprefix("torch."),
        }
        self._numbers = self._read()

    def predictor(self, weights: Path) -> Predictor:
        """The network in a file, as the options ask. Raises ``UserError``."""
        args = self._args
        return Predictor(load_model(weights), args.device, args.precision, memory=args.memory)

    def reached(
        self, weights: Path, case: str, kind: type[_Numbers], measure: Callable[[], _Numbers]
    ) -> _Numbers:
        """The numbers of a file of weights in a case, measured unless they are known.

        Raises ``UserError`` if they cannot be written, and what ``measure`` raises.
        """
        # Other weights of the same name are told apart.
        digest = hashlib.blake2b(weights.read_bytes(), digest_size=16).hexdigest()
        known = self._numbers.setdefault(digest, {})
        if case not in known:
            measured = asdict(measure())  # type: ignore[call-overload]
            known[case] = {key: finite(number) for key, number in measured.items()}
            content = {**self._how, "numbers": self._numbers}
            write(self._path, json.dumps(content, indent=1, allow_nan=False) + "\n")
        # JSON has no infinity, which stands for a PSNR of equal pictures.
        return kind(**{key: inf if n is None else n for key, n in known[case].items()})

    def _read(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """Numbers by weights and case, as an earlier call wrote them. Raises ``UserError``."""
        if not os.path.isfile(self._path):  # unlike a Path's method, it never raises
            return {}
        try:
            content = json.loads(self._path.read_text("utf-8"))
            before = {key: content[key] for key in self._how}
            numbers = {key: dict(cases) for key, cases in content["numbers"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"'{self._path}' holds something other than these numbers: choose another --out."
            ) from None
        check_same(self._path, before, self._how)
        return numbers
