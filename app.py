"""Serve the MASA-SR page: ``python app.py``."""

from __future__ import annotations

import argparse

import gradio as gr

from demo.page import CSS, build_page
from demo.runs import predictor_for
from demo.settings import LIMITS
from masa.weights import DEFAULT_WEIGHTS


def main() -> None:
    """Parse, load, build, launch."""
    parser = argparse.ArgumentParser(description="Serve the MASA-SR page.")
    parser.add_argument("--host", default=None, help="address to listen on (default: this machine)")
    parser.add_argument("--port", type=int, default=None, help="(default: first free from 7860)")
    arguments = parser.parse_args()
    predictor_for(DEFAULT_WEIGHTS)
    build_page().launch(
        server_name=arguments.host,
        server_port=arguments.port,
        css=CSS,
        theme=gr.themes.Soft(),
        max_file_size=LIMITS.max_file_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=["api", "gradio", "settings"],
    )


if __name__ == "__main__":
    main()
