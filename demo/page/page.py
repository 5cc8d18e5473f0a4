"""The page: its two columns, and which event calls which handler."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from demo.figures.network import HIGHLIGHT
from demo.figures.tabs import FIGURES, TABS
from demo.page.api import offer_api
from demo.page.form import CUSTOM, Form
from demo.page.front import Front, app_options
from demo.page.handlers import Handlers
from demo.page.laboratory_tab import ID, LaboratoryTab
from demo.page.results import LATE, Results, dependent
from demo.page.session import Session
from demo.page.style import (
    ASK_GUESS,
    CSS,
    FORGET_MODE,
    MOVE_BY_KEYS,
    SAY_MODE,
    SHOW_RESULTS,
    TAKE_GUESS,
    TAKE_PICTURES,
    TELL_COMPARED,
    THEME,
)
from demo.runs.showcase import Showcase
from demo.settings import KEEP_SECONDS, LIMITS, QUEUE, SESSIONS, THREADS

INTRO = """# MASA-SR: real texture from a reference photo
A small photo is enlarged four times. Where a reference photo shows something similar and sharp,
its texture is found, fitted to the light of yours, and painted in. Every step can be looked at.
"""

TO_INPUTS = '<a href="#inputs">Try your own photos, or another example ↓</a>'
"""For phones, where the form stands below the result."""

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Options of every event."""
FREE: dict[str, Any] = {**PRIVATE, "concurrency_limit": None}
"""Of events with a handler: what runs the network waits in the line of :mod:`demo.runs.jobs`."""
AGAIN: dict[str, Any] = {**FREE, "trigger_mode": "multiple"}
"""The handler is called at once, and an older call ends at its next step."""
LAST: dict[str, Any] = {**FREE, "trigger_mode": "always_last"}
"""Of several values that are sent while the handler is busy, the last one follows."""


