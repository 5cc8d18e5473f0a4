"""Many visitors at once, over HTTP and as a browser does it: ``python tests/load.py``.

A page runs in a process of its own. Every visitor opens it, uploads a photo nobody else has,
enlarges it, checks that the answer is an enlargement of that very photo, and clicks into figures
between the later steps of the run and after them, again and again. Others mean no good meanwhile:
they load the page without end, ask for every figure of their photos, begin what they never listen
to, upload as slowly as they can, and send what has taken public pages down. At the end nothing of
them may be left.
"""

import argparse
import base64
import itertools
import json
import math
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx
import numpy as np
import psutil
from h11 import LocalProtocolError
from helpers import picture
from serving import served_apart, wait_for

from demo.page.form import LR_MODE
from masa.pictures.metrics import psnr_y
from masa.pictures.read import read_photo
from masa.pictures.resize import reduce_x4
from masa.pictures.write import encode

PAGE = """
import argparse
from demo.runs.examples import load_examples
from demo.runs.served import delete_old_in_background
from masa.machine.memory import share_pools
from demo.page.page import build_page, launch_options
from demo.runs.showcase import Showcase

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--keep", type=float)
arguments = parser.parse_args()
share_pools()
showcase = Showcase(load_examples()[:1])
showcase.prepare()
page = build_page(showcase, arguments.keep)
delete_old_in_background(arguments.keep)
page.launch(server_port=arguments.port, **launch_options())
"""
"""The page of app.py with one example, ready before anybody comes, so that memory is known."""

MOST_SECONDS = 1  # that the median redraw may take, while runs are under way
LEAST_SOONER = 2  # times as soon as a picture that a redraw comes, on machines of any speed
MOST_GROWTH = 200  # megabytes
CLICKED = ("lr_blocks", "given", "chosen_pixel")
ALIKE = 24  # dB between a photo and its own enlargement, reduced; strangers' stay below 15


@dataclass
class Outcome:
    """What all visitors saw together."""

    runs: int = 0
    redraws: list[float] = field(default_factory=list)
    """Seconds until a clicked figure was drawn."""
    waits: list[float] = field(default_factory=list)
    """Seconds from pressing Enlarge to the picture."""
    told: int = 0
    """How often somebody was told how many are before them."""
    errors: list[str] = field(default_factory=list)
    grown: float = 0.0
    """Megabytes that the page's process had more at the end than before."""
    highest: float = 0.0
    """Megabytes that it had more at most meanwhile, looked at ten times a second."""
    files: int = 0
    """Files of visitors left at the end."""
    answered: defaultdict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    """Statuses of what others were answered, by what they did."""

    def shortfalls(self):
        """What should not have been on any machine, however slow, in words."""
        found = self.errors[:10]
        if not self.redraws or not self.waits:
            found.append("Nobody saw a picture, or nobody a redraw.")
        elif statistics.median(self.redraws) > statistics.median(self.waits) / LEAST_SOONER:
            found.append("Redraws wait for runs.")
        if any(answers[500] for answers in self.answered.values()):
            found.append("A request broke the page.")
        if self.grown > MOST_GROWTH:
            found.append("Memory is not given back.")
        if self.files:
            found.append("Files are left behind.")
        return found

    def __str__(self):
        redraws = statistics.median(self.redraws or [math.nan])
        waits = statistics.median(self.waits or [math.nan])
        answered = {kind: dict(answers) for kind, answers in self.answered.items()}
        return (
            f"{self.runs} runs, {len(self.errors)} errors; median wait for a picture {waits:.1f} s "
            f"({self.told} times with a place in the line); {len(self.redraws)} redraws, median "
            f"{redraws:.2f} s; memory {self.grown:+.0f} MB, {self.highest:+.0f} MB at most; "
            f"{self.files} files left; others were answered {answered}"
        )


def client(url, address):
    """Asks from ``address``, as the page believes it of this machine."""
    return httpx.Client(base_url=url, timeout=600, headers={"X-Forwarded-For": address})


