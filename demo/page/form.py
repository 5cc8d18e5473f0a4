"""The left column of the page: the components, and what is asked for with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import gradio as gr
from gradio.helpers import Examples

from demo.laboratory import FOR_COMPARISON
from demo.runs.examples import Example, card
from demo.runs.jobs import Turns
from demo.runs.request import Request
from demo.runs.served import in_use
from demo.settings import LIMITS, PREVIEW_QUEUE
from masa.config import SCALE
from masa.errors import UserError
from masa.pictures.degradation import PRESETS as DEGRADATIONS
from masa.pictures.degradation import preset_called
from masa.pictures.formats import SUFFIXES
from masa.pictures.read import picture_size
from masa.pictures.shifts import PRESETS, RANGES, Shift
from masa.weights import (
    AUTO,
    DEFAULT_WEIGHTS,
    PHOTO_WEIGHTS,
    invents_detail,
    shipped_weights,
)

HR_MODE = "It is sharp: make the small photo from it"
LR_MODE = "It is small: enlarge it"
CUSTOM = "custom"
SHIFTS = [*PRESETS, CUSTOM]
CLEAN = "clean"
"""The degradation that is chosen at first, and the only one for a photo that is small already."""

_GUESSES = Turns(PREVIEW_QUEUE, "uploads", most_each=PREVIEW_QUEUE // 2)
"""Where uploads wait to have their size looked at: a file may take a moment to open."""


@dataclass(frozen=True)
class Inputs:
    """What the form holds, in the order of :attr:`Form.inputs`."""

    photo: str | None
    gallery: Sequence[tuple[str, str | None]] | None
    mode: str
    degradation: str
    """A preset's name: how the small photo is made from a sharp one."""
    weights: str
    shift: str
    """A preset's name, or ``custom`` for the numbers below."""
    gain: float
    offset: float
    contrast: float
    gamma: float
    temperature: float
    saturation: float
    align: bool = True

    def request(self) -> Request:
        """What is asked for. Raises ``UserError``, and ``OSError`` for files that are gone."""
        if not self.photo:
            raise UserError("Add a photo first, or click one of the examples.")
        refs = tuple(path for path, _ in self.gallery or () if path)
        if self.mode not in (HR_MODE, LR_MODE):
            raise UserError("Say whether the photo is small or sharp.")
        is_hr = self.mode == HR_MODE
        degradation = self.degradation if is_hr else CLEAN
        preset_called(degradation)
        shift = chosen_shift(self.shift, {name: getattr(self, name) for name in RANGES})
        align = bool(self.align)
        request = Request(self.photo, refs, is_hr, self.weights, shift, degradation, align)
        for path in (self.photo, *refs):
            in_use(path)
        return request


