"""Dual residual aggregation against its formulas."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from helpers import fill, noise

from masa.network.aggregation import Branches, DualResidualAggregation

C = 4


@pytest.fixture
def dram():
    return fill(DualResidualAggregation(C)).requires_grad_(False)


def convs(dram):
    """The module's convolutions as plain functions, each followed by a ReLU."""
    state = dram.state_dict()

    def weights(name):
        return state[f"{name}.weight"], state[f"{name}.bias"]

    def down(which, x):
        return F.conv2d(x, *weights(f"conv_down_{which}"), stride=2, padding=1).relu()

    def up(which, x):
        return F.conv_transpose2d(
            x, *weights(f"conv_up_{which}"), stride=2, padding=1, output_padding=1
        ).relu()

    def merge(a, b):
        return F.conv2d(torch.cat((a, b), 1), *weights("conv_cat"), padding=1).relu()

    return down, up, merge


@pytest.mark.parametrize("branches", [Branches(*b) for b in product((True, False), repeat=2)])
def test_is_its_formulas(dram, branches):
    """Model 1 concatenates, Models 2 and 3 refine one side, Model 4, the paper's, both."""
    lr, ref = noise(2, C, 6, 5), noise(2, C, 12, 10, seed=1)
    down, up, merge = convs(dram)
    nothing = torch.zeros_like(lr)
    ref_residual = down("a", ref) - lr if branches.ref else nothing
    lr_residual = lr - down("b", ref) if branches.lr else nothing
    a = up("a", ref_residual) + ref if branches.ref else ref
    b = up("b", lr + lr_residual)
    found = dram(lr, ref, branches)
    torch.testing.assert_close(found.ref_residual, ref_residual)
    torch.testing.assert_close(found.lr_residual, lr_residual)
    torch.testing.assert_close(found.ref_branch, a)
    torch.testing.assert_close(found.lr_branch, b)
    torch.testing.assert_close(found.out, merge(a, b))
    assert found.out.shape == (2, C, 12, 10)


@pytest.mark.parametrize("own", [Branches(*b) for b in product((True, False), repeat=2)])
def test_a_branch_that_it_was_not_made_with_stays_off(dram, own):
    """A network of Models 1 to 3 has no weights for it."""
    lr, ref = noise(1, C, 6, 6), noise(1, C, 12, 12, seed=1)
    part = fill(DualResidualAggregation(C, own)).requires_grad_(False)
    assert torch.equal(part(lr, ref, Branches()).out, dram(lr, ref, own).out)
    missing = {*(() if own.ref else ("down_a", "up_a")), *(() if own.lr else ("down_b",))}
    lost = dram.state_dict().keys() - part.state_dict().keys()
    assert lost == {f"conv_{name}.{kind}" for name in missing for kind in ("weight", "bias")}
    only_off = part(lr, ref, Branches(False, False)).out
    assert torch.equal(only_off, dram(lr, ref, Branches(False, False)).out)


def test_branches_matter_and_default_to_on(dram):
    lr, ref = noise(1, C, 6, 6), noise(1, C, 12, 12, seed=1)
    assert Branches() == Branches(ref=True, lr=True)
    outs = [dram(lr, ref, Branches(*b)).out for b in product((True, False), repeat=2)]
    for i, one in enumerate(outs):
        for other in outs[i + 1 :]:
            assert not torch.allclose(one, other, atol=1e-3)


def test_inputs_are_left_as_they_were(dram):
    lr, ref = noise(1, C, 6, 6), noise(1, C, 12, 12, seed=1)
    copies = lr.clone(), ref.clone()
    dram(lr, ref, Branches())
    dram(lr, ref, Branches(False, False))
    assert torch.equal(lr, copies[0])
    assert torch.equal(ref, copies[1])


@pytest.mark.parametrize("name", ["lr", "ref"])
def test_reach(dram, name):
    """What lies further away than HALO output pixels has no influence; nearer may have."""
    tensors = {"lr": noise(1, C, 20, 20), "ref": noise(1, C, 40, 40, seed=1)}
    tensors[name].requires_grad_()
    dram(**tensors, branches=Branches()).out[:, :, 20:22, 20:22].sum().backward()
    touched = tensors[name].grad.abs().sum((0, 1)).nonzero()
    scale = 40 // tensors[name].shape[2]
    first, last = touched.min(0).values * scale, (touched.max(0).values + 1) * scale
    assert (first >= 20 - DualResidualAggregation.HALO).all()
    assert (last <= 22 + DualResidualAggregation.HALO).all()
    assert (first < 20).all()
