"""What one address may have under way at once, and what is kept of many short visits."""

import errno
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import httpx
import pytest
from gradio.utils import get_upload_folder
from helpers import is_one_sentence, taken
from serving import free_port, wait_for

from demo.page.bounds import Allowance
from demo.page.front import (
    MAX_SESSION_NAME,
    MOST_MESSAGES,
    ODD_SESSION,
    OUR_FAULT,
    TOO_MANY_CALLS,
    TOO_MANY_RUNS,
    TOO_MANY_SESSIONS,
    Front,
    app_options,
)
from demo.page.guard import TOO_MUCH_SENT
from demo.page.upkeep import SILENT_SECONDS, Connections, Upkeep
from demo.runs.jobs import ASKING, Turns, after_others
from demo.runs.served import FULL
from demo.settings import (
    CALLS_PER_ADDRESS,
    KEEP_SECONDS,
    RUNS_PER_ADDRESS,
    SESSIONS,
    SESSIONS_PER_ADDRESS,
)
from masa.errors import UserError

API = "/gradio_api"


class Small:
    """A small page as the real one is launched, in this process."""

    def __init__(self, keep_seconds=60.0):
        self.go_on = threading.Event()

        def wait(value):
            self.go_on.wait(60)
            return str(value)

        def steps(value):
            for number in range(3):
                yield f"{value} {number}"

        self.turns = Turns()

        def asking(value):
            for _ in range(2):
                yield ASKING.get()

        def failing(value):
            yield "begun"
            raise self.error

        def in_line(value):
            for _ in after_others(self.turns, (step for step in ())):
                yield str(value)

        def follow_up(value):
            return "followed"

        options = {"follow": ["follow_up"], "analytics_enabled": False}
        with Front(keep_seconds=keep_seconds, **options) as self.blocks:
            given, words, state = gr.Slider(0, 10, 3), gr.Textbox(), gr.State([])
            file, go = gr.File(), gr.Button()
            free = {"concurrency_limit": None}
            go.click(wait, given, words, api_name="wait", **free)
            go.click(str, given, words, api_name="told", **free)
            go.click(steps, given, words, api_name="steps", **free)
            go.click(failing, given, words, api_name="failing", **free)
            go.click(in_line, given, words, api_name="in_line", **free)
            go.click(asking, given, words, api_name="asking", **free)
            go.click(lambda kept: [*kept, 1], state, state, api_name="kept", **free)
            go.click(lambda file: file, file, file, api_name="file", **free)
            go.click(wait, words, words, api_name="wait_words", **free)
            go.click(follow_up, given, words, api_name="follow_up", **free)
        self.blocks.queue(max_size=40, api_open=False)
        _, url, _ = self.blocks.launch(
            prevent_thread_lock=True,
            quiet=True,
            server_port=free_port(),
            max_threads=120,
            app_kwargs=app_options("X-Real"),
            state_session_capacity=SESSIONS,
        )
        self.http = httpx.Client(base_url=url, timeout=60)
        self.ids = {fn.api_name: i for i, fn in self.blocks.fns.items()}
        self.upkeep = Upkeep(self.blocks.app, keep_seconds)

    def join(self, address, name="told", session=None, value=3):
        body = {"data": [value], "fn_index": self.ids[name], "session_hash": session or new()}
        return self.http.post(f"{API}/queue/join", json=body, headers={"X-Real": address})

    def listen(self, session, address="10.0.0.1"):
        path = f"{API}/queue/data?session_hash={session}"
        return self.http.get(path, headers={"X-Real": address}).text

    def close(self):
        self.go_on.set()
        self.http.close()
        self.blocks.close()


def new():
    return uuid.uuid4().hex[:12]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A small page with a folder for files that no other test writes to."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "files"))
    page = Small()
    yield page
    page.close()


def assert_refused(answer, status, sentence):
    assert answer.status_code == status, answer.text
    assert answer.json() == {"detail": sentence} and is_one_sentence(sentence)


