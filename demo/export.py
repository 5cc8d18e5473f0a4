"""Everything a run can show, as files: figures, maps, settings, and how to repeat it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from demo.figures.places import matched_cells
from demo.figures.result import Scores, measure
from demo.figures.tabs import FIGURES, TABS
from demo.figures.view import View
from demo.runs.exploration import Exploration
from demo.runs.jobs import DRAWING, Finished, Step, Steps, Turns, after_others, rank
from demo.runs.served import png
from demo.settings import ARCHIVE_QUEUE
from masa.measuring.evaluate import finite
from masa.pictures.photo import DEFAULT_LIMITS
from masa.reference.alignment import Alignment
from masa.reference.canvas import RefCanvas

ARCHIVES = Turns(ARCHIVE_QUEUE, "archives", most_each=ARCHIVE_QUEUE // 2)
"""Where archives wait to be packed."""

SNIPPET = '''"""Repeats this run with the Python package; put the pictures beside this file."""

import masa

predictor = masa.Predictor(masa.load_model("{weights}"){limits})
result = predictor.upscale("lr.png", {refs})  # the references as the network read them
masa.write_photo("repeated.png", result.rgb)  # without transparency
print(result.trace.matches.position)  # the same as "position" in maps.npz
'''


def export(x: Exploration, view: View | None = None) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file: pictures, ``figures/``, ``maps.npz``, ``run.json``, code."""
    view = (view or View.opening(x)).clipped(x)
    yield "lr.png", png(x.visitors_lr())  # opaque: the network read what is under transparency too
    if x.lr_alpha is not None:
        yield "lr_alpha.png", png(np.repeat(x.lr_alpha[:, :, None], 3, 2))
    for number, ref in enumerate(x.references, start=1):
        yield f"ref_{number}.png", png(ref.rgb)
    read = []
    for position, place in enumerate(x.ref.placements):
        read.append(f"ref_{place.number + 1}.png")
        if place.own is not None:
            read[-1] = f"ref_{place.number + 1}_aligned.png"
            yield read[-1], png(x.ref.seen(x.ref.rgb, position))
    yield "result.png", png(x.result, x.alpha)
    yield "bicubic.png", png(x.bicubic)
    if x.hr is not None:
        yield "sharp.png", png(x.hr)
    if x.plain is not None:
        yield "without_reference.png", png(x.plain)
    if x.faithful is not None:
        yield "without_invented_detail.png", png(x.faithful)
    words = []
    for tab in TABS:
        for figure in tab.figures:
            with DRAWING.held(rank(background=True)):
                drawn = figure.draw(x, view)
            if drawn is None:
                shown = f"Not drawn: *{figure.missing(x, view)}*"
            else:
                name = f"figures/{tab.id}_{figure.id}.png"
                yield name, png(drawn.image)
                shown = f"{drawn.summary}\n\n`{name}`"
            words.append(f"## {figure.title}\n\n{figure.caption}\n\n{shown}")
    yield "figures.md", "\n\n".join(words).encode()
    yield "maps.npz", maps(x)
    yield "run.json", json.dumps(run_numbers(x), indent=2, allow_nan=False).encode()
    yield "repeat.py", snippet(x.weights, [] if x.self_reference else read).encode()


def snippet(weights: str, refs: Sequence[str]) -> str:
    """Code that repeats a run with these files as its references.

    A reference that was used both aligned and as it is has two files, so that there may be more
    of them than a predictor takes unless told otherwise.
    """
    many = len(refs) > DEFAULT_LIMITS.max_references
    limits = f", limits=masa.Limits(max_references={len(refs)})" if many else ""
    return SNIPPET.format(weights=weights, limits=limits, refs=list(refs))


