"""What a Space reads before it runs anything: front matter and pins, checked against each other."""

import io
import itertools
import math
import os
import re
import socket
import subprocess
import sys
import tomllib
from argparse import Namespace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import gradio
import httpx
import pi_heif
import pytest
import yaml
from helpers import is_one_sentence
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from PIL import Image
from serving import ROOT, served_apart, wait_for

from demo import serve
from demo.export import ARCHIVES
from demo.laboratory import PREVIEWS
from demo.page.bounds import MOST_ADDRESSES
from demo.page.form import _GUESSES
from demo.page.front import EVENTS_OF_A_RUN
from demo.page.guard import (
    BODY_SECONDS,
    FILE_BYTES,
    MAX_QUERY,
    MAX_REQUEST,
    MAX_TEXT,
    MOST_BUFFERED,
    MOST_FILES,
    MOST_OPENED,
    MOST_VALUES,
    SEND_SECONDS,
)
from demo.page.once import ANSWERS_PER_ADDRESS
from demo.page.sent import MOST_TEXTS
from demo.settings import (
    ARCHIVE_QUEUE,
    BYTES_PER_ADDRESS,
    CALLS_PER_ADDRESS,
    DRAWN_MEMORY,
    FEATURE_MEMORY,
    FEATURES,
    KEEP_SECONDS,
    LIMITS,
    MEMORY,
    PREVIEW_QUEUE,
    QUEUE,
    REQUESTS,
    REQUESTS_PER_ADDRESS,
    RUNS_PER_ADDRESS,
    SESSION_MEMORY,
    SESSIONS,
    SESSIONS_PER_ADDRESS,
    SPARED_SECONDS,
    TEMPORARY,
)
from masa.errors import UserError
from masa.machine.memory import AMPLE, memory_bound
from masa.pictures.photo import DEFAULT_LIMITS
from masa.pictures.read import read_photo
from masa.predictor import DEFAULT_MEMORY
from masa.weights import DEFAULT_WEIGHTS, shipped_weights

ZEROGPU_TORCH = {"2.8.0", "2.9.1", "2.10.0", "2.11.0"}
"""The versions that ZeroGPU hardware runs."""
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture(scope="module")
def front_matter():
    _, text, page = (ROOT / "README.md").read_text().split("---\n", 2)
    assert page.lstrip().startswith("# ")
    return yaml.safe_load(text)


def pins(name):
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    found = [Requirement(line) for line in lines if line]
    return {requirement.name: requirement.specifier for requirement in found}


def test_the_space_is_described(front_matter):
    assert front_matter["sdk"] == "gradio"
    assert front_matter["title"] and front_matter["emoji"] and front_matter["tags"]
    assert {front_matter["colorFrom"], front_matter["colorTo"]} <= COLOURS
    assert len(front_matter["short_description"]) <= 60
    assert (ROOT / front_matter["app_file"]).is_file()
    assert "MIT License" in (ROOT / "LICENSE").read_text()
    assert front_matter["license"] == "mit"


