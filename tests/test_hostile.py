"""Odd and hostile input, over HTTP: every request gets a picture or one sentence.

One page runs for the whole module, in a process of its own whose log must hold no traceback.
"""

import base64
import io
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import numpy as np
import pytest
from helpers import is_one_sentence, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin
from serving import ROOT, served_apart

from masa.pictures.read import read_photo
from masa.pictures.shifts import PRESETS, RANGES

PAGE = """
import argparse, sys, threading
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from demo.runs.examples import load_examples
from demo.page.page import build_page, launch_options
from demo.runs.showcase import Showcase
parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
showcase = Showcase(load_examples()[:1])
showcase.prepare_in_background()
build_page(showcase).launch(server_port=parser.parse_args().port, **launch_options())
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.py").write_text(PAGE.format(tests=str(ROOT / "tests")))
    with served_apart(folder, program=(str(folder / "page.py"),)) as (url, _):
        yield Page(url, folder / "log")


class Page:
    """The page under test, as a program sees it."""

    def __init__(self, url, log):
        self.url, self.log, self.read = url, log, 0
        json_header = {"Content-Type": "application/json"}
        self.http = httpx.Client(base_url=url, timeout=120)
        self.post = partial(self.http.post, headers=json_header)

    def upload(self, data, name="photo.png"):
        answer = self.http.post("/gradio_api/upload", files={"files": (name, data)})
        assert answer.status_code == 200, answer.text
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}, "orig_name": name}

    def call(self, fields, name="super_resolve"):
        """The answer's pixels, or its sentence."""
        posted = self.post(f"/gradio_api/call/v2/{name}", content=json.dumps(fields))
        if posted.status_code != 200:
            return posted.json()["detail"]
        text = self.http.get(f"/gradio_api/call/{name}/{posted.json()['event_id']}").text
        event, data = [line for line in text.splitlines() if line.strip()][-2:]
        data = json.loads(data.removeprefix("data: "))
        if event == "event: complete":
            return read_photo(self.http.get(data[0]["url"]).content).rgb
        return data["error"]

    def join(self, index, data, event_data=None, session="hostile"):
        """What the page's own script would be told of one event."""
        body = {"data": data, "fn_index": index, "session_hash": session, "event_data": event_data}
        posted = self.post("/gradio_api/queue/join", content=json.dumps(body))
        if posted.status_code != 200:
            return posted.json()["detail"]
        for message in self.messages(session):
            if message["msg"] == "process_completed":
                return None if message["success"] else message["output"]["error"]
        raise AssertionError("no answer")

    def messages(self, session):
        address = f"/gradio_api/queue/data?session_hash={session}"
        with self.http.stream("GET", address) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))

    def assert_clean(self):
        new = self.log.read_text()[self.read :]
        self.read += len(new)
        assert "Traceback" not in new and "Exception" not in new, new


@pytest.fixture(autouse=True)
def nothing_is_logged(page):
    yield
    page.assert_clean()


def assert_sentence(answer):
    assert isinstance(answer, str), "a picture, where a sentence was expected"
    assert is_one_sentence(answer), answer
    assert "<" not in answer and "Traceback" not in answer and "/tmp" not in answer, answer


# ------------------------------------------------------------------------------- pictures

LR = picture(16, 24, 1)
SMALL = Image.fromarray(LR)
GREY = SMALL.convert("L")


def stored(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def sized(width, height):
    return stored(Image.fromarray(picture(height, width, 2)))


def turned(tag):
    exif = Image.Exif()
    exif[274] = tag
    return stored(SMALL, "JPEG", exif=exif)


def palette(transparency):
    return stored(SMALL.quantize(16), transparency=transparency)


def sixteen_bits():
    return stored(Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257))


def frames(kind):
    return stored(SMALL, kind, save_all=True, append_images=[SMALL.rotate(90), SMALL.rotate(180)])


def chunk(name, data):
    whole = name + data
    return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))


def png(width, height, depth=1, rows=b"", extra=b""):
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + body + chunk(b"IEND", b"")


def text_bomb():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 80_000_000, zip=True)
    return stored(SMALL, pnginfo=info)


def described(profile):
    return stored(SMALL, icc_profile=profile)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