class Visitor:
    """One browser tab, without the browser."""

    def __init__(self, url, config, number, outcome):
        self.http = client(url, f"10.1.0.{number + 1}")
        self.config, self.outcome = config, outcome
        self.session, self.random = uuid.uuid4().hex[:12], random.Random(number)
        self.components = {c["id"]: c["props"] for c in config["components"]}
        self.ids = {p["elem_id"]: i for i, p in self.components.items() if p.get("elem_id")}
        self.values = {i: props.get("value") for i, props in self.components.items()}
        side = 16 + 4 * (number % 5), 16 + 4 * (number // 5 % 5)
        self.lr, self.ref = self.photo(number, *side), picture(64, 80, number)

    def photo(self, number, height, width):
        """A photo that no other visitor has and that an enlargement keeps: soft coloured spots."""
        rng = np.random.default_rng(number)
        spots = rng.integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
        return np.ascontiguousarray(spots.repeat(4, 0).repeat(4, 1))

    def event(self, element, event):
        """The page's reaction to an event of the element called so."""
        wanted = [self.ids[element], event]
        found = (d for d in self.config["dependencies"] if wanted in d["targets"])
        return next(d for d in found if d["backend_fn"])

    def after(self, dependency):
        """What follows an event's success."""
        found = [d for d in self.config["dependencies"] if d["trigger_after"] == dependency["id"]]
        return [d for d in found if not d["trigger_only_on_failure"]]

    def upload(self, pixels):
        files = {"files": ("photo.png", encode(".png", pixels))}
        path = self.http.post("/gradio_api/upload", files=files).raise_for_status().json()[0]
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def send(self, dependency, event_data=None):
        """Play an event; values of components change as they would in a browser."""
        body = {"data": [self.values[i] for i in dependency["inputs"]]}
        body |= {"fn_index": dependency["id"], "session_hash": self.session}
        body |= {"event_data": event_data, "trigger_id": None}
        self.http.post("/gradio_api/queue/join", json=body).raise_for_status()
        address = f"/gradio_api/queue/data?session_hash={self.session}"
        lines, told = [], False
        with self.http.stream("GET", address) as stream:
            for line in stream.iter_lines():
                told = told or "before yours" in line
                if "process_generating" in line or "process_completed" in line:
                    lines.append(line)
                if "process_completed" in line:
                    break
            else:
                raise RuntimeError("the answer ended early")
        self.outcome.told += told
        for number, line in enumerate(lines):
            message = json.loads(line.removeprefix("data:"))
            if not message["success"]:
                raise RuntimeError(message["output"]["error"])
            changed = 0 < number < len(lines) - 1  # only what changed is told, if it did
            for key, value in zip(dependency["outputs"], message["output"]["data"], strict=True):
                for new in [change[2] for change in value] if changed else [value]:
                    self.take(key, new)

    def take(self, key, value):
        if isinstance(value, dict) and value.get("__type__") == "update":
            if "value" not in value:
                return
            value = value["value"]
        self.values[key] = value

    def visit(self, until):
        """Enlarge and click until the time is over."""
        try:
            self.http.get("/").raise_for_status()
            while time.monotonic() < until:
                self.enlarge()
                for _ in range(self.random.randint(3, 6)):
                    if time.monotonic() < until:
                        time.sleep(self.random.uniform(0.5, 2))  # looking at it
                        self.click()
        except Exception as error:
            self.outcome.errors.append(f"{type(error).__name__}: {error}")
        finally:
            self.http.close()

    def enlarge(self):
        ids = self.ids
        self.values[ids["photo"]] = self.upload(self.lr)
        self.values[ids["refs"]] = [{"image": self.upload(self.ref), "caption": None}]
        self.values[ids["mode"]] = LR_MODE
        start = time.monotonic()
        first = self.event("go", "click")
        self.send(first)
        self.outcome.waits.append(time.monotonic() - start)
        self.check()
        following = self.after(first)
        while following:
            dependency = following.pop(0)
            self.send(dependency)
            self.click()  # however short the time is: a visitor who has a picture looks at it
            following += self.after(dependency)
        self.check()
        self.outcome.runs += 1

    def check(self):
        """The picture is an enlargement of this visitor's own photo."""
        _, right = self.values[self.ids["compare"]]
        answer = self.http.get(right["url"]).raise_for_status().content
        found = reduce_x4(read_photo(answer).rgb)
        if found.shape != self.lr.shape or psnr_y(found, self.lr) < ALIKE:
            raise RuntimeError("this is somebody else's picture")

    def click(self):
        name = self.random.choice(CLICKED)
        index = [self.random.randint(20, 200), self.random.randint(40, 160)]
        start = time.monotonic()
        self.send(self.event(f"figure-{name}", "select"), {"index": index, "value": None})
        self.outcome.redraws.append(time.monotonic() - start)


class Nuisance:
    """Somebody at one address who does the same again and again, whatever the answer is."""

    def __init__(self, url, number, kind):
        self.http, self.again = client(url, f"10.2.0.{number + 1}"), getattr(self, kind)
        self.photo = encode(".png", picture(64, 64, number))
        flat = np.full((5000, 5000), 99, np.uint8)
        self.large = encode(".png", np.dstack([flat] * 3), flat) if kind == "faults" else b""
        refused = self.brackets, self.many, self.large_lr, self.elsewhere, self.recording
        self.turns = itertools.cycle((*refused, self.broken, self.legal))
        self.answers = Counter()

    def work(self, until):
        with self.http:
            while time.monotonic() < until:
                try:
                    self.answers[self.again().status_code] += 1
                except (httpx.TransportError, LocalProtocolError) as error:
                    self.answers[type(error).__name__] += 1
                time.sleep(0.05)

    def page_loads(self):
        return self.http.get("/")

    def explain(self):
        """Ask for a zip of every figure, and leave."""
        text = "data:image/png;base64," + base64.b64encode(self.photo).decode()
        return self.http.post("/gradio_api/call/v2/explain", json={"photo": text})

    def never_listen(self):
        """Begin something in a new session each time."""
        body = {"data": [None], "fn_index": 1, "session_hash": uuid.uuid4().hex}
        return self.http.post("/gradio_api/queue/join", json=body)

    def slow_uploads(self):
        def parts():
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
            for _ in range(20):
                yield bytes(100)
                time.sleep(0.2)

        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        return self.http.post("/gradio_api/upload", content=parts(), headers=kind)

    def faults(self):
        """Requests that have taken public pages down, one after the other."""
        return next(self.turns)()

    def brackets(self):
        """A body that takes long to parse."""
        body = b'{"data": [' + b"{}," * 2**18 + b'{}], "session_hash": "a", "fn_index": 1}'
        return self.http.post("/gradio_api/queue/join", content=body, headers=JSON)

    def many(self):
        """References beyond number, all of them one upload."""
        references = [self.uploaded(self.photo)] * 400
        return self.ask({"photo": self.uploaded(self.photo), "references": references})

    def large_lr(self):
        """25 megapixels where an LR is wanted, by a way around uploads."""
        text = "data:image/png;base64," + base64.b64encode(self.large).decode()
        return self.ask({"photo": {"url": text}})

    def elsewhere(self):
        """The page as a proxy."""
        return self.http.get("/gradio_api/file=https://example.org/")

    def recording(self):
        """A route that the page does not use, which keeps what it is sent."""
        return self.http.post("/gradio_api/process_recording", files={"file": self.photo})

    def broken(self):
        """An upload that ends before its announced length."""
        kind = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "100000"}
        start = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        return self.http.post("/gradio_api/upload", content=iter([start]), headers=kind)

    def legal(self):
        """The largest reference that is allowed, with transparency."""
        references = [self.uploaded(self.large)]
        return self.ask({"photo": self.uploaded(self.photo), "references": references})

    def uploaded(self, data):
        answer = self.http.post("/gradio_api/upload", files={"files": ("photo.png", data)})
        path = answer.json()[0] if answer.status_code == 200 else "/refused"
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def ask(self, fields):
        return self.http.post("/gradio_api/call/v2/super_resolve", json=fields)


