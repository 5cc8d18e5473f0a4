"""The page: what it holds, and in one block at the end what is wired to what."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import isqrt
from typing import Any, TypeVar

import gradio as gr

from demo.export import pack
from demo.figures.cost import LR_BLOCKS, DenseMatch, paper_table
from demo.figures.network import HIGHLIGHT, network_svg
from demo.figures.tabs import FIGURES, TABS, Figure, Tab, View
from demo.page import callbacks
from demo.page.api import offer_api
from demo.page.callbacks import (
    CUSTOM,
    HR_MODE,
    LR_MODE,
    PICTURES,
    SHIFTS,
    Inputs,
    Latest,
    Trial,
    made,
)
from demo.page.front import Front, app_options
from demo.page.laboratory_tab import ID, LABEL, LaboratoryTab, own_change
from demo.runs.examples import card
from demo.runs.exploration import Exploration
from demo.runs.jobs import Rank, Step, Steps, rank
from demo.runs.served import serve, serve_png
from demo.runs.showcase import Showcase
from demo.settings import KEEP_SECONDS, LIMITS, QUEUE, SESSIONS, THREADS
from masa.config import SCALE, MASAConfig
from masa.network.matching import Matches
from masa.weights import DEFAULT_WEIGHTS, shipped_weights

CSS = """
.gradio-container { max-width: 1500px !important; margin: auto; }
.progress progress { width: 100%; height: 10px; }
.gradio-container h3 { margin-top: 0.4em; }
#network [data-tab] { cursor: pointer; }
#examples button { width: 100%; text-align: left; }
#examples button > span { display: block; }
#examples button .gallery { display: flex; align-items: center; gap: 6px; padding: 4px; }
#examples img { width: 64px; height: 48px; margin: 0; border-radius: 4px; flex: none; }
#examples .gallery span { margin-left: 4px; line-height: 1.3; }
#refs .grid-wrap { padding-top: 34px; }
/* A figure's buttons stand above it, where they hide none of its words. */
.figure .image-container { padding-top: 32px; }
.figure.picks .image-container > button:focus-visible {
  outline: 3px solid var(--primary-500); outline-offset: -3px;
}
/* Controls of a tab stand below the row of tabs, which therefore never moves under the pointer. */
#tabs { display: contents; }
#results > .row { order: 1; }
#results > .row:not(:has(.block)) { display: none; }
#tabs > .tabitem { order: 2; }
#bar:not(:has(progress)), #to-inputs, .figure.wide::after { display: none; }
@media (max-width: 700px) {
  /* The first thing to see is a result; the form follows. */
  #results { order: -1; }
  #network { order: 3; }
  #to-inputs { display: block; }
  #examples { max-height: 330px; overflow-y: auto; }
  /* Numbers of a table stay whole. */
  .prose td, .prose th { padding: 4px 6px !important; font-size: 13px; word-break: keep-all; }
  /* Wide figures stay readable: half of one fills the screen, and the rest is a swipe away. */
  .figure.wide .image-container > button { overflow-x: auto; justify-content: flex-start; }
  .figure.wide .image-frame { width: 200%; flex: none; }
  .figure.wide .image-frame img { width: 100%; height: auto; max-height: none; }
  .figure.wide::after {
    display: block; position: absolute; top: 6px; left: 8px; font-size: 13px;
    content: "⟷ swipe the picture sideways";
  }
}
"""

INTRO = """# MASA-SR: real texture from a reference photo
A small photo is enlarged four times. Where a reference photo shows something similar and sharp,
its texture is found, fitted to the light of yours, and painted in. Every step can be looked at.
"""

TO_INPUTS = '<a href="#inputs">Try your own photos, or another example ↓</a>'
"""For phones, where the form stands below the result."""

SHOW_RESULTS = """
() => {
  if (matchMedia('(max-width: 700px)').matches)
    document.querySelector('#results').scrollIntoView({behavior: 'smooth'});
}
"""
"""On a phone, a run that was started in the form is watched further up."""

OPEN_TAB = """
const open = (event) => {
  const box = event.target.closest('[data-tab]');
  if (!box || (event.type === 'keydown' && event.key !== 'Enter' && event.key !== ' ')) return;
  event.preventDefault();
  trigger('pick', {tab: box.dataset.tab});
};
element.addEventListener('click', open);
element.addEventListener('keydown', open);
"""
"""Boxes of the network's drawing open their tabs, by mouse and by keyboard."""

