"""``masa robustness``: how steady networks stay when references or photos change."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

from tqdm import tqdm

from demo.figures.robustness import MOST_NETWORKS, sheet
from demo.laboratory import default_networks
from demo.runs.served import png
from masa.commands.options import add_device, add_memory, add_refs, named_weights, write
from masa.commands.study import check_same
from masa.errors import UserError
from masa.machine.cache import FeatureCache
from masa.measuring.evaluate import finite, protocol
from masa.measuring.ladder import ALIGNING, FAMILIES, LIGHT, Rung, changed_by, family_called
from masa.measuring.robustness import (
    ALONE,
    BICUBIC,
    UNCHANGED,
    Curve,
    Row,
    Subject,
    csv_text,
    curves,
    rows_of,
    sweep,
    ways,
)
from masa.measuring.scenes import (
    Scene,
    check_refs,
    check_single,
    detect_layout,
    find_scenes,
    read_references,
)
from masa.pictures.degradation import lr_from_hr
from masa.pictures.photo import DATA_LIMITS
from masa.pictures.read import read_photo
from masa.predictor import Predictor, unwatched
from masa.weights import load_model

EPILOG = f"""examples:
  light and colour:       python -m masa robustness CUFED5 --refs 1 --out steady/
  what breaks matching:   python -m masa robustness CUFED5 --refs 1 --families scale blur --out b/
  the photo as a JPEG:    python -m masa robustness CUFED5 --families "photo jpeg" --out j/
  own values:             python -m masa robustness CUFED5 --families gain --values 0.5 1.5 --out g/
  with alignment and not: python -m masa robustness CUFED5 --refs 1 --families rotation --out r/

DIR holds scenes with references, as for 'evaluate'. Families: {", ".join(FAMILIES)}.
With {" and ".join(ALIGNING)}, networks run with and without alignment of the reference.
What --out already holds of the same weights and scenes is not computed again, so a long sweep
can be interrupted and continued, and networks can be added later.
"""

_KINDS = (UNCHANGED, ALONE, BICUBIC)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the test set")
    parser.add_argument(
        "--networks",
        nargs="+",
        default=default_networks(),
        metavar="NAME_OR_FILE",
        help=f"weights to compare, at most {MOST_NETWORKS} "
        f"(default: {' '.join(default_networks())})",
    )
    parser.add_argument(
        "--families",
        nargs="+",
        default=list(LIGHT),
        choices=list(FAMILIES),
        metavar="FAMILY",
        help=f"what changes, of the references or the photo (default: {' '.join(LIGHT)})",
    )
    parser.add_argument(
        "--points", type=int, default=5, help="values of each family (default: %(default)s)"
    )
    parser.add_argument(
        "--values", type=float, nargs="+", help="these values instead, of a single family"
    )
    add_refs(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="the first N scenes only")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for robustness.csv, robustness.json and robustness.png",
    )
    add_device(parser)
    add_memory(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; returns 0."""
    layout = detect_layout(args.folder)
    check_refs(layout, args.refs)
    every = find_scenes(args.folder, layout, args.refs)
    if args.limit is not None and args.limit < 1:
        raise UserError(f"A limit of {args.limit} leaves no scene: give --limit 1 or more.")
    scenes = every[: args.limit]
    if not all(scene.refs for scene in every):
        raise UserError(
            "A scene here has no reference to change: give a folder in which every scene has one."
        )
    rungs = _rungs(args)
    if any(rung.aligns for rung in rungs):
        check_single(every)
    networks, digests = _networks(args)
    first = next(iter(networks.values()))
    how = {
        "folder": str(args.folder),
        "scenes": ", ".join(scene.name for scene in every),  # another photo is that of the next one
        "protocol": protocol(layout, args.refs, 0),
        "device": first.device.type,
        "precision": str(first.dtype).removeprefix("torch."),
    }
    path = args.out / "robustness.json"
    rows = _known(path, how, digests)
    wanted = {(aligned, kind, 0.0) for kind in _KINDS for aligned in ways(rungs)}
    wanted |= {(aligned, r.family, r.value) for r in rungs for aligned in ways([r])}
    todo = {
        scene.name: [
            name
            for name in networks
            if not wanted
            <= {_change(row) for row in rows if (row.scene, row.network) == (scene.name, name)}
        ]
        for scene in scenes
    }
    items = 2 * len(ways(rungs)) + sum(len(ways([rung])) for rung in rungs)
    runs = sum(map(len, todo.values())) * items
    with tqdm(total=runs, unit="run", disable=None) as bar:
        for number, scene in enumerate(scenes):
            names = todo[scene.name]
            if not names:
                continue
            subject = _subject(every, number)
            found: list[Row] = []
            for item in sweep(subject, rungs, {n: networks[n] for n in names}, unwatched):
                found += rows_of(item, scene.name)
                bar.update()
            replaced = {(row.scene, row.network, _change(row)) for row in found}
            rows = [r for r in rows if (r.scene, r.network, _change(r)) not in replaced]
            rows += found
            write(path, _json(rows, how, digests))
    names_of_scenes = {scene.name for scene in scenes}
    shown = [
        row
        for name in networks
        for row in rows
        if row.network == name and row.scene in names_of_scenes and _change(row) in wanted
    ]
    groups = _groups(shown, args.families)
    print(table(groups, len(scenes), how))
    drawn = sheet(groups, measured=True)
    write(args.out / "robustness.csv", csv_text(shown))
    write(args.out / "robustness.png", png(drawn.image))
    print(f"Wrote robustness.csv, robustness.json and robustness.png to {args.out}.")
    return 0


