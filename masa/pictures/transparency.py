"""Colours under full transparency: unseen, but a filter would mix them into the visible edge."""

import cv2
import numpy as np

from masa.pictures.photo import Pixels


def fill_hidden(rgb: Pixels, alpha: Pixels | None) -> Pixels:
    """``(H, W, 3)`` with each pixel of alpha 0 in the colour of the nearest pixel that can be seen.

    Files store anything under full transparency, mostly black; enlarged or reduced, it would show
    as a dark fringe. A picture without hidden pixels, or with nothing else, is returned as it is.
    Takes time in proportion to the number of pixels.
    """
    if alpha is None or alpha.all() or not alpha.any():
        return rgb
    hidden = (alpha == 0).astype(np.uint8)
    # Each visible pixel gets a label of its own, and each hidden one that of the nearest visible.
    _, labels = cv2.distanceTransformWithLabels(
        hidden, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    visible = hidden == 0
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels[visible]] = rgb[visible]
    return np.take(colours, labels, axis=0)
