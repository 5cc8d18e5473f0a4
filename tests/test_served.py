"""The folder that the page serves from: its quota, a full disk, and what killed processes leave."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from helpers import is_one_sentence

from demo import serve
from demo.page import front
from demo.page.guard import Guard
from demo.runs import request, served
from demo.runs.examples import load_examples
from demo.runs.served import FULL, Quota
from demo.settings import SPARED_SECONDS
from masa.errors import UserError

ROOT = Path(served.__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to serve from, and a quota of 1000 bytes, of which none counts twice."""
    own = tmp_path / "files"
    own.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(own))
    monkeypatch.setattr(served, "FILE_BYTES", 0)
    monkeypatch.setattr(served, "_QUOTA", Quota(1000))
    monkeypatch.setattr(served, "_logged", -served._LOG_AGAIN)
    return own


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_room_is_what_the_quota_leaves(folder, monkeypatch):
    assert served.room() == 1000
    served.serve(b"a" * 400, "a.png")
    assert served.room() == 600
    served.serve(b"a" * 400, "a.png")  # it is there already
    assert served.room() == 600
    (folder / "upload").write_bytes(bytes(500))  # by Gradio
    monkeypatch.setattr(served, "_RECOUNT", -1.0)
    assert served.room() == 100
    (folder / "upload").unlink()
    assert served.room() == 600


def test_a_quota_is_at_most_half_of_what_is_free(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=600))
    assert served.room() == 300
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    assert served.room() == 100  # of the quota 300 are left, but others filled the disk


def test_each_file_counts_as_a_place_on_the_disk(folder, monkeypatch):
    monkeypatch.setattr(served, "FILE_BYTES", 300)
    served.serve(b"a", "a.png")
    assert served.room() == 699
    (folder / "upload").touch()  # by Gradio
    monkeypatch.setattr(served, "_RECOUNT", -1.0)
    assert served.room() == 399
    served.serve(b"b", "a.png")
    with pytest.raises(UserError, match="disk is full"):
        served.serve(b"c", "a.png")
    for path in served.files():
        age(path, 2 * SPARED_SECONDS)
    served.serve(b"d", "a.png")
    assert len(served.files()) == 3


def test_old_files_make_room_and_recent_ones_are_spared(folder, caplog):
    old, older, recent, kept = (
        Path(served.serve(letter * 240, "a.png")) for letter in (b"a", b"b", b"c", b"d")
    )
    served._QUOTA.kept = frozenset({kept})
    for path, seconds in ((old, 1.1), (older, 1.2), (recent, 0.5), (kept, 2)):
        age(path, seconds * SPARED_SECONDS)
    new = Path(served.serve(b"e" * 100, "a.png"))
    assert served.files() == {old, recent, kept, new} and not older.parent.exists()
    with pytest.raises(UserError) as raised:
        served.serve(b"f" * 700, "a.png")
    assert str(raised.value) == FULL and is_one_sentence(FULL)
    assert served.files() == {recent, kept, new}
    with pytest.raises(UserError):
        served.serve(b"f" * 701, "a.png")
    assert len([r for r in caplog.records if "used up" in r.message]) == 1
    assert served.serve(b"g" * 400, "a.png")


def test_files_that_are_used_for_ever_are_not_spared_for_ever(folder, monkeypatch):
    monkeypatch.setattr(served, "_RECOUNT", -1.0)
    first = Path(served.serve(b"a" * 600, "a.png"))
    assert served.room(700) == 400 and first.exists()
    monkeypatch.setattr(served, "KEEP_SECONDS", 0.0)
    served.in_use(str(first))
    assert served.room(700) == 1000 and not first.exists()


def test_room_is_made_for_uploads_too(folder):
    old, recent = (Path(served.serve(letter * 400, "a.png")) for letter in (b"a", b"b"))
    age(old, 2 * SPARED_SECONDS)
    assert served.room() == served.room(200) == 200 and old.exists()
    assert served.room(201) == 600 and served.files() == {recent}
    assert served.room(601) == 600 and recent.exists()


def test_a_full_disk_is_called_that_and_logged_once(folder, monkeypatch, caplog):
    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for _ in range(3):
        with pytest.raises(UserError, match="disk is full"):
            served.serve(b"a", "a.png")
    assert not served.files()
    assert len(caplog.records) == 1 and "is full" in caplog.text
    assert served.full_disk(FileNotFoundError(errno.ENOENT, "gone")) is None


