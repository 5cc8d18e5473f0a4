"""Pictures in, picture out: the network behind an interface of uint8 arrays and files."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from masa.config import MASAConfig, Size
from masa.errors import UserError
from masa.machine.cache import FeatureCache
from masa.machine.cost import choose_tile, executed_cost, feature_bytes, peak_bytes
from masa.machine.device import free_memory, resolve_device, resolve_precision
from masa.network.aggregation import Branches
from masa.network.fused import fuses
from masa.network.matching import part_scores
from masa.network.model import MASA, LRFeatures, RefFeatures, Trace
from masa.network.progress import OnShare
from masa.pictures.photo import DEFAULT_LIMITS, Limits, Photo, Pixels, Source
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, resize_to_fit, to_tensor, to_uint8
from masa.reference.alignment import Alignment, align_reference
from masa.reference.canvas import (
    LRCanvas,
    RefCanvas,
    View,
    as_it_is,
    canvas_sizes,
    choose_views,
    lr_canvas,
    ref_canvas,
)
from masa.weights import load_model

Progress = Callable[[float, str], None]
"""Called with the share of the work done (0 to 1) and what comes next. What it raises, for
instance because a visitor cancelled, ends the run."""

DEFAULT_MEMORY = 8 * 2**30
"""Bytes a run may take unless told otherwise."""


class MemoryNeededError(UserError):
    """Pictures that would take more memory than is allowed or there."""


def unwatched(share: float, doing: str) -> None:
    """A :data:`Progress` for work that nobody watches."""


@dataclass(frozen=True, eq=False)
class Result:
    """One finished run."""

    rgb: Pixels
    """``(4H, 4W, 3)``: the visitor's LR, enlarged."""
    alpha: Pixels | None
    """``(4H, 4W)``, enlarged by bicubic interpolation; ``None`` if the LR had none."""
    lr: LRCanvas
    ref: RefCanvas
    lr_features: LRFeatures
    ref_features: RefFeatures
    trace: Trace
    self_reference: bool
    """No reference was given, so the LR itself was used."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Measured time of each stage."""
    tile: int | None = None
    """Side of the decoder's tiles in LR pixels; ``None`` for one piece."""
    notes: tuple[str, ...] = ()
    """What was done to the pictures that a visitor may not expect, a sentence each."""
    alignments: tuple[Alignment | None, ...] = ()
    """How the photo's frame lies in each reference, where alignment was asked for; ``None`` for a
    reference in which nothing in common was found."""

    @cached_property
    def bicubic(self) -> Pixels:
        """``(4H, 4W, 3)``: the baseline."""
        return enlarge_x4(self.lr.crop(self.lr.rgb).copy())


