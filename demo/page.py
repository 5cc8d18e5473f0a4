"""The page: what it holds, and in one block at the end what is wired to what."""

from __future__ import annotations

import gradio as gr

from demo.callbacks import HR_MODE, LR_MODE, enlarge, relay
from demo.examples import load_examples
from demo.settings import KEEP_SECONDS, LIMITS, QUEUE
from masa.weights import DEFAULT_WEIGHTS, shipped_weights

MODEL = "model"
"""Concurrency group of everything that runs the network: one at a time, whoever asks."""

CSS = """
.gradio-container { max-width: 1500px !important; margin: auto; }
#result .wrap { min-height: 200px; }
"""

INTRO = """# MASA-SR: real texture from a reference photo
A small photo is enlarged four times. Where a reference photo shows something similar and sharp,
its texture is found, fitted to the light of yours, and painted in.
"""


def build_page() -> gr.Blocks:
    """The whole page, ready to launch."""
    with gr.Blocks(
        title="MASA-SR", analytics_enabled=False, delete_cache=(600, KEEP_SECONDS)
    ) as page:
        gr.Markdown(INTRO)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                photo = gr.Image(
                    label="Your photo",
                    type="filepath",
                    image_mode=None,
                    format="png",
                    sources=["upload", "clipboard"],
                    height=260,
                    elem_id="photo",
                    buttons=[],
                )
                mode = gr.Radio(
                    [LR_MODE, HR_MODE], value=LR_MODE, label="What is it?", elem_id="mode"
                )
                refs = gr.Gallery(
                    label=f"Reference photos, sharp, up to {LIMITS.max_references}",
                    type="filepath",
                    file_types=["image"],
                    format="png",
                    columns=3,
                    height=200,
                    interactive=True,
                    elem_id="refs",
                )
                weights = gr.Dropdown(
                    shipped_weights(), value=DEFAULT_WEIGHTS, label="Weights", elem_id="weights"
                )
                with gr.Row():
                    go = gr.Button("Enlarge x4", variant="primary", elem_id="go")
                    stop = gr.Button("Stop", elem_id="stop")
            with gr.Column(scale=5, min_width=320):
                compare = gr.ImageSlider(
                    label="Bicubic (left) and MASA (right)",
                    format="png",
                    interactive=False,
                    max_height=720,
                    elem_id="result",
                )
                report = gr.Markdown(elem_id="report")
                download = gr.DownloadButton("Download PNG", interactive=False, elem_id="download")
        examples = load_examples()
        gr.Examples(
            [[str(e.hr), [str(ref) for ref in e.refs], HR_MODE] for e in examples],
            [photo, refs, mode],
            example_labels=[f"{e.title} ({e.kind})" for e in examples],
            examples_per_page=20,
            elem_id="examples",
        )

        def on_go(photo, refs, mode, weights, progress=gr.Progress()):  # noqa: ANN001, ANN202, B008
            shown = enlarge(photo, refs, mode, weights, relay(progress))
            return (
                shown.before_after,
                shown.report,
                gr.DownloadButton(value=shown.download, interactive=True),
            )

        running = go.click(
            on_go,
            [photo, refs, mode, weights],
            [compare, report, download],
            concurrency_id=MODEL,
            concurrency_limit=1,
            api_name="enlarge",
            show_progress_on=[compare],
        )
        stop.click(None, cancels=[running])
    page.queue(max_size=QUEUE)
    return page
