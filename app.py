"""Serve the MASA-SR page: ``python app.py``."""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from demo.page import build_page, launch_options
from demo.runs import predictor_for
from demo.showcase import Showcase
from masa.weights import DEFAULT_WEIGHTS


def main() -> None:
    """Parse, load, build, launch."""
    parser = argparse.ArgumentParser(description="Serve the MASA-SR page.")
    parser.add_argument("--host", default=None, help="address to listen on (default: this machine)")
    parser.add_argument("--port", type=int, default=None, help="(default: first free from 7860)")
    arguments = parser.parse_args()
    predictor_for(DEFAULT_WEIGHTS)
    showcase = Showcase()
    page = build_page(showcase)
    showcase.prepare_in_background()
    page.launch(server_name=arguments.host, server_port=arguments.port, **launch_options())


if __name__ == "__main__":
    main()