@pytest.mark.parametrize(
    ("error", "sentence", "logged"),
    [
        (UserError("Use <b>less</b>."), "Use &lt;b&gt;less&lt;/b&gt;.", 0),
        (OSError(errno.ENOSPC, "No space left on device"), FULL, 0),
        (OSError(errno.EIO, "Input/output error"), OUR_FAULT, 1),
        (TypeError("int() argument"), OUR_FAULT, 1),
    ],
)
def test_errors_of_a_callback_are_a_sentence_and_ours_alone_are_logged(
    small, caplog, error, sentence, logged
):
    small.error, session = error, new()
    assert small.join("10.0.0.1", "failing", session=session).status_code == 200
    assert json.dumps(sentence) in small.listen(session)
    assert caplog.text.count("A callback failed") == logged


def test_what_is_cancelled_gives_its_place_back(small):
    """And what another event's name is given for goes on."""
    session = new()
    with taken(small.turns):
        event = small.join("10.0.0.1", "in_line", session=session).json()["event_id"]
        wait_for(lambda: small.turns._line, 20)
        body = {"session_hash": session, "fn_index": small.ids["in_line"]}
        for name in ("x", "x", event, event):
            assert small.turns._line
            answer = small.http.post(f"{API}/cancel", json=body | {"event_id": name})
            assert answer.json() == {"success": True}
            time.sleep(0.25)
        wait_for(lambda: not small.turns._line, 20)
    assert "process_completed" in small.listen(session)
    wait_for(lambda: not small.blocks._queue.event_ids_to_events, 20)
    with taken(small.turns):  # nobody stands before
        pass


def test_what_is_cancelled_again_and_again_still_counts(small):
    """Its thread goes on until its step ends."""
    for _ in range(RUNS_PER_ADDRESS):
        session = new()
        event = small.join("10.0.0.1", "wait", session=session).json()["event_id"]
        wait_for(lambda event=event: event in running(small), 20)
        body = {"session_hash": session, "fn_index": small.ids["wait"], "event_id": event}
        assert small.http.post(f"{API}/cancel", json=body).status_code == 200
    assert_refused(small.join("10.0.0.1", "wait"), 429, TOO_MANY_RUNS)


def running(small):
    jobs = [job for job in small.blocks._queue.active_jobs if job]
    return {event._id for job in jobs for event in job}


def test_a_waiting_event_holds_no_pictures_that_came_as_text(small):
    text = "data:text/plain;base64," + "QUFB" * 20_000
    answer = small.join("10.0.0.1", "wait_words", value=text)
    assert answer.status_code == 200, answer.text
    wait_for(lambda: running(small), 20)
    (event,) = small.blocks._queue.event_ids_to_events.values()
    held = [vars(event.request), vars(event.data.request), event.data.data]
    assert not [values for values in held if "QUFBQUFB" in str(values)]


def test_a_session_may_listen_again_before_it_asks_again(small):
    """As Gradio's script does, if it was just told everything."""
    session = new()
    small.join("10.0.0.1", session=session)
    assert "process_completed" in small.listen(session)
    path = f"{API}/queue/data?session_hash={session}"
    with small.http.stream("GET", path) as again:
        assert again.status_code == 200
        small.join("10.0.0.1", session=session)
        assert any("process_completed" in line for line in again.iter_lines())


def test_each_step_knows_which_address_asks(small):
    for address in ("10.0.0.1", "10.0.0.2"):
        session = new()
        small.join(address, "asking", session=session)
        told = small.listen(session)
        assert told.count(f'"{address}"') >= 1 and told.count("10.0.0.") == told.count(address)


def test_a_programs_own_session_is_found(small):
    """Gradio takes one with a call, whose messages then lie under it."""
    body = {"data": [3], "session_hash": new()}
    event = small.http.post(f"{API}/call/told", json=body).json()["event_id"]
    assert '["3"]' in small.http.get(f"{API}/call/told/{event}").text


def test_runs_that_nobody_listens_to_take_an_addresses_share(small):
    for _ in range(RUNS_PER_ADDRESS):
        assert small.join("10.0.0.1", "wait").status_code == 200
    assert_refused(small.join("10.0.0.1"), 429, TOO_MANY_RUNS)
    posted = small.http.post(f"{API}/call/told", json={"data": [3]}, headers={"X-Real": "10.0.0.1"})
    assert_refused(posted, 429, TOO_MANY_RUNS)
    session = new()
    assert small.join("10.0.0.2", session=session).status_code == 200
    assert "process_completed" in small.listen(session)
    small.go_on.set()
    wait_for(lambda: small.join("10.0.0.1").status_code == 200, 30)


