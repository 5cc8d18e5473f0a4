"""The laboratory's tab: what it holds, and what is wired to what."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from demo import laboratory
from demo.figures import robustness as figures
from demo.figures.figure import Drawn
from demo.figures.steadiness import table
from demo.laboratory import (
    FAMILY_NAMES,
    LR_SIDE,
    MOST_POINTS,
    Sweep,
    SweepRequest,
    SweepResult,
)
from demo.page import look
from demo.page.figure_slot import FigureSlot, Updates
from demo.page.form import CUSTOM, Inputs, own_change, weights_menu
from demo.page.messages import GONE, as_visible_errors, progress_bar
from demo.page.session import Session, while_wanted
from demo.runs.jobs import Finished, Step, follow_each
from demo.runs.served import serve
from masa.config import SCALE
from masa.errors import UserError
from masa.measuring.ladder import NAMED, changed_by
from masa.measuring.robustness import csv_text
from masa.pictures.shifts import PRESETS, RANGES, Shift
from masa.weights import AUTO

LABEL, ID = "SAM laboratory", "laboratory"

INTRO = f"""## Which network stays steady when the reference or the photo changes?
Spatial adaptation (SAM) should keep the result steady when the reference's light or colour
changes. Here one picture of the pair in the form is changed step by step, and nothing else: the
reference or, with the changes called "photo ...", the small photo.
Matching finds little in a reference that is turned or of another scale. So with the changes
"rotation" and "scale", every network runs twice: as in the paper, and with the reference aligned.
With the changes called "photo ...", the small photo gets JPEG blocks, noise or blur. A sharp photo
is first made small cleanly then, and every value has its own result without a reference and its own
bicubic enlargement.

Where the sharp photo is known, and the change leaves what the reference shows in its place (light,
colour, blur, noise, JPEG), every network runs once more: with the hardest of the changes, but with
the matches of the unchanged reference. Some quality is lost even so: this part comes from the
changed features, and adaptation is there to prevent it in changes of light. The other part of the
loss comes from matching.