PNG, JPEG = stored(SMALL), stored(SMALL, "JPEG")
WIDE, TALL = (64, 96), (96, 64)
"""(height, width) of the answer for a picture that lies, and for one that stands."""

PICTURES = {
    "png": (PNG, WIDE),
    "jpeg": (JPEG, WIDE),
    "progressive jpeg": (stored(SMALL, "JPEG", progressive=True), WIDE),
    "lossy webp": (stored(SMALL, "WEBP"), WIDE),
    "lossless webp": (stored(SMALL, "WEBP", lossless=True), WIDE),
    "bmp": (stored(SMALL, "BMP"), WIDE),
    "gif": (stored(SMALL, "GIF"), WIDE),
    "tiff": (stored(SMALL, "TIFF"), WIDE),
    "tiff in lzw": (stored(SMALL, "TIFF", compression="tiff_lzw"), WIDE),
    "one bit": (stored(SMALL.convert("1")), WIDE),
    "grey": (stored(GREY), WIDE),
    "grey with alpha": (stored(SMALL.convert("LA")), WIDE),
    "colour with alpha": (stored(SMALL.convert("RGBA")), WIDE),
    "wholly transparent": (stored(Image.new("RGBA", (24, 16))), WIDE),
    "palette": (stored(SMALL.quantize(16)), WIDE),
    "palette with a transparent colour": (palette(3), WIDE),
    "palette with many": (palette(bytes(range(0, 160, 10))), WIDE),
    "sixteen bits": (sixteen_bits(), WIDE),
    "thirty-two bits": (stored(GREY.convert("I"), "TIFF"), WIDE),
    "fractions": (stored(Image.fromarray(np.asarray(GREY) / np.float32(255)), "TIFF"), WIDE),
    "fractions that are none": (
        stored(Image.fromarray(np.full((16, 24), np.nan, np.float32)), "TIFF"),
        None,
    ),
    "negative fractions": (
        stored(Image.fromarray(np.full((16, 24), -5, np.float32)), "TIFF"),
        None,
    ),
    "cmyk jpeg": (stored(SMALL.convert("CMYK"), "JPEG"), WIDE),
    "cmyk tiff": (stored(SMALL.convert("CMYK"), "TIFF"), WIDE),
    "lab tiff": (stored(SMALL.convert("LAB"), "TIFF"), WIDE),
    **{f"exif {tag}": (turned(tag), WIDE if tag < 5 else TALL) for tag in range(1, 9)},
    "exif 99": (turned(99), WIDE),
    "broken exif": (stored(SMALL, "JPEG", exif=b"Exif\x00\x00" + b"\xff" * 40), WIDE),
    "icc srgb": (described(SRGB), WIDE),
    "icc of another kind": (described(LAB), WIDE),
    "icc noise": (described(b"no profile" * 30), WIDE),
    "animated gif": (frames("GIF"), WIDE),
    "animated webp": (frames("WEBP"), WIDE),
    "animated png": (frames("PNG"), WIDE),
    "tiff of three pages": (frames("TIFF"), WIDE),
    "1x1": (sized(1, 1), None),
    "1x500": (sized(1, 500), None),
    "7x8": (sized(7, 8), None),
    "8x8": (sized(8, 8), (32, 32)),
    "9x17": (sized(9, 17), (68, 36)),
    "256x8": (sized(256, 8), (32, 1024)),
    "8x256": (sized(8, 256), (1024, 32)),
    "264x8": (sized(264, 8), None),
    "512x512": (stored(Image.fromarray(picture(512, 512, 2))), (2048, 2048)),
    "513x512": (sized(513, 512), None),
    "4000x4000": (stored(Image.new("1", (4000, 4000))), None),
    "one colour": (stored(Image.new("RGB", (24, 16), "red")), WIDE),
    "half a png": (PNG[: len(PNG) // 2], None),
    "half a jpeg": (JPEG[: len(JPEG) // 2], None),
    "half a webp": ((lambda b: b[: len(b) // 2])(stored(SMALL, "WEBP")), None),
    "half a gif": ((lambda b: b[: len(b) // 2])(stored(SMALL, "GIF")), None),
    "a header only": (PNG[:33], None),
    "flipped bits": (PNG[:60] + bytes(b ^ 255 for b in PNG[60:]), None),
    "nothing": (b"", None),
    "text": (b"Dear reader, this is no picture.", None),
    "html": (b"<html><script>alert(1)</script></html>", None),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', None),
    "pdf": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", None),
    "zip": (b"PK\x03\x04" + bytes(60), None),
    "program": (b"MZ" + bytes(100), None),
    "heic": (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", None),
    "ico": (stored(SMALL, "ICO", sizes=[(16, 16)]), None),
    "eps": (stored(SMALL, "EPS"), None),
    "ppm": (stored(SMALL, "PPM"), None),
    "noise": (np.random.default_rng(1).bytes(3000), None),
    "bomb of 196 million pixels": (png(14000, 14000, rows=bytes(1751 * 14000)), None),
    "bomb in a header": (png(2**31 - 1, 2**31 - 1), None),
    "bomb of text": (text_bomb(), None),
    "bomb of a gif": (
        b"GIF89a\xff\xff\xff\xff\x00\x00\x00" + b",\0\0\0\0\xff\xff\xff\xff\0;",
        None,
    ),
    "a size of zero": (png(0, 0), None),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(page, name):
    data, expected = PICTURES[name]
    answer = page.call({"photo": page.upload(data)})
    if expected is None:
        assert_sentence(answer)
    else:
        assert not isinstance(answer, str), answer
        assert answer.shape[:2] == expected


@pytest.mark.parametrize("name", ["text", "half a png", "bomb of 196 million pixels", "1x1", "svg"])
def test_such_references(page, name):
    refs = [page.upload(PNG), page.upload(PICTURES[name][0])]
    assert_sentence(page.call({"photo": page.upload(PNG), "references": refs}))


NAMES = [
    "<script>alert(1)</script>.png",
    "<img src=x onerror=alert(1)>.png",
    "../../../etc/passwd",
    "..\\..\\boot.ini",
    "a" * 300 + ".png",
    "quotes\"and'more.png",
    "photo.svg",
    "photo.exe",
    "no extension",
    ".png",
    "Grüße 你好 \u202egnp.png",
    "%2e%2e%2fetc%2fpasswd.png",
]


@pytest.mark.parametrize("name", NAMES)
def test_names(page, name):
    answer = page.call({"photo": page.upload(PNG, name)})
    assert not isinstance(answer, str), answer
    assert_sentence(page.call({"photo": page.upload(b"no picture", name)}))


# ------------------------------------------------------------------------------- values

NAN, INFINITE = float("nan"), float("inf")
META = {"meta": {"_type": "gradio.FileData"}}

VALUES = {
    **{f"gain {v}": {"shift": "custom", "gain": v} for v in (NAN, INFINITE, -INFINITE, 9, -1)},
    **{f"gain {v!r}": {"shift": "custom", "gain": v} for v in ("abc", None, [], {}, "1e999")},
    "gain of many digits": {"shift": "custom", "gain": 10**400},
    "offset": {"shift": "custom", "offset": -61},
    "gamma": {"shift": "custom", "gamma": 0},
    "temperature": {"shift": "custom", "temperature": 1e300},
    "saturation": {"shift": "custom", "saturation": -0.1},
    **{f"shift {v!r}": {"shift": v} for v in ("purple", 5, None, [], {"a": 1}, "off ")},
    **{f"weights {v!r}": {"weights": v} for v in ("../../etc/passwd", None, 3, ["masa-rec"])},
    **{f"photo {v!r}": {"photo": v} for v in (None, 5, "", "x", [], {}, {"path": None}, True)},
    "photo in etc": {"photo": {"path": "/etc/passwd", **META}},
    "photo in etc, unmarked": {"photo": {"path": "/etc/passwd"}},
    "photo in etc, marked otherwise": {"photo": {"path": "/etc/passwd", "meta": {"_type": "x"}}},
    "photo by climbing": {"photo": {"path": "../../../../etc/passwd", **META}},
    "photo beside the page": {"photo": {"path": "assets/examples/coffee_hr.jpg", **META}},
    "photo of the page, unmarked": {"photo": {"path": str(ROOT / "assets/examples/box_hr.png")}},
    "photo by a file's address": {"photo": {"path": "file:///etc/passwd", **META}},
    "photo inside the host": {"photo": {"path": "http://169.254.169.254/latest", **META}},
    "photo elsewhere": {"photo": {"path": "http://example.com/a.png", **META}},
    "photo at an address that climbs": {
        "photo": {"path": "http://127.0.0.1/gradio_api/file=/etc/passwd", **META}
    },
    "photo is a folder": {"photo": {"path": "/tmp", **META}},
    "photo is a device": {"photo": {"path": "/dev/zero", **META}},
    "photo with a null byte": {"photo": {"path": "/tmp/\x00", **META}},
    "references as a word": {"references": "x"},
    "references as words": {"references": ["/etc/passwd"]},
    "references as numbers": {"references": [1]},
    "references as nothing": {"references": [None]},
    "references as a file": {"references": {"path": "/etc/passwd", **META}},
    "references in etc": {"references": [{"path": "/etc/passwd", **META}]},
    "references in etc, unmarked": {"references": [{"path": "/etc/passwd"}]},
    "references as text of no picture": {"references": ["data:image/png;base64,AAAA"]},
    "references as broken text": {"references": ["data:image/png;base64,!"]},
    "references as html": {"references": ["data:text/html,<script>alert(1)</script>"]},
    "an unknown field": {"bogus": 3},
}


@pytest.mark.parametrize("name", VALUES)
def test_values(page, name):
    assert_sentence(page.call({"photo": page.upload(PNG)} | VALUES[name]))


@pytest.mark.parametrize("is_hr", ["yes", 2, None, [], {"a": 1}])
def test_what_is_no_yes_or_no(page, is_hr):
    """Whatever it is taken for, it is answered."""
    answer = page.call({"photo": page.upload(PNG), "is_hr": is_hr})
    if isinstance(answer, str):
        assert_sentence(answer)


def test_references_by_number(page):
    file = page.upload(PNG)
    assert page.call({"photo": file, "references": [file] * 5}).shape == (64, 96, 3)
    assert "too many" in page.call({"photo": file, "references": [file] * 6})
    assert page.call({"photo": file, "references": []}).shape == (64, 96, 3)


def test_a_text_of_a_picture(page):
    text = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert page.call({"photo": page.upload(PNG), "references": [text]}).shape == (64, 96, 3)


def as_text(data):
    return "data:image/png;base64," + base64.b64encode(data).decode()


WAYS = {
    "an upload": lambda page, data: page.upload(data),
    "an upload without a path": lambda page, data: url_alone(page, data),
    "an upload, its path empty": lambda page, data: {**url_alone(page, data), "path": None},
    "an upload by its address": lambda page, data: {**url_alone(page, data), "path": ""},
    "text": lambda page, data: as_text(data),
    "text in place of an address": lambda page, data: {"url": as_text(data)},
    "text, its path empty": lambda page, data: {"path": None, "url": as_text(data), **META},
    "text in place of a path": lambda page, data: {"path": as_text(data), **META},
    "an upload called svg": lambda page, data: {**page.upload(data), "orig_name": "photo.svg"},
    "an upload that is no file": lambda page, data: {**page.upload(data), "is_stream": True},
}
"""How a photo may be named. Gradio would decode some of these itself, without a limit of size."""


def url_alone(page, data):
    return {"url": f"{page.url}/gradio_api/file={page.upload(data)['path']}", **META}


def bomb():
    return png(9000, 9000, rows=bytes(1126 * 9000))


FORMATS = {
    "png": (lambda: PNG, WIDE),
    "ico": (lambda: stored(SMALL, "ICO", sizes=[(16, 16)]), None),
    "eps": (lambda: stored(SMALL, "EPS"), None),
    "ppm": (lambda: stored(SMALL, "PPM"), None),
    "a bomb that Pillow decodes": (bomb, None),
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("way", WAYS)
def test_a_photo_meets_the_same_limits_whatever_way_it_comes(page, way, kind):
    data, expected = FORMATS[kind]
    answer = page.call({"photo": WAYS[way](page, data())})
    if expected is None:
        assert_sentence(answer)
        usual = page.call({"photo": page.upload(data())})
        assert answer.replace("file.png", "photo.png") == usual
    else:
        assert not isinstance(answer, str), answer
        assert answer.shape[:2] == expected


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1, 2]", b"{}", b'{"data": 5}', b"\xff\xfe"])
@pytest.mark.parametrize("path", ["call/v2/super_resolve", "call/explain", "queue/join", "cancel"])
def test_requests_that_are_none(page, path, body):
    answer = page.post(f"/gradio_api/{path}", content=body)
    assert answer.status_code < 500, answer.text


def test_too_large_an_upload(page):
    answer = page.http.post("/gradio_api/upload", files={"files": bytes(16 * 2**20)})
    assert answer.status_code == 413


# ------------------------------------------------------------------------------- the page


def test_every_handler_of_the_page(page):
    """Requests that its own script would never send."""
    config = page.http.get("/config").json()
    deep = {"path": "/etc/passwd", "image": {"path": "/etc/passwd"}}
    values = (None, "junk", NAN, -1, 10**30, [[]], deep, True)
    events = ({"index": "x"}, {"index": [NAN, 1]}, {"tab": "<b>"}, "junk")
    asked = [(value, None) for value in values] + [(None, event) for event in events]

    def ask(dependency):
        index, count = dependency["id"], len(dependency["inputs"])
        session = f"hostile{index}"
        for value, event in asked:
            answer = page.join(index, [value] * count, event, session)
            if answer is not None:
                assert_sentence(answer)
        if count:
            assert_sentence(page.join(index, [], session=session))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, config["dependencies"]))


@pytest.mark.parametrize("index", [10**6, -1, None, "x", [], 1.5])
def test_handlers_that_do_not_exist(page, index):
    body = {"data": [], "fn_index": index, "session_hash": "hostile"}
    answer = page.http.post("/gradio_api/queue/join", json=body)
    assert answer.status_code < 500 and "Traceback" not in answer.text


PLACES = [
    "/etc/passwd",
    "app.py",
    str(ROOT / "app.py"),
    str(ROOT / "weights" / "masa-rec.safetensors"),
    str(ROOT / "assets" / "examples" / "box_hr.png"),
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2fetc%2fpasswd",
    "file:///etc/passwd",
    "http://example.com/",
    "/proc/self/environ",
    "/tmp/gradio/../../etc/passwd",
    "\x00",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("route", ["gradio_api/file=", "file/", "static/", "assets/", "theme.css/"])
def test_nothing_outside_is_served(page, route, place):
    quoted = place.replace("\x00", "%00")
    # httpx would tidy up the address; a target is sent as it is.
    answer = page.http.get("/", extensions={"target": f"/{route}{quoted}".encode()})
    assert answer.status_code != 200, answer.text[:200]
    assert answer.status_code < 500


def test_nothing_is_measured_for_others(page):
    for path in ("monitoring", "gradio_api/monitoring/summary", "gradio_api/runs"):
        assert page.http.get(f"/{path}").status_code in (403, 404), path


# ------------------------------------------------------------------------------- anything

MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]
KINDS = {"1": "PNG", "CMYK": "TIFF"}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_sizes_modes_and_settings(page, data):
    def photo():
        size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
        mode = data.draw(st.sampled_from(MODES))
        image = Image.fromarray(picture(size[1], size[0], data.draw(st.integers(0, 9))))
        image = image.convert("L" if mode == "I;16" else mode)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        return size, page.upload(stored(image, KINDS.get(mode, "PNG")))

    size, file = photo()
    refs = [photo() for _ in range(data.draw(st.integers(0, 3)))]
    is_hr = data.draw(st.booleans())
    amounts = {name: data.draw(st.floats(low, high)) for name, (low, _, high) in RANGES.items()}
    shift = data.draw(st.sampled_from([*PRESETS, "custom"]))
    fields = {"photo": file, "references": [ref for _, ref in refs], "is_hr": is_hr}
    answer = page.call(fields | {"shift": shift} | amounts)
    least = 32 if is_hr else 8
    fits = min(size) >= least and all(min(ref) >= 16 for ref, _ in refs)
    if fits:
        factor = 1 if is_hr else 4
        wide, high = (side // 4 * 4 if is_hr else side for side in size)
        assert not isinstance(answer, str), answer
        assert answer.shape == (factor * high, factor * wide, 3)
    else:
        assert_sentence(answer)