def test_what_follows_a_run_is_not_refused_for_the_addresss_other_runs(small, monkeypatch):
    for _ in range(RUNS_PER_ADDRESS):
        assert small.join("10.0.0.1", "wait").status_code == 200
    session = new()
    assert small.join("10.0.0.1", "follow_up", session=session).status_code == 200
    assert "followed" in small.listen(session)
    monkeypatch.setattr("demo.page.front.EVENTS_OF_A_RUN", 1)  # nor is it without a bound
    assert_refused(small.join("10.0.0.1", "follow_up"), 429, TOO_MANY_RUNS)


def test_runs_that_come_at_once_are_counted_too(small):
    def join(_):
        return small.join("10.0.0.1", "wait").status_code

    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(join, range(3 * RUNS_PER_ADDRESS)))
    assert answers.count(200) == RUNS_PER_ADDRESS
    assert answers.count(429) == 2 * RUNS_PER_ADDRESS


def test_new_sessions_of_one_address_leave_places_to_others(small):
    mine = new()
    small.join("10.0.0.2", "kept", session=mine, value=None)
    small.listen(mine)
    answers = [small.join("10.0.0.1", "kept", value=None) for _ in range(SESSIONS + 1)]
    taken = [answer.status_code for answer in answers]
    assert taken.count(200) <= SESSIONS_PER_ADDRESS + 1  # one may be given back meanwhile
    late = next(a for a in reversed(answers) if a.status_code != 200)
    assert late.json()["detail"] in (TOO_MANY_SESSIONS, TOO_MANY_RUNS)
    assert mine in small.blocks.state_holder.session_data
    assert small.join("10.0.0.2", "kept", session=mine, value=None).status_code == 200


def test_a_known_session_is_not_counted_again(small):
    session = new()
    for _ in range(2 * SESSIONS_PER_ADDRESS):
        assert small.join("10.0.0.3", session=session).status_code == 200
        small.listen(session, "10.0.0.3")


def test_a_call_opens_no_session_that_was_not_counted(small):
    mine = new()
    small.join("10.0.0.2", "kept", session=mine, value=None)
    small.listen(mine)
    statuses = [call(small, session=new()).status_code for _ in range(SESSIONS + 1)]
    assert statuses.count(200) <= SESSIONS_PER_ADDRESS + 1
    assert mine in small.blocks.state_holder.session_data
    before = len(small.blocks.state_holder.session_data)
    answer = call(small, "10.0.0.4", session="a" * (MAX_SESSION_NAME + 1))
    assert_refused(answer, 400, ODD_SESSION)
    assert len(small.blocks.state_holder.session_data) == before


def call(small, address="10.0.0.1", session=None):
    """As a program does."""
    body = {"data": [3], "session_hash": session}
    return small.http.post(f"{API}/call/told", json=body, headers={"X-Real": address})


def test_calls_of_one_address_are_bounded(small, monkeypatch):
    monkeypatch.setattr(small.blocks, "_calls", Allowance(2, 3600))
    for status in (200, 200, 429):
        answer = call(small)
        assert answer.status_code == status
    assert_refused(answer, 429, TOO_MANY_CALLS)
    assert call(small, "10.0.0.2").status_code == 200


def uploads():
    return {path for path in Path(get_upload_folder()).rglob("*") if path.is_file()}


TEXT = "data:image/png;base64,AAAA"


def test_of_a_call_beyond_the_bound_nothing_is_written(small, monkeypatch):
    monkeypatch.setattr(small.blocks, "_calls", Allowance(0, 3600))
    before = uploads()
    body = {"data": [TEXT]}
    posted = small.http.post(f"{API}/call/file", json=body, headers={"X-Real": "10.0.0.1"})
    assert_refused(posted, 429, TOO_MANY_CALLS)
    assert uploads() == before


