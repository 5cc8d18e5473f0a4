"""Spatial adaptation and what it is made of."""

import pytest
import torch
import torch.nn.functional as F
from helpers import fill, noise

from masa.network.adaptation import (
    SPADE,
    AdaIN,
    NoAdaptation,
    SpatialAdaptation,
    channel_stats,
    make_adaptation,
)
from masa.network.layers import initialise


def features(n=2, c=4, h=12, w=10):
    """LR and Ref features whose channels differ in mean and spread."""
    spread = torch.linspace(0.2, 3, c).view(1, c, 1, 1)
    lr = noise(n, c, h, w) * spread + spread.flip(1)
    ref = noise(n, c, h, w, seed=1) * spread.flip(1) - 2 * spread
    return lr, ref


def adapt(module, lr, ref):
    return module(lr, ref, channel_stats([lr]), channel_stats([ref]), learned=True)


def test_sam_is_its_formula():
    module = fill(SpatialAdaptation(4))
    lr, ref = features()
    found = adapt(module, lr, ref)
    state = module.state_dict()

    def conv(name, x):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    shared = conv("conv_shared.0", torch.cat((lr, ref), 1)).relu()
    gamma, beta = conv("conv_gamma", shared), conv("conv_beta", shared)
    mean = lr.mean((2, 3), keepdim=True)
    std = lr.std((2, 3), correction=1, keepdim=True)
    expected = F.instance_norm(ref, eps=1e-5) * (gamma + std) + (beta + mean)
    torch.testing.assert_close(found.out, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.gamma, gamma)
    torch.testing.assert_close(found.beta, beta)
    assert gamma.std() > 0.01  # or the comparison would say nothing of gamma


def test_spade_is_its_formula():
    module = fill(SPADE(4))
    lr, ref = features()
    found = adapt(module, lr, ref)
    assert found.out.shape == ref.shape
    state = module.state_dict()
    assert state["conv_shared.0.weight"].shape == (4, 4, 3, 3)  # reads the LR alone

    def conv(name, x):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    shared = conv("conv_shared.0", lr).relu()
    gamma, beta = conv("conv_gamma", shared), conv("conv_beta", shared)
    expected = F.instance_norm(ref, eps=1e-5) * gamma + beta
    torch.testing.assert_close(found.out, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.gamma, gamma)
    torch.testing.assert_close(found.beta, beta)
    assert gamma.std() > 0.01  # or the comparison would say nothing of gamma


def test_spade_takes_nothing_of_the_statistics_of_the_lr():
    module = fill(SPADE(4))
    lr, ref = features()
    stats = channel_stats([ref])
    one = module(lr, ref, channel_stats([lr]), stats).out
    other = module(lr, ref, channel_stats([5 + 3 * lr]), stats).out
    assert torch.equal(one, other)
    assert not torch.allclose(adapt(module, 2 * lr, ref).out, one, atol=1e-3)


def test_an_untrained_spade_passes_nothing_on_but_learns_to():
    module = SPADE(4)
    initialise(module)
    module.start_at_zero()
    lr, ref = features()
    found = adapt(module, lr, ref)
    assert not found.out.any() and not found.gamma.any() and not found.beta.any()
    found.out.sum().backward()
    assert module.conv_gamma.weight.grad.any() and module.conv_beta.weight.grad.any()


@pytest.mark.parametrize("kind", [SpatialAdaptation, SPADE])
def test_strips_without_gradients_give_the_same(kind):
    """The path that predictors take writes over the Ref features, strip by strip."""
    module = fill(kind(4))
    lr, ref = features(n=1, h=400, w=200)
    expected = adapt(module, lr, ref).out.detach()
    stats = channel_stats([lr]), channel_stats([ref])
    with torch.inference_mode():
        found = module(lr, ref, *stats)
    torch.testing.assert_close(found.out, expected, atol=1e-5, rtol=1e-5)
    assert found.out.data_ptr() == ref.data_ptr()


@pytest.mark.parametrize("kind", [SpatialAdaptation, SPADE])
def test_every_weight_of_a_learned_adaptation_gets_a_gradient(kind):
    module = fill(kind(4))
    lr, ref = features()
    lr.requires_grad_()
    adapt(module, lr, ref).out.square().sum().backward()
    for parameter in (*module.parameters(), lr):
        assert parameter.grad.isfinite().all() and parameter.grad.any()


def test_gamma_and_beta_are_for_those_who_ask():
    module = fill(SpatialAdaptation(4))
    lr, ref = features()
    found = module(lr, ref, channel_stats([lr]), channel_stats([ref]))
    assert (found.gamma, found.beta) == (None, None)
    assert found.out.requires_grad
    assert torch.equal(found.out, adapt(module, lr, ref).out)


def test_sam_starts_as_adain():
    module = SpatialAdaptation(4)
    initialise(module)
    module.start_at_zero()
    lr, ref = features()
    found, adain = adapt(module, lr, ref), adapt(AdaIN(), lr, ref)
    assert not found.gamma.any()
    assert not found.beta.any()
    torch.testing.assert_close(found.out, adain.out)
    assert (adain.gamma, adain.beta) == (None, None)


