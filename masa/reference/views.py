"""From a reference as it is given to the views of it that a run may use.

Of a large reference two small pictures are left: the part that the photo shows, sampled from all of
its pixels, and the reference as it is, reduced to what the network may read. So of several large
references only one is ever held at its full size.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from masa.pictures.photo import DEFAULT_LIMITS, Limits, Photo, Pixels, Source
from masa.pictures.read import read_photo
from masa.pictures.resize import resize_to_fit
from masa.reference.alignment import Alignment, SoughtLR, align_reference
from masa.reference.canvas import View


@dataclass(frozen=True, eq=False)
class Reference:
    """One reference, ready for runs with one LR."""

    plain: View
    """As it is, reduced if it has more pixels than the network may read."""
    aligned: View | None = None
    """In the photo's frame; ``None`` if that was not asked for, or nothing in common was found."""
    alignment: Alignment | None = None
    """How the photo's frame lies in it, likewise."""
    sought: bool = False
    """Whether the photo's frame was looked for in it."""
    seconds: float = 0.0
    """What that took."""
    notes: tuple[str, ...] = ()
    """What happened when it was read, a sentence each."""

    @property
    def rgb(self) -> Pixels:
        """``(H, W, 3)``: the view as it is."""
        return self.plain.rgb

    @property
    def views(self) -> tuple[View, ...]:
        """One or two."""
        return (self.plain,) if self.aligned is None else (self.plain, self.aligned)

    def numbered(self, number: int) -> Reference:
        """The same reference at another place, from 0, in a list of references."""
        if self.plain.number == number:
            return self
        aligned = None if self.aligned is None else replace(self.aligned, number=number)
        return replace(self, plain=replace(self.plain, number=number), aligned=aligned)

    @property
    def reduction(self) -> str:
        """``from 4000x3000 to 1154x866 pixels``; empty if it was not reduced."""
        (height, width), (rows, columns) = self.plain.size, self.plain.rgb.shape[:2]
        if (height, width) == (rows, columns):
            return ""
        return f"from {width}x{height} to {columns}x{rows} pixels"


def read_reference(
    source: Source,
    number: int,
    limits: Limits = DEFAULT_LIMITS,
    lr: Pixels | SoughtLR | None = None,
) -> Reference:
    """Read one reference; ``number``, counted from 1, is how notes call it.

    With the ``lr``, it is also seen in the photo's frame, if features of both agree; of several
    references with one LR, give the same :class:`masa.reference.alignment.SoughtLR` to all.
    Its full size is held only until this returns: up to ``limits.max_pixels``, 3 bytes each,
    besides what its file's decoder needs. Raises ``UserError``.
    """
    photo = read_photo(source, "reference", limits)
    if lr is not None:
        return see(photo.rgb, number - 1, lr, limits.max_ref_pixels, photo.notes)
    fitted = resize_to_fit(photo, limits.max_ref_pixels)
    notes = photo.notes
    if fitted is not photo:
        sizes = f"from {photo.width}x{photo.height} to {fitted.width}x{fitted.height} pixels"
        notes += (f"Reference {number} was reduced {sizes}.",)
    return Reference(View(number - 1, fitted.rgb.shape[:2], fitted.rgb), notes=notes)


def see(
    rgb: Pixels, number: int, lr: Pixels | SoughtLR, most_pixels: int, notes: tuple[str, ...] = ()
) -> Reference:
    """A reference ``(H, W, 3)`` as it is, in at most ``most_pixels``, and in the frame of an LR.

    Where it could be aligned, the view as it is has :data:`AS_IT_IS` times as many pixels at most.
    Places in both views are those in ``rgb``; ``number`` counts from 0.
    """
    start = time.perf_counter()
    found = align_reference(lr, rgb)
    size = rgb.shape[:2]
    aligned = alignment = None
    if found is not None:
        alignment = found.alignment
        aligned = View(number, size, found.rgb, found.own, min(alignment.zoom, 1))
        most_pixels = min(most_pixels, AS_IT_IS * found.rgb.shape[0] * found.rgb.shape[1])
    plain = View(number, size, resize_to_fit(Photo(rgb), most_pixels).rgb)
    return Reference(plain, aligned, alignment, True, time.perf_counter() - start, notes)


AS_IT_IS = 4
"""How many times the pixels of its aligned view a reference as it is may have. With more, it would
show things more than twice as large as the photo does, and matching compares one scale alone."""


def notes_on(
    references: Sequence[Reference],
    views: Sequence[View],
    align: bool,
    beyond: Sequence[View] = (),
) -> tuple[str, ...]:
    """What became of each reference, a sentence each; ``views`` are those that were used, and
    ``beyond`` those that would have been, with more memory."""
    used = {(view.number, view.own is not None) for view in views}
    missed = {view.number for view in beyond}
    notes: list[str] = []
    for number, ref in enumerate(references):
        notes += ref.notes
        if align:
            plain, aligned = ((number, how) in used for how in (False, True))
            name, short = f"Reference {number + 1}", number in missed
            notes += _alignment_notes(name, ref, plain, aligned, short)
    return tuple(notes)


_SHORT = "the run would need more memory than is allowed"


def _alignment_notes(
    name: str, ref: Reference, plain: bool, aligned: bool, short: bool
) -> list[str]:
    """What became of one reference: whether its view as it is and its aligned one were used, and
    whether memory was too short for one of them."""
    if not plain and not aligned:
        why = _SHORT if short else "it adds nothing to the others"
        return [f"{name} was left out: {why}."]
    reduced = [f"{name} was reduced {ref.reduction}."] if ref.reduction else []
    if ref.alignment is None:
        return [
            f"{name} was not aligned: nothing in common with the photo was found.",
            *reduced,
        ]
    lies = ref.alignment.words
    if not aligned:
        why = _SHORT if short else "it fits as well that way, or has more detail"
        return [f"{name} is {lies}: it was used unaligned, because {why}.", *reduced]
    notes = [f"{name} was aligned with the photo: it is {lies}."]
    if plain:
        notes.append(
            f"{name} was also searched unaligned: some blocks of the photo fit better there."
        )
    if ref.reduction:
        (height, width), (rows, columns) = ref.plain.size, ref.rgb.shape[:2]
        used = f"{name} was used with its {width}x{height} pixels where it was aligned"
        used += f", and with {columns}x{rows} where it was not" if plain else ""
        notes.append(f"{used}.")
    return notes
