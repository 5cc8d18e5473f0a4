"""Losses: what they are, and that training the discriminator leaves the generator's part alone."""

import copy
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from helpers import is_one_sentence, noise
from safetensors.torch import save_file
from torch import nn

from masa.errors import UserError
from masa.training import vgg
from masa.training.discriminator import Discriminator
from masa.training.losses import FullObjective, L1Objective, grid_loss, relativistic_loss
from masa.training.vgg import VGG16, VGG19, VGGFeatures, load_vgg


@pytest.fixture
def full():
    """The full objective with other features than VGG's, and generous weights."""
    torch.manual_seed(0)
    objective = FullObjective(nn.Conv2d(3, 2, 3), Discriminator(32, 4), 0.5, 0.25, grid=2.0)
    objective.prepare(Accelerator(cpu=True))
    return objective


def pictures(n=2, size=32):
    return noise(n, 3, size, size).sigmoid().requires_grad_(), noise(n, 3, size, size, seed=1)


def test_l1():
    result, truth = pictures()
    loss, parts = L1Objective()(result, truth)
    assert loss.item() == pytest.approx((result - truth).abs().mean().item())
    assert parts == {} and L1Objective().told == {}


def test_relativistic_loss_is_the_cross_entropy_of_differences_to_means():
    real, fake = noise(4, 1), noise(4, 1, seed=1)
    expected = (
        F.binary_cross_entropy_with_logits(real - fake.mean(), torch.ones(4, 1))
        + F.binary_cross_entropy_with_logits(fake - real.mean(), torch.zeros(4, 1))
    ) / 2
    assert torch.allclose(relativistic_loss(real, fake), expected)


def test_relativistic_loss_rewards_telling_them_apart():
    real, fake = noise(4, 1), noise(4, 1, seed=1)
    assert relativistic_loss(real + 3, fake) < relativistic_loss(real, fake)
    assert torch.allclose(relativistic_loss(real + 3, fake + 3), relativistic_loss(real, fake))


def test_full_is_the_weighted_sum_of_its_parts(full):
    result, truth = pictures()
    loss, parts = full(result, truth)
    assert list(parts) == ["l1", "perceptual", "adversarial", "grid", "discriminator"]
    expected = parts["l1"] + 0.5 * parts["perceptual"] + 0.25 * parts["adversarial"]
    expected = expected + 2 * parts["grid"]
    assert loss.item() == pytest.approx(expected.item())
    assert parts["l1"].item() == pytest.approx(F.l1_loss(result, truth).item())
    assert not any(part.requires_grad for part in parts.values())


def test_the_generator_is_taught_by_every_term(full):
    result, truth = pictures()
    gradients = []
    for weights in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        full.perceptual, full.adversarial, full.grid = weights
        loss, _ = full(result, truth)
        gradients.append(torch.autograd.grad(loss, result)[0])
    assert not torch.allclose(gradients[0], gradients[1])
    assert not torch.allclose(gradients[0], gradients[2])
    assert not torch.allclose(gradients[0], gradients[3])


def test_each_call_trains_the_discriminator_once_and_only_by_its_own_loss(full):
    result, truth = pictures()
    critic = full._discriminator
    before = {key: value.clone() for key, value in critic.state_dict().items()}
    loss, _ = full(result, truth)
    assert any(not torch.equal(value, before[key]) for key, value in critic.state_dict().items())
    own = [parameter.grad.clone() for parameter in critic.parameters()]
    loss.backward()
    assert result.grad is not None
    assert all(map(torch.equal, own, (parameter.grad for parameter in critic.parameters())))


def test_the_adversarial_loss_is_the_discriminators_with_roles_exchanged(full):
    result, truth = pictures()
    parts = full(result, truth)[1]
    with torch.no_grad():
        real, fake = full._discriminator(torch.cat((truth, result))).chunk(2)
    expected = relativistic_loss(fake, real).item()
    assert parts["adversarial"].item() == pytest.approx(expected)
    assert relativistic_loss(real, fake).item() != pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("what", ["chequers", "tint"])
def test_the_discriminator_sees_what_all_results_have_in_common(full, what):
    """Judged in batches of their own, batch normalisation would hide it."""
    truth = noise(4, 3, 32, 32).sigmoid()
    chequers = torch.ones(32, 32)
    chequers[::2, 1::2] = chequers[1::2, ::2] = -1
    result = truth + 0.05 * (chequers if what == "chequers" else 1)
    first = full(result, truth)[1]["discriminator"]
    for _ in range(30):
        last = full(result, truth)[1]["discriminator"]
    assert last < 0.8 * first


def test_the_discriminator_can_judge_one_small_picture(full):
    """Batch normalisation needs more than one value of each feature."""
    result, truth = pictures(1)
    assert full(result, truth)[0].isfinite()


