"""Pages served on the loopback, for tests that speak HTTP to them."""

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import httpx

from demo.page.page import build_page, launch_options

ROOT = Path(__file__).resolve().parent.parent


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def served(showcase, **options):
    """Address of a page with this showcase, in this process; ``options`` are of its launch."""
    page = build_page(showcase)
    _, url, _ = page.launch(
        prevent_thread_lock=True,
        quiet=True,
        server_port=free_port(),
        **launch_options(),
        **options,
    )
    try:
        yield url.rstrip("/")
    finally:
        page.close()


@contextmanager
def served_apart(
    folder, *arguments, program=(str(ROOT / "app.py"),), environment=None, at="127.0.0.1"
):
    """Address and process of a page that runs on its own; ``folder/log`` holds what it says.

    ``at``: where it is expected to listen.
    """
    port = free_port()
    command = [sys.executable, *program, "--port", str(port), *arguments]
    given = {"GRADIO_TEMP_DIR": str(folder / "files"), "PYTHONPATH": str(ROOT)}
    given |= environment or {}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | given, stdout=log, stderr=log)
    url = f"http://{at}:{port}"
    try:
        wait_for(lambda: process.poll() is not None or answers(url), 120)
        assert process.poll() is None, (folder / "log").read_text()
        yield url, process
    finally:
        process.terminate()
        process.wait(20)


def answers(url):
    """Whether somebody does."""
    try:
        return httpx.get(f"{url}/config", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition, seconds):
    """Wait until it holds, so long at most."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