PROCESS = """
import time
from demo.runs.served import serve, use_own_folder
use_own_folder()
serve(b"secret", "photo.png")
print("ready", flush=True)
time.sleep(600)
"""


def start(tmp_path):
    given = {"TMPDIR": str(tmp_path), "GRADIO_TEMP_DIR": "", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS], env=os.environ | given, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.skipif(served.fcntl is None, reason="no locks of files here")
def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "masa-of-somebody").mkdir()
    (tmp_path / "masa-link").symlink_to(tmp_path / "masa-of-somebody")
    foreign = set(tmp_path.glob("masa-*"))
    killed, alive = start(tmp_path), start(tmp_path)
    try:
        own = set(tmp_path.glob("masa-*")) - foreign
        assert len(own) == 2
        served.remove_leftovers()
        assert set(tmp_path.glob("masa-*")) == foreign | own
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        served.remove_leftovers()
        left = set(tmp_path.glob("masa-*"))
        assert foreign < left and len(left & own) == 1
        assert [path.name for path in tmp_path.rglob("photo.png")] == ["photo.png"]
    finally:
        for process in (killed, alive):
            process.kill()
            process.wait(10)
            process.stdout.close()


@pytest.mark.skipif(served.fcntl is None, reason="no locks of files here")
def test_folders_of_others_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "masa-x").mkdir()
    (tmp_path / "masa-x" / "lock").touch()
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    served.remove_leftovers()
    assert (tmp_path / "masa-x").exists()
    monkeypatch.undo()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    served.remove_leftovers()
    assert not (tmp_path / "masa-x").exists()


def test_a_named_folder_is_swept_of_what_the_page_left_there(folder, monkeypatch):
    """Uploads of an earlier process go; examples, and files of others, stay."""
    example = load_examples()[0].hr
    places = {"upload": "0" * 64, "result": "0" * 32, "foreign": "notes", example.name: "1" * 64}
    paths = {}
    for name, place in places.items():
        paths[name] = folder / place / name
        paths[name].parent.mkdir(exist_ok=True)
        paths[name].write_bytes(b"x")
    shutil.copy(example, paths[example.name])
    other = folder / ("2" * 64) / example.name  # called like an example
    other.parent.mkdir()
    other.write_bytes(b"x")
    for path in (*paths.values(), other):
        age(path, 100)
    for name in ("tmp0ab_cdef", "tmp-of-the-host"):
        paths[name] = folder / name
        paths[name].write_bytes(b"x")
        age(paths[name], 100)
    fresh = folder / ("3" * 64) / "fresh"
    fresh.parent.mkdir()
    fresh.write_bytes(b"x")

    class Once:
        """A thread of the sweep, which ends after its first round."""

        def __init__(self, target, args, **_):
            assert target is served.delete_old_for_ever
            self.start = partial(served.delete_old, *args)

    monkeypatch.setattr(served.threading, "Thread", Once)
    served.delete_old_in_background(60)
    stays = {paths["foreign"], paths["tmp-of-the-host"], paths[example.name], fresh}
    assert served.files() == stays


# ------------------------------------------------------------------------------- the sweep


class Enough(Exception):  # noqa: N818
    """Raised to end a sweep, which goes on for ever."""


def swept(folder, keep_seconds, uses, seconds):
    """Seconds at which each file was found deleted, by name, in so long a sweep.

    ``uses``: seconds at which each file was used, the first of which wrote it.
    """
    now, gone = 1_000_000.0, {}
    start, end = now, now + seconds
    paths = {name: folder / ("a" * 32) / name for name in uses}
    (folder / ("a" * 32)).mkdir(exist_ok=True)
    for path in paths.values():
        path.touch()

    def use_what_is_due():
        for name, path in paths.items():
            due = [at for at in uses[name] if at <= now - start]
            if path.exists():
                os.utime(path, (start + max(due),) * 2)

    def pass_by(pause):
        nonlocal now
        for name, path in paths.items():
            if not path.exists():
                gone.setdefault(name, now - start)
        if now >= end:
            raise Enough
        now += pause
        use_what_is_due()

    use_what_is_due()
    with pytest.raises(Enough):
        served.delete_old_for_ever(keep_seconds, clock=lambda: now, sleep=pass_by)
    return gone


