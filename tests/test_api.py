"""The endpoints for programs, over HTTP: Gradio's client, and requests as curl sends them."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from helpers import is_one_sentence, picture, taken
from photos import heic
from serving import ROOT, served, wait_for

from demo.page import api
from demo.runs import jobs
from demo.runs.request import Request, predictor_for
from demo.runs.showcase import Showcase
from masa.pictures.degradation import lr_from_hr
from masa.pictures.read import read_photo
from masa.pictures.shifts import PRESETS, Shift
from masa.pictures.write import write_photo
from masa.weights import choose_weights


@pytest.fixture(scope="module")
def server():
    with served(Showcase([])) as url:
        yield url


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return Client(server, verbose=False, download_files=str(tmp_path_factory.mktemp("answers")))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_photo(folder / "lr.png", picture(16, 24, 1))
    write_photo(folder / "hr.png", picture(64, 96, 2))
    write_photo(folder / "ref.png", picture(72, 80, 3))
    return folder


def upload(server, path):
    with path.open("rb") as file:
        answer = httpx.post(f"{server}/gradio_api/upload", files={"files": file})
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


def call(server, name, fields):
    """Event's name and data, as ``curl`` would get them from the second request."""
    posted = httpx.post(f"{server}/gradio_api/call/v2/{name}", json=fields)
    posted.raise_for_status()
    address = f"{server}/gradio_api/call/{name}/{posted.json()['event_id']}"
    lines = httpx.get(address, timeout=120).text.splitlines()
    event, data = [line for line in lines if line and "heartbeat" not in line][-2:]
    return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_only_named_and_documented_endpoints_are_public(client, server):
    found = client.view_api(return_format="dict")["named_endpoints"]
    assert {"/super_resolve", "/explain", "/robustness"} == set(found)
    for name, endpoint in found.items():
        assert endpoint["description"], name
        labels = [p["label"] for p in (*endpoint["parameters"], *endpoint["returns"])]
        assert all(label and not label.startswith(("parameter_", "value_")) for label in labels)
    config = httpx.get(f"{server}/config").json()
    public = {d["api_name"] for d in config["dependencies"] if d["api_visibility"] != "private"}
    assert {f"/{name}" for name in public} == set(found)


def test_the_client_gets_the_predictors_own_picture(client, photos):
    path, numbers = client.predict(
        handle_file(photos / "lr.png"), [handle_file(photos / "ref.png")], api_name="/super_resolve"
    )
    expected = predictor_for(choose_weights(made_clean=False)).upscale(
        photos / "lr.png", [photos / "ref.png"]
    )
    assert np.abs(read_photo(path).rgb.astype(int) - expected.rgb).max() <= 1
    assert numbers["lr"] == [24, 16] and numbers["result"] == [96, 64]
    assert not numbers["self_reference"]
    assert numbers["scores_on_y_no_border_cropped"] is None
    assert not numbers["is_hr"] and numbers["degradation"] is None
    assert Shift(**numbers["shift"]).is_identity
    assert not any("light" in note for note in numbers["notes"])


def test_photos_of_phones_give_what_the_same_pixels_do(client, photos, tmp_path):
    for name in ("lr", "ref"):
        rgb = read_photo(photos / f"{name}.png").rgb
        (tmp_path / f"{name}.HEIC").write_bytes(heic(rgb))
    path, _ = client.predict(
        handle_file(tmp_path / "lr.HEIC"),
        [handle_file(tmp_path / "ref.HEIC")],
        api_name="/super_resolve",
    )
    network = predictor_for(choose_weights(made_clean=False))
    expected = network.upscale(photos / "lr.png", [photos / "ref.png"])
    assert np.abs(read_photo(path).rgb.astype(int) - expected.rgb).max() <= 1


def test_a_sharp_photo_is_scored_and_the_shift_applied(client, photos):
    hr, ref = read_photo(photos / "hr.png").rgb, read_photo(photos / "ref.png").rgb
    given = {"photo": handle_file(photos / "hr.png"), "is_hr": True}
    given["references"] = [handle_file(photos / "ref.png")]
    wanted = {"darker": PRESETS["darker"], "custom": Shift(gain=0.6, temperature=0.5)}
    for name, shift in wanted.items():
        path, numbers = client.predict(
            **given, shift=name, gain=0.6, temperature=0.5, api_name="/super_resolve"
        )
        expected = predictor_for("masa-rec").run(lr_from_hr(hr)[0], [shift.apply(ref).rgb])
        assert np.abs(read_photo(path).rgb.astype(int) - expected.rgb).max() <= 1
        scores = numbers["scores_on_y_no_border_cropped"]
        assert {"result", "bicubic"} == set(scores) and scores["bicubic"]["psnr"] > 5
        assert Shift(**numbers["shift"]) == shift
        assert numbers["is_hr"] and numbers["degradation"] == "clean"
        assert "light was changed: " in numbers["notes"][0]


