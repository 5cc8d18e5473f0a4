"""What tests ask of the page without a browser: a filled form, and the end of a run."""

from demo.page.form import LR_MODE, Inputs
from demo.runs.jobs import Finished
from masa.pictures.shifts import RANGES


def inputs(
    photo,
    refs=(),
    mode=LR_MODE,
    shift="off",
    degradation="clean",
    weights="masa-rec",
    **amounts,
):
    """The form with these photos; numbers of an own change of light are neutral if not given."""
    amounts = {name: neutral for name, (_, neutral, _) in RANGES.items()} | amounts
    gallery = [(str(ref), None) for ref in refs]
    return Inputs(photo and str(photo), gallery, mode, degradation, weights, shift, **amounts)


def last(steps):
    """What a job made at last."""
    *_, final = steps
    assert isinstance(final, Finished)
    return final.value
