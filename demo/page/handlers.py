"""What happens on each event of the page: from a visitor's request to new values of components."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

import gradio as gr

from demo.export import pack
from demo.figures.tabs import FIGURES, TABS, Tab
from demo.figures.view import View
from demo.page import look, work
from demo.page.figure_slot import Updates
from demo.page.form import HR_MODE, Form, Inputs, likely_mode, mode_of
from demo.page.messages import as_visible_errors, existing, progress_bar
from demo.page.report import compared_files, pictures_of, report
from demo.page.results import LATE, Results, dependent
from demo.page.session import Session, while_wanted
from demo.page.work import MatchingTrial
from demo.runs.exploration import Exploration
from demo.runs.jobs import Rank, Step, Steps, rank
from demo.runs.rematch import DenseMatch
from demo.runs.served import serve, serve_png
from demo.runs.showcase import Showcase

Value = TypeVar("Value")


class Handlers:
    """One method for each kind of event; only they change a visitor's :class:`Session`."""

    def __init__(self, form: Form, results: Results, showcase: Showcase) -> None:
        self.form = form
        self.results = results
        self.showcase = showcase

    # ------------------------------------------------------------------ the form

    def touch(self, session: Session) -> None:
        """The visitor chose a picture, or said what the photo is."""
        session.touched = True

    def guess_mode(self, session: Session, photo: str | None, number: str) -> str | None:
        """A photo was uploaded: its ``number`` and what it likely is, with a space between;
        ``None`` if that is not known.

        The browser takes this, unless the visitor has said what the photo is before it arrives, or
        has another photo by then.
        """
        session.touched = True
        mode = None if photo is None else likely_mode(photo)
        return None if mode is None else f"{number} {mode}"

    def show_degradations(self, mode: str) -> Any:
        """Whether the photo is small or sharp has changed: only of a sharp one an LR is made."""
        return gr.Radio(visible=mode == HR_MODE)

    # ------------------------------------------------------------------ a run and its pictures

    def open(self, session: Session) -> Iterator[Updates]:
        """The first example as soon as it is ready, unless the visitor does something before."""

        def waits() -> bool:
            return session.is_current(0) and not session.touched

        for example in self.showcase.examples[:1]:
            while waits() and not self.showcase.gave_up(example.name):
                x = self.showcase.wait(example.name, 0)
                if x is not None:
                    refs = [(str(ref), None) for ref in example.refs]
                    form = self.form
                    new: Updates = {form.photo: str(example.photo), form.refs: refs}
                    new |= {form.mode: mode_of(example), self.results.bar: ""} | self._new(0, x)
                    if not waits():  # asked again, as it took time to write the pictures
                        break
                    yield new
                    return
                step = Step(0, "Preparing the first example", None)
                yield {self.results.bar: progress_bar(step)}
                self.showcase.wait(example.name, 1)
            if not session.asked:
                yield {self.results.bar: ""}

    def enlarge(
        self, session: Session, before: Exploration | None, *values: Any
    ) -> Iterator[Updates]:
        """A new run, to the enlarged picture."""
        inputs = Inputs(*values)
        if inputs == session.asked:
            return  # pressed twice: the first run keeps its place in the line
        with as_visible_errors():
            inputs.request()  # raises before an older run is ended
        replacing = session.asked is not None
        run = session.start(inputs)
        held = None if before is None else weakref.ref(before)
        del before  # while this waits, only the visitor's session holds it
        steps = work.enlarge(inputs, self.showcase, held, replacing)
        told = self._told(steps, partial(self._new, run))
        try:
            for update in while_wanted(lambda: session.is_current(run), told):
                if self.results.run in update:
                    session.show(run)
                yield update
        finally:
            session.end(run)

    def fill(self, session: Session, run: int, x: Exploration | None) -> Iterator[Updates]:
        """Every tab's figures, a tab at a time, once for each run."""
        # The page was opened, but its example is not ready yet; or Enlarge was pressed twice.
        if x is None or run == session.drawn:
            return
        session.drawn = run
        place = rank(background=True)
        opening = View.opening(x)
        groups = [[f.id for f in tab.figures if not f.late] for tab in TABS]

        def tabs() -> Generator[Updates, None, None]:
            # Late ones first: if drawn last, they could replace newer figures by "missing".
            yield self._drawn(x, session.view or opening, LATE, place)
            for names in groups:
                view, updates = None, {}
                # Asked again when they are sent: a look may have sent newer ones before them.
                while view != (session.view or opening):
                    while view != (newest := session.view or opening):  # changed while drawing
                        view = newest
                        updates = self._drawn(x, view, names, place)
                    yield updates

        yield from while_wanted(lambda: session.is_shown(run), tabs())

    def complete(self, session: Session, run: int, x: Exploration | None) -> Iterator[Updates]:
        """The later steps of a run, once for each picture, and what they show."""
        # There is no picture, or it is no longer the newest, or its steps are under way already.
        if x is None or not session.is_current(run) or run == session.completing:
            return
        session.completing = run
        try:
            completed = partial(self._completed, session, run)
            steps = self._told(work.complete(weakref.ref(x)), completed)
            del x  # while this waits, only the visitor's session holds it
            yield from while_wanted(lambda: session.is_current(run), steps)
        finally:
            if session.completing == run:
                session.completing = None

    def halt(self, session: Session) -> str:
        """Stop was pressed: the empty progress bar; what is under way ends at its next step."""
        session.halt()
        return ""

    def choose_pictures(
        self, session: Session, run: int, x: Exploration | None, left: str, right: str
    ) -> Any:
        """Other pictures in the slider."""
        pictures = compared_files(existing(x), left, right)
        return pictures if session.is_drawn(run) else gr.skip()

    def make_archive(
        self, session: Session, run: int, x: Exploration | None, *view: Any
    ) -> Iterator[Updates]:
        """Everything of this run in one file."""
        session.know(run, existing(x))
        del x  # while this waits, the visitor's state alone holds the run
        packing = pack(partial(work.still, partial(session.held, run)), _view(view))
        steps = self._told(packing, self._packed)
        number = session.begin("archive")
        yield from while_wanted(
            lambda: session.is_shown(run) and session.is_newest("archive", number), steps
        )

    def match_otherwise(
        self,
        session: Session,
        run: int,
        x: Exploration | None,
        dense: DenseMatch | None,
        block: int,
        factor: float,
        dilations: list[int],
    ) -> Iterator[Updates]:
        """Other settings of the matching, beside dense matching."""
        x = existing(x)
        known = dense if dense is not None and dense.of() is x.matches else None
        session.know(run, x)
        del x, dense  # while this waits, the visitor's state alone holds the run
        asked = (run, block, factor, sorted(dilations))
        with session.doing("trial", asked) as (number, replacing):
            if number is None:
                return  # pressed twice: the first trial keeps its place in the line
            held = partial(session.held, run)
            steps = work.try_matching(held, known, block, factor, dilations, replacing)
            del known
            yield from while_wanted(
                lambda: session.is_shown(run) and session.is_newest("trial", number),
                self._told(steps, self._tried),
            )

    # ------------------------------------------------------------------ looks

    def jump(self, event: gr.EventData) -> Any:
        """A box of the network's drawing was pressed."""
        wanted = str(getattr(event, "tab", ""))
        return gr.Tabs(selected=wanted) if wanted in self.results.tab_of else gr.skip()

    def opened(self, tab: str) -> Updates:
        """A tab was opened: its controls are shown. Figures of all tabs are drawn at every look."""
        updates: Updates = {self.results.open_tab: tab}
        shown = frozenset().union(*(t.controls for t in TABS if t.id == tab))
        for name, control in self.results.controls.items():
            updates[control] = gr.update(visible=name in shown)
        return updates

    def moved(
        self, what: str, session: Session, run: int, x: Exploration | None, tab: str, *view: Any
    ) -> Iterator[Updates]:
        """A control above the figures was moved, which changes the view's field ``what``."""
        x = existing(x)
        if run != session.drawn:  # it was moved before the browser had this run's picture
            return
        number = session.number()
        yield from self._look(session, run, number, x, tab, what, _view(view))

    def clicked(self, name: str, tab: Tab) -> Callable[..., Iterator[Updates]]:
        """What a click on the figure called ``name`` does, which lies on ``tab``."""

        def clicked(
            session: Session,
            run: int,
            x: Exploration | None,
            row: float,
            column: float,
            scale: int,
            channel: float,
            event: gr.EventData,
        ) -> Iterator[Updates]:
            at = getattr(event, "index", None)
            if not look.is_pixel(at):
                return
            x = existing(x)
            number = session.number()  # a move while the click's place is found is newer
            view = look.click(x, _view((row, column, scale, channel)), name, at)
            if view is None or not session.is_drawn(run):
                return
            chosen = {self.results.row: view.row, self.results.column: view.column}
            yield from self._look(session, run, number, x, tab.id, "pixel", view, chosen)

        return clicked

    def _look(
        self,
        session: Session,
        run: int,
        number: int,
        x: Exploration,
        tab: str,
        what: str,
        view: View,
        chosen: Updates | None = None,
    ) -> Iterator[Updates]:
        """``chosen`` at once, then the figures of the open tab, then those of all others."""

        def wanted() -> bool:
            return session.is_shown(run) and session.is_newest("look", number)

        def tabs(fields: frozenset[str]) -> Generator[Updates, None, None]:
            if chosen:
                yield chosen  # at once, as arrow keys start from there
            seen = [name for t in TABS if t.id == tab for name in dependent(fields, t)]
            unseen = [name for name in dependent(fields) if name not in seen]
            for names in filter(None, (seen, unseen)):
                yield self._drawn(x, view, names)
            session.looked(number)

        if session.is_shown(run):
            yield from while_wanted(wanted, tabs(session.look(number, view, what)))

    # ------------------------------------------------------------------ new values

    def _told(
        self, steps: Steps[Value], changed: Callable[[Value], Updates]
    ) -> Generator[Updates, None, None]:
        """The progress of steps, and what their results change on the page."""
        with closing(steps):
            for step in steps:
                if isinstance(step, Step):
                    yield {self.results.bar: progress_bar(step)}
                else:
                    yield {self.results.bar: ""} | changed(step.value)

    def _new(self, run: int, x: Exploration) -> Updates:
        """Everything that a new picture changes at once; its figures follow."""
        results, view = self.results, View.opening(x)
        scales = [(f"x{scale}", scale) for scale in sorted(x.scales)]
        pictures = pictures_of(x)
        names, left, right = list(pictures.values()), pictures["bicubic"], pictures["result"]
        return {
            results.run: run,
            results.explored: x,
            results.compare: compared_files(x, left, right),
            results.left: gr.Dropdown(choices=names, value=left),
            results.right: gr.Dropdown(choices=names, value=right),
            results.download: gr.DownloadButton(
                value=serve_png(x.result, "masa_x4.png", x.alpha), interactive=True
            ),
            results.report: report(x),
            results.row: gr.Slider(maximum=x.lr.height - 1, value=view.row),
            results.column: gr.Slider(maximum=x.lr.width - 1, value=view.column),
            results.scale: gr.Radio(choices=scales, value=view.scale),
            results.channel: gr.Slider(maximum=len(x.lr_features) - 1, value=-1),
            # What was made of the run before goes.
            **results.trial.empty(),
            results.archive: gr.File(value=None, visible=False),
        }

    def _completed(self, session: Session, run: int, x: Exploration) -> Updates:
        """What is known of the run that is shown after one of its later steps."""
        session.hold(run, x)
        results = self.results
        view = session.view or View.opening(x)
        # The pictures that are compared stay: there are only more to choose from.
        names = list(pictures_of(x).values())
        return {
            **self._drawn(x, view, LATE, rank(background=True)),
            results.left: gr.Dropdown(choices=names),
            results.right: gr.Dropdown(choices=names),
            results.explored: x,
            results.report: report(x),
        }

    def _packed(self, archive: bytes) -> Updates:
        return {self.results.archive: gr.File(value=serve(archive, "masa.zip"), visible=True)}

    def _tried(self, trial: MatchingTrial) -> Updates:
        filled = self.results.trial.fill(trial.figure, after=trial.painted)
        return {self.results.dense: trial.dense, **filled}

    def _drawn(
        self, x: Exploration, view: View, names: Sequence[str], place: Rank | None = None
    ) -> Updates:
        """Figures by name; where one is missing, why."""
        place = place or rank()
        example = self.showcase.name_of(x) if view == View.opening(x) else None
        updates: Updates = {}
        for name in names:
            draw = partial(look.drawn, x, view, name, place)
            drawn = draw() if example is None else self.showcase.drawn(example, name, draw)
            slot = self.results.slots[name]
            if drawn is None:
                updates |= slot.empty(f"*{FIGURES[name].missing(x, view.clipped(x))}*")
            else:
                updates |= slot.fill(drawn)
        return updates


def _view(values: Sequence[Any]) -> View:
    row, column, scale, channel = values
    scale = View.scale if scale is None else int(scale)  # of a radio nothing may be chosen
    return View(int(row), int(column), scale, None if channel < 0 else int(channel))