def test_the_grid_loss_is_that_of_the_tile_that_repeats():
    truth = noise(2, 3, 32, 32)
    chequers = torch.ones(32, 32)
    chequers[::2, 1::2] = chequers[1::2, ::2] = -1
    assert grid_loss(truth + 0.1, truth).item() == pytest.approx(0, abs=1e-6)
    assert grid_loss(truth + 0.1 * chequers, truth).item() == pytest.approx(0.1, rel=1e-4)
    # Of each picture by itself: those of two pictures do not cancel.
    apart = torch.stack((chequers, -chequers)).unsqueeze(1)
    assert grid_loss(truth + 0.1 * apart, truth).item() == pytest.approx(0.1, rel=1e-4)
    # Stripes, three wide and one wide: 3/4 of the tile is at 1/2 of 0.1 above the mean.
    stripes = torch.ones(32, 32)
    stripes[:, 3::4] = -1
    assert grid_loss(truth + 0.1 * stripes, truth).item() == pytest.approx(0.075, rel=1e-4)
    # Twice as wide as the network's scale: not a grid that its layers make.
    wide = torch.ones(32, 32)
    wide[:, [column for column in range(32) if column % 8 > 3]] = -1
    assert grid_loss(truth + 0.1 * wide, truth).item() == pytest.approx(0, abs=1e-6)


def test_the_discriminator_learns(full):
    result, truth = pictures()
    first = full(result, truth)[1]
    for _ in range(8):
        last = full(result, truth)[1]
    assert last["discriminator"] < first["discriminator"]
    assert last["adversarial"] > first["adversarial"]  # the results are found out


def test_the_discriminator_goes_on_from_its_state(full):
    result, truth = pictures()
    full(result, truth)
    other = FullObjective(full._vgg, Discriminator(32, 4), 0.5, 0.25)
    other.prepare(Accelerator(cpu=True))
    other.load_state_dict(copy.deepcopy(full.state_dict()))
    for objective in (full, other):
        objective(result, truth)
    states = [o.state_dict()["discriminator"].values() for o in (full, other)]
    assert all(map(torch.equal, *states))


@pytest.mark.parametrize("size", [32, 64, 128, 160])
def test_discriminators_fit_their_pictures(size):
    assert Discriminator(size, 2)(torch.rand(2, 3, size, size)).shape == (2, 1)


def test_the_default_discriminator_is_the_published_one():
    with torch.device("meta"):
        critic = Discriminator()
    shapes = [tuple(p.shape) for name, p in critic.named_parameters() if p.ndim > 1]
    assert shapes[:2] == [(64, 3, 3, 3), (64, 64, 4, 4)]
    assert shapes[8:] == [(512, 512, 3, 3), (512, 512, 4, 4), (100, 512 * 25), (1, 100)]


@pytest.mark.parametrize("size", [0, 100])
def test_impossible_discriminators_are_refused(size):
    with pytest.raises(ValueError, match="32"):
        Discriminator(size)


LAYOUTS = {
    VGG19: [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
    VGG16: [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
}
"""Numbers of torchvision's convolutions."""


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("kind", [".pth", ".safetensors"])
def test_vgg_ends_before_the_relu_of_its_last_convolution(name, kind, tmp_path):
    """Which network a file holds follows from its tensors; the classifier is left out."""
    torch.manual_seed(0)
    state = {**VGGFeatures(name).state_dict(), "classifier.0.bias": torch.zeros(3)}
    path = tmp_path / f"vgg{kind}"
    torch.save(state, path) if kind == ".pth" else save_file(state, path)
    model = load_vgg(path)
    assert model.name == name
    convolutions = [k for k, layer in enumerate(model.features) if isinstance(layer, nn.Conv2d)]
    assert convolutions == LAYOUTS[name]
    assert len(model.features) == convolutions[-1] + 1
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    features = model(torch.rand(1, 3, 32, 48))
    assert features.shape == (1, 512, 2, 3)
    assert features.min() < 0
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", LAYOUTS)
def test_vgg_sees_imagenet_statistics_in_rgb(name):
    model = VGGFeatures(name)
    model.features = nn.Sequential(nn.Identity())
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    assert model(mean).abs().max() == 0
    assert torch.allclose(model(mean + 0.1).flatten(), 0.1 / torch.tensor([0.229, 0.224, 0.225]))


def test_unusable_vgg_files_are_refused(tmp_path):
    bad = tmp_path / "bad.pth"
    with pytest.raises(UserError, match="no file"):
        load_vgg("v" * 300)  # no disk has such a long name
    with pytest.raises(UserError, match="no file"):
        load_vgg(bad)
    for content in (b"no weights", b"\x80\x02.", b"\x80\x02c\xff\n\n."):
        bad.write_bytes(content)
        with pytest.raises(UserError, match="can be read safely"):
            load_vgg(bad)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in VGGFeatures(VGG16).state_dict().items()}
    other = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    other["features.28.weight"] = torch.zeros(3, 3)
    for state in ({"features.0.weight": torch.zeros(1)}, other):
        torch.save(state, bad)
        with pytest.raises(UserError, match="neither VGG19 nor VGG16") as caught:
            load_vgg(bad)
        assert is_one_sentence(str(caught.value))


def test_without_a_connection_the_message_says_which_file_goes_where(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise URLError("no route")

    monkeypatch.setattr(vgg.torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr(vgg.torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as caught:
        load_vgg()
    for part in (vgg.URL, str(tmp_path / "checkpoints"), "--vgg"):
        assert part in str(caught.value)
