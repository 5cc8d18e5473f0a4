"""Bounds of the page follow the memory that there is."""

from demo.page import front
from demo.runs import request
from demo.settings import AMPLE, FEATURE_MEMORY, MEMORY, SESSION_MEMORY, memory_bound


def test_bounds_hold_where_there_is_memory():
    assert memory_bound(AMPLE) == memory_bound(64 * AMPLE) == MEMORY
    assert memory_bound(AMPLE, SESSION_MEMORY) == SESSION_MEMORY


def test_in_a_small_container_all_bounds_together_leave_a_third():
    for limit in (2**30, 4 * 2**30, 8 * 2**30, AMPLE):
        bounds = [memory_bound(limit, most) for most in (MEMORY, FEATURE_MEMORY, SESSION_MEMORY)]
        assert 0 < sum(bounds) <= 0.67 * limit
    assert memory_bound(5 * 2**30) == 2 * 2**30


def test_the_page_takes_what_a_container_has(monkeypatch):
    built = {}
    for module in (front, request):
        monkeypatch.setattr(module, "memory_limit", lambda: 5 * 2**30)
    monkeypatch.setattr(request, "Predictor", lambda *args, **options: built.update(options))
    request._predictor.__wrapped__("masa-rec", "cpu")
    assert built["memory"] == 2 * 2**30
    assert front.Front(analytics_enabled=False).shelf._most == SESSION_MEMORY // 3