def test_pictures_as_text_are_paid_for_like_uploads(small, monkeypatch):
    monkeypatch.setattr("demo.page.guard.FILE_BYTES", 2**29 - 2**16)  # an address may send 1 GB
    session = new()
    for number, status in enumerate((200, 200, 429)):
        before, text = uploads(), f"{TEXT}{number:04}"
        answer = small.join("10.0.0.1", "file", session=session, value=text)
        assert answer.status_code == status
    assert_refused(answer, 429, TOO_MUCH_SENT)
    assert uploads() == before


def test_messages_can_be_deleted_twice_and_have_more_room_than_addresses_fill(small):
    messages = small.blocks._queue.pending_messages_per_session
    assert messages.max_size == MOST_MESSAGES > 10 * CALLS_PER_ADDRESS
    messages["a"] = 1
    for _ in range(2):
        del messages["a"]


def test_a_session_has_a_short_name(small):
    answer = small.join("10.0.0.1", session="a" * (MAX_SESSION_NAME + 1))
    assert_refused(answer, 400, ODD_SESSION)


# ------------------------------------------------------------------------------- what is kept


def visit(small, number):
    """A short visit: a page is opened, does a few things, and is closed; or it never listens."""
    address, session = f"10.{number % 7}.{number // 200}.{number % 200 + 1}", new()
    if number % 5 == 4:
        small.join(address, "kept", session=session, value=None)
        return
    for name in ("told", "steps", "kept"):
        value = None if name == "kept" else number
        assert small.join(address, name, session=session, value=value).status_code == 200
        assert '"success":true' in small.listen(session, address)
    posted = small.http.post(f"{API}/call/told", json={"data": [3]}, headers={"X-Real": address})
    small.http.get(f"{API}/call/told/{posted.json()['event_id']}", headers={"X-Real": address})
    path = small.http.post(
        f"{API}/upload?upload_id={session}",
        files={"files": ("a.txt", str(number).encode())},
        headers={"X-Real": address},
    ).json()[0]
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    small.join(address, "file", session=session, value=file)
    small.listen(session, address)
    with small.http.stream("GET", f"{API}/heartbeat/{session}", headers={"X-Real": address}):
        pass  # closed


def many_visits(small, count):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: visit(small, number), range(count)))
    queue = small.blocks._queue
    wait_for(lambda: not queue.event_ids_to_events, 60)


def tidied(small):
    """How much is kept after a round of upkeep, which is done where requests are handled."""
    small.upkeep.tidy()
    return small.upkeep.kept()


BOUNDS = {"sessions": SESSIONS, "times": SESSIONS, "progress": 1000}
"""What may be kept of visits that are over; of the rest nothing."""


def test_short_visits_leave_nothing_in_memory():
    small = Small(keep_seconds=0.0)
    try:
        many_visits(small, 60)
        small.upkeep.tidy()
        kept = tidied(small)
        assert {name: n for name, n in kept.items() if n > BOUNDS.get(name, 0)} == {}, kept
        assert small.blocks.upload_file_set == set()
    finally:
        small.close()


def test_a_running_page_tidies_up_by_itself(monkeypatch):
    monkeypatch.setattr("demo.page.upkeep._TIDY_SECONDS", 1)
    small = Small()
    try:
        session = new()
        small.join("10.0.0.1", session=session)
        small.listen(session)
        wait_for(lambda: small.upkeep.kept()["messages"] == 0, 10)
    finally:
        small.close()


def test_addresses_of_visitors_who_were_there_are_forgotten_by_itself(monkeypatch):
    """By all that counts them, although nobody asks for anything any more."""
    now, made = [0.0], []

    def allowance(most, seconds):
        made.append(Allowance(most, seconds, lambda: now[0]))
        return made[-1]

    monkeypatch.setattr("demo.page.front.Allowance", allowance)
    monkeypatch.setattr("demo.page.upkeep._TIDY_SECONDS", 1)
    small = Small()
    try:
        small.http.get("/config", headers={"X-Real": "10.0.0.1"})
        assert small.join("10.0.0.1").status_code == 200
        call = small.http.post(
            f"{API}/call/told", json={"data": [3]}, headers={"X-Real": "10.0.0.1"}
        )
        assert call.status_code == 200
        assert len(made) == 4 and all("10.0.0.1" in each._taken for each in made)
        now[0] = KEEP_SECONDS
        wait_for(lambda: not any(each._taken for each in made), 10)
    finally:
        small.close()


