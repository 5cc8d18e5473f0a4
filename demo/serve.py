"""Serve the MASA-SR page: ``python app.py``, or ``masa-page`` once installed."""

from __future__ import annotations

import argparse
import os
import signal
import sys

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from demo.page.page import build_page, launch_options
from demo.runs.request import predictor_for
from demo.runs.served import sweep_in_background, use_own_folder
from demo.runs.showcase import Showcase
from demo.settings import KEEP_SECONDS
from masa.machine.memory import share_pools
from masa.weights import DEFAULT_WEIGHTS


def main() -> None:
    """Parse, load, build, launch."""
    parser = argparse.ArgumentParser(description="Serve the MASA-SR page.")
    parser.add_argument("--host", default=None, help="address to listen on (default: this machine)")
    parser.add_argument("--port", type=int, default=None, help="(default: first free from 7860)")
    parser.add_argument(
        "--keep",
        type=float,
        default=KEEP_SECONDS,
        metavar="SECONDS",
        help="how long files and runs of visitors are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--no-examples",
        action="store_true",
        help="leave out the example photos, which are computed while nobody else needs the network",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that its files go with it
    use_own_folder()
    share_pools()
    predictor_for(DEFAULT_WEIGHTS)
    showcase = Showcase([] if arguments.no_examples else None)
    page = build_page(showcase, arguments.keep)
    showcase.prepare_in_background()
    sweep_in_background(arguments.keep)
    page.launch(server_name=arguments.host, server_port=arguments.port, **launch_options())
