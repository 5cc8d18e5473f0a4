"""Figures on the result, adaptation, aggregation and cost, and the drawing of the network."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import fill, is_one_sentence, picture

from demo.figures import adaptation, aggregation, blocks, cost, network, result, tabs
from demo.figures.draw import WIDE, WIDTH
from demo.figures.figure import pick
from demo.figures.parts import Place, busiest, high_of
from demo.figures.plots import Bar, bar_chart
from demo.figures.tabs import FIGURES
from demo.figures.view import View, lr_pixel, result_pixel
from demo.page.report import INVENTED, report
from demo.runs import rematch
from demo.runs.exploration import explore
from demo.runs.request import FinishedRun, Request
from masa.config import MASAConfig
from masa.errors import UserError
from masa.machine.cost import dense_matching_cost, executed_cost, paper_cost
from masa.machine.memory import Peak
from masa.network import dense
from masa.network.aggregation import Branches
from masa.network.matching import match
from masa.network.model import MASA
from masa.pictures.metrics import luma, psnr_y, ssim_y
from masa.pictures.resize import enlarge_x4, reduce_x4
from masa.predictor import Predictor

SMALL = MASAConfig(channels=8)
TABS = ("result", "align", "coarse", "fine", "adaptation", "aggregation", "pixel", "cost")


def explored(lr=(32, 40), ref=(128, 160), config=SMALL, keep=(1, 2, 4), known=True, late=True):
    """An exploration of a narrow network's run on noise."""
    model = fill(MASA(config), in_blocks=1).requires_grad_(False).eval()
    predictor = Predictor(model, "cpu", "fp32")
    hr = np.ascontiguousarray(enlarge_x4(picture(*lr)) // 2 + picture(4 * lr[0], 4 * lr[1], 1) // 2)
    small, refs = reduce_x4(hr), [picture(*ref, seed=2)]
    run = predictor.run(small, refs, keep=keep)
    request = Request("photo.png", align=False)
    x = explore(FinishedRun(request, run, hr if known else None, config))
    if not late:
        return x
    off = {
        name: predictor.run(small, refs, branches=branches).rgb
        for name, branches in (("ref", Branches(ref=False)), ("lr", Branches(lr=False)))
        if getattr(x.branches, name)
    }
    return replace(x, plain=predictor.run(small).rgb, switched_off=off)


@pytest.fixture(scope="module")
def x():
    return explored()


@pytest.fixture(scope="module")
def adain():
    return explored((16, 24), (64, 64), MASAConfig(channels=8, adaptation="adain"))


@pytest.fixture(scope="module")
def none():
    return explored((16, 24), (64, 64), MASAConfig(channels=8, adaptation="none", dram_ref=False))


def all_figures(x):
    """Every figure of these tabs that an exploration has."""
    found = [
        result.error_map(x, View()),
        result.reference_gift(x, View()),
        result.gain_map(x, View()),
        result.compared(x, View()),
    ]
    for scale in (1, 2, 4):
        found += [
            adaptation.feature_maps(x, View(scale=scale, channel=channel))
            for channel in (None, 0, 999)
        ]
        found += [
            adaptation.modulation(x, View(scale=scale, channel=channel)) for channel in (None, 5)
        ]
        found += [adaptation.statistics(x, View(scale=scale))]
        found += [
            aggregation.branches(x, View(scale=scale)),
            aggregation.residuals(x, View(scale=scale)),
        ]
    found += [aggregation.ref_off(x, View()), aggregation.lr_off(x, View())]
    every = rematch.dense_match(x)
    again = rematch.rematch(x, replace(SMALL, lr_block=4), every)
    found += [
        cost.multiply_adds(x, View()),
        cost.stages(x, View()),
        cost.stages(replace(x, peak=Peak("cuda", 2**30)), View()),
    ]
    found += [cost.rematch_figure(x, again, every), cost.rematch_figure(x, again)]
    return [figure for figure in found if figure is not None]


def check(figure):
    image = figure.image
    assert image.dtype == np.uint8
    assert image.shape[1] <= WIDE
    assert image.ndim == 3
    assert figure.alt.endswith(".")
    assert figure.summary.endswith(".")
    for strange in ("nan", "inf ", "inf)"):
        assert strange not in figure.summary
    for panel in figure.panels:
        assert panel.name == "lr"
        # The panel lies inside the figure, up to rounding.
        assert panel.top + panel.rows * panel.zoom <= image.shape[0] + 1
        assert panel.left + panel.columns * panel.zoom <= image.shape[1] + 1
        centre = (panel.left + panel.zoom * 0.5, panel.top + panel.zoom * (panel.rows - 0.5))
        assert pick(figure.panels, *centre) == ("lr", panel.rows - 1, 0)


def test_every_figure_of_a_full_run(x):
    figures = all_figures(x)
    assert len(figures) == 4 + 3 * 6 + 2 * 2 + 2 + 5
    for figure in figures:
        check(figure)


@pytest.mark.parametrize(
    ("lr", "ref"), [((8, 8), (16, 16)), ((8, 200), (96, 64)), ((130, 9), (40, 200))], ids=str
)
def test_any_size(lr, ref):
    x = explored(lr, ref)
    for figure in all_figures(x):
        check(figure)
    assert told(x)
    assert table_of(x)


def test_large_maps_fit():
    x = explored((160, 264), (64, 64), MASAConfig(channels=3), late=False)
    for figure in all_figures(x):
        check(figure)


# ---------------------------------------------------------------------------- result


def told(x):
    """The verdict on ``x``, as the page says it."""
    return result.verdict(x, result.measure(x))


def table_of(x):
    """The table of scores of ``x``, as the page shows it."""
    return result.scores_table(x, result.measure(x))


def test_scores_are_the_metrics_of_the_shown_pictures(x):
    table = table_of(x)
    for shown in (x.result, x.plain, x.bicubic):
        assert f"{psnr_y(shown, x.hr):.2f} dB | {ssim_y(shown, x.hr):.4f}" in table
    words = told(x)
    assert f"{psnr_y(x.result, x.hr):.2f} dB" in words
    assert f"{psnr_y(x.plain, x.hr):.2f} dB" in words
    gain = psnr_y(x.result, x.hr) - psnr_y(x.plain, x.hr)
    assert result.signed(gain) in words


@pytest.mark.parametrize(
    ("error", "judgement"),
    [
        (0.5, "helped clearly"),
        (0.98, "helped a little"),
        (1.0, "made no difference"),
        (1.02, "hurt a little"),
        (2.0, "hurt clearly"),
    ],
)
def test_the_verdict_s_thresholds(x, error, judgement):
    """MASA's error is ``error`` times that of the network without the reference."""
    noise = 16 * np.random.default_rng(0).standard_normal(x.hr.shape[:2])[:, :, None]
    hr = np.full_like(x.hr, 128)
    made = replace(
        x,
        hr=hr,
        plain=(hr + noise).clip(0, 255).astype(np.uint8),
        result=(hr + error * noise).clip(0, 255).astype(np.uint8),
    )
    assert f"**The reference {judgement}.**" in told(made)


def test_an_exact_result_has_no_strange_numbers(x):
    exact = replace(x, result=x.hr, plain=x.hr)
    assert "made no difference" in told(exact)
    better = told(replace(x, result=x.hr))
    assert "helped clearly" in better
    assert "∞ dB" in better
    assert "where MASA is exact" in better
    flat = replace(x, bicubic=x.hr)
    assert "has ∞ dB: it is exact." in told(flat)
    assert "∞ dB, the same as MASA." in told(replace(exact, bicubic=x.hr))
    for words in (better, told(flat), told(exact)):
        assert "nan" not in words and "inf" not in words
    check(result.error_map(exact, View()))
    check(result.reference_gift(exact, View()))
    check(result.gain_map(exact, View()))
    compared = result.compared(exact, View())
    check(compared)
    assert "the reference changed" not in compared.summary
    assert "differs most from bicubic" in compared.summary
    same = result.compared(replace(exact, bicubic=x.hr), View())
    assert "the same as bicubic" in same.summary and "Below" not in same.summary
    off = aggregation.ref_off(replace(exact, switched_off={"ref": x.result}), View())
    check(off)
    assert "to " in off.summary and "(−∞ dB)" in off.summary
    unchanged = aggregation.ref_off(replace(x, switched_off={"ref": x.result}), View())
    check(unchanged)
    assert "the result is the same." in unchanged.summary and "differ" not in unchanged.summary


def test_without_the_sharp_photo_nothing_is_claimed(x):
    unknown = replace(x, hr=None)
    words = told(unknown)
    change = np.abs(luma(x.result) - luma(x.plain)).mean()
    assert f"by {change:.1f} grey levels" in words
    assert "cannot be measured" in words
    assert "dB" not in words
    for claim in ("helped", "hurt", "better", "improve"):
        assert claim not in words
    assert table_of(unknown) == ""
    assert result.measure(unknown) is None
    assert result.error_map(unknown, View()) is None
    assert result.gain_map(unknown, View()) is None
    check(result.reference_gift(unknown, View()))
    assert len(result.compared(unknown, View()).panels) == 2


def test_before_the_second_run(x):
    early = replace(x, plain=None, switched_off={})
    assert "not computed yet" in told(early)
    assert "not computed yet" in told(replace(early, hr=None))
    assert "without the reference" not in table_of(early)
    assert result.reference_gift(early, View()) is None
    assert result.gain_map(early, View()) is None
    assert aggregation.ref_off(early, View()) is None
    assert result.compared(early, View()) is None
    check(result.error_map(early, View()))


def test_without_a_reference(x):
    own_reference = replace(x, references=(), plain=x.result)
    assert "No reference was given" in told(own_reference)
    assert "No reference was given" in told(replace(own_reference, hr=None))
    assert "without a reference" in table_of(own_reference)
    for name in ("gift", "gain"):
        assert FIGURES[name].draw(own_reference, View()) is None
        assert "No reference was given" in FIGURES[name].missing(own_reference, View())
    shown = FIGURES["compared"].draw(own_reference, View())
    check(shown)
    assert len(shown.panels) == 3 and "the reference changed" not in shown.summary
    # Nothing but the truth is missing where that is unknown: a single picture compares nothing.
    assert len(result.compared(replace(own_reference, hr=None), View()).panels) == 2


def test_numbers_of_the_maps(x):
    error = np.abs(luma(x.result) - luma(x.hr))
    assert f"{error.mean():.1f} grey levels on average" in result.error_map(x, View()).summary
    gift = np.abs(luma(x.result) - luma(x.plain))
    assert f"{gift.mean():.1f} grey levels on average" in result.reference_gift(x, View()).summary


def test_a_tenth_of_the_pixels_is_a_tenth(x):
    """Where many changes are equal, as between pictures of whole levels, too."""
    plain = x.result.copy()
    wide = 3 * plain.shape[1] // 10
    plain[:, :wide] ^= 1
    found = result.reference_gift(replace(x, plain=plain), View()).summary
    share = int(re.search(r"holds (\d+)%", found).group(1))
    assert 30 <= share <= 55  # of 30 %, with two kinds of change


def test_fine_matching_comes_down_only_where_it_does(x):
    dear = replace(x, cost=replace(x.cost, fine=2 * x.paper.fine))
    assert "fine matching itself takes" in cost.multiply_adds(dear, View()).summary
    cheap = replace(x, cost=replace(x.cost, fine=x.paper.fine // 2))
    assert "itself comes down to" in cost.multiply_adds(cheap, View()).summary


def test_block_errors():
    """Blocks of 2 LR pixels of a picture of 5 x 3 LR pixels: the last ones are cut."""
    hr, other = picture(20, 12), picture(20, 12, 1)
    squared = (luma(hr) - luma(other)) ** 2
    found = result.block_rms(other, hr, 2)
    assert found.shape == (3, 2)
    assert found[0, 0] == pytest.approx(np.sqrt(squared[:8, :8].mean()), rel=1e-5)
    assert found[2, 1] == pytest.approx(np.sqrt(squared[16:, 8:].mean()), rel=1e-5)


def test_the_busiest_place():
    values = np.zeros((30, 40), np.float32)
    values[12:15, 33:38] = 1
    assert busiest(values, 3, 5) == Place(12, 33, 3, 5)
    assert busiest(values, 99, 99) == Place(0, 0, 30, 40)


# ---------------------------------------------------------------------------- adaptation


def test_the_gap_is_that_of_the_drawn_numbers(x):
    for scale, view in x.scales.items():
        lr, after = view.statistics["lr"], view.statistics["after"]
        distances = [
            np.sqrt((m - n) ** 2 + (s - t) ** 2) / s
            for m, s, n, t in zip(lr.mean, lr.std, after.mean, after.std, strict=True)
        ]
        expected = np.median(distances)
        assert f"{expected:.2f} after" in adaptation.statistics(x, View(scale=scale)).summary
        assert f"after it, {expected:.2f}" in adaptation.feature_maps(x, View(scale=scale)).summary


def test_channels_come_back_in_their_own_units(x):
    """Levels and ranges against the features of a fresh trace."""
    model = fill(MASA(SMALL), in_blocks=1).eval()
    predictor = Predictor(model, "cpu", "fp32")
    trace = predictor.run(x.visitors_lr(), x.references, keep=(2,)).trace.x2
    for name, tensor in (("before", trace.ref), ("gamma", trace.adapted.gamma)):
        expected = x.lr.crop(tensor[0, 3].numpy())
        found = adaptation.channel_map(x, x.scales[2], name, 3)
        assert found.shape == expected.shape
        step = np.ptp(tensor[0, 3].numpy()) / 255
        assert np.abs(found - expected).max() <= 0.51 * step + 1e-7
    spreads = trace.adapted.gamma[0].flatten(1).std(1)
    assert spreads[adaptation.default_channel(x.scales[2])] > 0.98 * spreads.max()


def test_padding_is_not_shown(x):
    padded = explored((20, 27), (64, 64), late=False)
    assert padded.lr.rgb.shape[:2] == (24, 32)
    assert padded.lr.crop(padded.scales[4].colours["lr"]).shape == (80, 108, 3)
    assert adaptation.channel_map(padded, padded.scales[2], "lr", 0).shape == (40, 54)
    for draw in (
        lambda x: adaptation.statistics(x, View(scale=2)),
        lambda x: adaptation.feature_maps(x, View(scale=2)),
        lambda x: adaptation.feature_maps(x, View(scale=2, channel=0)),
        lambda x: adaptation.modulation(x, View(scale=2)),
    ):
        assert "over the photo and its padding" in draw(padded).summary
        assert "padding" not in draw(x).summary


def test_a_long_axis_says_how_far_its_lines_are_apart(x):
    small = replace(x, dense=10**12, paper=replace(x.paper, fine=10**5))
    assert np.array_equal(
        cost.multiply_adds(small, View()).image[-20:],
        cost.multiply_adds(replace(small, dense=10**13), View()).image[-20:],
    )
    assert not np.array_equal(
        cost.multiply_adds(small, View()).image[-20:], cost.multiply_adds(x, View()).image[-20:]
    )


def test_the_largest_part_need_not_be_most(x):
    seconds = {"encode_lr": 1.0, "encode_ref": 4.0, "match": 1.5, "decode": 3.5}
    assert (
        "the largest part, 40%, went into reading"
        in cost.stages(replace(x, seconds=seconds), View()).summary
    )
    assert (
        "most of it, 73%"
        in cost.stages(replace(x, seconds=seconds | {"encode_ref": 16.0}), View()).summary
    )


def test_networks_that_learn_no_adaptation(adain, none):
    for x in (adain, none):
        assert adaptation.modulation(x, View(scale=4)) is None
        assert "no γ and no β" in FIGURES["modulation"].missing(x, View(scale=4))
        for figure in all_figures(x):
            check(figure)
    # Not exactly alike: the normalisation's epsilon counts where features are weak.
    assert adain.scales[2].gap("after") < 0.1 * adain.scales[2].gap("before")
    assert "adapts nothing" in adaptation.statistics(none, View(scale=2)).summary
    assert "came closer" not in adaptation.statistics(none, View(scale=2)).summary
    for drawn in (
        adaptation.feature_maps(none, View(scale=2)),
        adaptation.feature_maps(none, View(scale=2, channel=3)),
        adaptation.statistics(none, View(scale=2)),
    ):
        assert "passed on unchanged" in drawn.alt and "adapted" not in drawn.alt + drawn.summary
    view = none.scales[2]
    assert view.gap("before") == view.gap("after")


def test_what_spade_learns_is_named_as_its_own():
    spade = explored((16, 24), (64, 64), MASAConfig(channels=8, adaptation="spade"), late=False)
    for scale in (1, 2, 4):
        drawn = adaptation.modulation(spade, View(scale=scale, channel=3))
        check(drawn)
        assert "multiplied by γ, by" in drawn.summary
        assert "Then β is added" in drawn.summary and "the photo's" not in drawn.summary
        check(adaptation.statistics(spade, View(scale=scale)))
    gamma = adaptation.channel_map(spade, spade.scales[4], "gamma", 3)
    told = adaptation.modulation(spade, View(scale=4, channel=3)).summary.replace("−", "-")
    assert f"by {gamma.min():.3g} to {gamma.max():.3g} from place to place" in told


def test_the_report_says_when_weights_invent_detail(x, monkeypatch):
    assert INVENTED not in report(x)
    monkeypatch.setattr("demo.page.report.invents_detail", lambda name: name == x.weights)
    told = report(x).split("\n\n")
    assert told.index(INVENTED) > 0


def test_scales_that_were_not_kept(x):
    some = replace(x, scales={1: x.scales[1]})
    assert adaptation.feature_maps(some, View(scale=4)) is None
    assert adaptation.modulation(some, View(scale=4)) is None
    assert adaptation.statistics(some, View(scale=4)) is None
    assert "not kept" in adaptation.why_not_learned(some, View(scale=4))
    assert aggregation.branches(some, View(scale=4)) is None
    assert aggregation.residuals(some, View(scale=1)) is None
    assert aggregation.why_not(some, View()).endswith("were not kept.")
    two = replace(x, scales={scale: x.scales[scale] for scale in (1, 2)})
    assert aggregation.why_not(two, View()).endswith("Choose x2.")
    assert aggregation.why_not(x, View()).endswith("Choose x2 or x4.")


# ---------------------------------------------------------------------------- aggregation


def _off(x, which):
    return {"ref": aggregation.ref_off, "lr": aggregation.lr_off}[which](x, View())


def test_switching_off_is_measured(x):
    for which in ("ref", "lr"):
        summary = _off(x, which).summary
        off = x.switched_off[which]
        assert f"from {psnr_y(x.result, x.hr):.2f} dB to {psnr_y(off, x.hr):.2f} dB" in summary
        change = np.abs(luma(x.result) - luma(off)).mean()
        assert f"{change:.2f} grey levels" in summary
        assert "dB" not in _off(replace(x, hr=None), which).summary


def test_residuals_that_a_network_does_not_have(none, x):
    assert none.scales[4].added["ref_residual"].max() == 0
    assert (
        "the reference branch takes nothing over"
        in aggregation.residuals(none, View(scale=4)).summary
    )
    means = [x.lr.crop(x.scales[4].added[f"{n}_residual"]).mean() for n in ("ref", "lr")]
    told_sizes = f"({means[0]:.3g} in the reference branch, {means[1]:.3g} in the photo branch)"
    assert told_sizes in aggregation.residuals(x, View(scale=4)).summary
    assert aggregation.ref_off(none, View()) is None
    why = FIGURES["ref_off"].missing(none, View())
    assert "the reference branch takes nothing over" in why and is_one_sentence(why)


@pytest.mark.parametrize(
    ("ref", "lr", "before", "sizes", "bright"),
    [
        (True, True, "Each branch has taken over", "On average the residual of the", True),
        (
            True,
            False,
            "only the reference branch has taken over",
            "photo branch takes nothing",
            True,
        ),
        (False, True, "only the photo branch has taken", "reference branch takes nothing", True),
        (False, False, "neither branch takes", "neither branch takes anything", False),
    ],
)
def test_branches_are_said_to_take_over_what_they_do(ref, lr, before, sizes, bright):
    config = MASAConfig(channels=8, dram_ref=ref, dram_lr=lr)
    one = explored((16, 24), (64, 64), config, late=False)
    told = aggregation.branches(one, View(scale=2)).summary
    assert before in told and told.endswith("and the decoder goes on with the merged features.")
    told = aggregation.residuals(one, View(scale=2)).summary
    assert sizes in told and ("Bright places" in told) == bright


# ---------------------------------------------------------------------------- table


def test_the_controls_of_a_tab_are_those_that_its_figures_show():
    assert {tab.id: set(tab.controls) for tab in tabs.TABS} == {
        "result": set(),
        "align": {"pixel"},
        "coarse": {"pixel"},
        "fine": {"pixel"},
        "adaptation": {"scale", "channel"},
        "aggregation": {"scale"},
        "pixel": {"pixel"},
        "cost": set(),
    }


def test_a_click_fits_the_panels_of_its_figure(x):
    """LR pixels, pixels of the result, or own pixels of a reference."""
    kinds = {lr_pixel: "lr", result_pixel: "hr", blocks.matched_block: "ref 1"}
    seen = set()
    for figure in FIGURES.values():
        drawn = figure.draw(x, View())
        if figure.click is not None and drawn is not None:
            assert {panel.name for panel in drawn.panels} == {kinds[figure.click]}, figure.id
            seen.add(figure.click)
    assert seen == set(kinds)


# ---------------------------------------------------------------------------- cost


def test_every_part_of_the_whole_network_has_a_bar(x, monkeypatch):
    """Comparing views too, in a run with alignment; a run without it has no empty bar."""
    drawn = []

    def noted(bars, *args, **options):
        drawn.append([bar.value for bar in bars])
        return bar_chart(bars, *args, **options)

    monkeypatch.setattr(cost, "bar_chart", noted)
    for align in (0, 10**7):
        counted = replace(x.cost, align=align)
        summary = cost.multiply_adds(replace(x, cost=counted), View()).summary
        *_, own = drawn
        assert f"whole network takes {cost.billions(counted.total)}" in summary
        assert sum(own[4:]) + counted.matching == counted.total and min(own) > 0


def test_stated_costs(x):
    summary = cost.multiply_adds(x, View()).summary
    assert cost.billions(x.paper.matching) in summary
    assert cost.billions(x.dense) in summary
    assert f"{x.dense / x.paper.matching:.3g} times" in summary
    table = cost.paper_table()
    sizes = (128, 128), (128, 128)
    assert f"{paper_cost(*sizes).total / 1e9:.2f}" in table
    assert f"{executed_cost(*sizes).matching / 1e9:.2f}" in table
    for stated in ("6,005.78", "618.48", "| 8.84 | 367.93 |", "154.62", "17.5"):
        assert stated in table
    seconds = sum(x.seconds.values())
    assert f"This run took {seconds:.1f} s" in cost.stages(x, View()).summary
    for unknown in (None, Peak("cpu"), Peak("cuda")):
        assert "could not be measured" in cost.stages(replace(x, peak=unknown), View()).summary
    measured = cost.stages(replace(x, peak=Peak("cpu", 3 * 2**29)), View()).summary
    assert "1,536 MB" in measured and "server process" in measured
    assert "graphics card" in cost.stages(replace(x, peak=Peak("cuda", 2**20)), View()).summary


def naive_places(lr, ref):
    """Best patch of ``ref`` ``(C, hr, wr)`` for every pixel of ``lr``, one by one."""
    padded = np.pad(lr, ((0, 0), (1, 1), (1, 1)), mode="edge")
    patches = [
        ref[:, i : i + 3, j : j + 3].ravel()
        for i in range(ref.shape[1] - 2)
        for j in range(ref.shape[2] - 2)
    ]
    patches = np.array([p / np.linalg.norm(p) for p in patches])
    found = np.zeros((2, *lr.shape[1:]), int)
    for i, j in np.ndindex(*lr.shape[1:]):
        best = int((patches @ padded[:, i : i + 3, j : j + 3].ravel()).argmax())
        found[:, i, j] = np.array(divmod(best, ref.shape[2] - 2)) + 1
    return found


def test_dense_matching_is_an_argmax_over_all_places(x, monkeypatch):
    small = replace(
        x,
        lr_features=x.lr_features[:, :16, :24].contiguous(),
        ref_features=x.ref_features[:, :20, :12].contiguous(),
    )
    expected = naive_places(small.lr_features.numpy(), small.ref_features.numpy())
    found = rematch.dense_match(small)
    assert found.step == 1
    assert found.multiply_adds == dense_matching_cost((16, 24), (20, 12), SMALL)
    np.testing.assert_array_equal(found.position, expected)
    # In many pieces, and for some pixels only.
    monkeypatch.setattr(dense, "_PATCH_BYTES", 4 * 9 * 8 * 24 * 3)
    monkeypatch.setattr(dense, "SCORE_BYTES", 4 * 10 * 36)
    shares = []
    np.testing.assert_array_equal(
        rematch.dense_match(small, on_share=shares.append).position, expected
    )
    assert shares[-1] == 1
    assert shares == sorted(shares)
    some = rematch.dense_match(small, budget=found.multiply_adds // 4)
    assert some.step > 1
    assert some.multiply_adds <= found.multiply_adds // 4
    searched = some.position[0] >= 0
    assert 0 < searched.sum() < searched.size / 3
    np.testing.assert_array_equal(some.position[:, searched], expected[:, searched])


def test_the_run_s_own_settings_agree_with_the_run(x):
    every = rematch.dense_match(x)
    again = rematch.rematch(x, MASAConfig(), every)
    assert again.agreement_with_run == 1
    assert torch.equal(again.matches.position, x.matches.position)
    assert again.mean_similarity == pytest.approx(float(x.matches.similarity.mean()), abs=1e-6)
    assert again.multiply_adds == executed_cost((32, 40), x.ref_features.shape[1:], SMALL).matching
    same = (x.matches.position[0].numpy() == every.position).all(0)
    assert again.agreement_with_dense == pytest.approx(same.mean())
    assert again.agreement_with_dense <= again.near_dense <= 1
    assert f"{same.mean():.0%} of the pixels find the very place" in (
        cost.rematch_figure(x, again, every).summary
    )
    assert rematch.rematch(x, MASAConfig()).agreement_with_dense is None


def test_a_larger_search_comes_closer_to_dense_matching(x):
    every = rematch.dense_match(x)
    agreements = [
        rematch.rematch(x, MASAConfig(ref_factor=factor), every).agreement_with_dense
        for factor in (0.5, 1.5, 9)
    ]
    assert agreements == sorted(agreements)
    assert agreements[-1] > 0.9  # all but the last row or column is searched


def test_blocks_that_do_not_divide_the_photo(x):
    found = rematch.rematch(x, MASAConfig(lr_block=16))
    assert (found.geometry.lr_height, found.geometry.lr_width) == (32, 32)
    expected = match(
        x.lr_features[None, :, :32, :32], x.ref_features[None], replace(SMALL, lr_block=16)
    )
    assert torch.equal(found.matches.position, expected.position)
    assert "32 x 32 of 40 x 32 pixels" in cost.rematch_figure(x, found).summary
    with pytest.raises(UserError, match="smaller than one block"):
        rematch.rematch(x, MASAConfig(lr_block=64))


def test_settings_that_would_take_too_long_are_refused(x, monkeypatch):
    monkeypatch.setattr(rematch, "REMATCH_BUDGET", 1000)
    with pytest.raises(UserError, match="too large"):
        rematch.rematch(x, MASAConfig(lr_block=4))


def test_bars_of_extreme_numbers():
    for values in ((0.0, 0.0), (1e-9, 1e12), (3.0,)):
        bars = [Bar("a name", value, "words") for value in values]
        for logarithmic in (True, False):
            chart = bar_chart(bars, "unit", str, logarithmic)
            assert chart.shape[1] == WIDTH


def test_round_ends_of_colour_bars():
    assert high_of(np.zeros(4)) == 1
    assert high_of(np.full(4, 47.0)) == 50
    assert high_of(np.full(4, 0.0012), np.full(2, -9.0)) == pytest.approx(0.0015)


# ---------------------------------------------------------------------------- network


SVG = "{http://www.w3.org/2000/svg}"


def boxes_of(drawing):
    """All buttons of both layouts, by name; parsing it shows that it is well-formed."""
    found = {}
    for element in ET.fromstring(drawing).iter(f"{SVG}g"):
        if "data-box" in element.attrib:
            found.setdefault(element.attrib["data-box"], []).append(element)
    return found


def test_the_drawing_has_all_boxes_twice():
    found = boxes_of(network.network_svg())
    assert set(found) == {box.name for box in network.BOXES}
    assert len(found) == 11
    for elements in found.values():
        assert len(elements) == 2
        for element in elements:
            assert element.attrib["role"] == "button"
            assert element.attrib["tabindex"] == "0"
            assert element.attrib["data-tab"] in TABS
            assert element.attrib["aria-label"]
            assert element.find(f"{SVG}title").text
            assert "aria-current" not in element.attrib
    assert {e[0].attrib["data-tab"] for e in found.values()} == set(TABS)


def test_the_drawing_says_which_tabs_light_each_box():
    # The page moves the highlight by this alone, without a new drawing.
    for name, elements in boxes_of(network.network_svg()).items():
        (lit,) = {box.lit for box in network.BOXES if box.name == name}
        assert all(set(element.attrib["data-lit"].split()) == lit for element in elements)


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_lights_its_boxes(tab):
    lit = {
        name
        for name, elements in boxes_of(network.network_svg(tab)).items()
        if all(element.attrib.get("aria-current") == "true" for element in elements)
    }
    assert lit == {box.name for box in network.BOXES if tab in box.lit}
    assert lit
    if tab in ("coarse", "adaptation", "aggregation", "result"):
        assert lit == {tab}


def test_the_drawing_stays_in_its_frame_and_boxes_apart():
    for layout in (network.WIDE, network.COMPACT):
        places = list(layout.boxes.values())
        for i, (left, top, width, height) in enumerate(places):
            assert left >= 0
            assert left + width <= layout.width
            assert top >= 0
            assert top + height <= layout.height
            for a, b, c, d in places[:i]:
                assert left >= a + c or a >= left + width or top >= b + d or b >= top + height
        for points in layout.arrows:
            for (x0, y0), (x1, y1) in pairwise(points):
                assert x0 == x1 or y0 == y1
            assert all(0 <= a <= layout.width and 0 <= b <= layout.height for a, b in points)


def test_names_of_tabs_are_escaped():
    ET.fromstring(network.network_svg('"><script>'))
    assert "<script>" not in network.network_svg('"><script>')