Of a small photo larger than {LR_SIDE} x {LR_SIDE} pixels, or a sharp one larger than
{SCALE * LR_SIDE} x {SCALE * LR_SIDE}, the middle is used."""

COMPARED = {
    "unchanged": "The result before any change",
    "bicubic": "Bicubic",
    "truth": "The sharp photo",
}
"""What the chosen result is compared with."""


def fairness() -> str:
    """Markdown: what the networks that are offered for comparison have in common."""
    names = ", ".join(f"**{name}** ({laboratory.TWINS[name]})" for name in laboratory.twins())
    return (
        f"{names} differ in their adaptation: each was trained from nothing, with the "
        "same samples and the same number of steps, from the same beginning in all layers that "
        "they share. They have a quarter of **masa-rec**'s parameters and were trained for fewer "
        "steps, so their results are not as good."
    )


def trial_of(values: Sequence[Any]) -> SweepRequest:
    """The sweep that the values of the form and then of the tab's controls ask for.

    Raises ``UserError``.
    """
    count = len(fields(Inputs))
    family, points, networks, named, *amounts = values[count:]
    shifts = {name: PRESETS[name] for name in named or () if name in PRESETS}
    if CUSTOM in (named or ()):
        shifts[CUSTOM] = Shift(**dict(zip(RANGES, amounts, strict=True)))
    request = Inputs(*values[:count]).request()
    return SweepRequest(request, family, tuple(networks or ()), int(points), shifts)


def watch(trial: SweepRequest, admitted: bool = False) -> Generator[Step | Sweep, None, None]:
    """A sweep as it grows, with its steps between. Raises ``gr.Error`` with one sentence.

    With ``admitted`` a long line refuses nobody: it replaces one that was in the line already.
    """
    with as_visible_errors():
        run = partial(laboratory.run_sweep, trial)
        for step in follow_each(run, admitted):
            yield step.value if isinstance(step, Finished) else step


def choose(
    sweep: Sweep, line: str, value: float, compared: str
) -> tuple[SweepResult, tuple[str, str]]:
    """The result nearest to a choice, and the files of the two pictures to compare.

    Raises ``UserError`` if they were deleted meanwhile.
    """
    kept = sweep.result(line, value)
    bicubic = kept.bicubic or sweep.bicubic
    left = {"bicubic": bicubic, "truth": sweep.truth}.get(compared) or sweep.unchanged(
        kept.line
    ).picture
    if not all(Path(path).exists() for path in (left, kept.picture)):
        raise UserError("These results are no longer on the server: run the sweep again.")
    return kept, (left, kept.picture)


class LaboratoryTab:
    """Its components, laid out where it is made, and what happens on their events."""

    def __init__(self, keep_seconds: float) -> None:
        self.found = gr.State(None, time_to_live=keep_seconds)
        gr.Markdown(INTRO)
        self._lay_out_question()
        with gr.Row():
            self.go = gr.Button("Run the sweep", variant="primary", elem_id="lab-go")
            self.stop = gr.Button("Stop the sweep", elem_id="lab-stop")
        self.bar = gr.HTML(elem_id="lab-bar")
        with gr.Column(visible=False) as self.results:
            self._lay_out_curves()
            gr.Markdown("### One result\nClick a mark above, or choose here.")
            self._lay_out_one_result()
            self.strips = self._slot(
                "lab-strips",
                "The same part of every result",
                "What the numbers look like: compare along a row.",
            )
            self.table = gr.Markdown(elem_id="lab-table")
            self.download = gr.DownloadButton(
                "Download the numbers (CSV)", visible=False, elem_id="lab-download"
            )

    def _lay_out_question(self) -> None:
        """What changes, how far, for which networks, and a preview of the change."""
        with gr.Row():
            self.family = gr.Dropdown(
                list(FAMILY_NAMES), value="gain", label="What changes", elem_id="lab-family"
            )
            self.points = gr.Slider(
                3, MOST_POINTS, 5, step=1, label="Values along it", elem_id="lab-points"
            )
        self.networks = gr.CheckboxGroup(
            [(words, name) for words, name in weights_menu() if name != AUTO],
            value=laboratory.default_networks(),
            label=f"Networks, at most {figures.MOST_NETWORKS}",
            info="The form's own weights, change of light and alignment are not used here.",
            elem_id="lab-networks",
        )
        if laboratory.twins():
            gr.Markdown(fairness())
        with gr.Column(visible=False) as self.named_column:
            changing = [name for name, shift in PRESETS.items() if not shift.is_identity]
            self.named = gr.CheckboxGroup(
                [*changing, CUSTOM], value=changing, label="Changes of light", elem_id="lab-named"
            )
            self.amounts = own_change()
        self.preview = self._slot(
            "lab-preview",
            "The picture that changes",
            "What every network is given; of a reference, also how much of it is clipped to black "
            "or white. Of several references the first is shown; the others are changed alike.",
        )

    def _lay_out_curves(self) -> None:
        """The two figures of all results, side by side."""
        with gr.Row():
            with gr.Column(min_width=320):
                self.quality = self._slot(
                    "lab-quality",
                    "How good the results are",
                    "A mark per result; the higher, the closer to the sharp photo or, where "
                    "that is unknown, to the result before any change. Click one.",
                    wide=False,
                )
            with gr.Column(min_width=320):
                self.matching = self._slot(
                    "lab-matching",
                    "How well matching goes",
                    "Where matches move or become less similar, the change disturbs matching. "
                    "Where they stay, quality is lost in a later step.",
                    wide=False,
                )

    def _lay_out_one_result(self) -> None:
        """The choice of one result, that result beside another picture, and its channels."""
        with gr.Row():
            self.line = gr.Dropdown([], label="Network", elem_id="lab-network")
            self.value = gr.Dropdown([], label="Change", elem_id="lab-value")
            self.compared = gr.Dropdown(
                [(title, name) for name, title in COMPARED.items()],
                value="unchanged",
                label="Left: compared with",
                elem_id="lab-compared",
            )
            self.divider = gr.Slider(0, 100, 50, step=1, label="Divider")
        self.slider = gr.ImageSlider(
            label="Drag to compare",
            format="png",
            interactive=False,
            max_height=560,
            elem_id="lab-slider",
        )
        self.chosen = gr.Markdown(elem_id="lab-chosen")
        self.statistics = self._slot(
            "lab-statistics",
            "Channels before and after adaptation",
            "Mean and spread of every channel for the chosen result, at the photo's own size.",
        )

    def _slot(self, name: str, title: str, caption: str, wide: bool = True) -> FigureSlot:
        gr.Markdown(f"### {title}\n{caption}")
        classes = ["wide"] if wide else []
        return FigureSlot.lay_out(name, title, (name, f"{name}-words"), classes, visible=False)

    # ------------------------------------------------------------------ what happens

    def wire(
        self,
        session: gr.State,
        tab: gr.Tab,
        open_tab: gr.State,
        inputs: Sequence[Any],
        free: dict[str, Any],
    ) -> None:
        """Connect the tab; ``inputs`` are the form's, ``free`` the options of every event."""
        asked = [*inputs, self.family, self.points, self.networks, self.named, *self.amounts]
        preview = self.preview.parts
        choice = [self.line, self.value, self.compared]
        slots = (self.quality, self.matching, self.statistics, self.strips)
        drawn = [part for slot in slots for part in slot.parts]
        shown = [self.slider, self.chosen, *drawn]
        swept = self.go.click(
            self.sweep,
            [session, *asked],
            [self.found, self.bar, self.results, *choice, *shown, self.table, self.download],
            trigger_mode="multiple",
            **free,
        )
        # The sweep's last figures may be drawn without a choice made meanwhile: draw it again.
        looked = [session, self.found, *choice]
        swept.success(self.show_chosen, looked, shown, **free)
        swept.failure(lambda: "", None, self.bar, **free)
        self.stop.click(self.halt, [session, self.found], [self.bar, self.results], **free)
        told = [session, *asked]
        last = free | {"trigger_mode": "always_last"}
        tab.select(self.show_preview, told, preview, **last)
        photo, refs, mode = inputs[:3]
        changing = [photo.change, refs.change, mode.change, self.points.input, self.named.input]
        gr.on(changing, self.renew_preview, [open_tab, *told], preview, **last)
        gr.on(
            [amount.input for amount in self.amounts],
            lambda named: [*(name for name in named or () if name != CUSTOM), CUSTOM],
            self.named,
            self.named,
            **last,
        ).then(self.renew_preview, [open_tab, *told], preview, **last)
        self.family.input(
            lambda family: (gr.Column(visible=family == NAMED), gr.Slider(visible=family != NAMED)),
            self.family,
            [self.named_column, self.points],
            **free,
        ).then(self.show_preview, told, preview, **last)
        for control in choice:
            control.input(self.show_chosen, looked, shown, **last)
        for slot, draw in ((self.quality, _quality), (self.matching, _matching)):
            slot.image.select(
                self._clicked(draw),
                [session, self.found, self.compared],
                [self.line, self.value, *shown],
                # ``always_last`` would send a later click's values without its place.
                trigger_mode="multiple",
                **free,
            )
        self.divider.input(
            lambda at: gr.ImageSlider(slider_position=at),
            self.divider,
            self.slider,
            **last,
        )

    def halt(self, session: Session, found: Sweep | None) -> Updates:
        """Stop was pressed: the sweep ends at its next step, and what it found stays."""
        session.begin("sweep")
        return {self.bar: "", self.results: gr.Column(visible=found is not None)}

    def renew_preview(self, open_tab: str, session: Session, *values: Any) -> Updates:
        """:meth:`show_preview` while this tab is open."""
        return self.show_preview(session, *values) if open_tab == ID else {}

    def show_preview(self, session: Session, *values: Any) -> Updates:
        """The changed copies; a sentence instead where there is nothing to change yet."""
        number = session.begin("preview")
        updates = self._preview(values)
        return updates if session.is_newest("preview", number) else {}

    def _preview(self, values: Sequence[Any]) -> Updates:
        try:
            trial = trial_of(values)
            copies = laboratory.changed_pictures(trial)
            draw = partial(figures.preview, copies, changed_by(trial.family))
            return self.preview.fill(look.in_turn(draw))
        except OSError:
            return self.preview.empty(GONE)
        except UserError as error:
            return self.preview.empty(str(error))

    def sweep(self, session: Session, *values: Any) -> Iterator[Updates]:
        """Run a sweep and draw it as it grows."""
        with as_visible_errors():
            trial = trial_of(values)
            trial.check()  # raises before an older sweep is ended
        with session.doing("sweep", trial) as (number, replacing):
            if number is None:
                return  # pressed twice: the first sweep keeps its place in the line
            steps = self._swept(session, trial, replacing)
            yield from while_wanted(lambda: session.is_newest("sweep", number), steps)

    def _swept(
        self, session: Session, trial: SweepRequest, replacing: bool
    ) -> Generator[Updates, None, None]:
        begun = False
        latest: Sweep | None = None
        with closing(watch(trial, replacing)) as steps:
            for step in steps:
                if isinstance(step, Step):
                    yield {self.bar: progress_bar(step)}
                    if step.share > 0 and not begun:
                        # Shown before there is a result: a browser may lose the first value of
                        # a component that it shows in the same message.
                        yield {self.results: gr.Column(visible=True)}
                        begun = True
                    continue
                if latest is None:
                    session.begin("mark")  # what is drawn for a click on the sweep before is older
                yield self._grown(step, first=latest is None)
                latest = step
        if latest is not None:
            yield {
                self.bar: "",
                self.results: gr.Column(visible=True),
                self.table: table(latest.curves, latest.measured),
                self.download: gr.DownloadButton(
                    value=serve(csv_text(latest.rows).encode(), "robustness.csv"), visible=True
                ),
            }

    def _grown(self, sweep: Sweep, first: bool) -> Updates:
        """What one more result changes; the first one is chosen."""
        updates: Updates = {
            self.found: sweep,
            **self.quality.fill(_quality(sweep, None)[0]),
            **self.matching.fill(_matching(sweep, None)[0]),
            **self.strips.fill(look.in_turn(partial(laboratory.strips, sweep))),
            self.line: gr.Dropdown(choices=list(sweep.lines)),
            self.value: gr.Dropdown(choices=sweep.choices()),
        }
        if not first:
            return updates
        kept = sweep.results[0]
        names = [name for name in COMPARED if name != "truth" or sweep.truth]
        return {
            **updates,
            self.table: "",
            self.download: gr.DownloadButton(visible=False),
            self.line: gr.Dropdown(choices=list(sweep.lines), value=kept.line),
            self.value: gr.Dropdown(choices=sweep.choices(), value=kept.value),
            self.compared: gr.Dropdown(
                choices=[(COMPARED[name], name) for name in names], value="bicubic"
            ),
            **self._chosen(sweep, kept.line, kept.value, "bicubic"),
        }

    def show_chosen(
        self,
        session: Session,
        sweep: Sweep | None,
        line: str | None,
        value: float | None,
        compared: str,
    ) -> Updates:
        """A result was chosen by name."""
        number = session.begin("mark")
        if line is None or value is None:
            return {}
        updates = self._chosen(_kept(sweep), line, value, compared)
        return updates if session.is_newest("mark", number) else {}

    def _clicked(self, draw: Callable[..., Any]) -> Callable[..., Updates]:
        def clicked(
            session: Session, sweep: Sweep | None, compared: str, event: gr.EventData
        ) -> Updates:
            at = getattr(event, "index", None)
            if not look.is_pixel(at):
                return {}
            sweep = _kept(sweep)
            number = session.number()
            spot = figures.nearest(draw(sweep, None)[1], at)
            if spot is None or not session.accept("mark", number):
                return {}
            updates = {
                self.line: spot.line,
                self.value: gr.Dropdown(choices=sweep.choices(), value=spot.value),
                **self._chosen(sweep, spot.line, spot.value, compared),
            }
            return updates if session.is_newest("mark", number) else {}

        return clicked

    def _chosen(self, sweep: Sweep, line: str, value: float, compared: str) -> Updates:
        with as_visible_errors():
            kept, pictures = choose(sweep, line, value, compared)
        at = (kept.line, kept.value)
        updates: Updates = {
            self.slider: pictures,
            self.chosen: laboratory.words_on(sweep, kept),
            **self.quality.fill(_quality(sweep, at)[0]),
            **self.matching.fill(_matching(sweep, at)[0]),
        }
        if kept.statistics:
            draw = partial(figures.statistics, kept.line, kept.title, kept.statistics)
            updates |= self.statistics.fill(look.in_turn(draw))
        return updates


def _kept(sweep: Sweep | None) -> Sweep:
    """The sweep. Raises ``gr.Error`` if it was forgotten, as after an hour without a click."""
    with as_visible_errors():
        if sweep is None:
            raise UserError("The results of this sweep are no longer kept: run the sweep again.")
        return sweep


def _quality(
    sweep: Sweep, chosen: tuple[str, float] | None
) -> tuple[Drawn, tuple[figures.Spot, ...]]:
    return look.in_turn(partial(figures.quality, sweep.curves, sweep.measured, chosen))


def _matching(
    sweep: Sweep, chosen: tuple[str, float] | None
) -> tuple[Drawn, tuple[figures.Spot, ...]]:
    return look.in_turn(partial(figures.matching, sweep.curves, chosen))