def _change(row: Row) -> tuple[bool, str, float]:
    """What tells a scene's rows of one network from each other."""
    return row.aligned, row.family, row.value


def _rungs(args: argparse.Namespace) -> list[Rung]:
    families = [family_called(name) for name in dict.fromkeys(args.families)]
    if args.values is None:
        return [rung for family in families for rung in family.rungs(family.values(args.points))]
    if len(families) != 1:
        raise UserError("The option --values is for a single family: name it with --families.")
    rungs = families[0].rungs(sorted(set(args.values)))
    if not rungs:
        raise UserError("These --values change nothing: give others than the neutral one.")
    return rungs


def _networks(args: argparse.Namespace) -> tuple[dict[str, Predictor], dict[str, str]]:
    """Predictors by name, and digests of the files behind them."""
    networks: dict[str, Predictor] = {}
    digests: dict[str, str] = {}
    features = FeatureCache(2 * MOST_NETWORKS)
    paths = named_weights(args.networks)
    if len(paths) > MOST_NETWORKS:
        raise UserError(f"{len(paths)} networks are too many: choose at most {MOST_NETWORKS}.")
    for name, path in paths.items():
        digests[name] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        networks[name] = Predictor(
            load_model(path), args.device, args.precision, memory=args.memory, features=features
        )
    return networks, digests


def _subject(scenes: Sequence[Scene], number: int) -> Subject:
    """A scene, with the next one's reference as the photo of something else."""
    lr, hr = lr_from_hr(read_photo(scenes[number].hr, "sharp photo", DATA_LIMITS).rgb)
    ref, other = (
        read_references(scene) for scene in (scenes[number], scenes[(number + 1) % len(scenes)])
    )
    assert ref is not None
    return Subject(lr, (ref,), hr, other if len(scenes) > 1 else None)


def _groups(rows: Sequence[Row], families: Sequence[str]) -> list[list[Curve]]:
    """The lines' curves, family by family."""
    found = curves(rows, list(dict.fromkeys(families)))
    return [
        [curve for curve in found if curve.family == family] for family in dict.fromkeys(families)
    ]


def table(groups: Sequence[Sequence[Curve]], scenes: int, how: Mapping[str, str]) -> str:
    """Means over scenes, for reading: PSNR, and what each change costs."""
    some = {curve.line: curve for group in groups for curve in group}
    width = max(12, *(len(name) + 2 for name in some))

    def row(title: str, numbers: Mapping[str, float | None], digits: int = 2) -> str:
        cells = ("" if (n := numbers.get(name)) is None else f"{n:.{digits}f}" for name in some)
        return f"{title:28}" + "".join(f"{cell:>{width}}" for cell in cells)

    lines = [
        f"{how['folder']} ({scenes} pictures), {how['device']} {how['precision']}",
        how["protocol"],
        " " * 28 + "".join(f"{name:>{width}}" for name in some),
        "PSNR, dB",
        row("  unchanged", {name: curve.unchanged.psnr for name, curve in some.items()}),
        row("  no reference", {name: curve.alone for name, curve in some.items()}),
        row("  bicubic", {name: curve.bicubic for name, curve in some.items()}),
        "Lost by the change, dB",
    ]
    for group in groups:
        for value in sorted({level.value for curve in group for level in curve.levels}):
            levels = [next(lv for lv in curve.levels if lv.value == value) for curve in group]
            if any(
                level is not curve.unchanged for level, curve in zip(levels, group, strict=True)
            ):
                drops = {c.line: c.drop(level) for level, c in zip(levels, group, strict=True)}
                lines.append(row(f"  {levels[0].title}", drops))
        means = {curve.line: curve.mean_drop for curve in group}
        lines.append(row(f"  {group[0].family}, mean", means))
    return "\n".join(lines)


def _json(rows: Sequence[Row], how: Mapping[str, str], digests: Mapping[str, str]) -> str:
    """Everything, for programs and for continuing; an infinite PSNR is null."""
    written = []
    for row in rows:
        numbers = asdict(row)
        numbers |= {key: finite(numbers[key]) for key in _decibels(row)}
        written.append(numbers)
    content = {**how, "networks": dict(digests), "rows": written}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _decibels(row: Row) -> list[str]:
    """The row's fields that hold dB. In a file, ``None`` in one of them is infinite."""
    changes_photo = row.family in FAMILIES and changed_by(row.family) == "the photo"
    return ["psnr", "alone", "bicubic"] if changes_photo else ["psnr"]


def _known(path: Path, how: Mapping[str, str], digests: dict[str, str]) -> list[Row]:
    """Rows measured before in the same way; adds the digests of networks that have some.

    Raises ``UserError`` if the file holds something else.
    """
    if not os.path.isfile(path):  # unlike a Path's method, it never raises
        return []
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        before_how = {key: content[key] for key in how}
        before = content["networks"]
        rows = [_read(entry) for entry in content["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"'{path}' holds something other than a sweep's numbers: choose another --out."
        ) from None
    check_same(path, before_how, how)
    same = {name for name, digest in before.items() if digests.setdefault(name, digest) == digest}
    return [row for row in rows if row.network in same]


def _read(entry: dict[str, Any]) -> Row:
    row = Row(**entry)
    return Row(**{**entry, **{key: inf for key in _decibels(row) if getattr(row, key) is None}})
