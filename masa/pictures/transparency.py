"""Colours under full transparency: unseen, but a filter would mix them into the visible edge."""

import cv2
import numpy as np
from numpy.typing import NDArray

from masa.pictures.photo import Pixels

REACH = 128
"""Pixels around what can be seen that take the nearest colour: when a picture is reduced, filters
mix no more of the others into the visible ones."""

_BLOCK = 1024  # pixels a side that are filled at a time: the search takes 20 bytes for each


def fill_hidden(rgb: Pixels, alpha: Pixels | None) -> None:
    """Give each pixel of ``(H, W, 3)`` where alpha is 0 the colour of the nearest visible one.

    Files store anything under full transparency, mostly black; enlarged or reduced, it would show
    as a dark fringe. Pixels farther than ``REACH`` from all that can be seen take some visible
    colour, or the mean of all. A picture of which nothing can be seen stays as it is. Takes time in
    proportion to the number of pixels, and little memory.
    """
    if alpha is None or alpha.all() or not alpha.any():
        return
    mean = np.rint(cv2.mean(rgb, (alpha > 0).astype(np.uint8))[:3]).astype(np.uint8)
    for top, left in np.ndindex(-(-alpha.shape[0] // _BLOCK), -(-alpha.shape[1] // _BLOCK)):
        rows, inner_rows = _around(top * _BLOCK)
        columns, inner_columns = _around(left * _BLOCK)
        hidden = alpha[rows, columns] == 0
        inner = hidden[inner_rows, inner_columns]
        if not inner.any():
            continue
        block = rgb[rows, columns]
        found = mean if hidden.all() else _nearest(block, hidden)[inner_rows, inner_columns][inner]
        block[inner_rows, inner_columns][inner] = found


def _around(start: int) -> tuple[slice, slice]:
    """A block's rows, or columns, with those around that may be the nearest; and its own in it."""
    before = min(start, REACH)
    return slice(start - before, start + _BLOCK + REACH), slice(before, before + _BLOCK)


def _nearest(rgb: Pixels, hidden: NDArray[np.bool_]) -> Pixels:
    """For each pixel the colour of the nearest one that is not hidden."""
    # Each visible pixel gets a label of its own, and each hidden one that of the nearest visible.
    _, labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels[~hidden]] = rgb[~hidden]
    return colours[labels]
