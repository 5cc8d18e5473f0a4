"""How is the reference fitted to the light of the photo? Spatial adaptation, before and after."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from demo.figures.draw import WIDE, arrange, stack
from demo.figures.figure import Drawn
from demo.figures.parts import (
    CHANGE,
    HALF,
    VALUE,
    Part,
    compose,
    high_of,
    map_part,
    minus,
    picture_part,
)
from demo.figures.plots import Points, dash, disc, key, point_plot, triangle
from demo.figures.view import View
from demo.runs.exploration import ChannelStatistics, Exploration, ScaleView
from masa.pictures.photo import Pixels

_TITLES = {
    "lr": "Your photo's features",
    "before": "The reference's, as they were found",
    "after": "The reference's, adapted",
}
_UNCHANGED = "The reference's, passed on unchanged"
"""Title in place of the last one, for a network that adapts nothing."""
_MARKS = {
    # Marks differ in shape and lightness, so that nobody needs their hue to tell them apart.
    "before": (triangle, "reference, as found"),
    "after": (disc, "reference, adapted"),
    "lr": (dash, "your photo"),
}


def _padding(x: Exploration) -> str:
    """A sentence, after a space, if numbers are over more than the photo; else nothing."""
    if x.lr.rgb.shape[:2] == (x.lr.height, x.lr.width):
        return ""
    return " Means and deviations are the network's own, over the photo and its padding."


def _titles(kept: ScaleView) -> dict[str, str]:
    return _TITLES if kept.adaptation != "none" else _TITLES | {"after": _UNCHANGED}


def _of_reference(kept: ScaleView) -> str:
    if kept.adaptation == "none":
        return "of the reference, which is passed on unchanged"
    return "of the reference before and after it is adapted"


def default_channel(kept: ScaleView) -> int:
    """The channel in which gamma varies most, or else the photo's features do."""
    if "gamma" not in kept.channels:
        return int(kept.statistics["lr"].std.argmax())
    levels = kept.channels["gamma"].reshape(len(kept.ranges["gamma"]), -1)
    spread = levels.std(1) * np.ptp(kept.ranges["gamma"], axis=1)
    return int(spread.argmax())


# ---------------------------------------------------------------------------- maps


def feature_maps(x: Exploration, view: View) -> Drawn | None:
    """The photo's features, the reference's before and after, and what the adaptation changed.

    As colours of all channels together, or one channel with its numbers; a channel that does not
    exist becomes the nearest. ``None`` if the scale was not kept.
    """
    kept = x.scales.get(view.scale)
    if kept is None:
        return None
    if view.channel is None:
        return _in_colours(x, kept, view.scale)
    return _of_channel(x, kept, view.scale, _nearest(kept, view.channel))


def _in_colours(x: Exploration, kept: ScaleView, scale: int) -> Drawn:
    parts = [
        picture_part(x, x.lr.crop(kept.colours[name]), f"{title} (×{scale})", HALF)
        for name, title in _titles(kept).items()
    ]
    changes = kept.adaptation != "none"
    length = x.lr.crop(kept.colours["difference"][:, :, 0]) / np.float32(254) * kept.difference_peak
    parts.append(
        map_part(
            x,
            length,
            "length of the change over all channels",
            low=0,
            high=kept.difference_peak if changes else 1,
            title=f"What the adaptation changed (×{scale})",
            width=HALF,
        )
    )
    if changes:
        became = f"after it, {kept.gap('after'):.2f}"
    else:
        became = "and stays there, as this network passes it on as it is"
    return compose(
        parts,
        f"Features at {scale} times the photo's size, as colours: of the photo and "
        f"{_of_reference(kept)}; and a map of how much the adaptation changed.",
        f"Like colours mean like features in the three pictures; they show {kept.explained:.0%} "
        f"of what varies in {_count(kept)} channels. Before the adaptation, the reference's "
        f"distribution is {kept.gap('before'):.2f} of the photo's deviation away from the photo's; "
        f"{became}.{_padding(x)}",
        columns=2,
    )


def _of_channel(x: Exploration, kept: ScaleView, scale: int, channel: int) -> Drawn:
    maps = {name: channel_map(x, kept, name, channel) for name in _TITLES}
    # One range for all three, from percentiles, so that a few extreme pixels do not set it.
    low, high = np.percentile(np.stack([maps[name] for name in _TITLES]), (0.5, 99.5)).tolist()
    label = f"channel {channel}, the network's own units"
    parts = [
        map_part(x, maps[name], label, "", low, high, VALUE, f"{title} (×{scale})", HALF)
        for name, title in _titles(kept).items()
    ]
    title = f"What the adaptation changed (×{scale})"
    parts.append(
        _signed(x, maps["after"] - maps["before"], f"channel {channel}: adapted minus found", title)
    )

    def words(name: str) -> str:
        statistics = kept.statistics[name]
        return f"{statistics.mean[channel]:.3g} ± {statistics.std[channel]:.3g}"

    if kept.adaptation == "none":
        became = "stays so, as this network adapts nothing"
    else:
        became = f"{words('after')} once adapted"
    return compose(
        parts,
        f"Maps of channel {channel} of {_count(kept)}: of the photo and {_of_reference(kept)}; and "
        "of the change, purple where it was raised.",
        minus(
            f"Channel {channel} is {words('lr')} (mean ± standard deviation) in the photo, "
            f"{words('before')} in the reference as found, and {became}.{_padding(x)}"
        ),
        columns=2,
    )


