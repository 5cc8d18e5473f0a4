"""Muon: its turns are orthogonal, narrow parameters are Adam's, and its state can be kept."""

import copy

import pytest
import torch
from helpers import noise
from torch import nn

from masa.config import MASAConfig
from masa.network.model import MASA
from masa.training.optimizer import Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 16, 144), (1, 64, 576), (2, 40, 20)])
def test_singular_values_are_brought_near_one(shape):
    matrices = noise(*shape)
    matrices[:, 0] *= 30  # a direction that outweighs the others
    turned = orthogonal(matrices)
    assert turned.shape == shape
    values = torch.linalg.svdvals(turned)
    assert values.min() > 0.6 and values.max() < 1.3
    scaled = orthogonal(1e-3 * matrices)
    torch.testing.assert_close(scaled, turned, atol=1e-4, rtol=1e-3)


def test_directions_are_kept():
    """The nearest orthogonal matrix is U V', and no other has so large a product with M."""
    (matrix,) = noise(1, 20, 60)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = orthogonal(matrix[None])[0]
    cosine = (turned * (u @ v)).sum() / (turned.norm() * (u @ v).norm())
    assert cosine > 0.98


def test_nothing_moves_without_a_gradient():
    assert not orthogonal(torch.zeros(1, 16, 144)).any()


def test_wide_kernels_are_turned_and_all_else_is_adams():
    model = MASA(MASAConfig(channels=16))
    names = {id(p): name for name, p in model.named_parameters()}
    kernels, others = Muon(model.parameters(), 1e-3).param_groups
    assert kernels["turned"] and not others["turned"]
    assert all("weight" in names[id(p)] for p in kernels["params"])
    narrow = {names[id(p)] for p in others["params"] if p.ndim == 4}
    assert narrow == {"enc.conv_L1.weight", "decoder.conv_out.weight"}
    assert len(kernels["params"]) + len(others["params"]) == len(names)


def test_others_move_as_with_adam():
    start = noise(5)
    a, b = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    muon, adam = Muon([a], 1e-2), torch.optim.Adam([b], 1e-2)
    for step in range(4):
        for parameter, optimizer in ((a, muon), (b, adam)):
            parameter.grad = noise(5, seed=step)
            optimizer.step()
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_steps_have_adams_size_and_do_not_depend_on_the_layout(layout):
    kernel = nn.Parameter(torch.zeros(32, 32, 3, 3).to(memory_format=layout))
    optimizer = Muon([kernel], 1e-2)
    kernel.grad = noise(32, 32, 3, 3).to(memory_format=layout)
    optimizer.step()
    assert kernel.square().mean().sqrt().item() == pytest.approx(0.2e-2, rel=0.2)
    expected = orthogonal(noise(32, 32, 3, 3).flatten(1)[None])[0]
    direction = -kernel.detach().flatten(1)
    torch.testing.assert_close(direction / direction.norm(), expected / expected.norm())


def test_a_step_goes_where_the_gradients_so_far_lead():
    """Nesterov's momentum: the average of the gradients, and the newest one once more."""
    kernel = nn.Parameter(torch.zeros(32, 32, 3, 3))
    optimizer = Muon([kernel], 1e-2)
    gradients = [noise(32, 32, 3, 3, seed=seed) for seed in (1, 2)]
    before = kernel.detach().clone()
    momentum = torch.zeros_like(before)
    for gradient in gradients:
        before.copy_(kernel.detach())
        kernel.grad = gradient.clone()
        optimizer.step()
        momentum = 0.95 * momentum + 0.05 * gradient
    expected = orthogonal((0.95 * momentum + 0.05 * gradients[-1]).flatten(1)[None])[0]
    direction = (before - kernel.detach()).flatten(1)
    torch.testing.assert_close(direction / direction.norm(), expected / expected.norm())


def test_it_learns_what_adam_is_slow_at():
    """A linear map of inputs that are of very unequal strength, but not one by one."""
    torch.manual_seed(0)
    mixed = nn.init.orthogonal_(torch.empty(16, 16)) * torch.logspace(0, -1.5, 16)
    inputs = nn.functional.conv2d(noise(64, 16, 4, 4), mixed[:, :, None, None])
    target = nn.Conv2d(16, 16, 1, bias=False)
    nn.init.orthogonal_(target.weight)
    losses = {}
    for name, make in (("muon", Muon), ("adam", torch.optim.Adam)):
        conv = nn.Conv2d(16, 16, 1, bias=False)
        nn.init.zeros_(conv.weight)
        optimizer = make(conv.parameters(), 0.3)
        for step in range(60):
            for group in optimizer.param_groups:
                group["lr"] = 0.3 * (1 - step / 60)
            optimizer.zero_grad()
            loss = (conv(inputs) - target(inputs)).square().mean()
            loss.backward()
            optimizer.step()
        losses[name] = loss.item()
    assert losses["muon"] < losses["adam"] / 10


def test_its_state_goes_on_elsewhere():
    first = MASA(MASAConfig(channels=16))
    optimizer = Muon(first.parameters(), 1e-3)

    def give_gradients(model, seed):
        for number, parameter in enumerate(model.parameters()):
            parameter.grad = noise(*parameter.shape, seed=100 * seed + number)

    give_gradients(first, 1)
    optimizer.step()
    second = copy.deepcopy(first)
    resumed = Muon(second.parameters(), 1e-3)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, opt in ((first, optimizer), (second, resumed)):
        give_gradients(model, 2)
        opt.step()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