BLOCK = MASAConfig().lr_block
"""LR pixels that an arrow key moves in figures of blocks."""

MOVE_BY_KEYS = f"""
() => {{
  const moves = {{
    ArrowUp: ['row', -1], ArrowDown: ['row', 1],
    ArrowLeft: ['column', -1], ArrowRight: ['column', 1]
  }};
  document.addEventListener('keydown', (event) => {{
    const figure = event.target.closest?.('.picks');
    if (!figure || !(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    const [name, sign] = moves[event.key];
    const slider = document.querySelector(`#${{name}} input[type=range]`);
    if (!slider) return;
    event.preventDefault();
    const step = figure.classList.contains('in-blocks') ? {BLOCK} : 1;
    slider.value = Number(slider.value) + sign * step;
    slider.dispatchEvent(new Event('input', {{bubbles: true}}));
  }});
}}
"""
"""Arrow keys on a figure that can be clicked move the sliders above it, a block or a pixel."""

FONT: list[gr.themes.Font | str] = [
    gr.themes.LocalFont("IBM Plex Sans", (400, 700)),
    "system-ui",
    "sans-serif",
]
"""Comes with Gradio, so nothing is fetched."""

THEME = gr.themes.Soft(font=FONT).set(
    background_fill_primary="*neutral_50",  # the theme's own, which ``set`` forgets
    # Darker than the theme's own, for enough contrast on its light ground.
    body_text_color_subdued="*neutral_500",
    block_label_text_color="*primary_700",
    block_title_text_color="*primary_700",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    checkbox_label_background_fill_selected="*primary_600",
)

BESIDE = {"result": (), "coarse": ("pixel",), "fine": ("pixel",), "pixel": ("pixel",)}
BESIDE |= {"adaptation": ("scale", "channel"), "aggregation": ("scale",), "cost": (), ID: ()}
"""Which controls stand above each tab."""

Value = TypeVar("Value")

Updates = dict[Any, Any]
"""New values of some components of the page."""


@dataclass(frozen=True)
class Slot:
    """A figure's place on the page."""

    image: gr.Image
    words: gr.Markdown


