"""What all visitors share of the examples."""

import filecmp
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import get_sampling
from serving import ROOT

from demo.page.form import HR_MODE, LR_MODE
from demo.page.page import Page
from demo.runs import showcase as module
from demo.runs.examples import load_examples
from demo.runs.request import Request
from demo.runs.showcase import Showcase, request_for
from masa.pictures.shifts import Shift


@pytest.fixture
def two():
    """Two examples, both ready."""
    showcase = Showcase(load_examples()[:2])
    for example in showcase.examples:
        showcase.put(example, example.name)
    return showcase


def test_files_are_read_only_if_all_are_as_large_as_an_example_s(two, tmp_path, monkeypatch):
    compared = []
    compare = filecmp.cmp
    monkeypatch.setattr(filecmp, "cmp", lambda *a, **k: compared.append(a) or compare(*a, **k))
    example = two.examples[0]
    wanted = request_for(example)
    large = tmp_path / "large.png"
    large.write_bytes(example.hr.read_bytes() + b"x")
    assert two.get(replace(wanted, photo=str(large))) is None
    assert two.get(replace(wanted, refs=(str(large),) * 5)) is None
    assert not compared
    copy = tmp_path / "copy.png"
    shutil.copy(example.hr, copy)
    assert two.get(replace(wanted, photo=str(copy))) == example.name
    other = bytearray(example.hr.read_bytes())
    other[-1] ^= 1
    copy.write_bytes(other)
    assert two.get(replace(wanted, photo=str(copy))) is None
    assert two.get(Request(np.zeros((8, 8, 3), np.uint8))) is None
    with pytest.raises(OSError, match="gone"):
        two.get(replace(wanted, is_hr=False, photo=str(tmp_path / "gone.png")))


def test_only_an_example_as_it_is_is_ready(two):
    wanted = request_for(two.examples[1])
    assert two.get(wanted) == two.examples[1].name
    for changed in ({"shift": Shift(gain=0.9)}, {"weights": "lab-none"}):
        assert two.get(replace(wanted, **changed)) is None
        assert two.example_of(replace(wanted, **changed)) is two.examples[1]
    assert two.example_of(replace(wanted, is_hr=False)) is None


def test_two_examples_are_photos_as_the_web_sends_them(tmp_path):
    small = [example for example in load_examples() if example.lr]
    assert len(small) == 2
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg", quality=75, subsampling="4:2:0")
    for example in small:
        with (
            Image.open(example.photo) as photo,
            Image.open(example.hr) as hr,
            Image.open(tmp_path / "a.jpg") as expected,
        ):
            assert (4 * photo.width, 4 * photo.height) == hr.size
            assert photo.format == "JPEG" and photo.quantization == expected.quantization
            assert get_sampling(photo) == get_sampling(expected)
        assert "JPEG" in example.look_for and "JPEG" in example.kind
        assert "the web sends" in example.title
        request = request_for(example)
        assert request.photo == str(example.lr) and not request.is_hr
        assert request.weights == "masa-photo"
        listed = (ROOT / "assets" / "README.md").read_text()
        assert f"| `{example.lr.name}` |" in listed
    others = [request_for(example) for example in load_examples() if not example.lr]
    assert all(request.is_hr and request.weights == "masa-rec" for request in others)


def test_the_list_of_examples_says_what_each_photo_is():
    rows = Page(Showcase(load_examples()), 60).form.examples.examples
    assert [row[1:] for row in rows] == [
        [str(e.photo), list(map(str, e.refs)), LR_MODE if e.lr else HR_MODE]
        for e in load_examples()
    ]


def test_a_small_example_is_recognised_as_such():
    example = next(example for example in load_examples() if example.lr)
    showcase = Showcase([example])
    assert showcase.example_of(request_for(example)) is example
    assert showcase.example_of(replace(request_for(example), is_hr=True)) is None


def drawing(two, drawn):
    def draw(name, figure, side=10):
        def new():
            drawn.append((name, figure))
            return SimpleNamespace(image=np.zeros((side, side, 3), np.uint8))

        return two.drawn(name, figure, new)

    return draw


def test_an_example_s_figures_are_drawn_once(two, monkeypatch):
    first, second = (example.name for example in two.examples)
    drawn = []
    draw = drawing(two, drawn)
    assert draw(first, "a") is draw(first, "a")
    assert draw(second, "a") is not draw(first, "a")
    assert drawn == [(first, "a"), (second, "a")]
    assert two.drawn(first, "missing", lambda: None) is None
    assert two.drawn(first, "missing", lambda: pytest.fail("drawn again")) is None
    # Another run of an example has figures of its own.
    two.put(two.examples[0], "newer")
    draw(first, "a")
    draw(second, "a")
    assert drawn == [(first, "a"), (second, "a"), (first, "a")]


def test_what_is_kept_of_figures_is_bounded(two, monkeypatch):
    monkeypatch.setattr(module, "DRAWN_MEMORY", 700)  # two figures of 300 bytes
    name = two.examples[0].name
    drawn = []
    draw = drawing(two, drawn)
    for figure in ("a", "b", "a", "c", "a", "b"):  # c pushes b out, as a was looked at since
        draw(name, figure)
    assert [figure for _, figure in drawn] == ["a", "b", "c", "b"]
    assert draw(name, "large", side=100).image.shape == (100, 100, 3)
    draw(name, "a")
    assert [figure for _, figure in drawn][4:] == ["large", "a"]


def test_a_figure_of_an_earlier_run_is_not_kept(two):
    example = two.examples[0]

    def late():
        two.put(example, "newer")  # while it is drawn
        return SimpleNamespace(image=np.zeros((1, 1, 3), np.uint8))

    drawn = []
    old = two.drawn(example.name, "a", late)
    assert drawing(two, drawn)(example.name, "a") is not old and drawn
