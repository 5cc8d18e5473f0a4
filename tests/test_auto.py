"""``auto``: which weights are taken for which photo, on all four ways in."""

import json
import shutil

import numpy as np
import pytest
from asking import inputs, last
from gradio_client import Client, handle_file
from helpers import fill
from serving import served

import masa
from demo.page.form import HR_MODE, LR_MODE
from demo.page.page import Page
from demo.page.report import report
from demo.page.work import enlarge
from demo.runs import request as requests
from demo.runs.request import Request
from demo.runs.showcase import Showcase, request_for
from masa import weights
from masa.__main__ import main
from masa.config import MASAConfig
from masa.network.model import MASA
from masa.pictures.read import read_photo
from masa.weights import choose_weights, find_weights, save_weights, shipped_weights

WAYS = [
    # the form's choice of what the photo is, how the LR is made, and the weights to expect
    (LR_MODE, "clean", "masa-photo"),
    (HR_MODE, "clean", "masa-rec"),
    (HR_MODE, "web JPEG 75", "masa-photo"),
]


@pytest.fixture(scope="module", params=["both are shipped", "masa-rec alone is shipped"])
def both(request, tmp_path_factory):
    """Whether ``masa-photo`` is shipped; narrow networks that differ stand in for the weights."""
    folder, both = tmp_path_factory.mktemp("weights"), request.param == "both are shipped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "WEIGHTS_DIR", folder)
        patch.delenv("MASA_WEIGHTS", raising=False)
        for name, factor in [("masa-rec", 0.1), ("masa-photo", 1)][: 2 if both else 1]:
            model = fill(MASA(MASAConfig(channels=4)), in_blocks=factor)
            save_weights(folder / f"{name}.safetensors", model.state_dict(), model.config)
        requests._predictor.cache_clear()
        yield both
    requests._predictor.cache_clear()


def expected(name, both):
    return name if both else "masa-rec"


@pytest.fixture(scope="module")
def client(both, tmp_path_factory):
    with served(Showcase([])) as url:
        yield Client(url, verbose=False, download_files=str(tmp_path_factory.mktemp("answers")))


def test_only_an_lr_that_is_made_cleanly_gets_masa_rec(both):
    assert choose_weights(made_clean=True) == "masa-rec"
    assert choose_weights(made_clean=False) == expected("masa-photo", both)
    for made_clean in (True, False):
        assert choose_weights(made_clean, "lab-sam") == "lab-sam"


def test_weights_in_a_folder_of_one_s_own_count_too(both, tmp_path, monkeypatch):
    shutil.copy(find_weights("masa-rec"), tmp_path / "masa-photo.safetensors")
    monkeypatch.setenv("MASA_WEIGHTS", str(tmp_path))
    assert choose_weights(made_clean=False) == "masa-photo"


@pytest.mark.parametrize(("mode", "degradation", "name"), WAYS)
def test_the_page_takes_what_fits_and_says_which(both, files, mode, degradation, name):
    photo = files / ("lr.png" if mode == LR_MODE else "hr.png")
    asked = inputs(photo, [files / "ref.png"], mode, degradation=degradation, weights="auto")
    name = expected(name, both)
    found = last(enlarge(asked, Showcase([])))
    assert found.weights == name
    assert f" s with {name}.**" in report(found)
    own = last(enlarge(inputs(photo, [files / "ref.png"], mode, weights="masa-rec"), Showcase([])))
    assert own.weights == "masa-rec", "a visitor's own choice stays"


def test_a_degradation_for_sharp_photos_plays_no_part_for_a_small_one(both, files):
    asked = inputs(files / "lr.png", degradation="camera", weights="auto")
    assert asked.request().weights == expected("masa-photo", both)


def test_the_menu_opens_on_auto_and_says_what_each_is_for(both):
    menu = Page(Showcase([]), 60).form.weights
    assert menu.value == "auto"
    assert [value for _, value in menu.choices] == ["auto", *shipped_weights()]
    words = {value: label for label, value in menu.choices}
    assert "clean" in words["masa-rec"]
    assert not both or "JPEG" in words["masa-photo"]


def test_a_ready_example_is_recognised_under_auto(both, examples):
    showcase = Showcase()
    example = showcase.examples[0]
    showcase.put(example, object())
    for name in ("auto", "masa-rec"):
        asked = inputs(example.hr, example.refs, HR_MODE, weights=name).request()
        assert asked == request_for(example)
        assert showcase.get(asked) is not None


@pytest.mark.parametrize(("mode", "degradation", "name"), WAYS)
def test_the_api_takes_what_fits_and_says_which(client, both, files, mode, degradation, name):
    photo = handle_file(files / ("lr.png" if mode == LR_MODE else "hr.png"))
    given = {"is_hr": mode == HR_MODE, "degradation": degradation}
    for endpoint in ("/super_resolve", "/explain"):
        _, numbers = client.predict(photo, **given, api_name=endpoint)
        assert numbers["weights"] == expected(name, both)
    _, numbers = client.predict(photo, **given, weights="masa-rec", api_name="/super_resolve")
    assert numbers["weights"] == "masa-rec"


@pytest.mark.parametrize(
    ("words", "photo", "name"),
    [
        ([], "lr.png", "masa-photo"),
        (["--hr"], "hr.png", "masa-rec"),
        (["--weights", "masa-rec"], "lr.png", "masa-rec"),
    ],
)
def test_the_command_line_takes_what_fits_and_says_which(
    both, files, tmp_path, capsys, words, photo, name
):
    name = expected(name, both)
    out, folder = tmp_path / "large.png", tmp_path / "explained"
    command = [str(files / photo), "--ref", str(files / "ref.png"), *words]
    options = ["--device", "cpu", "--precision", "fp32"]
    assert main(["upscale", *command, "--out", str(out), *options]) == 0
    assert f" s with {name}\n" in capsys.readouterr().out
    own = [*command, "--weights", name, "--out", str(tmp_path / "own.png"), *options]
    assert main(["upscale", *own]) == 0
    assert np.array_equal(read_photo(out).rgb, read_photo(tmp_path / "own.png").rgb)
    capsys.readouterr()
    assert main(["explain", *command, "--out", str(folder)]) == 0
    assert f"the result of {name}," in capsys.readouterr().out
    assert json.loads((folder / "run.json").read_text())["weights"] == name
    assert f'load_model("{name}")' in (folder / "repeat.py").read_text()


def test_python_has_the_same_choice_and_its_own_default(both, files):
    assert masa.choose_weights is choose_weights
    photo = masa.load_model(masa.choose_weights(made_clean=False))
    rec = masa.load_model()
    results = [
        masa.Predictor(model, "cpu", "fp32").upscale(files / "lr.png").rgb for model in (photo, rec)
    ]
    assert np.array_equal(*results) is not both
    with pytest.raises(masa.UserError, match="no weights 'auto'"):
        masa.load_model("auto")


def test_results_never_name_auto():
    for is_hr in (True, False):
        assert Request("photo.png", is_hr=is_hr, weights="auto").weights in shipped_weights()
