"""Many visitors, some of whom leave, over HTTP: nobody waits for those, or gets their picture."""

import json
import subprocess
import sys
import threading
import time
import uuid

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from helpers import is_one_sentence, picture, taken, work_until_stopped
from load import NUISANCES, run
from serving import served, wait_for

from demo.page import api, work
from demo.page.form import LR_MODE, SHIFTS
from demo.page.front import OUR_FAULT
from demo.runs import jobs
from demo.runs.showcase import Showcase
from masa.pictures.write import encode

PHOTO = encode(".png", picture(16, 24, 1))


@pytest.fixture(scope="module")
def server():
    with served(Showcase([])) as url:
        yield url


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


@pytest.fixture
def endless(monkeypatch):
    """Runs that never end by themselves; set as soon as one has begun, or was stopped."""
    began, stopped = threading.Event(), threading.Event()

    def lasts(request, progress, **options):
        work_until_stopped(progress, stopped, began)

    monkeypatch.setattr(api, "enlarge", lasts)
    monkeypatch.setattr(work, "paint", lasts)
    yield began, stopped
    monkeypatch.undo()


def upload(http):
    answer = http.post("/gradio_api/upload", files={"files": ("photo.png", PHOTO)})
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


def asked_by_a_program(http, number=0):
    """Address at which a program waits for its answer; each ``number`` calls from elsewhere."""
    body = {"photo": upload(http)}
    elsewhere = {"X-Forwarded-For": f"10.0.0.{number + 1}"}  # believed of this machine
    posted = http.post("/gradio_api/call/v2/super_resolve", json=body, headers=elsewhere)
    return f"/gradio_api/call/super_resolve/{posted.raise_for_status().json()['event_id']}"


def asked_on_the_page(http):
    """Address at which a browser waits after a click on Enlarge."""
    config, session = http.get("/config").json(), uuid.uuid4().hex
    components = {c["id"]: c["props"] for c in config["components"]}
    ids = {props["elem_id"]: i for i, props in components.items() if props.get("elem_id")}
    clicks = (d for d in config["dependencies"] if [ids["go"], "click"] in d["targets"])
    click = next(d for d in clicks if d["backend_fn"])
    given = {ids["photo"]: upload(http), ids["mode"]: LR_MODE, ids["shift"]: SHIFTS[0]}
    data = [given.get(i, components[i].get("value")) for i in click["inputs"]]
    body = {"data": data, "fn_index": click["id"], "session_hash": session}
    http.post("/gradio_api/queue/join", json=body).raise_for_status()
    return f"/gradio_api/queue/data?session_hash={session}"


LISTEN = """
import sys, urllib.request
for line in urllib.request.urlopen(sys.argv[1]):
    print(line.decode(), flush=True)
"""


@pytest.mark.parametrize("asked", [asked_by_a_program, asked_on_the_page])
def test_killing_a_client_mid_run_frees_the_line(server, http, endless, asked):
    began, stopped = endless
    client = subprocess.Popen(
        [sys.executable, "-c", LISTEN, server + asked(http)], stdout=subprocess.PIPE
    )
    try:
        assert began.wait(20)
        assert client.stdout is not None and client.stdout.readline()  # it listens now
        assert not stopped.is_set()
    finally:
        client.kill()
        client.communicate()
    assert stopped.wait(30)
    with taken(jobs.NETWORK):
        assert not jobs.PROGRAMS._line


def test_a_client_that_cancels_frees_the_line(server, endless, tmp_path):
    began, stopped = endless
    (tmp_path / "photo.png").write_bytes(PHOTO)
    client = Client(server, verbose=False)
    job = client.submit(handle_file(tmp_path / "photo.png"), api_name="/super_resolve")
    assert began.wait(20)
    time.sleep(1)
    assert not stopped.is_set()
    job.cancel()
    assert stopped.wait(30)


def test_a_full_line_of_programs_is_a_sentence_and_keeps_no_visitor_out(http, endless):
    began, _ = endless
    addresses = [asked_by_a_program(http, n) for n in range(jobs.QUEUE + 1)]  # one of them runs
    wait_for(lambda: len(jobs.PROGRAMS._line) == jobs.QUEUE, 60)
    assert began.is_set()
    refused = http.get(asked_by_a_program(http)).text
    sentence = json.loads(refused.rpartition("data: ")[2])["error"]
    assert is_one_sentence(sentence) and "please come back" in sentence
    with http.stream("GET", asked_on_the_page(http)) as told:
        line = next(line for line in told.iter_lines() if "before yours" in line)
    assert "1 run before yours" in line
    for address in addresses:
        with http.stream("GET", address):
            pass  # leaves
    wait_for(lambda: not jobs.PROGRAMS._line and jobs.NETWORK._holder is None, 60)


def test_a_worker_that_dies_is_reported_and_the_next_request_works(
    server, tmp_path, monkeypatch, caplog
):
    def dies(request, progress):
        raise SystemExit("killed")

    (tmp_path / "photo.png").write_bytes(PHOTO)
    client = Client(server, verbose=False, download_files=str(tmp_path))
    photo = handle_file(tmp_path / "photo.png")
    monkeypatch.setattr(api, "enlarge", dies)
    with pytest.raises(AppError) as raised:
        client.predict(photo, api_name="/super_resolve")
    assert str(raised.value) == OUR_FAULT and "killed" in caplog.text
    monkeypatch.undo()
    assert client.predict(photo, api_name="/super_resolve")[1]["result"] == [96, 64]


@pytest.mark.alone
@pytest.mark.slow
def test_visitors_for_two_minutes(tmp_path):
    """The short form of ``python tests/load.py``."""
    outcome = run(12, seconds=120, keep=40, folder=tmp_path, nuisances=NUISANCES)
    assert not outcome.shortfalls(), str(outcome)
    assert outcome.runs >= 12 and outcome.told > 0, str(outcome)
