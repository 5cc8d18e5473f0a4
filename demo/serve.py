"""Serve the MASA-SR page: ``python app.py``, or ``masa-page`` once installed."""

from __future__ import annotations

import argparse
import atexit
import os
import signal
import sys
import tempfile
from ipaddress import ip_address
from typing import NoReturn

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from demo.runs.served import use_own_folder
from demo.settings import KEEP_SECONDS


def main() -> None:
    """Parse, choose a folder for files, then load, build and launch."""
    parser = argparse.ArgumentParser(description="Serve the MASA-SR page.")
    parser.add_argument(
        "--host",
        type=_host,
        default=os.environ.get("GRADIO_SERVER_NAME") or None,
        help="address to listen on (default: as GRADIO_SERVER_NAME says, else this machine)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("GRADIO_SERVER_PORT") or None,
        help="(default: as GRADIO_SERVER_PORT says, else the first free from 7860)",
    )
    parser.add_argument(
        "--keep",
        type=_seconds_kept,
        default=KEEP_SECONDS,
        metavar="SECONDS",
        help="how long files and runs of visitors are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--no-examples",
        action="store_true",
        help="leave out the example photos, which are computed while nobody else needs the network",
    )
    parser.add_argument(
        "--root-path",
        default=None,
        metavar="PATH",
        help="where a proxy shows the page, if not at its top: /masa, or the whole address",
    )
    parser.add_argument(
        "--proxy-header",
        default=None,
        metavar="NAME",
        help="header in which a proxy in front tells visitors' addresses, such as X-Forwarded-For; "
        "only if nobody can reach the page without that proxy",
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that its files are deleted
    _choose_folder()
    code = 0
    try:
        _serve(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    except KeyboardInterrupt:  # before there is a page, which takes it for its end
        code = 128 + signal.SIGINT
    _leave(code)


def _host(text: str) -> str:
    """An address as Gradio wants it, with brackets if it is IPv6: it becomes part of a URL."""
    try:
        return f"[{text}]" if ip_address(text).version == 6 else text
    except ValueError:  # a name, or brackets already
        return text


def _port(text: str) -> int:
    """A port as a number; not 0, for which Gradio does not learn what port the system chose."""
    port = int(text) if text.isdecimal() else 0
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port: choose a number from 1 to 65535.")
    return port


LONGEST_KEPT = 10**9
"""Seconds, some 30 years; dates so long ago can still be computed with."""


def _seconds_kept(text: str) -> float:
    """A time to keep files for; with less than a second, looking for old ones would never rest."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= LONGEST_KEPT:  # not true of "nan" either
        raise argparse.ArgumentTypeError(
            f"'{text}' is no time for which files can be kept: "
            f"choose a number of seconds from 1 to {LONGEST_KEPT}."
        )
    return seconds


def _choose_folder() -> None:
    """Make sure of a folder for files; Gradio reads its name once, when it is imported."""
    for name in ("GRADIO_TEMP_DIR", "TMPDIR"):
        folder = os.environ.get(name)
        try:
            if folder and name == "GRADIO_TEMP_DIR":
                os.makedirs(folder, exist_ok=True)
            if folder:
                tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            _end(f"{name} is {folder}, where nothing can be written: name another folder.")
    try:
        use_own_folder()
    except OSError:
        _end("No temporary folder can be written to: name one in TMPDIR.")


def _serve(arguments: argparse.Namespace) -> None:
    # Gradio asks the page itself when it starts, and the page asks nobody else. Addresses would not
    # be enough here: httpx reads even proxies that it does not need, and fails at some of them.
    os.environ["no_proxy"] = "*"
    # Gradio would try ports on this address in a way that is for IPv4 alone.
    os.environ.pop("GRADIO_SERVER_NAME", None)

    from demo.page.front import app_options
    from demo.page.page import build_page, launch_options
    from demo.runs.request import predictor_for
    from demo.runs.served import delete_old_in_background
    from demo.runs.showcase import Showcase
    from masa.machine.memory import share_pools
    from masa.weights import choose_weights

    share_pools()
    for made_clean in (False, True):
        predictor_for(choose_weights(made_clean))
    showcase = Showcase([] if arguments.no_examples else None)
    page = build_page(showcase, arguments.keep)
    showcase.prepare_in_background()
    delete_old_in_background(arguments.keep)
    options = launch_options() | {"app_kwargs": app_options(arguments.proxy_header)}
    try:
        _, url, _ = page.launch(
            server_name=arguments.host,
            server_port=arguments.port,
            root_path=arguments.root_path,
            prevent_thread_lock=True,
            quiet=True,
            **options,
        )
    except OSError:
        where = f"{arguments.host or 'this machine'}, port {arguments.port or 'from 7860'}"
        _end(f"Nothing can listen on {where}: choose another --host or --port.")
    except Exception:  # no narrower class: Gradio raises all kinds if it cannot open its own page
        if not page.is_running:
            raise
        _end(
            f"The page listens at {page.local_url} but cannot be opened there: choose another "
            "--host, or look at the network settings of this machine."
        )
    print(f"Listening on {page.server_name}:{page.server_port}: open {url}", flush=True)
    page.block_thread()


def _leave(code: int) -> NoReturn:
    """End the process after what has to be done at its end, such as deleting its files.

    Threads that still compute or draw are left as they are. Python would end each of them where it
    returns from C++, of torch or OpenCV, which takes that for a fault and aborts the process.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)