def check_count(references: int, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise ``UserError`` for more references than allowed; to be called before they are read."""
    if references > limits.max_references:
        raise UserError(
            f"{references} references are too many: choose the best {limits.max_references}."
        )


def read_reference(
    source: Source, number: int, limits: Limits = DEFAULT_LIMITS
) -> tuple[Photo, tuple[str, ...]]:
    """One reference as the network uses it, and notes on what was done to it.

    If it has more pixels than allowed it is reduced, and nothing holds the full size afterwards.
    ``number``, counted from 1, is how notes call it. Raises ``UserError``.
    """
    photo = read_photo(source, "reference", limits)
    fitted = resize_to_fit(photo, limits.max_ref_pixels)
    if fitted is photo:
        return photo, ()
    sizes = f"from {photo.width}x{photo.height} to {fitted.width}x{fitted.height} pixels"
    return fitted, (f"Reference {number} was reduced {sizes}.",)


class Predictor:
    """A network, a device and a precision, ready for pictures of any size.

    One predictor may serve several threads. What it encoded last stays in a small cache, so that
    a second run with the same LR or the same references does not encode them again.
    """

    def __init__(
        self,
        model: MASA | None = None,
        device: str = "auto",
        precision: str = "auto",
        limits: Limits = DEFAULT_LIMITS,
        memory: int = DEFAULT_MEMORY,
        features: FeatureCache | None = None,
        largest: int | None = None,
    ) -> None:
        """``model`` defaults to the shipped weights; a copy of it is moved to the device.

        ``memory`` bounds a run in bytes, not counting earlier LRs and references in ``features``,
        which several predictors may share; on a graphics card it is never more than what is free
        there now. ``largest`` bounds the pieces that pictures are worked on in, in LR pixels a
        side, as a run can be stopped only between the steps of a piece. Raises ``UserError`` for a
        device or precision that cannot work.
        """
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        # A copy, as the caller's network may serve another device or precision too.
        model = load_model() if model is None else copy.deepcopy(model)
        self.model = model.to(self.device, self.dtype).eval()
        self.limits = limits
        free = free_memory(self.device)
        self.memory = memory if free is None else min(memory, free)
        self.largest = largest
        self._features = FeatureCache() if features is None else features
        self._network = object()  # tells its features from those of other networks

    @property
    def config(self) -> MASAConfig:
        """The network's configuration."""
        return self.model.config

    def read(self, lr: Source, refs: Sequence[Source] = ()) -> tuple[Photo, list[Photo], list[str]]:
        """Decode pictures under this predictor's limits: LR, references, notes.

        A reference with more pixels than allowed is reduced, which is noted. Raises ``UserError``.
        """
        check_count(len(refs), self.limits)
        read = [read_reference(ref, number, self.limits) for number, ref in enumerate(refs, 1)]
        notes = [note for _, of_one in read for note in of_one]
        photo = read_photo(lr, "low-resolution photo", self.limits)
        return photo, [ref for ref, _ in read], notes

    def upscale(
        self,
        lr: Source,
        refs: Sequence[Source] = (),
        progress: Progress = unwatched,
        keep: Collection[int] = (),
        align: bool = False,
    ) -> Result:
        """Enlarge one LR four times with 0 to 5 references.

        Pictures may be paths, bytes, Pillow images or arrays. Without a reference the LR is its
        own. ``keep`` are the scales (1, 2, 4) whose intermediates the trace keeps. With ``align``,
        references are also seen in the photo's frame, see :meth:`run`. Raises
        ``UserError`` if a picture cannot be used; its kind ``MemoryNeededError`` if they would need
        more memory than allowed. A result holds on to the features of its pictures, some 370 MB for
        a reference of 1024x1024 in float32: of many results, keep what you need.
        """
        photo, references, notes = self.read(lr, refs)
        result = self.upscale_photos(photo, references, progress, keep, align)
        return replace(result, notes=tuple(notes) + result.notes)

    def upscale_photos(
        self,
        photo: Photo,
        refs: Sequence[Photo] = (),
        progress: Progress = unwatched,
        keep: Collection[int] = (),
        align: bool = False,
    ) -> Result:
        """:meth:`upscale` for decoded photos of sizes that are allowed, as :meth:`read` gives them.

        The LR's transparency is enlarged too.
        """
        result = self.run(photo.rgb, [ref.rgb for ref in refs], progress, keep, align=align)
        return replace(result, alpha=None if photo.alpha is None else enlarge_x4(photo.alpha))

    @torch.inference_mode()
    def run(
        self,
        lr_rgb: Pixels,
        ref_rgbs: Sequence[Pixels] = (),
        progress: Progress = unwatched,
        keep: Collection[int] = (),
        branches: Branches | None = None,
        matching: MASAConfig | None = None,
        align: bool = False,
    ) -> Result:
        """:meth:`upscale` for arrays: uint8 ``(h, w, 3)`` and ``(H, W, 3)``.

        ``branches`` may switch off a branch of DRAM, and ``matching`` may vary block sizes and
        dilations of the matching, for this run. With ``align``, references in which features of
        the LR are found are also seen in its frame (:mod:`masa.reference.alignment`), and matching
        decides which of all these views are read and used.
        """
        config = matching or self.config
        sizes = canvas_sizes(lr_rgb.shape[:2], [rgb.shape[:2] for rgb in ref_rgbs], config)
        # First of all: pictures that are refused must not be padded to a wider one's width.
        tile = self.choose_tile(*sizes, keep)
        lr = lr_canvas(lr_rgb, config)
        cost = executed_cost(*sizes, config)
        lr_bytes, _ = feature_bytes(*sizes, self.config, self.dtype.itemsize)
        clock = _Clock(progress, cost.total, self._synchronise)

        with clock.stage("encode_lr", "Reading the photo", cost.encode_lr):
            lr_features = self._features.get(
                (self._network, _digest(lr.rgb)),
                lr_bytes,
                lambda: self.model.encode_lr(self._tensor(lr.rgb)),
            )
        views = as_it_is(ref_rgbs, lr)
        alignments: tuple[Alignment | None, ...] = ()
        if align and ref_rgbs:
            with clock.stage("align", "Aligning the reference", 0):
                views, alignments = self._views(views, lr_rgb, lr_features, config)
                sizes = canvas_sizes(lr_rgb.shape[:2], [v.rgb.shape[:2] for v in views], config)
                tile = self.choose_tile(*sizes, keep)
        ref = ref_canvas(views, lr, config)
        _, ref_bytes = feature_bytes(*sizes, self.config, self.dtype.itemsize)
        with clock.stage("encode_ref", "Reading the reference", cost.encode_ref) as on_share:
            ref_features = self._features.get(
                (self._network, _digest(ref.rgb, ref.down)),
                ref_bytes,
                lambda: self.model.encode_ref(
                    self._tensor(ref.rgb), self._tensor(ref.down), tile, on_share
                ),
            )
        with clock.stage("match", "Finding matches", cost.matching) as on_share:
            matches = self.model.match(lr_features, ref_features, config, on_share)
        with clock.stage("decode", "Painting", cost.decode) as on_share:
            trace = self.model.decode(
                lr_features, ref_features, matches, keep, branches, tile, on_share
            )
            rgb = lr.crop(to_uint8(trace.output)).copy()
        progress(1.0, "Done")
        return Result(
            rgb=rgb,
            alpha=None,
            lr=lr,
            ref=ref,
            lr_features=lr_features,
            ref_features=ref_features,
            trace=trace,
            self_reference=not ref_rgbs,
            seconds=clock.seconds,
            tile=tile,
            notes=_alignment_notes(alignments, views),
            alignments=alignments,
        )

    def _views(
        self, plain: list[View], lr_rgb: Pixels, lr: LRFeatures, config: MASAConfig
    ) -> tuple[list[View], tuple[Alignment | None, ...]]:
        """The views of references that are worth reading, and how each reference lies.

        Only the views' reduced pictures are encoded for that.
        """
        found = [align_reference(lr_rgb, view.rgb) for view in plain]
        aligned = [
            View(view.number, view.size, one.rgb, one.own)
            for view, one in zip(plain, found, strict=True)
            if one is not None
        ]
        alignments = tuple(None if one is None else one.alignment for one in found)
        if not aligned:
            return plain, alignments
        views = [*plain, *aligned]
        canvas = ref_canvas(views, lr_canvas(lr_rgb, config), config)
        down = self.model.encode_down(self._tensor(canvas.down))
        scores = part_scores(lr.pyramid.l1, down, config, canvas.rows)
        chosen = choose_views(views, scores.cpu().numpy(), len(config.dilations))
        return chosen, alignments

    def predicted_bytes(
        self, lr: Size, ref_down: Size, tile: int | None, keep: Collection[int] = ()
    ) -> int:
        """Bytes that a run with pictures of these sizes is expected to take at its peak.

        The sizes are those of :func:`masa.reference.canvas.canvas_sizes`.
        """
        size = self.dtype.itemsize
        return peak_bytes(lr, ref_down, self.config, size, tile, keep, self._strips)

    def choose_tile(self, lr: Size, ref_down: Size, keep: Collection[int] = ()) -> int | None:
        """The decoder's tile side for pictures of these sizes, ``None`` for one piece.

        The sizes are those of :func:`masa.reference.canvas.canvas_sizes`. Raises
        ``MemoryNeededError`` if no tile is small enough for the memory allowed.
        """
        size = self.dtype.itemsize
        try:
            tile = choose_tile(lr, ref_down, self.config, size, self.memory, keep, self._strips)
        except MemoryError as error:
            gigabytes = error.args[0] / 2**30
            raise MemoryNeededError(
                f"These pictures need about {gigabytes:.1f} GB of memory, more than the "
                f"{self.memory / 2**30:.1f} GB allowed: use a smaller photo, smaller or fewer "
                "references, or allow more memory."
            ) from None
        if self.largest is not None and max(*lr, *ref_down) > self.largest:
            return min(tile or self.largest, self.largest)
        return tile

    @property
    def _strips(self) -> bool:
        """Whether residual blocks are worked on in strips (:mod:`masa.network.fused`)."""
        return fuses(self.device, self.dtype)

    def _tensor(self, rgb: Pixels) -> Tensor:
        return to_tensor(rgb).to(self.device)

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class _Clock:
    """Measures stages, and turns their known costs into a share of the whole run's work."""

    def __init__(self, progress: Progress, total: int, synchronise: Callable[[], None]) -> None:
        self._progress, self._total, self._synchronise = progress, total, synchronise
        self._done = 0
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, doing: str, work: int) -> Iterator[OnShare]:
        """Times the block; it is given what to call with its own share done."""

        def on_share(share: float) -> None:
            self._progress((self._done + share * work) / self._total, doing)

        on_share(0)
        start = time.perf_counter()
        try:
            yield on_share
            self._synchronise()
        except torch.OutOfMemoryError:  # others use the graphics card too
            raise MemoryNeededError(
                "The graphics card has too little free memory for these pictures: use smaller "
                "ones, allow less memory, or choose the CPU."
            ) from None
        self.seconds[name] = time.perf_counter() - start
        self._done += work


def _alignment_notes(
    alignments: Sequence[Alignment | None], views: Sequence[View]
) -> tuple[str, ...]:
    """What became of each reference, a sentence each; ``views`` are those that were used."""
    used = {(view.number, view.own is not None) for view in views}

    def note(number: int, found: Alignment | None) -> str:
        name = f"Reference {number + 1}"
        plain, aligned = ((number, how) in used for how in (False, True))
        if not plain and not aligned:
            return f"{name} was left out: it adds nothing to the others."
        if found is None:
            return f"{name} was not aligned: nothing in common with the photo was found."
        if not aligned:
            return f"{name} is {found.words}: it was used as it is, which fits no worse."
        also = " and was also used as it is" if plain else ""
        return f"{name} was aligned with the photo: it is {found.words}{also}."

    return tuple(note(number, found) for number, found in enumerate(alignments))


def _digest(*pictures: Pixels) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for picture in pictures:
        digest.update(repr(picture.shape).encode())
        digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()
