"""Pictures in, picture out: the network behind an interface of uint8 arrays and files."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from masa.config import MASAConfig, Size
from masa.errors import UserError
from masa.machine.cache import FeatureCache
from masa.machine.cost import (
    Cost,
    choose_tile,
    coarse_cost,
    executed_cost,
    feature_bytes,
    peak_bytes,
)
from masa.machine.device import free_memory, resolve_device, resolve_precision, synchronise
from masa.network.aggregation import Branches
from masa.network.blocks import Geometry
from masa.network.fused import fuses
from masa.network.matching import Matches, fit_scores
from masa.network.model import MASA, LRFeatures, Trace
from masa.network.progress import OnShare, between
from masa.network.reading import RefFeatures
from masa.network.tiling import Tile
from masa.pictures.photo import DEFAULT_LIMITS, Limits, Photo, Pixels, Source
from masa.pictures.read import read_photo
from masa.pictures.resize import enlarge_x4, to_tensor, to_uint8
from masa.reference.alignment import Alignment, SoughtLR
from masa.reference.canvas import (
    Area,
    LRCanvas,
    RefCanvas,
    View,
    as_it_is,
    canvas_sizes,
    choose_views,
    lr_canvas,
    ref_canvas,
)
from masa.reference.views import Reference, notes_on, read_reference, see
from masa.weights import DEFAULT_WEIGHTS, load_model

Progress = Callable[[float, str], None]
"""Called with the share of the work done (0 to 1) and what comes next. What it raises, for
instance because a visitor cancelled, ends the run."""

DEFAULT_MEMORY = 8 * 2**30
"""Bytes a run may take unless told otherwise."""


class MemoryNeededError(UserError):
    """Pictures that would take more memory than is allowed or available."""


def unwatched(share: float, doing: str) -> None:
    """A :data:`Progress` for work that nobody watches."""


@dataclass(frozen=True, eq=False)
class Result:
    """One finished run.

    Its tensors are of PyTorch's inference mode: for gradients, use a ``clone()`` of one.
    """

    rgb: Pixels
    """``(4H, 4W, 3)``: the visitor's LR, enlarged."""
    alpha: Pixels | None
    """``(4H, 4W)``, enlarged by bicubic interpolation; ``None`` if the LR had none."""
    lr: LRCanvas
    ref: RefCanvas
    lr_features: LRFeatures
    ref_features: RefFeatures
    """What was read of the reference; a later run with it may read more into the same maps."""
    trace: Trace
    self_reference: bool
    """No reference was given, so the LR itself was used."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Measured time of each stage."""
    tile: int | None = None
    """Side of the decoder's tiles in LR pixels; ``None`` for one piece."""
    notes: tuple[str, ...] = ()
    """What was done to the pictures that a visitor may not expect, a sentence each."""
    references: tuple[Reference, ...] = ()
    """The references; another run with the same LR may be given them."""
    aligned: bool = False
    """Alignment was asked for, so that :attr:`ref` holds the views that were chosen."""
    beyond: tuple[int, ...] = ()
    """References, from 0, of which a view was chosen too, but left out for want of memory."""
    cost: Cost = field(kw_only=True)
    """Multiply-adds, also of what an earlier run had encoded already."""

    @property
    def alignments(self) -> tuple[Alignment | None, ...]:
        """How the photo's frame lies in each reference, where alignment was asked for; ``None`` for
        a reference in which nothing in common was found."""
        return tuple(ref.alignment for ref in self.references) if self.aligned else ()

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