def test_answers_that_nobody_came_for_yet_are_kept(small):
    session = new()
    small.join("10.0.0.1", session=session)
    wait_for(lambda: not small.blocks._queue.event_ids_to_events, 20)
    tidied(small)
    assert "process_completed" in small.listen(session)
    assert tidied(small)["messages"] == 0


def test_statistics_are_not_kept(small):
    session = new()
    small.join("10.0.0.1", session=session)
    small.listen(session)
    queue = small.blocks._queue
    assert not queue.event_analytics and queue.cached_event_analytics_summary == {"functions": {}}


VISITS = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
import json, psutil
from test_shares import Small, Upkeep, many_visits, tidied
small = Small()
small.upkeep = Upkeep(small.blocks.app, 0.0)  # tidied up below, not while visits are going on
sizes = []
for _ in range(3):
    many_visits(small, 500)
    kept = tidied(small)
    sizes.append(psutil.Process().memory_info().rss / 2**20)
print(json.dumps([sizes, kept]), flush=True)
small.close()
"""


@pytest.mark.slow
def test_many_short_visits_cost_no_memory():
    """In a process of its own: what other tests have left in memory would hide the few MB.

    The figures are printed: ``pytest -s``.
    """
    tests = os.path.dirname(__file__)
    code = VISITS.format(root=os.path.dirname(tests), tests=tests)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sizes, kept = json.loads(next(line for line in done.stdout.splitlines() if line[:2] == "[["))
    print(f"MB after 500, 1000, 1500 visits: {sizes}; {kept}")
    assert {name: n for name, n in kept.items() if n > BOUNDS.get(name, 0)} == {}, kept
    assert sizes[2] - sizes[1] < 6


# ------------------------------------------------------------------------------- connections

SERVE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 2000))
sys.path[:0] = [{root!r}, {tests!r}]
from test_shares import Small
import time
small = Small()
print(small.http.base_url, flush=True)
time.sleep(600)
"""


def test_a_thousand_silent_connections_do_not_keep_visitors_out(tmp_path):
    tests = os.path.dirname(__file__)
    code = SERVE.format(root=os.path.dirname(tests), tests=tests)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    opened = []
    try:
        url = next(line.strip().rstrip("/") for line in process.stdout if line.startswith("http"))
        host, port = httpx.URL(url).host, httpx.URL(url).port
        for _ in range(1000):  # more than the process might open at first
            opened.append(socket.create_connection((host, port), 20))
        started = time.monotonic()
        assert httpx.get(f"{url}/config", timeout=20).status_code == 200
        assert time.monotonic() - started < 10
        wait_for(lambda: sum(map(is_closed, opened)) == len(opened), 3 * SILENT_SECONDS)
    finally:
        for connection in opened:
            connection.close()
        process.terminate()
        said = process.communicate()[0]
    assert "Traceback" not in said and "Too many open files" not in said, said


def is_closed(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class Silent:
    """A connection as uvicorn has it."""

    def __init__(self, cycle=None):
        self.cycle, self.transport, self.closed = cycle, self, 0

    def close(self):
        self.closed += 1


class Cycle:
    def __init__(self, response_complete):
        self.response_complete = response_complete


def test_only_silent_connections_are_closed(monkeypatch):
    class Server:
        class server_state:  # noqa: N801 - as uvicorn calls it
            connections: set = set()  # noqa: RUF012

    silent, busy, done = Silent(), Silent(Cycle(False)), Silent(Cycle(True))
    Server.server_state.connections = {silent, busy, done, object()}
    connections = Connections(Server)
    for _ in range(SILENT_SECONDS):
        connections.close_silent()
    assert not silent.closed + done.closed + busy.closed
    connections.close_silent()
    assert silent.closed and done.closed and not busy.closed
    talking = Silent()
    Server.server_state.connections = {talking}
    for _ in range(3 * SILENT_SECONDS):
        talking.cycle = Cycle(True)  # another request, answered already
        connections.close_silent()
    assert not talking.closed
    monkeypatch.setattr("demo.page.upkeep.MANY", 1)
    late = Silent()
    Server.server_state.connections = {late, busy}
    connections.close_silent()
    assert not late.closed
    connections.close_silent()
    assert late.closed and not busy.closed