def test_references_are_aligned_unless_told_not_to(client, turned, tmp_path):
    x, _ = turned
    for name, rgb in (("lr", x.visitors_lr()), ("ref", x.refs[0])):
        write_photo(tmp_path / f"{name}.png", rgb)
    given = {"photo": handle_file(tmp_path / "lr.png"), "weights": x.weights}
    given["references"] = [handle_file(tmp_path / "ref.png")]
    path, numbers = client.predict(**given, api_name="/super_resolve")
    assert np.abs(read_photo(path).rgb.astype(int) - x.result).max() <= 1
    (lies,) = numbers["alignments"]
    assert numbers["align"] and lies["used_aligned"] and lies["words"].startswith("turned by 30°")
    assert numbers["references"] == [list(x.refs[0].shape[1::-1])]
    path, numbers = client.predict(**given, align=False, api_name="/super_resolve")
    assert not numbers["align"] and numbers["alignments"] == []
    assert np.abs(read_photo(path).rgb.astype(int) - x.result).max() > 9


def test_the_client_gets_everything_explained(client, photos):
    path, numbers = client.predict(handle_file(photos / "hr.png"), is_hr=True, api_name="/explain")
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        assert json.loads(archive.read("run.json")) == numbers
    _, quick = client.predict(handle_file(photos / "hr.png"), is_hr=True, api_name="/super_resolve")
    for key in ("is_hr", "degradation", "references", "self_reference", "shift", "align"):
        assert numbers[key] == quick[key], key
    assert {"result.png", "maps.npz", "figures.md", "figures/fine_given.png"} <= names


def test_the_client_gets_a_sweep(client, photos):
    path, numbers = client.predict(
        handle_file(photos / "hr.png"),
        [handle_file(photos / "ref.png")],
        is_hr=True,
        change="rotation",
        networks=["masa-rec"],
        points=3,
        api_name="/robustness",
    )
    assert read_photo(path).width > 300 and numbers["summary"] and "masa-rec" in numbers["table"]
    turned = [p for p in numbers["points"] if p["family"] == "rotation"]
    assert [(p["value"], p["aligned"]) for p in turned] == [
        (value, aligned) for value in (45, 90) for aligned in (False, True)
    ]
    assert all(p["psnr"] > 5 for p in turned)
    assert "masa-rec with alignment" in numbers["table"]
    for points in (99, None):
        with pytest.raises(AppError, match="choose 3 to"):
            client.predict(
                handle_file(photos / "lr.png"),
                [handle_file(photos / "ref.png")],
                points=points,
                api_name="/robustness",
            )


def test_two_plain_requests_are_enough(server, photos):
    fields = {"photo": upload(server, photos / "lr.png")}
    fields["references"] = [upload(server, photos / "ref.png")]
    event, (file, numbers) = call(server, "super_resolve", fields)
    assert event == "complete" and numbers["result"] == [96, 64]
    answer = httpx.get(file["url"])
    expected = predictor_for(choose_weights(made_clean=False)).upscale(
        photos / "lr.png", [photos / "ref.png"]
    )
    assert np.abs(read_photo(answer.content).rgb.astype(int) - expected.rgb).max() <= 1


def test_tools_may_send_addresses_of_uploads_and_text(server, photos):
    """As an agent does over MCP, whose lists of files arrive as strings."""
    file = upload(server, photos / "lr.png")
    file["path"] = f"{server}/gradio_api/file={file['path']}"
    text = base64.b64encode((photos / "ref.png").read_bytes()).decode()
    fields = {"photo": file, "references": [f"data:image/png;base64,{text}"]}
    event, (_, numbers) = call(server, "super_resolve", fields)
    assert event == "complete" and numbers["references"] == [[80, 72]]


def test_an_error_is_one_sentence(client, server, photos):
    assert call(server, "super_resolve", {})[0] == "error"
    with pytest.raises(AppError) as raised:
        client.predict(
            handle_file(photos / "lr.png"), shift="custom", gain=9.0, api_name="/super_resolve"
        )
    assert str(raised.value) == "The shift's gain is 9: choose a value from 0.4 to 1.6."
    six = [handle_file(photos / "ref.png")] * 6
    for name in ("/super_resolve", "/explain", "/robustness"):
        with pytest.raises(AppError, match="6 references are too many") as raised:
            client.predict(handle_file(photos / "lr.png"), six, api_name=name)
        assert is_one_sentence(str(raised.value))


def test_no_other_program_but_visitors_come_between_explaining_and_packing(photos, monkeypatch):
    network, programs = jobs.Turns(), jobs.Turns()
    monkeypatch.setattr(jobs, "NETWORK", network)
    monkeypatch.setattr(jobs, "PROGRAMS", programs)
    written = []

    def watched(data, name):
        written.append((network._holder, programs._holder))
        assert zipfile.is_zipfile(io.BytesIO(data))
        return name

    monkeypatch.setattr(api, "serve", watched)
    found, _ = api.explain(str(photos / "lr.png"))
    ((visitor, program),) = written
    assert found == "masa.zip" and visitor is None and isinstance(program, jobs.Turn)
    assert network._holder is None and programs._holder is None