class Form:
    """The components, laid out where it is made.

    ``inputs`` are those whose values make :class:`Inputs`; ``examples`` fill the others.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self.photo, self.mode, self.degradation = _photo_fields()
        self.guess = gr.Textbox(visible=False)
        """What an uploaded photo likely is, on its way to the mode."""
        self.refs, self.align = _reference_fields()
        self.shift = gr.Radio(
            SHIFTS, value=SHIFTS[0], label="Change the reference's light", elem_id="shift"
        )
        self.amounts = own_change()
        self.weights = gr.Dropdown(
            weights_menu(),
            value=AUTO,
            label="Weights",
            info="auto takes those that fit the photo; the result says which.",
            elem_id="weights",
        )
        with gr.Row():
            self.go = gr.Button("Enlarge x4", variant="primary", elem_id="go")
            self.stop = gr.Button("Stop", elem_id="stop")
        self.inputs = [
            self.photo,
            self.refs,
            self.mode,
            self.degradation,
            self.weights,
            self.shift,
            *self.amounts,
            self.align,
        ]
        self.examples = self._offered(examples)

    def _offered(self, examples: Sequence[Example]) -> Examples:
        """The list of examples, laid out where this is called."""
        listed = gr.HTML(visible=False)  # holds an example's card in the list; not shown itself
        rows = [[card(e), str(e.photo), [str(ref) for ref in e.refs], mode_of(e)] for e in examples]
        return gr.Examples(
            rows,
            [listed, self.photo, self.refs, self.mode],
            visible_columns=[0],
            examples_per_page=20,
            elem_id="examples",
            api_visibility="private",
        )


def _photo_fields() -> tuple[gr.Image, gr.Radio, gr.Radio]:
    """The photo, what it is, and how a small one is made from it; laid out where this is called."""
    photo = gr.Image(
        label="Your photo",
        type="filepath",
        image_mode=None,
        format="png",
        sources=["upload", "clipboard"],
        height=240,
        elem_id="photo",
        buttons=[],
        alt_text="The photo you chose",
    )
    side = isqrt(LIMITS.max_lr_pixels)
    mode = gr.Radio(
        [LR_MODE, HR_MODE],
        value=LR_MODE,
        label="What is it?",
        info=f"Small: at most as many pixels as {side} x {side}. Sharp: one with more pixels than "
        f"{SCALE * side} x {SCALE * side} is reduced. "
        f"Any file: up to {LIMITS.max_file_bytes // 2**20} MB.",
        elem_id="mode",
    )
    degradation = gr.Radio(
        list(DEGRADATIONS),
        value=CLEAN,
        label="How is the small photo made?",
        info="Clean, or with noise, blur or JPEG blocks, as from the web, a messenger or a camera.",
        elem_id="degradation",
        visible=False,
    )
    return photo, mode, degradation


def _reference_fields() -> tuple[gr.Gallery, gr.Checkbox]:
    """The references, and whether they are aligned; laid out where this is called."""
    refs = gr.Gallery(
        label=f"References (up to {LIMITS.max_references})",
        type="filepath",
        file_types=list(SUFFIXES),
        format="png",
        columns=3,
        height=220,
        interactive=True,
        elem_id="refs",
    )
    align = gr.Checkbox(
        value=True,
        label="Align the reference",
        info="A reference that is turned, or taken from nearer or farther, is also used as "
        "your camera would have seen it. Off: the paper's method alone.",
        elem_id="align",
    )
    return refs, align


def mode_of(example: Example) -> str:
    """What the photo of an example is."""
    return HR_MODE if example.is_hr else LR_MODE


def weights_menu() -> list[tuple[str, str]]:
    """What the menu says of ``auto`` and of each network, and its name.

    Those that are there for comparison come last.
    """
    words = {
        DEFAULT_WEIGHTS: "for photos reduced cleanly",
        PHOTO_WEIGHTS: "for photos with JPEG blocks, noise or blur",
        **{name: f"for comparison, {what}" for name, what in FOR_COMPARISON.items()},
    }
    names = sorted(shipped_weights(), key=lambda name: name in FOR_COMPARISON)
    words |= {name: "sharper, invents detail" for name in names if invents_detail(name)}
    return [
        (AUTO, AUTO),
        *((f"{name}: {words[name]}" if name in words else name, name) for name in names),
    ]


def own_change() -> list[gr.Slider]:
    """Sliders for a change of light that is no preset, laid out where this is called."""
    with gr.Accordion(f"Your own change of light, “{CUSTOM}”", open=False):
        return [
            gr.Slider(low, high, neutral, step=1 if name == "offset" else 0.05, label=name.title())
            for name, (low, neutral, high) in RANGES.items()
        ]


def chosen_shift(name: str, amounts: Mapping[str, float]) -> Shift:
    """The preset called ``name``, or the shift by ``amounts`` if it is ``custom``.

    Raises ``UserError``.
    """
    if name == CUSTOM:
        return Shift(**amounts)
    if name not in PRESETS:
        raise UserError(f"Choose one of these changes of light: {', '.join(SHIFTS)}.")
    return PRESETS[name]


def likely_mode(photo: str) -> str | None:
    """Whether a photo is small or sharp, by its size: small if it may be enlarged as it is.

    ``None`` if the file is unreadable, which is told when the photo is used, or if too many wait
    to have theirs looked at.
    """
    try:
        with _GUESSES.held():
            width, height = picture_size(Path(photo), strangers=True)
    except UserError:
        return None
    return LR_MODE if width * height <= LIMITS.max_lr_pixels else HR_MODE