JSON = {"Content-Type": "application/json"}
NUISANCES = ["page_loads", "explain", "never_listen", "faults", *["slow_uploads"] * 10]


def run(visitors, seconds, keep, folder, nuisances=()):
    """The outcome of so many visitors for so long, with a page that keeps things for ``keep``.

    ``nuisances`` are what others do meanwhile, by the names of what :class:`Nuisance` can do.
    """
    outcome = Outcome()
    program = folder / "page.py"
    program.write_text(PAGE)
    with served_apart(folder, "--keep", str(keep), program=(str(program),)) as (url, process):
        config = httpx.get(f"{url}/config", timeout=60).json()
        there = count(folder / "files")
        Visitor(url, config, visitors, Outcome()).enlarge()  # what is loaded once, is loaded now
        memory = psutil.Process(process.pid)
        before = memory.memory_info().rss
        until = time.monotonic() + seconds
        crowd = [Visitor(url, config, number, outcome) for number in range(visitors)]
        threads = [threading.Thread(target=visitor.visit, args=(until,)) for visitor in crowd]
        others = [Nuisance(url, number, kind) for number, kind in enumerate(nuisances)]
        threads += [threading.Thread(target=other.work, args=(until,)) for other in others]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            more = (memory.memory_info().rss - before) / 2**20
            outcome.highest = max(outcome.highest, more)
            time.sleep(0.1)
        wait_for(lambda: count(folder / "files") <= there, 3 * keep + 120)
        time.sleep(5)  # what sessions held is forgotten no later than their files
        outcome.grown = (memory.memory_info().rss - before) / 2**20
        outcome.files = count(folder / "files") - there
        for kind, other in zip(nuisances, others, strict=True):
            outcome.answered[kind] += other.answers
    log = (folder / "log").read_text()
    if "Traceback" in log:
        outcome.errors.append(f"the log holds a traceback: {log[-2000:]}")
    return outcome


def count(folder):
    return sum(len(names) for _, _, names in os.walk(folder))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument(
        "--keep",
        type=float,
        default=240,
        help="seconds that things are kept: more than anybody waits",
    )
    parser.add_argument(
        "--alone", action="store_true", help="leave out those who mean no good meanwhile"
    )
    arguments = parser.parse_args()
    nuisances = () if arguments.alone else NUISANCES
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(
            arguments.visitors, 60 * arguments.minutes, arguments.keep, Path(folder), nuisances
        )
    print(f"{arguments.visitors} visitors, {arguments.minutes:g} minutes: {outcome}")
    shortfalls = outcome.shortfalls()
    if outcome.redraws and statistics.median(outcome.redraws) >= MOST_SECONDS:
        shortfalls.append("Redraws take too long.")
    print(*shortfalls, sep="\n")
    return 1 if shortfalls else 0


if __name__ == "__main__":
    sys.exit(main())
