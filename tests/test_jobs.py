"""The line for the network: turns, places in it, progress, and stopping."""

import contextvars
import threading
import time
from functools import partial

import pytest
from asking import last
from helpers import is_one_sentence, taken, work_until_stopped
from serving import wait_for

from demo.page.messages import progress_bar
from demo.runs import jobs
from demo.runs.jobs import Finished, Step, follow
from masa.errors import UserError


def test_a_job_reports_and_finishes():
    def job(progress):
        progress(0.5, "half")
        time.sleep(0.5)
        return 7

    steps = list(follow(job))
    assert steps[-1] == Finished(7)
    assert any(isinstance(s, Step) and s.doing == "half" for s in steps)


def test_closing_a_job_stops_it_at_its_next_step():
    stopped = threading.Event()
    steps = follow(lambda progress: work_until_stopped(progress, stopped))
    next(steps)
    steps.close()
    assert stopped.wait(2)
    assert last(follow(lambda progress: "next")) == "next"


def test_a_jobs_error_reaches_its_visitor():
    def job(progress):
        raise UserError("This is wrong.")

    with pytest.raises(UserError, match="This is wrong"):
        list(follow(job))


def test_jobs_run_one_at_a_time():
    running, most = [], []

    def job(progress):
        running.append(1)
        most.append(len(running))
        time.sleep(0.1)
        running.pop()

    threads = [threading.Thread(target=lambda: list(follow(job))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_steps_after_others_wait_and_say_so(monkeypatch):
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.01)
    turns, began = jobs.Turns(1, "archives"), []

    def steps():
        began.append(1)
        yield Step(0.5, "packing", None)
        yield Finished(7)

    waiting = jobs.after_others(turns, steps())
    with taken(turns):
        assert next(waiting).in_line and next(waiting).doing == "1 archive before yours"
        with pytest.raises(UserError, match="1 archives are waiting already"):
            next(jobs.after_others(turns, steps()))
        assert not began
    rest = [step for step in waiting if isinstance(step, Finished) or not step.in_line]
    assert rest == [Step(0.5, "packing", None), Finished(7)]
    assert not turns.are_wanted()


def test_steps_that_are_left_give_their_turn_back():
    turns = jobs.Turns()

    def steps():
        yield Step(0.5, "packing", None)
        raise AssertionError("this is not reached")

    left = jobs.after_others(turns, steps())
    next(left)
    assert turns.are_wanted()
    left.close()
    assert not turns.are_wanted()


def test_visitors_go_before_background_work(monkeypatch):
    monkeypatch.setattr(jobs, "_PAUSE", 0.2)
    turns, began, order = jobs.Turns(), threading.Event(), []

    def background():
        while True:
            try:
                with turns.spare() as progress:
                    order.append("background begins")
                    began.set()
                    for _ in range(50 if len(order) == 1 else 1):
                        progress(0.5, "working")
                        time.sleep(0.1)
                    return order.append("background is done")
            except jobs.Stopped:
                order.append("background makes way")

    thread = threading.Thread(target=background)
    thread.start()
    assert began.wait(5)
    asked = time.monotonic()
    with taken(turns):
        assert time.monotonic() - asked < 1  # of the five seconds that the background would take
        order.append("visitor")
    with taken(turns):  # the visitor's next step need not stop it again
        order.append("visitor")
    thread.join()
    makes_way = ["background begins", "background makes way", "visitor", "visitor"]
    assert order == [*makes_way, "background begins", "background is done"]


def test_clicks_are_drawn_before_tabs_are_filled():
    turns, order = jobs.DrawingTurns(), []
    later, earlier = jobs.rank(background=True), jobs.rank(background=True)
    later, earlier = max(later, earlier), min(later, earlier)

    def draw(name, place):
        with turns.held(place):
            order.append(name)

    threads = []
    with turns.held(jobs.rank()):
        for name, place in (("later", later), ("earlier", earlier), ("click", jobs.rank())):
            threads.append(threading.Thread(target=draw, args=(name, place)))
            threads[-1].start()
            wait_for(lambda: len(turns._waiting) == len(threads), 5)
    for thread in threads:
        thread.join()
    assert order == ["click", "earlier", "later"]


def asked_by(address, ask):
    """What ``ask`` returns, asked for by an address."""
    context = contextvars.copy_context()
    context.run(jobs.ASKING.set, address)
    return context.run(ask)


def test_an_address_that_waits_comes_after_those_that_do_not():
    turns = jobs.Turns()
    order = ["a", "a", "a", "b", "c", "b", "", ""]
    asked = [(name, asked_by(name, turns.ask)) for name in order]
    names = {turn: f"{name}{n}" for n, (name, turn) in enumerate(asked)}
    assert [names[t] for t in turns._line] == ["a0", "b3", "c4", "6", "7", "a1", "b5", "a2"]
    assert asked[0][1].wait(0)
    running = asked_by("a", turns.ask)
    assert turns._line[-1] is running and turns._line.index(asked_by("d", turns.ask)) == 4
    assert asked[1][1].before()[0] == 6


def test_an_address_has_so_many_places():
    turns = jobs.Turns(4, "previews", most_each=2)
    for _ in range(2):
        asked_by("a", turns.ask)
    with pytest.raises(UserError, match="2 previews of your address") as raised:
        asked_by("a", turns.ask)
    assert is_one_sentence(str(raised.value))
    asked_by("b", turns.ask)
    asked_by("a", lambda: turns.ask(admitted=True))


def test_clicks_of_one_address_do_not_keep_others_waiting():
    turns, order, threads = jobs.DrawingTurns(), [], []

    def draw(name):
        with turns.held(jobs.rank()):
            order.append(name)

    with turns.held(jobs.rank()):
        for name in ["a", "a", "a", "b"]:
            target = partial(asked_by, name, partial(draw, name))
            threads.append(threading.Thread(target=target))
            threads[-1].start()
            wait_for(lambda: len(turns._waiting) == len(threads), 5)
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "a", "a"]


