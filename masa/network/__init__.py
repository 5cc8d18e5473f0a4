"""The network of the paper, a file for each box of its figure 2.

======================================  =====================================================
Box of figure 2                         File
======================================  =====================================================
Encoder (three levels)                  :mod:`masa.network.encoder`
Matching: coarse, then fine (fig. 3)    :mod:`masa.network.matching`
Feature transfer from the Ref           :mod:`masa.network.transfer`
Spatial Adaptation Module (fig. 4)      :mod:`masa.network.adaptation`
Dual Residual Aggregation (fig. 4)      :mod:`masa.network.aggregation`
Decoder: x1, x2, x4                     :mod:`masa.network.decoder`
All of it, and what each step found     :mod:`masa.network.model`
======================================  =====================================================

Beside them lie ``dense`` (dense matching, to compare with), ``layers`` (convolutions), ``tiling``
(pictures in pieces) and ``progress``.
"""