def modulation(x: Exploration, view: View) -> Drawn | None:
    """Learned scale and shift, gamma and beta, of one channel: if none is chosen, of that in which
    gamma varies most.

    ``None`` for networks that learn none; :func:`why_not_learned` says so.
    """
    scale = view.scale
    kept = x.scales.get(scale)
    if kept is None or "gamma" not in kept.channels:
        return None
    channel = default_channel(kept) if view.channel is None else _nearest(kept, view.channel)
    gamma, beta = (channel_map(x, kept, name, channel) for name in ("gamma", "beta"))
    scale_by, shift_by, added = 0.0, 0.0, ("γ", "β")
    if kept.adaptation == "sam":
        mean, std = (float(getattr(kept.statistics["lr"], n)[channel]) for n in ("mean", "std"))
        scale_by, shift_by = std, mean
        added = f"γ plus the photo's deviation ({std:.3g})", f"β plus the photo's mean ({mean:.3g})"
    return compose(
        [
            _signed(x, gamma, f"channel {channel}", f"γ: what stretches the reference (×{scale})"),
            _signed(x, beta, f"channel {channel}", f"β: what shifts the reference (×{scale})"),
        ],
        f"Maps of γ and β of channel {channel}: purple above 0, orange below.",
        minus(
            f"In channel {channel} the reference is multiplied by {added[0]}, by "
            f"{(gamma + scale_by).min():.3g} to {(gamma + scale_by).max():.3g} from place to "
            f"place. Then {added[1]} is added, {(beta + shift_by).min():.3g} to "
            f"{(beta + shift_by).max():.3g}. {_strength(kept)}{_padding(x)}"
        ),
        columns=2,
    )


def _strength(kept: ScaleView) -> str:
    """In words, how much gamma varies in the median channel, against what it is added to."""
    spread = np.ptp(kept.ranges["gamma"], axis=1)
    if kept.adaptation == "spade":
        return f"In a typical channel γ varies by {float(np.median(spread)):.1f}."
    times = float(np.median(spread / np.maximum(kept.statistics["lr"].std, 1e-6)))
    return f"In a typical channel γ varies by {times:.1f} times the photo's deviation."


def why_not_learned(x: Exploration, view: View) -> str:
    """In words for visitors, why :func:`modulation` gives ``None``."""
    kept = x.scales.get(view.scale)
    if kept is None:
        return "The features at this scale were not kept."
    if kept.adaptation == "adain":
        return (
            "This network gives the reference the photo's mean and deviation, the same "
            "everywhere (AdaIN): nothing is learned, so it has no γ and no β."
        )
    return "This network does not adapt the reference: it has no γ and no β."


def _signed(x: Exploration, values: NDArray[np.float32], label: str, title: str) -> Part:
    peak = high_of(np.abs(values))
    return map_part(x, values, label, "", -peak, peak, CHANGE, title, HALF)


def channel_map(x: Exploration, kept: ScaleView, name: str, channel: int) -> NDArray[np.float32]:
    """One channel in the network's own units, of the visitor's pixels; known to 256 steps."""
    low, high = kept.ranges[name][channel]
    levels = x.lr.crop(kept.channels[name][channel]).astype(np.float32)
    return low + levels / 255 * (high - low)


# ---------------------------------------------------------------------------- statistics


def statistics(x: Exploration, view: View) -> Drawn | None:
    """Every channel's mean and deviation, in the order of the photo's; ``None`` if not kept."""
    scale = view.scale
    kept = x.scales.get(scale)
    if kept is None:
        return None
    shown = dict(kept.statistics)
    if kept.adaptation == "none":
        del shown["after"]  # the same as before, and marks would hide one another
    return Drawn(
        channel_plots(shown, scale),
        f"Plot of the mean and the standard deviation of each channel at ×{scale}, of the photo "
        f"and {_of_reference(kept)}.",
        _statistics_in_words(kept) + _padding(x),
    )


def channel_plots(statistics: Mapping[str, ChannelStatistics], scale: int) -> Pixels:
    """Mean and deviation of every channel of ``lr``, ``before`` and ``after``, with their key.

    What is not among the ``statistics`` is left out; ``lr`` must be there.
    """
    marks = {name: mark for name, mark in _MARKS.items() if name in statistics}
    plots = []
    for what in ("mean", "std"):
        order = np.argsort(getattr(statistics["lr"], what), kind="stable")
        series = [
            Points(words, getattr(statistics[name], what)[order], mark)
            for name, (mark, words) in marks.items()
        ]
        plots.append(point_plot(series, "channels, sorted by your photo's value", 260, HALF))
    titles = [f"Mean of each channel (×{scale})", f"Standard deviation of each channel (×{scale})"]
    return stack([arrange(plots, titles)[0], key(list(marks.values()), WIDE)])


def _statistics_in_words(kept: ScaleView) -> str:
    before, after = kept.gap("before"), kept.gap("after")
    unit = (
        "the typical (median) channel's distance to the photo's, in units of the photo's "
        "deviation, where 0 is alike and 1 is off by a whole deviation"
    )
    if kept.adaptation == "none":
        return (
            f"The reference's distributions stay at {before:.2f}, as this network adapts nothing: "
            f"{unit}."
        )
    direction = "came closer" if after < before else "moved away"
    nearer = float((_gaps(kept, "after") < _gaps(kept, "before")).mean())
    return (
        f"The reference's distributions {direction}, from {before:.2f} before to {after:.2f} "
        f"after: {unit}. {nearer:.0%} of the channels came closer. The network is trained for a "
        "good result, not to make them equal."
    )


def _gaps(kept: ScaleView, which: str) -> NDArray[np.float32]:
    """:meth:`ScaleView.gap` of each channel, without the units."""
    lr, other = kept.statistics["lr"], kept.statistics[which]
    return np.hypot(lr.mean - other.mean, lr.std - other.std)


def _count(kept: ScaleView) -> int:
    return len(kept.statistics["lr"].mean)


def _nearest(kept: ScaleView, channel: int) -> int:
    return min(max(channel, 0), _count(kept) - 1)