def test_what_nobody_looks_at_yet_is_drawn_in_time(monkeypatch):
    monkeypatch.setattr(jobs, "_IN_BACKGROUND", 0.05)
    background = jobs.rank(background=True)
    assert background > jobs.rank()
    time.sleep(0.06)
    assert background < jobs.rank()


def test_a_program_that_left_stops_its_run():
    stopped, left = threading.Event(), threading.Event()

    def job(progress):
        work_until_stopped(progress, stopped, left)

    with pytest.raises(jobs.Stopped):
        jobs.finish(follow(job), left.is_set)
    assert stopped.wait(2)
    with taken(jobs.PROGRAMS), pytest.raises(jobs.Stopped):
        jobs.finish(follow(job), lambda: True)  # while it waits
    assert jobs.finish(follow(lambda progress: "next"), lambda: False) == "next"


def test_pieces_have_turns_of_their_own(monkeypatch):
    """What others want comes between; the share is the whole's, and the last piece the end."""
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns())
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.01)
    order, shares = [], []

    def job(progress):
        for number in range(3):
            progress(number / 3, "working")
            time.sleep(0.3)
            progress((number + 1) / 3, "done")
            yield number
        order.append("asked for more")

    steps = jobs.follow_each(job)
    between = follow(lambda progress: order.append("other"))
    for step in steps:
        if isinstance(step, Step):
            shares.append(step.share)
            continue
        order.append(step.value)
        if step.value == 0:
            next(between)  # is in the line from now on
    list(between)
    assert order == [0, "other", 1, 2]
    assert shares == sorted(shares)


def test_who_was_admitted_goes_on_whoever_waits(monkeypatch):
    turns = jobs.Turns(most_waiting=1)
    monkeypatch.setattr(jobs, "NETWORK", turns)
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.01)

    def job(progress):
        for number in range(2):
            progress((number + 1) / 2, "working")
            yield number

    steps = jobs.follow_each(job)
    assert next(s for s in steps if isinstance(s, Finished)) == Finished(0, last=False)
    waiting = turns.ask()
    with pytest.raises(UserError, match="waiting already"):
        next(jobs.follow_each(job))
    next(steps)  # in the line
    assert waiting.wait(10)
    waiting.end()
    assert last(steps) == 1


def test_other_programs_come_between_pieces(monkeypatch):
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns())
    monkeypatch.setattr(jobs, "PROGRAMS", jobs.Turns())
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.01)
    order, others = [], []

    def job(progress):
        for number in range(3):
            progress((number + 1) / 3, "working")
            order.append(number)
            if not number:
                other = follow(lambda progress: order.append("other"))
                others.append(threading.Thread(target=jobs.finish, args=(other, lambda: False)))
                others[0].start()
                wait_for(lambda: jobs.PROGRAMS._line, 10)
            yield number

    assert jobs.finish(jobs.follow_each(job), lambda: False) == 2
    others[0].join(10)
    assert order == [0, "other", 1, 2]


