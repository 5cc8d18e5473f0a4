"""A figure's place on a tab: the picture, and what it says in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from demo.figures.figure import Drawn
from demo.runs.served import serve_png

Updates = dict[Any, Any]
"""New values of some components of the page."""


@dataclass(frozen=True)
class FigureSlot:
    """Where a figure is shown; the file it is served as is called ``name``."""

    name: str
    image: gr.Image
    words: gr.Markdown

    @classmethod
    def lay_out(
        cls,
        name: str,
        title: str,
        elem_ids: tuple[str, str],
        classes: Sequence[str] = (),
        visible: bool = True,
    ) -> FigureSlot:
        """Components without a figure, laid out where this is called; ids of picture and words."""
        image = gr.Image(
            label=title,
            show_label=False,
            format="png",
            type="filepath",
            interactive=False,
            buttons=["download", "fullscreen"],
            elem_id=elem_ids[0],
            elem_classes=["figure", *classes],
            visible=visible,
        )
        return cls(name, image, gr.Markdown(elem_id=elem_ids[1]))

    @property
    def parts(self) -> list[Any]:
        """The two components, for the outputs of an event."""
        return [self.image, self.words]

    def fill(self, drawn: Drawn, after: str = "") -> Updates:
        """The figure, its alternative text and its summary, with the words ``after`` below it."""
        file = serve_png(drawn.image, f"{self.name}.png")
        return {
            self.image: gr.Image(value=file, alt_text=drawn.alt, visible=True),
            self.words: f"{drawn.summary}\n\n{after}" if after else drawn.summary,
        }

    def empty(self, why: str = "") -> Updates:
        """No figure, and ``why`` in its place."""
        return {self.image: gr.Image(value=None, visible=False), self.words: why}