def test_adain_takes_the_lr_s_statistics():
    lr, ref = features(h=40, w=30)
    out = adapt(AdaIN(), lr, ref).out
    mean, std = out.mean((2, 3)), out.std((2, 3), correction=0)
    torch.testing.assert_close(mean, lr.mean((2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, lr.std((2, 3), correction=1), atol=0, rtol=1e-3)


def test_adain_ignores_gain_and_offset_of_the_reference():
    lr, ref = features()
    out = adapt(AdaIN(), lr, ref).out
    for gain, offset in ((1.3, 0.0), (0.7, 5.0), (1.0, -20.0)):
        other = adapt(AdaIN(), lr, gain * ref + offset).out
        torch.testing.assert_close(other, out, atol=2e-3, rtol=1e-3)
    assert not torch.allclose(adapt(AdaIN(), lr, -ref).out, out, atol=0.1)


def test_statistics_of_each_image_are_its_own():
    lr, ref = features(n=2)
    out = adapt(AdaIN(), lr, ref).out
    for i in range(2):
        alone = adapt(AdaIN(), lr[i : i + 1], ref[i : i + 1]).out
        torch.testing.assert_close(out[i : i + 1], alone)


def test_a_part_is_adapted_with_the_whole_image_s_statistics():
    lr, ref = features(h=20)
    stats = channel_stats([lr]), channel_stats([ref])
    whole = AdaIN()(lr, ref, *stats).out
    part = AdaIN()(lr[:, :, 5:9], ref[:, :, 5:9], *stats).out
    torch.testing.assert_close(part, whole[:, :, 5:9])


def test_no_adaptation_passes_the_reference_on():
    lr, ref = features()
    found = adapt(NoAdaptation(), lr, ref)
    assert torch.equal(found.out, ref)
    assert (found.gamma, found.beta) == (None, None)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("sam", SpatialAdaptation), ("spade", SPADE), ("adain", AdaIN), ("none", NoAdaptation)],
)
def test_modes(mode, kind):
    assert type(make_adaptation(mode, 4)) is kind


@pytest.mark.parametrize("cut", [(1,), (5, 6), (3, 9, 11)])
def test_statistics_of_parts_are_those_of_the_whole(cut):
    x, _ = features()
    whole = channel_stats([x])
    parts = channel_stats(x.tensor_split(cut, dim=2))
    assert parts.pixels == whole.pixels == 120
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.var, whole.var)
    torch.testing.assert_close(whole.mean, x.mean((2, 3), keepdim=True))
    torch.testing.assert_close(whole.var, x.var((2, 3), correction=0, keepdim=True))
    torch.testing.assert_close(whole.unbiased_std, x.std((2, 3), correction=1, keepdim=True))


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_large_mean_does_not_drown_a_small_spread(pieces):
    x = 1000 + 0.01 * noise(1, 2, 64, 64)
    exact = x.double().var((2, 3), correction=0, keepdim=True)
    found = channel_stats(x.tensor_split(pieces, dim=3)).var.double()
    torch.testing.assert_close(found, exact, rtol=1e-2, atol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_statistics_of_a_large_image(layout):
    x = (5 + noise(2, 16, 301, 700) * torch.linspace(0.1, 2, 16).view(16, 1, 1)).contiguous(
        memory_format=layout
    )
    stats, exact = channel_stats([x]), x.double()
    mean, var = exact.mean((2, 3), keepdim=True), exact.var((2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(stats.mean.double(), mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(stats.var.double(), var, rtol=1e-4, atol=0)


def test_half_precision_features_have_float32_statistics():
    x = (3 + 0.1 * noise(1, 2, 64, 64)).bfloat16()
    stats = channel_stats(x.tensor_split(3, dim=2))
    assert stats.mean.dtype == stats.var.dtype == torch.float32
    exact = x.double()
    torch.testing.assert_close(
        stats.mean.double(), exact.mean((2, 3), keepdim=True), atol=1e-5, rtol=0
    )
    assert adapt(AdaIN(), x, x).out.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [SpatialAdaptation, SPADE])
def test_small_learned_parts_survive_half_precision(kind):
    """Beside statistics that are thousands of times as large."""
    module = fill(kind(4))
    with torch.no_grad():
        for conv in (module.conv_gamma, module.conv_beta):
            conv.weight *= 1e-4
            conv.bias *= 1e-4
    lr, ref = features(n=1)
    exact = adapt(module, lr, ref)
    found = adapt(module.bfloat16(), lr.bfloat16(), ref.bfloat16())
    assert found.out.dtype == torch.bfloat16
    for half, whole in ((found.gamma, exact.gamma), (found.beta, exact.beta)):
        limit = 0.05 * whole.detach().abs().max().item()
        assert 0 < limit < 1e-4
        torch.testing.assert_close(half.float(), whole, atol=limit, rtol=0)


def test_flat_channels_stay_finite_with_finite_gradients():
    lr = torch.full((1, 2, 4, 4), 0.5, requires_grad=True)
    ref = torch.full((1, 2, 4, 4), 2.0, requires_grad=True)
    for module in (AdaIN(), fill(SpatialAdaptation(2)), fill(SPADE(2))):
        out = adapt(module, lr, ref).out
        assert out.isfinite().all()
        for gradient in torch.autograd.grad(out.square().sum(), (lr, ref)):
            assert gradient.isfinite().all()
    torch.testing.assert_close(adapt(AdaIN(), lr, ref).out, lr, atol=1e-5, rtol=0)


def test_a_single_pixel_has_no_spread():
    stats = channel_stats([torch.ones(1, 2, 1, 1)])
    assert stats.unbiased_std.isfinite().all()
    assert stats.unbiased_std.max() < 1e-5
