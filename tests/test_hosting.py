"""What a Space reads before it runs anything: front matter and pins, checked against each other."""

import subprocess
import sys
import tomllib
from pathlib import Path

import gradio
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from serving import ROOT, served_apart

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
    with served_apart(tmp_path, environment=environment) as (url, process):
        assert url.startswith("http://127.0.0.1") and process.poll() is None
    log = (tmp_path / "log").read_text()
    assert "OUTSIDE" not in log and "Traceback" not in log, log


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
    with served_apart(tmp_path, environment=environment):
        assert [path for path in tmp_path.glob("masa-*") if path.is_dir()]
    assert not list(tmp_path.glob("masa-*"))


def test_the_readme_names_what_exists():
    text = (ROOT / "README.md").read_text()
    for name in ("packages.txt", "pre-requirements.txt", "tests/load.py"):
        assert name in text and Path(ROOT, name).is_file()