def test_the_uploads_of_a_program_that_waits_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.05)
    photo, ref, gone = (tmp_path / name for name in ("lr.png", "ref.png", "gone.png"))
    for path in (photo, ref):
        path.write_bytes(b"a picture")
        os.utime(path, (0, 0))
    left = api._left(Request(str(photo), (str(gone), str(ref))))
    found = []

    def wait():
        found.append(jobs.finish(jobs.follow(lambda told: 1), left))

    waiting = threading.Thread(target=wait)
    with taken(jobs.PROGRAMS):
        waiting.start()
        wait_for(lambda: photo.stat().st_mtime > 0 and ref.stat().st_mtime > 0, 10)
    waiting.join(10)
    assert found == [1]


def test_each_run_of_an_explanation_has_a_turn_of_its_own(photos, monkeypatch):
    """So a visitor need not wait for all of them."""
    admitted, ask = [], jobs.NETWORK.ask

    def asked(was_admitted=False):
        admitted.append(was_admitted)
        return ask(was_admitted)

    monkeypatch.setattr(jobs.NETWORK, "ask", asked)
    request = Request(str(photos / "lr.png"), (str(photos / "ref.png"),))
    *_, last = api.explained(request)
    assert admitted == [True, True, True]  # the picture, without the reference, without branches
    assert zipfile.is_zipfile(last.value[0])


@pytest.mark.parametrize("endpoint", ["super_resolve", "explain", "robustness"])
def test_a_program_whose_turn_has_come_is_not_refused_for_visitors_who_wait(
    photos, monkeypatch, endpoint
):
    """It has waited in the line of programs already."""
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns(most_waiting=0))
    given = {"networks": ["masa-rec"], "points": 3} if endpoint == "robustness" else {}
    _, numbers = getattr(api, endpoint)(str(photos / "lr.png"), [str(photos / "ref.png")], **given)
    assert numbers


def test_a_sweep_that_cannot_be_made_takes_no_turn(photos, monkeypatch):
    monkeypatch.setattr(jobs, "PROGRAMS", jobs.Turns(most_waiting=0))
    with pytest.raises(gr.Error, match="no sharp photo to replace"):
        api.robustness(str(photos / "lr.png"), [str(photos / "ref.png")], change="HR itself")


def test_packing_ends_with_whoever_asked(photos):
    packing = []

    def left():
        return bool(packing)

    def steps():
        for step in api.explained(Request(str(photos / "lr.png"))):
            if isinstance(step, jobs.Step) and step.doing == "Packing":
                packing.append(step)
            yield step

    with pytest.raises(jobs.Stopped):
        jobs.finish(steps(), left)
    assert len(packing) == 1


@pytest.fixture
def document(server, photos, tmp_path):
    """The code of the page on the API, by language, and a folder to run it in."""
    write_photo(tmp_path / "small.jpg", picture(16, 24, 1))
    write_photo(tmp_path / "sharp.jpg", picture(72, 80, 3))
    text = (ROOT / "demo" / "API.md").read_text().replace("http://127.0.0.1:7860", server)
    return dict(re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)), tmp_path


def test_the_documents_python_runs(document):
    code, folder = document
    check = "import json; print(json.dumps([png, everything, curve, numbers['summary']]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code['python']}\n{check}"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    png, everything, curve, summary = json.loads(done.stdout.splitlines()[-1])
    assert read_photo(png).rgb.shape == (64, 96, 3) and read_photo(curve).width > 300
    assert zipfile.is_zipfile(everything) and summary


@pytest.mark.skipif(
    shutil.which("curl") is None and not os.environ.get("CI"), reason="curl is not installed"
)
def test_the_documents_curl_runs(document):
    code, folder = document
    done = subprocess.run(
        ["bash", "-euc", code["sh"]], cwd=folder, capture_output=True, text=True, check=True
    )
    event, data = [line for line in done.stdout.splitlines() if line][-2:]
    assert event == "event: complete", done.stdout
    file, numbers = json.loads(data.removeprefix("data: "))
    assert numbers["references"] == [[80, 72]]
    assert read_photo(httpx.get(file["url"]).content).rgb.shape == (64, 96, 3)


def test_a_full_line_of_archives_loses_no_run(photos, monkeypatch):
    """A program has waited for the network by then."""
    monkeypatch.setattr("demo.export.ARCHIVES", jobs.Turns(0, "archives"))
    *_, last = api.explained(Request(str(photos / "lr.png")))
    path, numbers = last.value
    assert zipfile.is_zipfile(path) and numbers["weights"]