def test_pins_agree(front_matter):
    wanted = pins("requirements.txt")
    assert wanted["gradio"] == SpecifierSet(f"=={front_matter['sdk_version']}")
    assert pins("tests/requirements-mcp.txt")["gradio"] == wanted["gradio"]
    assert gradio.__version__ == front_matter["sdk_version"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = front_matter["python_version"]
    assert isinstance(python, str), "3.10 would be read as the number 3.1"
    assert SpecifierSet(project["requires-python"]).contains(python)
    assert python in ("3.10", "3.12"), "ZeroGPU has no other"


def test_a_space_s_torch_runs_on_zerogpu():
    (pin,) = pins("pre-requirements.txt")["torch"]
    assert pin.operator == "==" and pin.version in ZEROGPU_TORCH
    assert pins("requirements.txt")["torch"].contains(pin.version)


def test_system_packages_are_names():
    packages = (ROOT / "packages.txt").read_text().split()
    assert "libgl1" in packages and "libglib2.0-0" in packages  # for OpenCV


def test_files_are_small_enough_for_a_push():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    large = [n for n in listed.stdout.split("\0") if n and (ROOT / n).stat().st_size > 10 * 10**6]
    assert not large, "a Space's repository takes files over 10 MB only through git-lfs or xet"


HEADER = {"title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version"}
HEADER |= {"app_file", "short_description", "license", "models", "tags"}
"""All that a Space's configuration has to say here; a mistyped name would be ignored there."""


def test_the_front_matter_is_whole(front_matter):
    assert set(front_matter) == HEADER
    shipped = set(shipped_weights())
    assert DEFAULT_WEIGHTS in shipped and front_matter["models"] == [], "weights lie in weights/"


HOSTING = ROOT / "demo" / "HOSTING.md"
"""What whoever hosts the page has to know; the README's front matter is for a Space alone."""


def table(title):
    """Rows of the hosting page's table whose first column is called so."""
    lines = HOSTING.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {title} |"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return {row[0]: row[1:] for row in ([c.strip() for c in r.strip("|").split("|")] for r in rows)}


def test_the_hosting_page_states_the_limits_that_hold():
    def sides(pixels):
        side = math.isqrt(pixels)
        assert side**2 == pixels
        return f"as many as {side} x {side}"

    rows = [
        (
            f"{limits.max_file_bytes // 2**20} MB",
            f"{limits.max_pixels // 10**6} million",
            sides(limits.max_lr_pixels),
            sides(limits.max_sharp_pixels),
            sides(limits.max_ref_pixels),
        )
        for limits in (DEFAULT_LIMITS, LIMITS)
    ]
    names = [
        "file",
        "pixels of any picture",
        "LR, of any shape",
        'sharp photo, to make an LR from (`--hr`, "It is sharp"); larger ones are reduced',
        "reference; larger ones are reduced",
    ]
    expected = {name: list(both) for name, *both in zip(names, *rows, strict=True)}
    memory = "memory of a run (tiles are used to stay below)"
    expected[memory] = [f"{DEFAULT_MEMORY // 2**30} GB, `--memory`", f"{MEMORY // 2**30} GB"]
    expected["one request"] = ["", f"{MAX_REQUEST // 2**20} MB"]
    page = {
        "files in one upload": f"{MOST_FILES}",
        "pictures as text in one request": f"{MOST_TEXTS}",
        "brackets and braces opened in one request, and commas and backslashes": (
            f"{MOST_OPENED} and {MOST_VALUES}"
        ),
        "text in one request outside of pictures": f"{MAX_TEXT // 2**10} KB",
        "what follows the question mark of an address": f"{MAX_QUERY} bytes",
        "requests of JSON that are arriving, all together": f"{MOST_BUFFERED // 2**20} MB",
        "time in which the next part of an answer has to be taken": f"{SEND_SECONDS // 60} minutes",
        "time in which a request has to arrive": f"{BODY_SECONDS // 60} minutes",
        "open requests, of one address and of all": f"{REQUESTS_PER_ADDRESS} and {REQUESTS}",
        f"what one address may send, each file counting as {FILE_BYTES // 2**10} KB more": (
            f"{BYTES_PER_ADDRESS // 2**30} GB in an hour"
        ),
        "requests of one address's programs without a session, such as curl": (
            f"{CALLS_PER_ADDRESS} in an hour"
        ),
        "new sessions of one address": f"{SESSIONS_PER_ADDRESS} in an hour",
        "runs and other events of one address that wait or run; with those that follow a run": (
            f"{RUNS_PER_ADDRESS}; {RUNS_PER_ADDRESS * EVENTS_OF_A_RUN}"
        ),
        "runs that wait in line, of visitors and of programs": f"{QUEUE} each",
        "previews of the laboratory, and uploads whose kind is guessed, that wait in line, "
        "of one address and of all": f"{PREVIEWS._most_each} and {PREVIEW_QUEUE} each",
        "archives that wait in line, of one address and of all": (
            f"{ARCHIVES._most_each} and {ARCHIVE_QUEUE}"
        ),
        "new names of the server (header `Host`) that one address may use": (
            f"{ANSWERS_PER_ADDRESS} in a minute"
        ),
        "memory of all visitors' last runs, trials and sweeps": f"{SESSION_MEMORY // 2**30} GB",
        "memory of features kept for the next run": f"{FEATURE_MEMORY // 2**30} GB",
        "memory of drawn figures of the examples": f"{DRAWN_MEMORY // 2**20} MB",
        "sessions": f"{SESSIONS}",
        "uploads and results on the disk": f"{TEMPORARY // 2**30} GB",
        "age of files and runs": "an hour, `--keep`",
    }
    assert KEEP_SECONDS == 3600
    for line in (PREVIEWS, _GUESSES):
        assert (line._most_each, line._most_waiting) == (PREVIEW_QUEUE // 2, PREVIEW_QUEUE)
    assert table("limit") == expected | {name: ["", value] for name, value in page.items()}


def said():
    """The hosting page's text on one line."""
    return " ".join(HOSTING.read_text().split())


def test_the_hosting_page_states_what_holds_below_the_table():
    ample, most = AMPLE // 2**30, memory_bound(5 * 2**30, MEMORY) // 2**30
    assert f"less than {ample} GB of memory" in said()
    default = memory_bound(5 * 2**30, DEFAULT_MEMORY) / 2**30
    assert f"{default:.1f} GB on the command line, unless `--memory` says more" in said()
    assert f"with 5 GB, for example, a run takes {most} GB" in said()
    assert f"not used for {SPARED_SECONDS // 60} minutes make room" in said()
    assert f"Of more than {MOST_ADDRESSES:,}, the one that was quiet" in said()
    assert "the last eight photos and references that were encoded" in said() and FEATURES == 8


def test_the_options_that_the_hosting_page_names_exist(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["masa-page", "--help"])
    with pytest.raises(SystemExit):
        serve.main()
    offered = capsys.readouterr().out
    chapter = HOSTING.read_text().partition("## A server")[2].partition("\n## ")[0]
    named = set(re.findall(r"--[a-z-]+", chapter + "--keep --no-examples"))
    assert {"--root-path", "--proxy-header", "--host", "--port"} <= named
    assert all(option in offered for option in named)


def blank(width, height):
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "role", "words"),
    [
        (bytes(LIMITS.max_file_bytes + 1), "reference", "more than {0.max_file_bytes} MB"),
        (blank(5001, 5000), "reference", "at most 25,000,000 in all, about 5000 x 5000"),
        (blank(513, 512), "small photo", "at most 262,144 in all, about 512 x 512"),
        (blank(5001, 5000), "sharp photo", "at most 25,000,000 in all, about 5000 x 5000"),
        (blank(7, 9), "small photo", "at least 8"),
        (blank(15, 15), "reference", "at least 16"),
        (blank(330, 10), "small photo", "at most 32 times"),
    ],
)
def test_the_page_names_the_limit_that_was_exceeded(data, role, words):
    with pytest.raises(UserError) as raised:
        read_photo(data, role, LIMITS)
    assert words.replace("{0.max_file_bytes}", str(LIMITS.max_file_bytes // 2**20)) in str(
        raised.value
    )
    assert is_one_sentence(str(raised.value))


FREE = ("MIT", "BSD", "Apache", "ISC", "PSF", "Python Software Foundation", "HPND", "Zlib", "0BSD")
MOZILLA = {"certifi", "orjson", "tqdm"}
"""Under a licence that asks for changes to their own files to be published; there are none."""
LESSER = {"pi-heif"}
"""BSD itself; its wheels hold libheif and libde265 under the LGPL, as libraries of their own."""


def needed(names):
    """Names of packages and of what they need, as they are installed here."""
    found, left = set(), list(names)
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another system
        found.add(name)
        parsed = [Requirement(text) for text in requirements]
        left += [r.name for r in parsed if not r.marker or r.marker.evaluate({"extra": ""})]
    return found


def licence(name):
    about = metadata.metadata(name)
    classified = [c for c in about.get_all("Classifier") or () if c.startswith("License ::")]
    return (
        " ".join([about.get("License-Expression") or "", *classified]).strip() or about["License"]
    )


def test_licences_of_what_is_needed_are_those_the_hosting_page_names():
    licences = {name: licence(name) for name in needed(pins("requirements.txt"))}
    assert {"torch", "gradio", "starlette"} <= set(licences)
    mozilla = {name for name, text in licences.items() if re.search("MPL|Mozilla", text)}
    assert mozilla == MOZILLA
    lesser = {name for name, text in licences.items() if re.search("LGPL|Lesser", text)}
    assert lesser == LESSER
    others = {name: text for name, text in licences.items() if name not in MOZILLA | LESSER}
    assert not {n: t for n, t in others.items() if not any(free in t for free in FREE)}
    assert not {n: t for n, t in others.items() if re.search("GPL|General Public", t)}
    text = HOSTING.read_text()
    assert all(name in text for name in MOZILLA | LESSER)
    assert "LGPL" in text


def test_the_wheel_of_pi_heif_holds_no_encoder():
    """libx265, which writes HEIC, is under the GPL: it belongs to the tests' pillow-heif alone."""
    info = pi_heif.libheif_info()
    assert not info["HEIF"] and set(info["decoders"]) == {"libde265"}


CUT_OFF = """
import socket

real = socket.socket.connect

def connect(self, address):
    host = address[0] if isinstance(address, tuple) else "localhost"
    if host not in ("127.0.0.1", "localhost", "::1"):
        print("OUTSIDE", address, flush=True)
        raise OSError("this machine has no network")
    return real(self, address)

def lookup(host, *rest, **options):
    if host not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", None):
        print("OUTSIDE", host, flush=True)
        raise socket.gaierror("this machine has no network")
    return found(host, *rest, **options)

found = socket.getaddrinfo
socket.socket.connect = connect
socket.getaddrinfo = lookup
"""


def test_the_page_starts_without_a_network(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(CUT_OFF)
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with served_apart(tmp_path, "--no-examples", environment=environment) as (url, process):
        assert url.startswith("http://127.0.0.1") and process.poll() is None
    log = (tmp_path / "log").read_text()
    assert "OUTSIDE" not in log and "Traceback" not in log, log


def test_the_page_starts_where_a_proxy_is_set_that_does_not_answer(tmp_path):
    """Even one that httpx cannot use at all."""
    closed = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
    environment = closed | {"no_proxy": "", "NO_PROXY": ""}
    with served_apart(tmp_path, "--no-examples", environment=environment) as (_, process):
        wait_for(lambda: "Listening on" in (tmp_path / "log").read_text(), 30)
        assert process.poll() is None
    assert "Traceback" not in (tmp_path / "log").read_text()


def ipv6():
    """Whether this machine has it."""
    try:
        with socket.socket(socket.AF_INET6) as own:
            own.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not ipv6(), reason="this machine has no IPv6")
def test_the_page_listens_on_an_ipv6_address(tmp_path):
    """Which Gradio's variable names here: it is treated as ``--host``."""
    environment = {"GRADIO_SERVER_NAME": "::1"}
    with served_apart(tmp_path, "--no-examples", environment=environment, at="[::1]") as (url, _):
        wait_for(lambda: f"open {url}/" in (tmp_path / "log").read_text(), 30)
        assert httpx.get(f"{url}/config").json()["root"] == url
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("words", "variable", "given"),
    [
        ("--host ::", "127.0.0.9", "[::]"),
        ("--host [::]", "127.0.0.9", "[::]"),
        ("--host 2001:db8::1", "127.0.0.9", "[2001:db8::1]"),
        ("--host 0.0.0.0", "::", "0.0.0.0"),
        ("--host localhost", "::", "localhost"),
        ("", "::", "[::]"),
        ("", "", None),
    ],
)
def test_gradio_is_given_a_host_that_fits_into_a_url(monkeypatch, words, variable, given):
    monkeypatch.setattr(sys, "argv", ["masa-page", *words.split()])
    monkeypatch.setenv("GRADIO_SERVER_NAME", variable)
    monkeypatch.setattr(serve, "_choose_folder", lambda: None)
    monkeypatch.setattr(serve, "_leave", lambda code: None)
    monkeypatch.setattr(serve.signal, "signal", lambda *_: None)
    told = []
    monkeypatch.setattr(serve, "_serve", told.append)
    serve.main()
    assert told[0].host == given


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.InvalidURL("no port"),
        ValueError("When localhost is not accessible, a shareable link must be created."),
        Exception("Couldn't start the app because it failed (code 503)."),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("listens", [True, False])