class Page:
    """The components and handlers of one page; ``blocks`` is what Gradio launches."""

    def __init__(self, showcase: Showcase, keep_seconds: float) -> None:
        self.blocks = Front(
            starts=(Handlers.enlarge.__name__, LaboratoryTab.halt.__name__),
            follow=[do.__name__ for do in (Handlers.fill, Handlers.complete, Handlers.halt)],
            keep_seconds=keep_seconds,
            title="MASA-SR",
            analytics_enabled=False,
        )
        with self.blocks:
            self.session = gr.State(Session())
            gr.Markdown(INTRO)
            gr.HTML(TO_INPUTS, elem_id="to-inputs")
            with gr.Row():
                with gr.Column(scale=2, min_width=320, elem_id="inputs"):
                    self.form = Form(showcase.examples)
                with gr.Column(scale=5, min_width=320, elem_id="results"):
                    self.results = Results(keep_seconds)
            self.handlers = Handlers(self.form, self.results, showcase)
            self.shown = [self.session, self.results.run, self.results.explored]
            """Inputs of what is done with the run that is shown."""
            # Gradio calls listeners of one event in this order, so what is quick comes first.
            for script in (MOVE_BY_KEYS, TAKE_PICTURES):
                self.blocks.load(None, js=script, **PRIVATE)
            self._wire_runs()
            self._wire_form()
            self._wire_looks()
            self._wire_comparison()
            self.results.laboratory.wire(
                self.session,
                self.results.tab_of[ID],
                self.results.open_tab,
                self.form.inputs,
                FREE,
            )
            offer_api()
        for event in self.blocks.fns.values():
            # Gradio would load an example past its queue, by an address that the guard keeps shut.
            event.queue = event.queue or event.fn is not None
        self.blocks.queue(max_size=QUEUE, api_open=False)

    def _wire_runs(self) -> None:
        """What runs the network, and the stop button, which ends all of it."""
        do, form, results = self.handlers, self.form, self.results
        new = [
            results.run,
            results.explored,
            results.bar,
            results.compare,
            results.left,
            results.right,
            results.download,
            results.report,
            *results.view,
            *results.trial.parts,
            results.archive,
        ]
        runs: list[Any] = []
        for start in (form.go.click, form.examples.load_input_event.then):
            start(None, js=SHOW_RESULTS, **PRIVATE)
            asked = [self.session, results.explored, *form.inputs]
            first = start(do.enlarge, asked, new, **AGAIN)
            runs += [first, *self._wire_rest(first)]
        opened = [*new, form.photo, form.refs, form.mode]
        loaded = self.blocks.load(do.open, self.session, opened, **FREE)
        runs.append(loaded)
        self._fill_after(loaded)
        tried = gr.on(
            # The button is for the keyboard, with which a slider is never released.
            [
                results.match_again.click,
                results.block.input,
                results.factor.release,
                results.dilations.input,
            ],
            do.match_otherwise,
            [*self.shown, results.dense, results.block, results.factor, results.dilations],
            [results.dense, *results.trial.parts, results.bar],
            # What waits in the browser would begin after Stop, and never after an error.
            **AGAIN,
        )
        packed = results.pack.click(
            do.make_archive,
            [*self.shown, *results.view],
            [results.archive, results.bar],
            **FREE,
        )
        for run in (*runs, tried, packed):
            run.failure(lambda: "", None, results.bar, **FREE)
        # Gradio's own cancelling could end what is asked for soon after Stop.
        form.stop.click(do.halt, self.session, results.bar, **FREE)

    def _wire_rest(self, first: Any) -> list[Any]:
        """What follows a picture: its figures at once, then the later steps.

        A run that failed gives no picture; the later steps of the one before it go on then.
        """
        self._fill_after(first)
        results = self.results
        more = [results.explored, results.bar, results.left, results.right, results.report]
        more += results.parts(LATE)
        return [
            event(self.handlers.complete, self.shown, more, **AGAIN)
            for event in (first.success, first.failure)
        ]

    def _fill_after(self, first: Any) -> None:
        first.success(self.handlers.fill, self.shown, self.results.parts(list(FIGURES)), **AGAIN)

    def _wire_form(self) -> None:
        """What is noted of the form while it is filled in."""
        do, form = self.handlers, self.form
        example = form.examples.dataset.click
        # The browser remembers whether the visitor said what the photo is: only there it is known
        # when a guess arrives. It need not hold for another photo. These scripts come first, as
        # Gradio calls the listeners of one event one after the other, and waits for each.
        form.mode.input(None, js=SAY_MODE, **PRIVATE)
        gr.on([form.photo.clear, example], None, js=FORGET_MODE, **PRIVATE)
        chosen = [form.photo.clear, form.mode.input, form.refs.upload, form.refs.delete, example]
        gr.on(chosen, do.touch, self.session, None, **FREE)
        asked = [self.session, form.photo, form.guess]
        guessed = form.photo.upload(do.guess_mode, asked, form.guess, js=ASK_GUESS, **AGAIN)
        guessed.then(None, [form.guess, form.mode], form.mode, js=TAKE_GUESS, **PRIVATE)
        form.mode.change(do.show_degradations, form.mode, form.degradation, **LAST)
        gr.on([amount.input for amount in form.amounts], lambda: CUSTOM, None, form.shift, **FREE)

    def _wire_looks(self) -> None:
        """Tabs, and what is chosen in the figures and above them."""
        do, results = self.handlers, self.results
        results.network.pick(do.jump, None, results.tabs, **FREE)
        for name, gradio_tab in results.tab_of.items():
            gradio_tab.select(None, js=f"() => ({HIGHLIGHT})('{name}')", **PRIVATE)
            controls = [results.open_tab, *results.controls.values()]
            gradio_tab.select(partial(do.opened, name), None, controls, **AGAIN)
        figures = results.parts(dependent())
        for tab in TABS:
            for figure in tab.figures:
                if figure.clickable:
                    results.slots[figure.id].image.select(
                        do.clicked(figure.id, tab),
                        [*self.shown, *results.view],
                        [results.row, results.column, *figures],
                        # ``always_last`` would send a later click's values without its place.
                        **AGAIN,
                    )
        fields: list[tuple[str, Any]] = [
            ("pixel", results.row),
            ("pixel", results.column),
            ("scale", results.scale),
            ("channel", results.channel),
        ]
        for what, control in fields:
            control.input(
                partial(do.moved, what),
                [*self.shown, results.open_tab, *results.view],
                figures,
                **LAST,
            )

    def _wire_comparison(self) -> None:
        """The sliders with two pictures."""
        results, laboratory = self.results, self.results.laboratory
        # The laboratory's words change with its choice even where the pictures are alike.
        shown = [results.compare.change, laboratory.slider.change, laboratory.chosen.change]
        gr.on(shown, None, js=TELL_COMPARED, **PRIVATE)
        for choice in (results.left, results.right):
            choice.input(
                self.handlers.choose_pictures,
                [*self.shown, results.left, results.right],
                results.compare,
                **LAST,
            )
        results.divider.input(
            lambda at: gr.ImageSlider(slider_position=at),
            results.divider,
            results.compare,
            **LAST,
        )


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
