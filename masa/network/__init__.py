"""The network of the paper's figure 2, one file per box.

===============================================  =====================================
In the paper                                     File
===============================================  =====================================
Encoder (one set of weights for all images)      :mod:`masa.network.encoder`
MEM, stages 1 and 2: coarse and fine matching    :mod:`masa.network.matching`
MEM, stage 3: feature extraction                 :mod:`masa.network.transfer`
SAM, spatial adaptation (figure 2b)              :mod:`masa.network.adaptation`
DRAM, dual residual aggregation (figure 2c)      :mod:`masa.network.aggregation`
Everything to the right of these: x1, x2, x4     :mod:`masa.network.decoder`
The whole of figure 2                            :mod:`masa.network.model`
===============================================  =====================================

How an image passes through them (MEM is drawn in figure 3)::

    LR, Ref, Ref-down
      | encoder       levels 1, 2, 3 of the LR and the Ref; level 1 of Ref-down
      | matching      for each LR pixel the most similar place in Ref-down
      | transfer      Ref levels 3, 2, 1 are moved there: Ref features at x1, x2, x4
      | decoder       x1: adaptation, residual blocks
      |               x2: adaptation, aggregation, residual blocks
      |               x4: adaptation, aggregation, residual blocks
    output, plus the LR enlarged by bicubic interpolation

To read bottom to top, start with :mod:`masa.network.layers` (convolutions, residual blocks) and
:mod:`masa.network.blocks` (the sizes that matching and transfer work with). The rest can wait:
``fused`` (the same convolutions, faster on a CPU), ``tiling`` (large images in pieces), ``reading``
(only the parts of a reference that matches point to), ``progress`` (how far a computation is) and
``dense`` (dense matching, to compare with).
"""
