"""Two clicks at once: each has a number of its own, and the newest one counts."""

import copy
import time
from concurrent.futures import ThreadPoolExecutor

from demo.figures.view import View
from demo.page.session import Session


class Slow(int):
    """A number during whose increase other threads get their turn."""

    def __add__(self, other):
        time.sleep(0.002)
        return Slow(int(self) + other)


def test_clicks_that_come_at_once_get_different_numbers():
    session = Session()
    session._given = Slow(0)
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: session.begin("look"), range(40)))
    assert sorted(numbers) == list(range(1, 41))
    assert session.is_newest("look", 40)


def test_a_look_that_comes_late_changes_nothing():
    session = Session()
    older, newer = session.number(), session.number()
    assert session.look(newer, View(1, 1), "pixel") == {"pixel"}
    assert session.look(older, View(2, 2), "scale") == frozenset()
    assert session.view == View(1, 1)


def test_of_a_run_only_its_own_newest_state_is_held():
    session, first, second = Session(), View(1, 1), View(2, 2)
    assert session.held(1) is None
    session.hold(1, first)
    session.hold(1, second)
    assert session.held(1) is second and session.held(2) is None
    del second
    assert session.held(1) is None  # somebody else has to keep it


def test_a_session_can_be_copied():
    """As Gradio does for each visitor."""
    first = Session()
    other = copy.deepcopy(first)
    first.begin("run")
    assert other.begin("run") == 1