class Page:
    """The components, and the callbacks that fill them."""

    def __init__(self, showcase: Showcase, keep_seconds: float) -> None:
        self.showcase = showcase
        self.slots: dict[str, Slot] = {}
        self.blocks = Front(
            starts=(self.enlarge.__name__,),
            keep_seconds=keep_seconds,
            title="MASA-SR",
            analytics_enabled=False,
        )
        with self.blocks:
            self.latest = gr.State(Latest())
            self.run = gr.State(0)
            """Number of the run that is shown."""
            self.explored = gr.State(None, time_to_live=keep_seconds)
            self.open_tab = gr.State(TABS[0].id)
            self.dense = gr.State(None, time_to_live=keep_seconds)
            gr.Markdown(INTRO)
            gr.HTML(TO_INPUTS, elem_id="to-inputs")
            with gr.Row():
                with gr.Column(scale=2, min_width=320, elem_id="inputs"):
                    self._lay_out_inputs()
                    self._lay_out_examples()
                with gr.Column(scale=5, min_width=320, elem_id="results"):
                    self._lay_out_results(keep_seconds)
            self._wire()
            offer_api()
        self.blocks.queue(max_size=QUEUE, api_open=False)

    # ------------------------------------------------------------------ what there is

    def _lay_out_inputs(self) -> None:
        self.photo = gr.Image(
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
        self.mode = gr.Radio(
            [LR_MODE, HR_MODE],
            value=LR_MODE,
            label="What is it?",
            info=f"Small: up to {side} x {side} pixels. "
            f"Sharp: up to {SCALE * side} x {SCALE * side}. "
            f"Any file: up to {LIMITS.max_file_bytes // 2**20} MB.",
            elem_id="mode",
        )
        self.refs = gr.Gallery(
            label=f"References (up to {LIMITS.max_references})",
            type="filepath",
            file_types=["image"],
            format="png",
            columns=3,
            height=220,
            interactive=True,
            elem_id="refs",
        )
        self.shift = gr.Radio(
            SHIFTS, value=SHIFTS[0], label="Change the reference's light", elem_id="shift"
        )
        self.amounts = own_change()
        self.weights = gr.Dropdown(
            shipped_weights(),
            value=DEFAULT_WEIGHTS,
            label="Weights",
            info=f"{DEFAULT_WEIGHTS} is the best of those that come with this page; the others "
            "are for the laboratory's comparison.",
            elem_id="weights",
        )
        with gr.Row():
            self.go = gr.Button("Enlarge x4", variant="primary", elem_id="go")
            self.stop = gr.Button("Stop", elem_id="stop")
        self.inputs = [self.photo, self.refs, self.mode, self.weights, self.shift, *self.amounts]

    def _lay_out_results(self, keep_seconds: float) -> None:
        self.bar = gr.HTML(elem_id="bar")
        self.network = gr.HTML(network_svg(TABS[0].id), elem_id="network", js_on_load=OPEN_TAB)
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
            self.left = gr.Dropdown(names, value=PICTURES["bicubic"], label="Left", min_width=240)
            self.right = gr.Dropdown(names, value=PICTURES["result"], label="Right", min_width=240)
            self.divider = gr.Slider(0, 100, 50, step=1, label="Divider")
        self.report = gr.Markdown(elem_id="report")
        with gr.Row():
            self.download = gr.DownloadButton(
                "Download the result (PNG)", interactive=False, elem_id="download"
            )
            self.pack = gr.Button("Pack all figures, maps and numbers (zip)", elem_id="pack")
        self.archive = gr.File(label="Everything", visible=False, elem_id="archive")

    def _lay_out_figures(self, tab: Tab) -> None:
        narrow = [figure for figure in tab.figures if not figure.wide]
        rows = [narrow[i : i + 2] for i in range(0, len(narrow), 2)]
        rows += [[figure] for figure in tab.figures if figure.wide]
        for figures in rows:
            with gr.Row():
                for figure in figures:
                    with gr.Column(min_width=320):
                        gr.Markdown(f"### {figure.title}\n{figure.caption}")
                        image = gr.Image(
                            label=figure.title,
                            show_label=False,
                            format="png",
                            type="filepath",
                            interactive=False,
                            buttons=["download", "fullscreen"],
                            elem_id=f"figure-{figure.id}",
                            elem_classes=_classes(figure),
                        )
                        words = gr.Markdown(elem_id=f"words-{figure.id}")
                    self.slots[figure.id] = Slot(image, words)
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
        self.trial = gr.Image(
            label="Other settings",
            show_label=False,
            format="png",
            interactive=False,
            buttons=["download", "fullscreen"],
            elem_id="figure-trial",
            elem_classes=["figure", "wide"],
            visible=False,
        )
        self.trial_words = gr.Markdown(elem_id="words-trial")

    def _lay_out_examples(self) -> None:
        listed = gr.HTML(visible=False)  # what the list shows of an example; nothing else uses it
        rows = [
            [card(e), str(e.hr), [str(ref) for ref in e.refs], HR_MODE]
            for e in self.showcase.examples
        ]
        self.examples = gr.Examples(
            rows,
            [listed, self.photo, self.refs, self.mode],
            visible_columns=[0],
            examples_per_page=20,
            elem_id="examples",
            api_visibility="private",
        )

    # ------------------------------------------------------------------ what happens

    def _wire(self) -> None:
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        # Whatever runs the network waits in the line of demo.runs.jobs, which tells its place.
        free = private | {"concurrency_limit": None}
        # A visitor who asks for something else need not wait: the newest run ends the others.
        again = free | {"trigger_mode": "multiple"}
        shown = [self.compare, self.left, self.right, self.download, self.report]
        new = [self.run, self.explored, self.bar, *shown, *self.view]
        new += [self.trial, self.trial_words, self.archive]

        # Listeners of one event are called one after the other, so what is quick comes first.
        self.blocks.load(None, js=MOVE_BY_KEYS, **private)
        runs: list[Any] = []
        for start in (self.go.click, self.examples.load_input_event.then):
            start(None, js=SHOW_RESULTS, **private)
            first = start(self.enlarge, [self.latest, self.explored, *self.inputs], new, **again)
            runs += [first, *self._wire_rest(first, again)]
        loaded = self.blocks.load(
            self.open, self.latest, [*new, self.photo, self.refs, self.mode], **free
        )
        runs.append(loaded)
        self._fill_after(loaded, again)
        self.photo.upload(self.guess_mode, [self.latest, self.photo], self.mode, **free)
        chosen = [self.photo.clear, self.refs.upload, self.refs.delete]
        gr.on(chosen, self.touch, self.latest, None, **free)
        self.mode.input(self.tell_mode, self.latest, None, **free)
        self.examples.dataset.click(self.take_example, self.latest, None, **free)
        gr.on([amount.input for amount in self.amounts], lambda: CUSTOM, None, self.shift, **free)
        settings = [self.block, self.factor, self.dilations]
        tried = gr.on(
            # The button is for the keyboard, with which a slider is never released.
            [self.match_again.click, self.block.input, self.factor.release, self.dilations.input],
            self.match_otherwise,
            [self.latest, self.run, self.explored, self.dense, *settings],
            [self.dense, self.trial, self.trial_words, self.bar],
            # What waits in the browser would begin after Stop, and never after an error.
            **again,
        )
        runs.append(tried)
        for run in runs:
            run.failure(lambda: "", None, self.bar, **free)
        # Gradio's own cancelling would end what is asked for next, if that is soon.
        self.stop.click(self.halt, self.latest, self.bar, **free)

        for name, gradio_tab in self.tab_of.items():
            gradio_tab.select(None, js=f"() => ({HIGHLIGHT})('{name}')", **private)
            gradio_tab.select(
                partial(self.opened, name), None, [self.open_tab, *self.controls.values()], **again
            )
        for tab in TABS:
            for figure in tab.figures:
                if figure.clickable:
                    self.slots[figure.id].image.select(
                        self._clicked(figure.id, tab),
                        [self.latest, self.run, self.explored, *self.view],
                        [self.row, self.column, *self._parts(_dependent())],
                        # What comes last of a waiting event is its values, not where it was.
                        **again,
                    )
        controls: list[tuple[str, Any]] = [
            ("pixel", self.row),
            ("pixel", self.column),
            ("scale", self.scale),
            ("channel", self.channel),
        ]
        for what, control in controls:
            control.input(
                partial(self.moved, what),
                [self.latest, self.run, self.explored, self.open_tab, *self.view],
                self._parts(_dependent()),
                trigger_mode="always_last",
                **free,
            )
        packed = self.pack.click(
            self.make_archive,
            [self.latest, self.run, self.explored, *self.view],
            [self.archive, self.bar],
            **free,
        )
        packed.failure(lambda: "", None, self.bar, **free)
        self.network.pick(self.jump, None, self.tabs, **free)
        for choice in (self.left, self.right):
            choice.input(
                self.choose_pictures,
                [self.latest, self.run, self.explored, self.left, self.right],
                self.compare,
                trigger_mode="always_last",
                **free,
            )
        self.divider.input(
            lambda at: gr.ImageSlider(slider_position=at),
            self.divider,
            self.compare,
            trigger_mode="always_last",
            **free,
        )

        self.laboratory.wire(self.tab_of[ID], self.open_tab, self.inputs, free)

    def _wire_rest(self, first: Any, options: dict[str, Any]) -> list[Any]:
        """What follows a picture: figures at once, then more runs, which Stop ends.

        Of a run that failed no picture came; what follows the one before it goes on.
        """
        self._fill_after(first, options)
        inputs = [self.latest, self.run, self.explored]
        late = self._parts([figure.id for figure in FIGURES.values() if figure.late])
        more = [self.explored, self.bar, self.left, self.right, self.report, *late]
        return [
            event(self.complete, inputs, more, **options)
            for event in (first.success, first.failure)
        ]

    def _fill_after(self, first: Any, options: dict[str, Any]) -> None:
        inputs = [self.latest, self.run, self.explored]
        first.success(self.fill, inputs, self._parts(list(FIGURES)), **options)

    def enlarge(
        self, latest: Latest, before: Exploration | None, *values: Any
    ) -> Iterator[Updates]:
        """A new run, to the enlarged picture."""
        inputs = Inputs(*values)
        if inputs == latest.asked:
            return  # pressed twice: it would lose its place in the line
        with callbacks.told_kindly():
            inputs.request()  # what is incomplete ends nothing
        replacing = latest.asked is not None
        number = latest.start(inputs)
        steps = callbacks.enlarge(inputs, self.showcase, before, replacing)
        try:
            for update in latest.only(number, self._told(steps, partial(self._new, number))):
                if self.run in update:
                    latest.show(number)
                yield update
        except Exception:
            latest.fail(number)
            raise
        finally:
            latest.end(number)

    def open(self, latest: Latest) -> Iterator[Updates]:
        """The first example as soon as it is ready, unless the visitor has chosen otherwise."""
        for example in self.showcase.examples[:1]:
            while not (latest.touched or latest.number or self.showcase.gave_up(example.name)):
                x = self.showcase.wait(example.name, 0)
                if x is not None:
                    refs = [(str(ref), None) for ref in example.refs]
                    form = {self.photo: str(example.hr), self.refs: refs, self.mode: HR_MODE}
                    new = {self.bar: ""} | self._new(latest.number, x) | form
                    if latest.touched or latest.number:  # while the pictures were written
                        break
                    yield new
                    return
                step = Step(0, "Preparing the first example", None)
                yield {self.bar: callbacks.progress_bar(step)}
                self.showcase.wait(example.name, 1)
            if not latest.asked:
                yield {self.bar: ""}

    def touch(self, latest: Latest) -> None:
        """The visitor has chosen a picture."""
        latest.touched = True

    def tell_mode(self, latest: Latest) -> None:
        """The visitor has said what the photo is."""
        latest.touched = latest.told_mode = True

    def take_example(self, latest: Latest) -> None:
        """The visitor has chosen an example, which says itself what its photo is."""
        latest.touched, latest.told_mode = True, False

    def guess_mode(self, latest: Latest, photo: str | None) -> Any:
        """What an uploaded photo is, unless the visitor has said so: an example's was sharp."""
        latest.touched = True
        mode = None if latest.told_mode or photo is None else callbacks.likely_mode(photo)
        return gr.skip() if mode is None else mode

    def halt(self, latest: Latest) -> str:
        """Stop was pressed: what is under way ends at its next step, and tells of none."""
        latest.halt()
        return ""

    def fill(self, latest: Latest, run: int, x: Exploration | None) -> Iterator[Updates]:
        """Every tab's figures, a tab at a time, once for each run."""
        # The page was opened, but its example is not there yet; or Enlarge was pressed twice.
        if x is None or run == latest.filled:
            return
        latest.filled = run
        place = rank(background=True)
        opening = View.opening(x)
        # What is computed meanwhile must not be called missing after it has come.
        groups = [[f.id for f in FIGURES.values() if f.late]]
        groups += [[f.id for f in tab.figures if not f.late] for tab in TABS]

        def tabs() -> Generator[Updates, None, None]:
            for names in groups:
                view, updates = None, {}
                while view != (newest := latest.looks.view or opening):  # chosen meanwhile
                    view = newest
                    updates = self._drawn(x, view, names, place)
                yield updates

        yield from latest.shown.only(run, tabs())

    def complete(self, latest: Latest, run: int, x: Exploration | None) -> Iterator[Updates]:
        """What takes more runs of the network, once for each picture, and what that shows."""
        # A first run failed; or something newer came; or an Enlarge that was refused asks again.
        if x is None or run != latest.number or run == latest.completing:
            return
        latest.completing = run
        try:
            steps = self._told(callbacks.complete(x), partial(self._completed, latest))
            yield from latest.only(run, steps)
        finally:
            if latest.completing == run:
                latest.completing = None

    def _told(
        self, steps: Steps[Value], changed: Callable[[Value], Updates]
    ) -> Generator[Updates, None, None]:
        """A job's progress, and what its results change on the page."""
        with closing(steps):
            for step in steps:
                if isinstance(step, Step):
                    yield {self.bar: callbacks.progress_bar(step)}
                else:
                    yield {self.bar: ""} | changed(step.value)

    def _completed(self, latest: Latest, x: Exploration) -> Updates:
        """What more is known of the run that is shown."""
        view = latest.looks.view or View.opening(x)
        late = [figure.id for figure in FIGURES.values() if figure.late]
        updates = self._drawn(x, view, late, rank(background=True))
        # What is being compared stays: there is only more to choose from.
        names = list(callbacks.pictures_of(x).values())
        updates |= {self.left: gr.Dropdown(choices=names), self.right: gr.Dropdown(choices=names)}
        return updates | {self.explored: x, self.report: callbacks.report(x)}

    def opened(self, tab: str) -> Updates:
        """A tab is open: its controls. Its figures are there, as every choice redraws all tabs."""
        updates: Updates = {self.open_tab: tab}
        for name, control in self.controls.items():
            updates[control] = gr.update(visible=name in BESIDE[tab])
        return updates

    def moved(
        self, what: str, latest: Latest, run: int, x: Exploration | None, tab: str, *view: Any
    ) -> Iterator[Updates]:
        """A control above the figures was moved."""
        x = made(x)
        if run != latest.filled:  # it was moved before the browser had this run's picture
            return
        number = latest.looks.take()
        yield from latest.shown.only(run, self._look(latest, number, x, tab, what, _view(view)))

    def _look(
        self,
        latest: Latest,
        number: int,
        x: Exploration,
        tab: str,
        what: str,
        view: View,
        chosen: Updates | None = None,
    ) -> Generator[Updates, None, None]:
        """Redraws: the open tab follows first, then the others together, which nobody sees yet."""
        due = latest.looks.look(number, view, what)
        seen = [name for t in TABS if t.id == tab for name in _dependent(due, t)]
        unseen = [name for name in _dependent(due) if name not in seen]

        def tabs() -> Generator[Updates, None, None]:
            if chosen:
                yield chosen  # at once, as arrow keys start from there
            for names in filter(None, (seen, unseen)):
                yield self._drawn(x, view, names)
            latest.looks.done(number)

        yield from latest.looks.only(number, tabs())

    def _clicked(self, name: str, tab: Tab) -> Callable[..., Iterator[Updates]]:
        def clicked(
            latest: Latest,
            run: int,
            x: Exploration | None,
            row: float,
            column: float,
            scale: int,
            channel: float,
            event: gr.EventData,
        ) -> Iterator[Updates]:
            at = getattr(event, "index", None)
            if not callbacks.is_pixel(at):
                return
            x = made(x)
            number = latest.looks.take()  # before a figure is drawn to find out what was hit
            view = callbacks.click(x, _view((row, column, scale, channel)), name, at)
            if view is None or not run == latest.shown.number == latest.filled:
                return
            chosen = {self.row: view.row, self.column: view.column}
            look = self._look(latest, number, x, tab.id, "pixel", view, chosen)
            yield from latest.shown.only(run, look)

        return clicked

    def jump(self, event: gr.EventData) -> Any:
        """A box of the network's drawing was pressed."""
        wanted = str(getattr(event, "tab", ""))
        return gr.Tabs(selected=wanted) if wanted in self.tab_of else gr.skip()

    def make_archive(
        self, latest: Latest, run: int, x: Exploration | None, *view: Any
    ) -> Iterator[Updates]:
        """Everything of this run in one file."""
        steps = self._told(pack(made(x), _view(view)), self._packed)
        yield from latest.shown.only(run, latest.packs.only(latest.packs.begin(), steps))

    def _packed(self, archive: bytes) -> Updates:
        return {self.archive: gr.File(value=serve(archive, "masa.zip"), visible=True)}

    def match_otherwise(
        self,
        latest: Latest,
        run: int,
        x: Exploration | None,
        dense: tuple[Matches, DenseMatch] | None,
        block: int,
        factor: float,
        dilations: list[int],
    ) -> Iterator[Updates]:
        """Other settings of the matching, beside dense matching."""
        x = made(x)
        known = dense[1] if dense is not None and dense[0] is x.matches else None
        trying = callbacks.try_matching(x, known, block, factor, dilations)
        steps = self._told(trying, partial(self._tried, x))
        yield from latest.shown.only(run, latest.trials.only(latest.trials.begin(), steps))

    def _tried(self, x: Exploration, trial: Trial) -> Updates:
        return {
            self.dense: (x.matches, trial.dense),
            self.trial: gr.Image(
                value=serve_png(trial.figure.image, "trial.png"),
                alt_text=trial.figure.alt,
                visible=True,
            ),
            self.trial_words: f"{trial.figure.summary}\n\n{trial.painted}",
        }

    def choose_pictures(
        self, latest: Latest, run: int, x: Exploration | None, left: str, right: str
    ) -> Any:
        """Other pictures in the slider."""
        pictures = callbacks.compared_files(made(x), left, right)
        return pictures if run == latest.shown.number == latest.filled else gr.skip()

    # ------------------------------------------------------------------ new values

    def _new(self, run: int, x: Exploration) -> Updates:
        """Everything that a new picture changes at once; its figures follow."""
        view = View.opening(x)
        scales = [(f"x{scale}", scale) for scale in sorted(x.scales)]
        pictures = callbacks.pictures_of(x)
        names, left, right = list(pictures.values()), pictures["bicubic"], pictures["result"]
        return {
            self.run: run,
            self.explored: x,
            self.compare: callbacks.compared_files(x, left, right),
            self.left: gr.Dropdown(choices=names, value=left),
            self.right: gr.Dropdown(choices=names, value=right),
            self.download: gr.DownloadButton(
                value=serve_png(x.result, "masa_x4.png", x.alpha), interactive=True
            ),
            self.report: callbacks.report(x),
            self.row: gr.Slider(maximum=x.lr.height - 1, value=view.row),
            self.column: gr.Slider(maximum=x.lr.width - 1, value=view.column),
            self.scale: gr.Radio(choices=scales, value=view.scale),
            self.channel: gr.Slider(value=-1),
            # What was made of the run before.
            self.trial: gr.Image(value=None, visible=False),
            self.trial_words: "",
            self.archive: gr.File(value=None, visible=False),
        }

    def _drawn(
        self,
        x: Exploration,
        view: View,
        names: Sequence[str],
        place: Rank | None = None,
    ) -> Updates:
        updates: Updates = {}
        drawn = callbacks.draw(x, view, names, place)
        for name, (path, alt, summary) in zip(names, drawn, strict=True):
            slot = self.slots[name]
            updates[slot.image] = gr.Image(value=path, alt_text=alt, visible=path is not None)
            updates[slot.words] = summary if path is not None else f"*{summary}*"
        return updates

    def _parts(self, names: Sequence[str]) -> list[Any]:
        return [p for name in names for p in (self.slots[name].image, self.slots[name].words)]


def _dependent(what: frozenset[str] | None = None, tab: Tab | None = None) -> list[str]:
    """Figures that show one of some fields of the view (any, if ``None``), of all tabs or one."""
    figures = FIGURES.values() if tab is None else tab.figures
    return [f.id for f in figures if (f.depends if what is None else what & f.depends)]


def _classes(figure: Figure) -> list[str]:
    """What the page's style and keys go by."""
    told = {
        "wide": figure.wide,
        "picks": figure.clickable,
        "in-blocks": figure.id in ("lr_blocks", "ref_blocks"),
    }
    return ["figure", *(name for name, holds in told.items() if holds)]


def _view(values: Sequence[Any]) -> View:
    row, column, scale, channel = values
    scale = View.scale if scale is None else int(scale)  # of a radio nothing may be chosen
    return View(int(row), int(column), scale, None if channel < 0 else int(channel))


def launch_options() -> dict[str, Any]:
    """How the page is launched, wherever it runs: nothing stored, measured or sent elsewhere."""
    return {
        "css": CSS,
        "theme": THEME,
        "max_file_size": LIMITS.max_file_bytes,
        "max_threads": THREADS,
        "app_kwargs": app_options(),
        "state_session_capacity": SESSIONS,
        "ssr_mode": False,
        "enable_monitoring": False,
        "run_history": False,
        "footer_links": ["api", "gradio", "settings"],
    }


def build_page(showcase: Showcase, keep_seconds: float = KEEP_SECONDS) -> gr.Blocks:
    """The whole page, ready to launch; sessions' runs are forgotten after ``keep_seconds``."""
    return Page(showcase, keep_seconds).blocks
