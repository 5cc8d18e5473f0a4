"""The network as a drawing whose boxes open the tabs: after the paper's figure 2, in our layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True)
class NetworkBox:
    """One part of the network."""

    name: str
    lines: tuple[str, ...]
    """What is written in it."""
    about: str
    """One sentence on it, as a tooltip and for screen readers."""
    tab: str
    """The tab that it opens."""
    lit: frozenset[str]
    """The tabs that it is highlighted in."""


def _box(name: str, label: str, about: str, tab: str, also: str = "") -> NetworkBox:
    return NetworkBox(name, tuple(label.split("|")), about, tab, frozenset([tab, *also.split()]))


BOXES = (
    _box("photo", "Photo|(LR)", "The small photo that is enlarged.", "pixel"),
    _box("reference", "Reference", "The sharp photo that detail is taken from.", "pixel"),
    _box(
        "align",
        "Align",
        "Finds how the reference lies, and sees it as the photo's camera would have.",
        "align",
        "pixel",
    ),
    _box("encoder", "Encoder", "Turns pictures into features, with the same weights.", "cost"),
    _box(
        "coarse",
        "Coarse|matching",
        "Finds, for each block of the photo, where in the reference to look.",
        "coarse",
        "pixel cost",
    ),
    _box(
        "fine",
        "Fine|matching",
        "Finds, for each pixel, the most similar patch of that part.",
        "fine",
        "pixel cost",
    ),
    _box(
        "transfer",
        "Transfer",
        "Moves the reference's features to where the matches put them.",
        "fine",
        "pixel",
    ),
    _box(
        "adaptation",
        "Spatial|adaptation",
        "Fits the reference's features to the light of the photo: SAM, SPADE, AdaIN or nothing.",
        "adaptation",
        "laboratory",
    ),
    _box(
        "aggregation",
        "Aggregation",
        "DRAM: merges the features of photo and reference.",
        "aggregation",
    ),
    _box("decoder", "Decoder", "Paints the merged features, at each size in turn.", "cost"),
    _box("result", "Result", "The photo, enlarged four times.", "result", "pixel"),
)


@dataclass(frozen=True)
class Layout:
    """Where everything lies, in units of the drawing."""

    name: str
    width: int
    height: int
    boxes: dict[str, tuple[float, float, float, float]]
    """Left, top, width and height."""
    arrows: tuple[tuple[Point, ...], ...]
    """Corners of each line; its end has the head."""
    labels: tuple[tuple[float, float, str, str], ...]
    """x, y of the baseline, anchor (start, middle or end), words."""
    frame: tuple[float, float, float, float]
    """Around what is done once for each size."""


_EACH_SIZE = "for each size: ×1, ×2, ×4"

WIDE = Layout(
    "wide",
    940,
    220,
    {
        "photo": (6, 44, 80, 48),
        "reference": (6, 158, 80, 48),
        "align": (6, 108, 80, 34),
        "encoder": (108, 44, 80, 162),
        "coarse": (226, 96, 82, 52),
        "fine": (328, 96, 82, 52),
        "transfer": (430, 96, 82, 52),
        "adaptation": (546, 96, 88, 52),
        "aggregation": (654, 96, 94, 52),
        "decoder": (768, 96, 72, 52),
        "result": (866, 96, 70, 52),
    },
    (
        ((86, 68), (108, 68)),
        ((86, 182), (108, 182)),
        ((46, 92), (46, 108)),
        ((46, 158), (46, 142)),
        ((86, 125), (108, 125)),
        ((267, 64), (267, 96)),
        ((369, 64), (369, 96)),
        ((590, 64), (590, 96)),
        ((188, 64), (701, 64), (701, 96)),
        ((267, 174), (267, 148)),
        ((188, 174), (369, 174), (369, 148)),
        ((188, 196), (471, 196), (471, 148)),
        ((308, 122), (328, 122)),
        ((410, 122), (430, 122)),
        ((512, 122), (546, 122)),
        ((634, 122), (654, 122)),
        ((748, 122), (768, 122)),
        ((840, 122), (866, 122)),
        ((804, 148), (804, 168), (590, 168), (590, 148)),
        ((46, 44), (46, 24), (901, 24), (901, 96)),
    ),
    (
        (470, 17, "middle", "bicubic enlargement, added at the end"),
        (470, 57, "middle", "features of the photo"),
        (196, 169, "start", "to compare"),
        (196, 212, "start", "features of the reference, to copy"),
        (697, 186, "middle", _EACH_SIZE),
    ),
    (532, 78, 320, 118),
)

COMPACT = Layout(
    "compact",
    350,
    404,
    {
        "photo": (34, 8, 90, 40),
        "align": (139, 8, 90, 40),
        "reference": (244, 8, 90, 40),
        "encoder": (34, 74, 300, 36),
        "coarse": (34, 148, 90, 46),
        "fine": (139, 148, 90, 46),
        "transfer": (244, 148, 90, 46),
        "decoder": (34, 246, 90, 46),
        "aggregation": (139, 246, 90, 46),
        "adaptation": (244, 246, 90, 46),
        "result": (34, 362, 130, 36),
    },
    (
        ((124, 28), (139, 28)),
        ((244, 28), (229, 28)),
        ((79, 48), (79, 74)),
        ((184, 48), (184, 74)),
        ((289, 48), (289, 74)),
        ((79, 110), (79, 148)),
        ((184, 110), (184, 148)),
        ((289, 110), (289, 148)),
        ((124, 171), (139, 171)),
        ((229, 171), (244, 171)),
        ((310, 194), (310, 246)),
        ((184, 218), (184, 246)),
        ((34, 92), (18, 92), (18, 218), (268, 218), (268, 246)),
        ((244, 269), (229, 269)),
        ((139, 269), (124, 269)),
        ((94, 292), (94, 310), (289, 310), (289, 292)),
        ((60, 292), (60, 362)),
        ((34, 28), (6, 28), (6, 380), (34, 380)),
    ),
    (
        (86, 133, "start", "to compare"),
        (283, 133, "end", "to copy"),
        (26, 212, "start", "features of the photo"),
        (189, 329, "middle", _EACH_SIZE),
        (172, 378, "start", "the bicubic enlargement"),
        (172, 393, "start", "is added at the end"),
    ),
    (26, 230, 316, 108),
)

_STYLE = """
.network { container-type: inline-size; }
.network svg { display: block; width: 100%; height: auto; font-family: inherit; }
.network .net-compact { display: none; max-width: 480px; margin: 0 auto; }
@container (max-width: 720px) {
  .network .net-wide { display: none; }
  .network .net-compact { display: block; }
}
.network text { fill: currentColor; text-anchor: middle; font-size: 13px; }
.network .net-label { font-size: 12px; opacity: 0.8; }
.network .net-line { fill: none; stroke: currentColor; stroke-width: 1.2; opacity: 0.55; }
.network .net-head { fill: currentColor; opacity: 0.7; }
.network .net-frame { fill: none; stroke: currentColor; stroke-dasharray: 4 4; opacity: 0.45; }
.network .net-box { cursor: pointer; outline: none; }
.network .net-box rect { fill: currentColor; fill-opacity: 0.04; stroke: currentColor; }
.network .net-box:hover rect { fill-opacity: 0.12; }
.network .net-on rect { fill: var(--color-accent, #e06c00); fill-opacity: 0.22;
  stroke: var(--color-accent, #e06c00); stroke-width: 2.5; }
.network .net-on:hover rect { fill-opacity: 0.3; }
.network .net-on text { font-weight: 700; }
.network .net-box:focus-visible rect { stroke-width: 4; }
"""


HIGHLIGHT = """
(tab) => document.querySelectorAll('.network .net-box').forEach((box) => {
  const on = box.dataset.lit.split(' ').includes(tab);
  box.classList.toggle('net-on', on);
  if (on) box.setAttribute('aria-current', 'true'); else box.removeAttribute('aria-current');
})
"""
"""JavaScript function that moves the highlight to the boxes of another tab."""


def network_svg(active: str | None = None) -> str:
    """The drawing as one HTML element, with the boxes of the tab ``active`` highlighted.

    It holds two layouts, of which the width at hand shows one; their colours follow the page's
    text and accent. Each box is a button with the name of its tab in ``data-tab``: opening that
    tab on a click, Enter or the space bar is up to the page, and so is to move the highlight with
    ``HIGHLIGHT``, which leaves the keyboard's focus where it is.
    """
    layouts = "".join(_draw(layout, active) for layout in (WIDE, COMPACT))
    return f'<div class="network"><style>{_STYLE}</style>{layouts}</div>'


def _draw(layout: Layout, active: str | None) -> str:
    left, top, width, height = layout.frame
    parts = [
        f'<rect class="net-frame" x="{left}" y="{top}" width="{width}" height="{height}" rx="8"/>'
    ]
    parts += [_line(points) + _head(points) for points in layout.arrows]
    parts += [
        f'<text class="net-label" x="{x}" y="{y}" style="text-anchor: {anchor}">{escape(words)}'
        "</text>"
        for x, y, anchor, words in layout.labels
    ]
    parts += [_button(box, layout.boxes[box.name], active) for box in BOXES]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="net-{layout.name}" role="group" '
        f'viewBox="0 0 {layout.width} {layout.height}" '
        f'aria-label="The network, part by part">{"".join(parts)}</svg>'
    )


def _button(box: NetworkBox, place: tuple[float, float, float, float], active: str | None) -> str:
    left, top, width, height = place
    on = active in box.lit
    state = ' aria-current="true"' if on else ""
    middle = top + height / 2
    lines = "".join(
        f'<text x="{left + width / 2:g}" y="{middle + 4.5 + 16 * (n - (len(box.lines) - 1) / 2):g}"'
        f">{escape(words)}</text>"
        for n, words in enumerate(box.lines)
    )
    name = escape(" ".join(box.lines), quote=True)
    return (
        f'<g class="net-box{" net-on" if on else ""}" role="button" tabindex="0" '
        f'data-tab="{escape(box.tab, quote=True)}" data-box="{escape(box.name, quote=True)}" '
        f'data-lit="{escape(" ".join(sorted(box.lit)), quote=True)}" '
        f'aria-label="{name}: {escape(box.about, quote=True)}"{state}>'
        f"<title>{escape(box.about)}</title>"
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="8"/>{lines}</g>'
    )


def _line(points: Sequence[Point]) -> str:
    corners = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline class="net-line" points="{corners}"/>'


def _head(points: Sequence[Point]) -> str:
    """A triangle at the end of a line that arrives straight from a side, above or below."""
    (x0, y0), (x, y) = points[-2:]
    across, down = (x > x0) - (x < x0), (y > y0) - (y < y0)
    back = (x - 7 * across, y - 7 * down)
    corners = [
        (x, y),
        (back[0] - 3.5 * down, back[1] + 3.5 * across),
        (back[0] + 3.5 * down, back[1] - 3.5 * across),
    ]
    return f'<polygon class="net-head" points="{" ".join(f"{a:g},{b:g}" for a, b in corners)}"/>'
