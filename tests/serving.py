"""A page served on the loopback, for tests that speak HTTP to it."""

import os
import socket
from contextlib import contextmanager

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from demo.page import build_page, launch_options


@contextmanager
def served(showcase):
    """Address of a page with this showcase."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = build_page(showcase)
    _, url, _ = page.launch(
        prevent_thread_lock=True, quiet=True, server_port=port, **launch_options()
    )
    try:
        yield url.rstrip("/")
    finally:
        page.close()