class Predictor:
    """A network, a device and a precision, ready for pictures of any size.

    One predictor may serve several threads. What it encoded last stays in a small cache, so that
    a second run with the same LR or the same references does not encode them again.
    """

    def __init__(
        self,
        model: MASA | str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        limits: Limits = DEFAULT_LIMITS,
        memory: int = DEFAULT_MEMORY,
        features: FeatureCache | None = None,
        largest: int | None = None,
    ) -> None:
        """``model`` is a network, of which a copy is moved to the device, or a name or file that
        :func:`masa.load_model` takes; by default it takes its own default.

        ``device`` is auto, cpu, cuda or mps; ``precision`` auto, fp32, bf16 or fp16; ``limits``
        bound the pictures' sizes. ``memory`` bounds a run in bytes, not counting earlier LRs and
        references in ``features``, which several predictors may share; on a graphics card a run
        never takes more than what is free there when it begins. ``largest`` is the largest side of
        a tile, in LR pixels: a run with smaller tiles can be stopped sooner. Raises ``UserError``
        for a device or precision that cannot work.
        """
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        # A copy, as the caller's network may serve another device or precision too.
        network = (
            copy.deepcopy(model)
            if isinstance(model, MASA)
            else load_model(model or DEFAULT_WEIGHTS)
        )
        self.model = network.to(self.device, self.dtype).eval()
        self.limits = limits
        self.memory = memory
        self.largest = largest
        self._features = FeatureCache() if features is None else features
        choices = 16 if self._features.most else 0  # none where no features are kept either
        self._choices = FeatureCache(choices, 16)  # of views, each counted as a byte
        self._network = object()  # tells its features from those of other networks

    @property
    def config(self) -> MASAConfig:
        """The network's configuration."""
        return self.model.config

    def read(
        self, lr: Source, refs: Sequence[Source] = (), align: bool = False
    ) -> tuple[Photo, list[Reference]]:
        """Decode pictures under this predictor's limits: LR and references.

        A reference with more pixels than allowed is reduced, which its notes say; with ``align``,
        it is first sampled at full size as the LR's camera saw it. Raises ``UserError``.
        """
        photo = read_photo(lr, "small photo", self.limits)
        return photo, self.read_references(refs, photo.rgb if align else None)

    def read_references(self, refs: Sequence[Source], lr: Pixels | None) -> list[Reference]:
        """The references of :meth:`read`, aligned with an LR ``(h, w, 3)`` if one is given."""
        if isinstance(refs, Source):  # a text would be taken for a list of letters
            raise TypeError("refs is a list of pictures: put a single one into brackets, as [ref]")
        check_count(len(refs), self.limits)
        seen_by = None if lr is None else SoughtLR(lr)
        return [
            read_reference(ref, number, self.limits, seen_by) for number, ref in enumerate(refs, 1)
        ]

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
        references are also seen in the photo's frame, see :meth:`run`; without, which is the
        paper's method, one that is turned or of another scale helps little. Raises
        ``UserError`` if a picture cannot be used; its kind ``MemoryNeededError`` if they would need
        more memory than allowed: then ``keep`` fewer scales. A result holds on to the features of
        its pictures, some 370 MB for a reference of 1024x1024 in float32: of many results, keep
        what you need.
        """
        photo, references = self.read(lr, refs, align)
        return self.upscale_photos(photo, references, progress, keep, align)

    def upscale_photos(
        self,
        photo: Photo,
        refs: Sequence[Reference] = (),
        progress: Progress = unwatched,
        keep: Collection[int] = (),
        align: bool = False,
    ) -> Result:
        """:meth:`upscale` for pictures as :meth:`read` gives them, with the same ``align``.

        The LR's transparency is enlarged too, and its notes come first among the result's.
        """
        result = self.run(photo.rgb, refs, progress, keep, align=align)
        alpha = None if photo.alpha is None else enlarge_x4(photo.alpha)
        return replace(result, alpha=alpha, notes=photo.notes + result.notes)

    @torch.inference_mode()
    def run(
        self,
        lr_rgb: Pixels,
        refs: Sequence[Pixels | Reference] = (),
        progress: Progress = unwatched,
        keep: Collection[int] = (),
        branches: Branches | None = None,
        matching: MASAConfig | None = None,
        align: bool = False,
        matches: Matches | None = None,
    ) -> Result:
        """:meth:`upscale` for arrays: uint8 ``(h, w, 3)`` and ``(H, W, 3)``.

        ``branches`` may switch off a branch of DRAM, and ``matching`` may vary block sizes and
        dilations of the matching, for this run. With ``align``, references in which features of
        the LR are found are also seen in its frame (:mod:`masa.reference.alignment`), and matching
        decides which of all these views are used. Instead of its pixels, a reference may be given
        as :func:`masa.reference.views.read_reference` made it for this LR. With ``matches``,
        their places and similarities are used, and nothing is searched: those of an earlier run of
        this predictor without ``align``, with the same LR and references of the same sizes in the
        same order. Raises ``ValueError`` if they do not fit the pictures' sizes, or with ``align``,
        and for arrays of another shape or type.

        Matches are found on reduced pictures; of the full size only what they point to is encoded.
        """
        if align and matches is not None:
            raise ValueError("matches can be given for references that are not aligned alone")
        for picture in (lr_rgb, *(ref for ref in refs if not isinstance(ref, Reference))):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                found = f"{picture.dtype} {picture.shape}"
                raise ValueError(f"pictures are uint8 arrays (height, width, 3), not {found}")
        config = matching or self.config
        references = self._references(refs, lr_rgb, progress, align)
        sizes = canvas_sizes(lr_rgb.shape[:2], [ref.rgb.shape[:2] for ref in references], config)
        # Before anything is padded: the canvas is as wide as the widest reference.
        tile = self.choose_tile(*sizes, keep)
        lr = lr_canvas(lr_rgb, config)
        cost = executed_cost(*sizes, config)
        lr_bytes, _ = feature_bytes(*sizes, self.config, self.dtype.itemsize)
        clock = _Clock(progress, cost.total, self.device)

        with clock.stage("encode_lr", "Reading the photo", cost.encode_lr):
            lr_features = self._features.get(
                (self._network, _digest(lr.rgb)),
                lr_bytes,
                lambda: self.model.encode_lr(self._tensor(lr.rgb)),
            )
        views = [ref.plain for ref in references] or as_it_is([], lr)
        scoring, beyond = 0, []
        if align and references:
            chosen, scoring = self._aligned_views(references, lr, lr_features, config, clock)
            # Where memory is short, all scales but the smallest are given up before a view is.
            least = sorted(keep)[:1]
            views = self._views_that_fit(chosen, views, lr_rgb.shape[:2], config, least)
            beyond = [view for view in chosen if view not in views]
            sizes = canvas_sizes(lr_rgb.shape[:2], [view.rgb.shape[:2] for view in views], config)
            tile = self.choose_tile(*sizes, keep)
            cost = executed_cost(*sizes, config)
            clock.total = cost.total + scoring
        ref = ref_canvas(views, lr, config)
        _, ref_bytes = feature_bytes(*sizes, self.config, self.dtype.itemsize)
        reduced = executed_cost(*sizes, config, read=0).encode_ref
        with clock.stage("encode_ref", "Reading the reference", reduced):
            ref_features = self._features.get(
                (self._network, _digest(ref.rgb, ref.down)),
                ref_bytes,
                lambda: RefFeatures.unread(self.model.encode_down(self._tensor(ref.down))),
            )
        if matches is not None and matches.geometry != Geometry.of(*sizes, config):
            raise ValueError("the matches are of pictures of other sizes")
        with clock.stage("match", "Finding matches", cost.matching) as on_share:
            if matches is None:
                matches = self.model.match(lr_features, ref_features, config, on_share)
        whole = cost.encode_ref - reduced
        with clock.stage("encode_ref", "Reading what is used", whole) as on_share:

            def pixels(part: Tile) -> Tensor:
                area = Area(part.top, part.left, part.bottom, part.right)
                return self._tensor(ref.pixels(area))

            read = self.model.read_ref(ref_features, matches, pixels, tile, on_share)
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
            self_reference=not references,
            seconds=clock.seconds,
            tile=tile,
            notes=notes_on(references, views, align, beyond),
            references=references,
            aligned=align,
            beyond=tuple(sorted({view.number for view in beyond})),
            cost=replace(executed_cost(*sizes, config, read), align=scoring),
        )

    def _references(
        self,
        refs: Sequence[Pixels | Reference],
        lr: Pixels,
        progress: Progress,
        align: bool,
    ) -> tuple[Reference, ...]:
        """References as they are to be used: with ``align``, the photo was looked for in each."""
        made, sought = [], SoughtLR(lr)
        for number, ref in enumerate(refs):
            ref = (
                ref.numbered(number)
                if isinstance(ref, Reference)
                else Reference(View(number, ref.shape[:2], ref))
            )
            if align and not ref.sought:
                progress(0, "Aligning the reference")
                ref = see(ref.rgb, number, sought, self.limits.max_ref_pixels, ref.notes)
            made.append(ref)
        return tuple(made)

    def _aligned_views(
        self,
        references: Sequence[Reference],
        lr: LRCanvas,
        lr_features: LRFeatures,
        config: MASAConfig,
        clock: _Clock,
    ) -> tuple[list[View], int]:
        """The views that matching chooses, those that add most first, and the multiply-adds of
        comparing them."""
        comparison = _Comparison([view for ref in references for view in ref.views], lr, config)
        clock.total += comparison.work
        clock.seconds["align"] = sum(ref.seconds for ref in references)
        with clock.stage("align", "Comparing the references", comparison.work) as on_share:
            return self._chosen(comparison, lr_features, on_share), comparison.work

    def _views_that_fit(
        self,
        chosen: Sequence[View],
        plain: list[View],
        lr: Size,
        config: MASAConfig,
        keep: Collection[int],
    ) -> list[View]:
        """As many of the chosen views, those that add most first, as the memory allows.

        An aligned view has sixteen times the LR's pixels, however few its reference has. If not
        even one fits, they are the ``plain`` ones.
        """
        for count in range(len(chosen), 0, -1):
            views = sorted(chosen[:count], key=lambda view: (view.number, view.own is not None))
            try:
                self.choose_tile(*canvas_sizes(lr, [v.rgb.shape[:2] for v in views], config), keep)
            except MemoryNeededError:
                continue
            return views
        return plain

    def _chosen(
        self, comparison: _Comparison, lr_features: LRFeatures, on_share: OnShare
    ) -> list[View]:
        """The views that are worth reading, by their reduced pictures; the best come first."""
        views, lr, config = comparison.views, comparison.lr, comparison.config
        if len(views) == 1:
            return views

        def choose() -> list[int]:
            scores, done = [], 0
            # One after the other: a canvas of all of them may be far larger than one that is read.
            for view, cost in zip(views, comparison.costs, strict=True):
                start, done = done / comparison.work, done + cost
                on_view = between(on_share, start, done / comparison.work)
                down = ref_canvas([view], lr, config).down
                encoded = self.model.encode_down(self._tensor(down))
                found = fit_scores(
                    lr_features.pyramid.l1,
                    encoded,
                    config,
                    SCORED_BLOCKS,
                    comparison.full_search,
                    on_view,
                )
                scores.append(found.cpu().numpy())
            return choose_views(views, np.stack(scores), len(config.dilations))

        key = self._network, config, _digest(lr.rgb), _digest(*(view.rgb for view in views))
        return [views[number] for number in self._choices.get(key, 1, choose)]

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
        size, memory = self.dtype.itemsize, self._memory_now()
        try:
            tile = choose_tile(lr, ref_down, self.config, size, memory, keep, self._strips)
        except MemoryError as error:
            gigabytes, allowed = error.args[0] / 2**30, memory == self.memory
            raise MemoryNeededError(
                f"These pictures need about {gigabytes:.1f} GB of memory, more than the "
                f"{memory / 2**30:.1f} GB {'allowed' if allowed else 'free on the graphics card'}: "
                "use a smaller photo, smaller or fewer references, or "
                f"{'allow more memory' if allowed else 'choose the CPU'}."
            ) from None
        if self.largest is not None and max(*lr, *ref_down) > self.largest:
            return min(tile or self.largest, self.largest)
        return tile

    def _memory_now(self) -> int:
        """Bytes a run may take: on a graphics card, kept features leave less than there was."""
        free = free_memory(self.device)
        return self.memory if free is None else min(self.memory, free)

    @property
    def _strips(self) -> bool:
        """Whether residual blocks are worked on in strips (:mod:`masa.network.fused`)."""
        return fuses(self.device, self.dtype)

    def _tensor(self, rgb: Pixels) -> Tensor:
        return to_tensor(rgb).to(self.device)


class _Clock:
    """Measures stages, and turns their known costs into a share of the whole run's work.

    ``total`` may change as more becomes known; the share that is told never falls.
    """

    def __init__(self, progress: Progress, total: int, device: torch.device) -> None:
        self._progress, self.total, self._device = progress, total, device
        self._done, self._told = 0, 0.0
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, doing: str, work: int) -> Iterator[OnShare]:
        """Times the block; it is given what to call with its own share done."""

        def on_share(share: float) -> None:
            self._told = max(self._told, min((self._done + share * work) / self.total, 1))
            self._progress(self._told, doing)

        on_share(0)
        start = time.perf_counter()
        try:
            yield on_share
            synchronise(self._device)
        except torch.OutOfMemoryError:  # others use the graphics card too
            raise MemoryNeededError(
                "The graphics card has too little free memory for these pictures: use smaller "
                "ones, allow less memory, or choose the CPU."
            ) from None
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - start
        self._done += work


SCORED_BLOCKS = 256
"""LR blocks by which views are compared, evenly spread; fewer for a smaller LR."""


class _Comparison:
    """Views that are compared, and what that takes: features of each Ref-down, and the coarse
    search of some blocks."""

    def __init__(self, views: list[View], lr: LRCanvas, config: MASAConfig) -> None:
        self.views, self.lr, self.config = views, lr, config
        sizes = [canvas_sizes(lr.rgb.shape[:2], [v.rgb.shape[:2]], config) for v in views]
        geometries = [Geometry.of(*both, config) for both in sizes]
        self.full_search = all(geometry.full_search for geometry in geometries)
        """Whether places are compared by all channels, in every view alike."""
        self.costs = [
            executed_cost(*both, config, read=0).encode_ref
            + coarse_cost(min(SCORED_BLOCKS, geometry.blocks), both[1], config, self.full_search)
            for both, geometry in zip(sizes, geometries, strict=True)
        ]
        """Multiply-adds of each view."""

    @property
    def work(self) -> int:
        """Multiply-adds of all views; none where there is nothing to choose from."""
        return sum(self.costs) if len(self.views) > 1 else 0


def _digest(*pictures: Pixels) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for picture in pictures:
        digest.update(repr(picture.shape).encode())
        digest.update(np.ascontiguousarray(picture).data)
    return digest.digest()