@pytest.mark.parametrize(("keep", "every"), [(3600, 60), (240, 60), (40, 10), (1, 0.25)])
def test_files_go_soon_after_their_time_and_not_before(folder, keep, every):
    uses = {"once": [0], "again": [0, 0.9 * keep], "late": [0, 0.9 * keep, 1.7 * keep]}
    gone = swept(folder, keep, uses, 4 * keep)
    for name, times in uses.items():
        assert times[-1] + keep < gone[name] <= times[-1] + keep + every


def test_a_file_used_while_old_ones_are_deleted_stays(folder, monkeypatch):
    """What was found old may be used before its turn comes."""
    path = Path(served.serve(b"a", "a.png"))
    age(path, 100)
    found = served._by_age()
    monkeypatch.setattr(served, "_by_age", lambda: found)
    assert served.serve(b"a", "a.png") == str(path)
    served.delete_old(60)
    assert path.exists()


def test_a_file_that_goes_before_it_is_used_again_is_written_anew(folder, monkeypatch):
    path = Path(served.serve(b"a", "a.png"))
    touch = os.utime

    def too_late(*args, **options):
        path.unlink()
        touch(*args, **options)

    monkeypatch.setattr(os, "utime", too_late)
    assert served.serve(b"a", "a.png") == str(path) and path.read_bytes() == b"a"


# ------------------------------------------------------------------------------- start and end


def test_how_long_things_are_kept_is_told_to_all_who_keep_them(monkeypatch, folder):
    """``--keep``: to the sweep of files, to sessions and to their runs; and where the page is."""
    told, pages, launched = {}, [], {}

    def launch(page, **options):
        pages.append(page)
        launched.update(options)
        raise OSError

    monkeypatch.setattr(gr.Blocks, "launch", launch)
    monkeypatch.setattr(served, "delete_old_in_background", lambda age: told.update(files=age))
    monkeypatch.setenv("no_proxy", "")  # so that it is put back
    monkeypatch.setattr(request, "predictor_for", lambda weights: None)
    words = "--keep 77 --no-examples --host 0.0.0.0 --port 7 --root-path /m --proxy-header X-Real"
    monkeypatch.setattr(sys, "argv", ["masa-page", *words.split()])
    monkeypatch.setattr(serve, "_choose_folder", lambda: None)
    monkeypatch.setattr(serve, "_leave", sys.exit)
    monkeypatch.setattr(serve.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit):
        serve.main()
    (page,) = pages
    states = [b for b in page.blocks.values() if isinstance(b, gr.State)]
    bounded = {state.time_to_live for state in states} - {float("inf")}
    assert told == {"files": 77} and page.keep_seconds == 77 and bounded == {77}
    assert page._pages._every < 77 / 4
    assert (launched["server_name"], launched["server_port"]) == ("0.0.0.0", 7)
    assert launched["root_path"] == "/m" and header_of(launched["app_kwargs"]) == "X-Real"


def header_of(options):
    """The header that the guard takes visitors' addresses from."""
    (guard,) = (layer for layer in options["middleware"] if layer.cls is Guard)
    return guard.kwargs["proxy_header"]


def test_on_a_space_addresses_are_those_that_its_proxy_tells(monkeypatch):
    assert header_of(front.app_options()) is None
    monkeypatch.setattr(front, "get_space", lambda: "user/space")
    assert header_of(front.app_options()) == "X-Forwarded-For"
    assert header_of(front.app_options("X-Real")) == "X-Real"


END = """
import signal, sys, threading, time, torch
from demo import serve

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in background

def compute():
    torch.set_num_threads(1)
    a = torch.rand(1, 16, 64, 64)
    w = torch.rand(16, 16, 3, 3)
    while True:
        torch.nn.functional.conv2d(a, w)

def page(arguments):
    for _ in range(3):
        threading.Thread(target=compute, daemon=True).start()
    time.sleep(1)
    print("ready", flush=True)
    time.sleep(60)

serve._serve = page
sys.argv = ["masa-page"]
serve.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_process_ends_cleanly_while_something_is_computed(tmp_path, number, code):
    given = {"TMPDIR": str(tmp_path), "GRADIO_TEMP_DIR": "", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", END],
        env=os.environ | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        assert list(tmp_path.glob("masa-*"))
        process.send_signal(number)
        said = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert (process.returncode, said) == (code, "")
    assert not list(tmp_path.glob("masa-*"))