def maps(x: Exploration) -> bytes:
    """The maps as ``.npz``; what they are is in :class:`masa.network.matching.Matches`.

    Besides, ``reference`` ``(H, W)`` is which reference each LR pixel matched, from 0, and
    ``place`` ``(2, H, W)`` the (row, column) there, in the reference's own pixels.
    """
    matches, geometry = x.matches, x.matches.geometry
    own = x.ref.locate(*matched_cells(x))
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        coarse_index=matches.coarse.index[0].numpy(),
        coarse_score=matches.coarse.score[0].numpy(),
        coarse_per_dilation=matches.coarse.per_dilation[0].numpy(),
        ref_corner=matches.corner[0].numpy(),
        ref_block=np.array([geometry.ref_block_height, geometry.ref_block_width]),
        index_map=matches.index[0].numpy(),
        position=matches.position[0].numpy(),
        similarity=matches.similarity[0, 0].numpy(),
        reference=own.number,
        place=np.stack((own.row, own.column)).astype(np.float32),
    )
    return buffer.getvalue()


def run_numbers(x: Exploration) -> dict[str, Any]:
    """Sizes, weights, settings, times, costs and scores of a run, as plain values."""
    scores = measure(x)
    found = {
        "weights": x.weights,
        "weights_without_invented_detail": None if x.faithful is None else x.auto,
        "lr": [x.lr.width, x.lr.height],
        "is_hr": x.hr is not None,
        "degradation": x.degradation,
        "references": [list(ref.plain.size[::-1]) for ref in x.references],
        "self_reference": x.self_reference,
        "shift": asdict(x.shift),
        "align": x.align,
        "alignments": alignments(x.alignments, x.ref),
        "seconds": dict(x.seconds),
        "peak_memory": None if x.peak is None else asdict(x.peak),
        "multiply_adds": asdict(x.cost),
        "multiply_adds_as_the_paper_counts": asdict(x.paper),
        "scores_on_y_no_border_cropped": None if scores is None else _scores(scores),
        "notes": list(x.notes),
    }
    return for_json(found)


def _scores(scores: Scores) -> dict[str, Any]:
    """By picture, under the names that ``/super_resolve`` has too."""
    named = {"result": scores.masa, "plain": scores.plain, "bicubic": scores.bicubic}
    return {name: None if score is None else asdict(score) for name, score in named.items()}


def alignments(found: Sequence[Alignment | None], canvas: RefCanvas) -> list[dict[str, Any]]:
    """How each reference lies, and which views of it were used, as plain values.

    ``matrix`` leads from (x, y, 1) in the photo at x4 to the reference's own pixels.
    """
    used = {(place.number, place.own is not None) for place in canvas.placements}
    return [
        {
            "words": None if one is None else one.words,
            "turn": None if one is None else one.turn,
            "zoom": None if one is None else one.zoom,
            "tilt": None if one is None else one.tilt,
            "matrix": None if one is None else one.matrix.tolist(),
            "features_that_agree": None if one is None else len(one.frame_points),
            "used_as_it_is": (number, False) in used,
            "used_aligned": (number, True) in used,
        }
        for number, one in enumerate(found)
    ]


def for_json(value: Any) -> Any:
    """``value`` for JSON, which has no infinity: the PSNR of identical pictures becomes null."""
    if isinstance(value, dict):
        return {str(key): for_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [for_json(item) for item in value]
    return finite(value) if isinstance(value, float) else value


def pack(
    run: Callable[[], Exploration], view: View | None = None, admitted: bool = False
) -> Steps[bytes]:
    """:func:`export` of ``run()`` as one zip file; of the same run and view, always the same bytes.

    One archive is packed at a time, and the run is asked for when its turn has come. Raises
    ``UserError`` if too many wait, unless who asks was ``admitted`` before, and what ``run()``
    raises.
    """
    return after_others(ARCHIVES, _packed(run, view), admitted)


def _packed(run: Callable[[], Exploration], view: View | None) -> Steps[bytes]:
    x = run()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for number, (name, data) in enumerate(export(x, view)):
            archive.writestr(_entry(name), data)
            yield Step(min(number / len(FIGURES), 1), "Packing", None)
    yield Finished(buffer.getvalue())


def _entry(name: str) -> zipfile.ZipInfo:
    """An archive's entry whose bytes depend neither on the day nor on the system."""
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))  # the earliest that zips hold
    entry.create_system = 3  # Unix, whose permissions are next: readable by all
    entry.external_attr = 0o644 << 16
    return entry
