"""What all tests share: networks with known weights, example pictures, and how threads are used."""

import os

# Threads that wait for each other should sleep: on a busy machine spinning ones cost minutes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Weights of whoever runs the tests are not those that are tested.
os.environ.pop("MASA_WEIGHTS", None)

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import fill, picture, placed
from hypothesis import settings

from masa.config import MASAConfig
from masa.network.model import MASA
from masa.pictures.read import read_photo
from masa.pictures.write import write_photo
from masa.predictor import Predictor
from masa.weights import load_model

settings.register_profile("masa", deadline=None)
settings.load_profile("masa")

torch.set_num_threads(1)  # what most tests compute is too small to share


def pytest_collection_modifyitems(items):
    """Fast tests first, those in a browser last."""
    items.sort(
        key=lambda i: 2 * bool(i.get_closest_marker("browser")) + bool(i.get_closest_marker("slow"))
    )


@pytest.fixture(scope="session")
def examples():
    """The folder of example photographs."""
    return Path(__file__).resolve().parent.parent / "assets" / "examples"


@pytest.fixture(scope="session")
def turned_pairs(tmp_path_factory, examples):
    """A folder of two training pairs: a real photo, and the same turned, which can be aligned."""
    folder = tmp_path_factory.mktemp("turned")
    photo = read_photo(examples / "motorcycle_hr.jpg").rgb
    for part in ("input", "ref"):
        (folder / part).mkdir()
    for k in range(2):
        square = np.ascontiguousarray(photo[:224, 100 * k : 100 * k + 224])
        write_photo(folder / f"input/{k}.png", square)
        write_photo(folder / f"ref/{k}.png", np.ascontiguousarray(np.rot90(square)))
    return folder


@pytest.fixture(scope="session")
def full_model():
    """A network of the default configuration with the golden cases' weights."""
    return fill(MASA()).requires_grad_(False).eval()


@pytest.fixture(scope="session")
def small_model():
    """A narrow network in which far pixels matter: its residual blocks are not scaled down."""
    return fill(MASA(MASAConfig(channels=8)), in_blocks=1).requires_grad_(False).eval()


@pytest.fixture(scope="session")
def shipped_model():
    """The network with the shipped weights."""
    return load_model()


@pytest.fixture
def small_predictor(small_model):
    """A fresh predictor with the narrow network, in float32."""
    return Predictor(small_model, "cpu", "fp32")


@pytest.fixture
def all_cores():
    """Let torch use every processor for the duration of a heavy test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with a small photo, the same one sharp, and the sharp one as a reference."""
    folder = tmp_path_factory.mktemp("pictures")
    scene = picture(128, 160, 3)
    write_photo(folder / "lr.png", cv2.resize(scene, (40, 32), interpolation=cv2.INTER_AREA))
    write_photo(folder / "ref.png", scene)
    write_photo(folder / "hr.png", scene)
    return folder


@pytest.fixture(scope="session")
def x(files):
    """The exploration of the sharp photo with the reference, with all later steps."""
    from demo.runs.request import Request
    from demo.runs.steps import explore_whole

    return explore_whole(Request(str(files / "hr.png"), (str(files / "ref.png"),), is_hr=True))


def seen_again(examples, *placements, every_view=False):
    """The exploration of a part of a real photo, whose references are itself, ``placed`` so.

    Also the matrices from the photo's pixels (x, y) to those of each reference.
    """
    from demo.runs.request import Request
    from demo.runs.steps import paint

    scene = read_photo(examples / "motorcycle_hr.jpg").rgb
    hr = np.ascontiguousarray(scene[100:292, 180:372])
    refs, matrices = zip(*(placed(hr, *how) for how in placements), strict=True)
    with pytest.MonkeyPatch.context() as patch:
        if every_view:
            patch.setattr("masa.predictor.choose_views", lambda views, *_: list(range(len(views))))
        return paint(Request(hr, refs, is_hr=True)), matrices


@pytest.fixture(scope="session")
def turned(examples):
    """:func:`seen_again` turned and nearer: the aligned view alone is used."""
    return seen_again(examples, (30, 1.4))


@pytest.fixture(scope="session")
def farther(examples):
    """:func:`seen_again` on its side and from farther away: the aligned view alone is used, and
    is larger than the reference as it is."""
    return seen_again(examples, (90, 0.6))[0]


@pytest.fixture(scope="session")
def four_views(examples):
    """:func:`seen_again` as it is and turned, with all views of both references on the canvas."""
    return seen_again(examples, (0, 1.1), (-25,), every_view=True)[0]