def test_a_page_that_gradio_cannot_open_is_a_sentence(monkeypatch, capsys, error, listens):
    """What is raised before it listens is a fault of ours, and stays one."""
    url = "http://127.0.0.1:7860/"

    def launch(**options):
        raise error

    page = SimpleNamespace(launch=launch, is_running=listens, local_url=url)
    monkeypatch.setattr("demo.page.page.build_page", lambda *_: page)
    monkeypatch.setattr("demo.runs.request.predictor_for", lambda _: None)
    monkeypatch.setattr("demo.runs.served.delete_old_in_background", lambda _: None)
    monkeypatch.setattr("masa.machine.memory.share_pools", lambda: None)
    for name in ("no_proxy", "GRADIO_SERVER_NAME"):  # so that they are put back
        monkeypatch.setenv(name, "")
    given = Namespace(no_examples=True, keep=60.0, host=None, port=None, root_path=None)
    given.proxy_header = None
    with pytest.raises(SystemExit if listens else type(error)) as ended:
        serve._serve(given)
    if listens:
        told = capsys.readouterr().err.strip()
        assert ended.value.code == 2 and is_one_sentence(told) and url in told


def test_the_check_of_the_network_works(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(CUT_OFF)
    ask = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    done = subprocess.run(
        [sys.executable, "-c", ask], env={"PYTHONPATH": str(tmp_path)}, capture_output=True
    )
    assert done.returncode and b"OUTSIDE" in done.stdout


def test_the_page_leaves_nothing_behind(tmp_path):
    """Its folder goes with it when it is told to end."""
    environment = {"TMPDIR": str(tmp_path), "GRADIO_TEMP_DIR": ""}
    (tmp_path / "log").touch()
    with served_apart(tmp_path, "--no-examples", environment=environment):
        assert [path for path in tmp_path.glob("masa-*") if path.is_dir()]
    assert not list(tmp_path.glob("masa-*"))


def test_the_page_notes_nothing_of_visitors(tmp_path):
    """No cookie, and in the log no address, whatever they ask for."""
    address = "203.0.113.77"
    told = {"X-Forwarded-For": address}
    with (
        served_apart(tmp_path, "--no-examples") as (url, _),
        httpx.Client(base_url=url, headers=told, timeout=60) as http,
    ):
        for path in ("/", "/config", "/gradio_api/info", "/nowhere", "/gradio_api/file=/etc"):
            assert "set-cookie" not in http.get(path).headers
        for body in ({"data": []}, {"data": [None], "fn_index": "odd", "session_hash": "x"}):
            assert http.post("/gradio_api/queue/join", json=body).status_code >= 400
        assert http.post("/gradio_api/upload", content=b"x").status_code == 400
        assert http.post("/gradio_api/cancel", json={"event_id": 5}).status_code >= 400
    assert address not in (tmp_path / "log").read_text()


def test_the_page_starts_beside_another_users_folder_and_behind_a_path(tmp_path):
    """Where others' ``gradio`` is in the way, as a file here: root may write into any folder."""
    (tmp_path / "gradio").touch()
    environment = {"TMPDIR": str(tmp_path), "GRADIO_TEMP_DIR": "", "PYTHONUNBUFFERED": ""}
    options = ("--no-examples", "--root-path", "/masa", "--proxy-header", "X-Real")
    with served_apart(tmp_path, *options, environment=environment) as (url, _):
        port = url.rpartition(":")[2]
        wait_for(lambda: f"Listening on 127.0.0.1:{port}" in (tmp_path / "log").read_text(), 30)
        assert httpx.get(f"{url}/config").json()["root"] == f"{url}/masa"
        page = httpx.get(f"{url}/masa/").text
        assert f"{url}/masa" in page and "<html" in page
        files = {"files": ("photo.png", b"data")}
        path = httpx.post(f"{url}/masa/gradio_api/upload", files=files).json()[0]
        assert Path(path).is_relative_to(tmp_path)
        assert httpx.get(f"{url}/masa/gradio_api/file={path}").content == b"data"
    assert (tmp_path / "gradio").is_file()
    assert "Traceback" not in (tmp_path / "log").read_text()


def started(tmp_path, *arguments, **environment):
    """How the page ends that cannot start, and what it says."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "app.py"), "--no-examples", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize("name", ["TMPDIR", "GRADIO_TEMP_DIR"])
def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path, name):
    """Root may write into a read-only folder, but not into a file."""
    (tmp_path / "file").touch()
    code, said = started(tmp_path, **{"GRADIO_TEMP_DIR": ""} | {name: str(tmp_path / "file")})
    assert code == 2 and is_one_sentence(said), said
    assert name in said and str(tmp_path / "file") in said


def test_without_any_temporary_folder_it_says_so(monkeypatch, capsys):
    def read_only(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(serve, "use_own_folder", read_only)
    with pytest.raises(SystemExit) as ended:
        serve._choose_folder()
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and is_one_sentence(said) and "TMPDIR" in said


def test_an_address_in_use_is_a_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, said = started(tmp_path, "--port", port)
    assert code == 2 and is_one_sentence(said.splitlines()[-1]) and port in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--port", value) for value in ("70000", "65536", "0", "-1", "many")),
        *(("--keep", value) for value in ("-1", "0", "0.001", "nan", "inf", "1e300", "long")),
    ],
)
def test_an_option_that_cannot_be_is_a_sentence(monkeypatch, capsys, option, value):
    """Before anything is made or deleted."""
    monkeypatch.setattr(sys, "argv", ["masa-page", f"{option}={value}"])
    monkeypatch.setattr(serve.signal, "signal", lambda *_: pytest.fail("the option was taken"))
    with pytest.raises(SystemExit) as ended:
        serve.main()
    told = capsys.readouterr().err.strip().splitlines()[-1].partition(f"argument {option}: ")[2]
    assert ended.value.code == 2 and is_one_sentence(told), told
    assert f"'{value}'" in told and "choose a number" in told


def test_a_port_that_the_environment_names_is_checked_as_the_option_is(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["masa-page"])
    monkeypatch.setenv("GRADIO_SERVER_PORT", "70000")
    with pytest.raises(SystemExit) as ended:
        serve.main()
    told = capsys.readouterr().err.strip().splitlines()[-1].partition("argument --port: ")[2]
    assert ended.value.code == 2 and is_one_sentence(told) and "70000" in told


@pytest.mark.parametrize("option", ["--port=1", "--port=65535", "--keep=1", "--keep=1e9"])
def test_an_option_at_its_bounds_is_taken(monkeypatch, option):
    def begin(*_):
        raise KeyboardInterrupt  # which nothing catches so early

    monkeypatch.setattr(sys, "argv", ["masa-page", option])
    monkeypatch.setattr(serve.signal, "signal", begin)
    with pytest.raises(KeyboardInterrupt):
        serve.main()


def test_the_hosting_page_names_what_exists():
    text = HOSTING.read_text()
    for name in ("packages.txt", "pre-requirements.txt", "tests/load.py"):
        assert name in text and Path(ROOT, name).is_file()
