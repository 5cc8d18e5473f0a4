"""What happens when a visitor presses something: plain functions, called by the page and by tests.

Only these turn errors into messages.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from demo.files import serve_png
from demo.runs import Request, Run, Score, run
from masa.errors import UserError
from masa.predictor import Progress

HR_MODE = "It is sharp: make the small photo from it"
LR_MODE = "It is small: enlarge it"


@dataclass(frozen=True)
class Shown:
    """What the page shows of a finished run."""

    before_after: tuple[str, str]
    """Files of the bicubic picture and of the result."""
    download: str
    """File of the result, with transparency if the photo had any."""
    report: str
    """Markdown: sizes, numbers, notes."""


def enlarge(
    photo: str | None,
    gallery: Sequence[tuple[str, str | None]] | None,
    mode: str,
    weights: str,
    progress: Progress,
) -> Shown:
    """Run the network on uploaded files; raises ``gr.Error`` with one sentence for the visitor."""
    with told_kindly():
        finished = run(request_of(photo, gallery, mode, weights), progress)
        return show(finished)


def request_of(
    photo: str | None,
    gallery: Sequence[tuple[str, str | None]] | None,
    mode: str,
    weights: str,
) -> Request:
    """The request behind the page's inputs. Raises ``UserError``."""
    if not photo:
        raise UserError("Add a photo first, or click one of the examples.")
    refs = tuple(path for path, _ in gallery or ())
    return Request(photo, refs, mode == HR_MODE, weights)


def show(finished: Run) -> Shown:
    """Files and words for a finished run."""
    result = finished.result
    return Shown(
        (serve_png(result.bicubic, "bicubic_x4.png"), serve_png(result.rgb, "masa_x4.png")),
        serve_png(result.rgb, "masa_x4.png", result.alpha),
        report(finished),
    )


def report(finished: Run) -> str:
    """Markdown on sizes, time and, where the HR is known, PSNR and SSIM."""
    result = finished.result
    height, width = result.rgb.shape[:2]
    seconds = sum(result.seconds.values())
    lines = [
        f"**{width // 4} x {height // 4} to {width} x {height} pixels in {seconds:.1f} s**"
        + (" without a reference: the photo was its own." if result.self_reference else "."),
    ]
    ours, bicubic = finished.score(result.rgb), finished.score(result.bicubic)
    if ours and bicubic:
        lines += [
            "",
            "| | PSNR on Y | SSIM on Y |",
            "|---|---|---|",
            f"| MASA | {_numbers(ours)} |",
            f"| bicubic | {_numbers(bicubic)} |",
            "",
            "Measured against the sharp photo, no border cropped.",
        ]
    lines += [f"- {html.escape(note)}" for note in result.notes]
    return "\n".join(lines)


def _numbers(score: Score) -> str:
    ssim = "too small" if score.ssim is None else f"{score.ssim:.4f}"
    return f"{score.psnr:.2f} dB | {ssim}"


class told_kindly:  # noqa: N801 - reads as a phrase in a with statement
    """Turns what goes wrong inside the block into one sentence for the visitor."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UserError):
            raise gr.Error(html.escape(str(error)), print_exception=False) from None
        if isinstance(error, MemoryError):
            raise gr.Error(
                "There is not enough memory for these pictures right now: try smaller ones.",
                print_exception=False,
            ) from None


def relay(progress: gr.Progress) -> Callable[[float, str], None]:
    """Gradio's progress bar as the predictor wants it."""

    def report_share(share: float, doing: str) -> None:
        progress(share, desc=doing)

    return report_share
