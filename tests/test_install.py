"""The package as others install it: built, put into an environment of its own, used elsewhere."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from helpers import picture
from packaging.requirements import Requirement
from serving import ROOT, answers, free_port, wait_for

from masa.pictures.read import read_photo
from masa.pictures.write import write_photo

PACKAGES = ("masa", "demo")
SOURCES = (*PACKAGES, "weights", "assets", "pyproject.toml", "requirements.txt", "README.md")

pytestmark = pytest.mark.slow


def run(*command, folder):
    """What a command prints; it is started in ``folder`` and is not told of the repository."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*words, folder):
    """pip without a network: the build uses the setuptools that is installed here."""
    return run(sys.executable, "-m", "pip", "--no-input", *words, folder=folder)


def environment(folder):
    """Python of a new environment, which finds the installed requirements but not this package."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder.parent)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", where, folder=folder).strip())
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    return python


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository, so that building leaves nothing in it and finds nothing old."""
    folder = tmp_path_factory.mktemp("repository")
    ignore = shutil.ignore_patterns("__pycache__", "_weights", "_assets")
    for name in (*SOURCES, "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(copy):
    """The package, built."""
    out = copy.parent / "wheel"
    pip("wheel", copy, "--no-deps", "--no-index", "--no-build-isolation", "-w", out, folder=copy)
    (built,) = out.glob("masa_sr-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The ``bin`` folder of an environment in which the wheel is installed."""
    python = environment(tmp_path_factory.mktemp("installed") / "venv")
    pip("--python", python, "install", "--no-deps", "--no-index", wheel, folder=wheel.parent)
    return python.parent


def files_of(*folders, suffix=""):
    """Names of files below ``folders`` of the repository, as paths within it."""
    found = [path for folder in folders for path in (ROOT / folder).rglob(f"*{suffix}")]
    return {path.relative_to(ROOT).as_posix() for path in found if path.is_file()}


def test_the_wheel_holds_all_that_is_needed(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {name for name in names if name.endswith(".py")}
    assert code == files_of(*PACKAGES, suffix=".py")
    weights = files_of("weights", suffix=".safetensors")
    assert weights and {f"masa/_{name}" for name in weights} <= names
    examples = files_of("assets/examples")
    assert examples and {f"demo/_{name}" for name in examples} <= names
    licences = files_of("assets/licenses") | {"LICENSE", "assets/README.md"}
    assert all(any(name.endswith(f"licenses/{text}") for name in names) for text in licences)


def test_the_wheel_asks_for_the_requirements(wheel):
    with zipfile.ZipFile(wheel) as file:
        (name,) = [n for n in file.namelist() if n.endswith(".dist-info/METADATA")]
        about = HeaderParser().parsestr(file.read(name).decode())
    lines = [line.partition("#")[0] for line in (ROOT / "requirements.txt").read_text().split("\n")]
    wanted = {str(Requirement(line)) for line in lines if line.strip()}
    assert {str(Requirement(text)) for text in about.get_all("Requires-Dist")} == wanted


def test_the_command_works_in_an_empty_folder(installed, tmp_path):
    assert "4,028,291" in run(installed / "masa", "info", folder=tmp_path)
    write_photo(tmp_path / "small.png", picture(16, 24, 1))
    write_photo(tmp_path / "sharp.png", picture(64, 72, 2))
    words = ["upscale", "small.png", "--ref", "sharp.png", "--out", "large.png"]
    run(installed / "masa", *words, folder=tmp_path)
    assert read_photo(tmp_path / "large.png").rgb.shape == (64, 96, 3)


def test_the_readme_s_python_runs_in_any_folder(installed, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    write_photo(tmp_path / "small.jpg", picture(16, 24, 1))
    write_photo(tmp_path / "sharp.jpg", picture(64, 72, 2))
    assert "[1, 2, 16, 24]" in run(installed / "python", "-c", code, folder=tmp_path)
    assert read_photo(tmp_path / "large.png").rgb.shape == (64, 96, 3)


def test_the_command_is_called_by_its_name(installed, tmp_path):
    text = run(installed / "masa", "upscale", "--help", folder=tmp_path)
    assert "usage: masa upscale" in text and "masa upscale small.jpg" in text
    assert "python -m" not in text + run(installed / "masa", "--help", folder=tmp_path)
    text = run(installed / "python", "-m", "masa", "upscale", "--help", folder=tmp_path)
    assert "usage: python -m masa upscale" in text and "python -m masa upscale small.jpg" in text


def test_the_page_starts_in_an_empty_folder(installed, tmp_path):
    port = free_port()
    command = [str(installed / "masa-page"), "--port", str(port)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with (tmp_path / "log").open("w") as log:
        page = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        wait_for(lambda: page.poll() is not None or answers(f"http://127.0.0.1:{port}"), 120)
        assert page.poll() is None, (tmp_path / "log").read_text()
    finally:
        page.terminate()
        page.wait(20)
    assert "Traceback" not in (tmp_path / "log").read_text()


ASK = """
import json, sys
import demo.runs.examples as examples
import masa
from masa.weights import WEIGHTS_DIR
pictures = [e.photo for e in examples.load_examples()]
files = [masa.__file__, examples.__file__, WEIGHTS_DIR, *pictures]
print(json.dumps([masa.shipped_weights(), masa.load_model().training, sys.path,
                  [str(file) for file in files]]))
"""


def ask(python, folder):
    """Names of shipped weights, and files that the package was found at."""
    names, training, path, files = json.loads(run(python, "-c", ASK, folder=folder))
    assert not training
    assert str(ROOT) not in path
    assert len(files) > 10 and all(Path(file).exists() for file in files)
    return names, [Path(file) for file in files]


def test_the_package_works_in_an_empty_folder(installed, tmp_path):
    names, files = ask(installed / "python", tmp_path)
    assert set(names) == {path.stem for path in (ROOT / "weights").glob("*.safetensors")}
    assert all(file.is_relative_to(installed.parent) for file in files)


def test_folders_of_other_packages_are_not_mistaken_for_ours(installed, tmp_path):
    where = "import masa; print(masa.__path__[0])"
    packages = Path(run(installed / "python", "-c", where, folder=tmp_path).strip()).parent
    foreign = [packages / "weights", packages / "assets"]
    try:
        for folder in foreign:
            folder.mkdir()
        assert ask(installed / "python", tmp_path)[0]
    finally:
        for folder in foreign:
            folder.rmdir()


def test_an_editable_install_uses_the_repository_s_files(copy, tmp_path):
    python = environment(tmp_path / "venv")
    words = ["--no-deps", "--no-index", "--no-build-isolation"]
    pip("--python", python, "install", *words, "-e", copy, folder=tmp_path)
    _, files = ask(python, tmp_path)
    assert copy / "weights" in files
    assert all(file.is_relative_to(copy) for file in files)
    (copy / "weights" / "mine.safetensors").touch()
    names = "import masa; print(masa.shipped_weights())"
    assert "mine" in run(python, "-c", names, folder=tmp_path)
    (copy / "weights" / "mine.safetensors").unlink()
