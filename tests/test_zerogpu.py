"""A borrowed GPU: another process, pickled results, refused quotas. No GPU is needed for that."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.context import LocalContext
from helpers import picture
from lender import Lender

from demo.runs import zerogpu
from demo.runs.request import Request, expected_work
from demo.runs.steps import paint, without_reference
from masa.errors import UserError
from masa.pictures.write import write_photo

ROOT = Path(zerogpu.__file__).resolve().parents[2]


def noted(x, note):
    return replace(x, notes=(*x.notes, note))


@pytest.fixture
def request_of_a_visitor():
    token = LocalContext.request.set(gr.Request())
    yield
    LocalContext.request.reset(token)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photo(folder / "hr.png", picture(64, 72, 1))
    write_photo(folder / "ref.png", picture(80, 64, 2))
    return Request(str(folder / "hr.png"), (str(folder / "ref.png"),), is_hr=True)


def borrowed(step, lender):
    return zerogpu._borrowing(step, lambda *args: 7, noted, lender)


@pytest.mark.usefixtures("request_of_a_visitor")
def test_a_lent_gpu_gives_the_same_result(wanted):
    here, lender = paint(wanted), Lender()
    found = borrowed(paint, lender)(wanted)
    assert np.array_equal(found.result, here.result)
    assert found.matches.position.equal(here.matches.position)
    assert found.notes == here.notes and lender.asked == [7]
    again = borrowed(without_reference, lender)(found)
    assert np.array_equal(again.plain, without_reference(here).plain)
    assert not zerogpu._lent


@pytest.mark.usefixtures("request_of_a_visitor")
def test_a_refused_quota_means_the_cpu_and_a_note(wanted, caplog):
    steps = []
    found = borrowed(paint, Lender(refuse=True))(wanted, progress=lambda *step: steps.append(step))
    assert np.array_equal(found.result, paint(wanted).result)
    assert found.notes.count(zerogpu.NOTE) == 1 and zerogpu.NOTE not in paint(wanted).notes
    assert len(steps) > 3
    assert "exceeded your quota" in caplog.text and "Traceback" not in caplog.text


@pytest.mark.usefixtures("request_of_a_visitor")
def test_a_sentence_crosses_from_the_other_process(wanted):
    with pytest.raises(UserError, match="not found"):
        borrowed(paint, Lender())(replace(wanted, photo="/nonexistent.png"))


def test_what_no_visitor_asked_for_borrows_nothing(wanted):
    lender = Lender()
    borrowed(paint, lender)(wanted)
    assert lender.asked == []


def test_what_is_asked_for_grows_with_the_pictures(wanted, tmp_path):
    small = expected_work(wanted)
    write_photo(tmp_path / "large.png", picture(512, 512, 1))
    large = expected_work(replace(wanted, photo=str(tmp_path / "large.png"), is_hr=False))
    assert large > 100 * small > 0
    assert expected_work(replace(wanted, photo="/nonexistent.png")) == 0
    assert zerogpu.seconds_on_gpu(small) < zerogpu.seconds_on_gpu(large) <= 60


FAKE = """
import json, os
from lender import Lender

class Logged(Lender):
    def __call__(self, duration):
        lend = super().__call__(duration)
        def decorate(step):
            call = lend(step)
            def logged(*args, **options):
                result = call(*args, **options)
                with open(os.environ["LENT"], "a") as log:
                    log.write(json.dumps([step.__name__, self.asked[-1]]) + "\\n")
                return result
            return logged
        return decorate

GPU = Logged()
"""

VISIT = """
import sys
from gradio_client import Client, handle_file
from serving import served
from demo.runs.request import predictor_for
from demo.runs.showcase import Showcase

assert predictor_for("masa-rec").device.type == "cpu"
with served(Showcase([])) as url:
    client = Client(url, verbose=False, download_files=sys.argv[2])
    for name in ("/super_resolve", "/explain"):
        _, numbers = client.predict(handle_file(sys.argv[1]), is_hr=True, api_name=name)
        assert numbers["notes"] == [], numbers
"""


def test_the_whole_page_on_such_a_space(wanted, tmp_path):
    (tmp_path / "spaces.py").write_text(FAKE)
    paths = os.pathsep.join([str(tmp_path), str(ROOT / "tests"), str(ROOT)])
    given = {"SPACES_ZERO_GPU": "true", "PYTHONPATH": paths, "LENT": str(tmp_path / "lent")}
    command = [sys.executable, "-c", VISIT, wanted.photo, str(tmp_path)]
    done = subprocess.run(command, env=os.environ | given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lent = [json.loads(line) for line in (tmp_path / "lent").read_text().splitlines()]
    names = ["enlarge", "paint", "without_reference", "without_branches"]
    assert [name for name, _ in lent] == names
    assert all(6 <= seconds < 10 for _, seconds in lent)
