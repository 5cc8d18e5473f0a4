"""The right column of the page: the components of all tabs but the laboratory's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from demo.figures.cost import paper_table
from demo.figures.network import network_svg
from demo.figures.tabs import FIGURES, TABS, Figure, Tab
from demo.page.figure_slot import FigureSlot
from demo.page.laboratory_tab import ID, LABEL, LaboratoryTab
from demo.page.report import PICTURES
from demo.page.style import OPEN_TAB
from demo.runs.rematch import LR_BLOCKS

LATE = [figure.id for figure in FIGURES.values() if figure.late]
"""Figures that show results of the later steps."""


class Results:
    """The components, laid out where it is made, and what the page keeps of the run shown."""

    def __init__(self, keep_seconds: float) -> None:
        self.run = gr.State(0)
        """Number of the run that is shown."""
        self.explored = gr.State(None, time_to_live=keep_seconds)
        """Its exploration."""
        self.dense = gr.State(None, time_to_live=keep_seconds)
        """Dense matching of a run, which further trials use again."""
        self.open_tab = gr.State(TABS[0].id)
        self.bar = gr.HTML(elem_id="bar")
        self.network = gr.HTML(network_svg(TABS[0].id), elem_id="network", js_on_load=OPEN_TAB)
        self._lay_out_controls()
        self.slots: dict[str, FigureSlot] = {}
        self.tab_of: dict[str, gr.Tab] = {}
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as self.tabs:
            for tab in TABS:
                with gr.Tab(tab.label, id=tab.id, elem_id=f"tab-{tab.id}") as self.tab_of[tab.id]:
                    gr.Markdown(f"## {tab.question}")
                    if tab.id == "result":
                        self._lay_out_comparison()
                    self._lay_out_figures(tab)
                    if tab.id == "cost":
                        self._lay_out_trial()
                        gr.Markdown(paper_table())
            with gr.Tab(LABEL, id=ID, elem_id=f"tab-{ID}") as self.tab_of[ID]:
                self.laboratory = LaboratoryTab(keep_seconds)

    def _lay_out_controls(self) -> None:
        with gr.Row(visible=False) as pixel_row:
            self.row = gr.Slider(0, 1, 0, step=1, label="Row of the chosen pixel", elem_id="row")
            self.column = gr.Slider(
                0, 1, 0, step=1, label="Column of the chosen pixel", elem_id="column"
            )
        with gr.Row():
            with gr.Column(min_width=220, visible=False) as scale_column:
                self.scale = gr.Radio(
                    [("x1", 1), ("x2", 2), ("x4", 4)], value=4, label="Scale", elem_id="scale"
                )
            with gr.Column(scale=2, min_width=220, visible=False) as channel_column:
                self.channel = gr.Slider(
                    -1, 63, -1, step=1, label="Channel (-1: all, as colours)", elem_id="channel"
                )
        self.controls: dict[str, gr.Row | gr.Column] = {
            "pixel": pixel_row,
            "scale": scale_column,
            "channel": channel_column,
        }
        self.view = [self.row, self.column, self.scale, self.channel]

    def _lay_out_comparison(self) -> None:
        self.compare = gr.ImageSlider(
            label="Drag to compare",
            format="png",
            interactive=False,
            max_height=720,
            elem_id="compare",
        )
        names = list(PICTURES.values())
        with gr.Row():
            self.left, self.right = (
                gr.Dropdown(
                    names,
                    value=PICTURES[field],
                    label=side,
                    min_width=240,
                    elem_id=f"compare-{side.lower()}",
                )
                for side, field in (("Left", "bicubic"), ("Right", "result"))
            )
            self.divider = gr.Slider(0, 100, 50, step=1, label="Divider")
        self.report = gr.Markdown(elem_id="report")
        with gr.Row():
            self.download = gr.DownloadButton(
                "Download the result (PNG)", interactive=False, elem_id="download"
            )
            self.pack = gr.Button("Pack all figures, maps and numbers (zip)", elem_id="pack")
        self.archive = gr.File(label="Everything", visible=False, elem_id="archive")

    def _lay_out_figures(self, tab: Tab) -> None:
        for figures in figure_rows(tab.figures):
            with gr.Row():
                for figure in figures:
                    with gr.Column(min_width=320):
                        gr.Markdown(f"### {figure.title}\n{figure.caption}")
                        self.slots[figure.id] = FigureSlot.lay_out(
                            figure.id, figure.title, _ids(figure.id), _classes(figure)
                        )
                if len(figures) == 1 and not figures[0].wide:
                    gr.Column(min_width=320)  # as wide as its neighbours above

    def _lay_out_trial(self) -> None:
        gr.Markdown(
            "### Other settings\nChange the size of the blocks and the dilations, and see which "
            "matches change and what that costs: the paper's figure 5, on your own photos."
        )
        with gr.Row():
            self.block = gr.Radio(
                list(LR_BLOCKS), value=8, label="LR block (pixels)", elem_id="lr-block"
            )
            self.factor = gr.Slider(0.5, 3, 1.5, step=0.25, label="Ref block factor")
            self.dilations = gr.CheckboxGroup([1, 2, 3], value=[1, 2, 3], label="Dilations")
        self.match_again = gr.Button("Match again", elem_id="match-again")
        self.trial = FigureSlot.lay_out(
            "trial", "Other settings", _ids("trial"), ["wide"], visible=False
        )

    def parts(self, names: Sequence[str]) -> list[Any]:
        """The components of the figures called ``names``."""
        return [part for name in names for part in self.slots[name].parts]


def figure_rows(figures: Sequence[Figure]) -> list[list[Figure]]:
    """Figures in their order: a wide one has a row of its own, others stand two in a row."""
    rows: list[list[Figure]] = []
    for figure in figures:
        beside = rows and len(rows[-1]) == 1 and not rows[-1][0].wide and not figure.wide
        if beside:
            rows[-1].append(figure)
        else:
            rows.append([figure])
    return rows


def dependent(what: frozenset[str] | None = None, tab: Tab | None = None) -> list[str]:
    """Figures that show one of some fields of the view (any, if ``None``), of all tabs or one."""
    figures = FIGURES.values() if tab is None else tab.figures
    return [f.id for f in figures if (f.depends if what is None else what & f.depends)]


def _ids(name: str) -> tuple[str, str]:
    return f"figure-{name}", f"words-{name}"


def _classes(figure: Figure) -> list[str]:
    """For the page's CSS and its arrow keys."""
    told = {
        "wide": figure.wide,
        "picks": figure.clickable,
        "in-blocks": figure.in_blocks,
    }
    return [name for name, holds in told.items() if holds]