def test_programs_have_one_part_of_the_time_while_visitors_want_it():
    turns, now = jobs.Turns(), [100.0]
    share = jobs.Share(turns, 4, lambda: now[0])

    def work(seconds, fails=False):
        with share.counted() as from_now:
            now[0] += 50  # in line
            from_now()
            now[0] += seconds
            if fails:
                raise UserError("This takes time too.")

    with taken(turns):
        assert not share.is_used_up()
        work(5)
        assert share.is_used_up()
        now[0] += 14.9
        assert share.is_used_up()
        now[0] += 0.2
        assert not share.is_used_up()
        with pytest.raises(UserError):
            work(5, fails=True)
        assert share.is_used_up()
    now[0] += 1
    assert share.is_used_up()  # the visitor's next step may follow
    now[0] += 2
    assert not share.is_used_up()  # nobody else is there
    waiting = turns.ask()
    assert share.is_used_up()
    waiting.end()
    now[0] += 3
    with turns.spare():  # nobody asked for it
        assert not share.is_used_up()


def test_a_short_run_does_not_make_up_for_a_long_one():
    turns, now = jobs.Turns(), [100.0]
    share = jobs.Share(turns, 4, lambda: now[0])
    for seconds in (100, 1):
        with share.counted():
            now[0] += seconds
    with taken(turns):
        now[0] += 290
        assert share.is_used_up()


def test_a_program_after_another_makes_way_for_visitors(monkeypatch):
    network = jobs.Turns()
    monkeypatch.setattr(jobs, "NETWORK", network)
    monkeypatch.setattr(jobs, "SHARE", jobs.Share(network, 10**6))
    monkeypatch.setattr(jobs, "_PERIOD", 0.01)
    monkeypatch.setattr(jobs, "_PAUSE", 0.1)
    began, left = threading.Event(), threading.Event()

    def second():
        jobs.finish(follow(lambda progress: began.set()), lambda: False)

    jobs.finish(follow(lambda progress: time.sleep(0.1)), lambda: False)
    with taken(network):
        with pytest.raises(jobs.Stopped):  # a program that leaves meanwhile is not waited for
            jobs.finish(follow(lambda progress: began.set()), lambda: left.set() or True)
        assert left.is_set() and not jobs.PROGRAMS._holder
        program = threading.Thread(target=second)
        program.start()
        wait_for(lambda: jobs.PROGRAMS._holder, 10)
        time.sleep(0.3)
        assert not network._line  # in no visitor's way
    program.join(10)
    assert began.is_set()


@pytest.mark.parametrize("waits", [True, False])
def test_what_a_program_waits_is_not_counted(waits, monkeypatch):
    network, now = jobs.Turns(), [0.0]
    share = jobs.Share(network, 2, lambda: now[0])
    monkeypatch.setattr(jobs, "NETWORK", network)
    monkeypatch.setattr(jobs, "SHARE", share)
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.05)

    started = threading.Event()

    def job(progress):
        assert started.wait(10)
        now[0] += 10

    def waited():
        steps = follow(job)
        first = next(steps)
        assert first.in_line == waits
        now[0] += 1000
        yield first
        if waits:
            before.end()
            yield next(step for step in steps if not step.in_line)
        started.set()
        yield from steps

    if waits:
        before = network.ask()
        before.wait()
    jobs.finish(waited(), lambda: False)
    assert share._used_until == now[0] + 10


def test_closing_pieces_ends_the_turn(monkeypatch):
    monkeypatch.setattr(jobs, "NETWORK", jobs.Turns())
    ended = threading.Event()

    def job(progress):
        yield work_until_stopped(progress, ended)

    steps = jobs.follow_each(job)
    next(steps)
    steps.close()
    assert ended.wait(2)
    assert last(follow(lambda progress: "next")) == "next"


def test_who_waits_is_told_its_place_and_when(monkeypatch):
    turns = jobs.Turns()
    monkeypatch.setattr(jobs, "NETWORK", turns)
    monkeypatch.setattr(jobs, "_PERIOD_IN_LINE", 0.01)
    with taken(turns):
        time.sleep(0.2)  # what a turn lasts is known from now on
    running = turns.ask()
    assert running.wait()
    lines = [follow(lambda progress: "done") for _ in range(3)]
    steps = [next(line) for line in lines]
    assert [step.doing for step in steps] == [
        "1 run before yours",
        "2 runs before yours",
        "3 runs before yours",
    ]
    seconds = [step.seconds_left for step in steps]
    assert 0 <= seconds[0] <= turns._lasted[0] and seconds == sorted(seconds)
    assert "2 runs before yours</span>, about" in progress_bar(steps[1])
    lines[0].close()  # leaves
    assert next(lines[1]).doing == "1 run before yours"
    running.end()
    assert last(lines[1]) == "done" and last(lines[2]) == "done"


def test_a_thread_that_dies_is_reported_and_the_next_one_runs():
    def dies(progress):
        raise SystemExit("killed")

    with pytest.raises(RuntimeError, match="thread of this job"):
        list(follow(dies))
    assert last(follow(lambda progress: "next")) == "next"
