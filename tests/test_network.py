"""The whole network: golden cases, state dict, initialisation, trace and gradients."""

from itertools import product
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from helpers import DATA, fill, inputs

from masa.config import Adaptation, MASAConfig
from masa.network.aggregation import Branches
from masa.network.matching import CoarseMatch, assemble
from masa.network.model import MASA, SCALES

# ---------------------------------------------------------------------------- golden cases


@pytest.fixture(scope="module", params=["paper_ratio", "small_ref", "train_batch"])
def case(request, full_model):
    """A golden case, what we match ourselves, and what we paint with its indices imposed."""
    golden = dict(np.load(DATA / "golden" / f"{request.param}.npz"))
    lr, ref, ref_down = (
        torch.from_numpy(golden[key]).float() / 255 for key in ("lr", "ref", "ref_down")
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with torch.inference_mode():
        encoded_lr, encoded_ref = full_model.encode_lr(lr), full_model.encode_ref(ref, ref_down)
        own = full_model.match(encoded_lr, encoded_ref)
        geometry = own.geometry
        index = torch.from_numpy(golden["fine_index"]).long()
        index = index.view(lr.shape[0], geometry.blocks, 1, 8, 8)
        coarse = CoarseMatch(
            torch.from_numpy(golden["coarse_index"]).long(),
            own.coarse.score,
            own.coarse.per_dilation,
        )
        imposed = assemble(
            encoded_lr.pyramid.l1,
            encoded_ref.down,
            geometry,
            coarse,
            geometry.from_blocks(index)[:, 0],
        )
        trace = full_model.decode(encoded_lr, encoded_ref, imposed, keep=SCALES)
        # Equal matches give an equal picture, which need not be painted twice.
        same = torch.equal(own.position, imposed.position)
        output = trace.output if same else full_model.decode(encoded_lr, encoded_ref, own).output
    torch.set_num_threads(threads)
    return SimpleNamespace(
        golden=golden, lr=encoded_lr, own=own, imposed=imposed, trace=trace, output=output
    )


def by_block(matches, x):
    """``(N, 1, h, w)`` to the golden layout ``(N * blocks, 8, 8)``."""
    return matches.geometry.to_blocks(x)[:, :, 0].flatten(0, 1).numpy()


def test_golden_matches(case):
    coarse, matches = case.own.coarse, case.own
    assert (coarse.index.numpy() == case.golden["coarse_index"]).mean() >= 0.99
    fine = by_block(matches, matches.index[:, None])
    assert (fine == case.golden["fine_index"]).mean() >= 0.99
    np.testing.assert_allclose(coarse.score.numpy(), case.golden["coarse_score"], atol=1e-5)
    scores = by_block(case.imposed, case.imposed.similarity)
    np.testing.assert_allclose(scores, case.golden["fine_score"], atol=1e-5)


def test_golden_output_with_golden_indices(case):
    assert np.abs(case.trace.output.numpy() - case.golden["out"]).max() < 1e-4


def test_golden_output_with_own_indices(case):
    assert case.output.shape == case.golden["out"].shape
    assert np.abs(case.output.numpy() - case.golden["out"]).mean() < 1e-4


def test_golden_transferred_features(case):
    golden, trace = case.golden, case.trace
    rounding = {"rtol": 2**-10, "atol": 1e-5}  # of float16, which these are stored in
    np.testing.assert_allclose(trace.x1.ref[:, :16].numpy(), golden["ref_x1"], **rounding)
    np.testing.assert_allclose(trace.x4.ref[:, 0].numpy(), golden["ref_x4_chan0"], **rounding)


def test_golden_channel_means(case):
    trace = case.trace
    found = {
        "lr_l1": case.lr.pyramid.l1,
        **{f"ref_{name}": getattr(trace, name).ref for name in ("x1", "x2", "x4")},
        **{f"sam_{name}": getattr(trace, name).adapted.out for name in ("x1", "x2", "x4")},
    }
    for name, features in found.items():
        np.testing.assert_allclose(
            features.mean((2, 3)).numpy(), case.golden[f"{name}_mean"], atol=1e-5, err_msg=name
        )


# ---------------------------------------------------------------------------- state dict


def released_shapes(c=64):
    """Names and shapes of the released checkpoints."""
    shapes = {}

    def conv(name, inputs, outputs):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs, 3, 3), (outputs,)

    def blocks(name, count):
        for number, which in product(range(count), ("conv1", "conv2")):
            conv(f"{name}.{number}.{which}", c, c)

    for level in (1, 2, 3):
        conv(f"enc.conv_L{level}", 3 if level == 1 else c, c)
        blocks(f"enc.blk_L{level}", 4)
        conv(f"decoder.conv_L{level}", c if level == 3 else 2 * c, c)
        blocks(f"decoder.blk_L{level}", 2)
    conv("decoder.merge_warp_x1", 2 * c, c)
    for scale, count in ((1, 12), (2, 8), (4, 4)):
        blocks(f"decoder.blk_x{scale}", count)
    for scale in (2, 4):
        for name in ("conv_down_a", "conv_down_b", "conv_up_a", "conv_up_b"):
            conv(f"decoder.dram_x{scale}.{name}", c, c)
        conv(f"decoder.dram_x{scale}.conv_cat", 2 * c, c)
    conv("decoder.conv_out", c, 3)
    conv("decoder.pAda.conv_shared.0", 2 * c, c)
    conv("decoder.pAda.conv_gamma", c, c)
    conv("decoder.pAda.conv_beta", c, c)
    return shapes


def test_state_dict_is_that_of_the_released_checkpoints(full_model):
    state = full_model.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == released_shapes()
    assert len(state) == 210
    assert sum(tensor.numel() for tensor in state.values()) == 4_028_291


@pytest.mark.parametrize("mode", ["adain", "none"])
def test_only_spatial_adaptation_has_weights(mode):
    state = MASA(MASAConfig(channels=8, adaptation=mode)).state_dict()
    expected = {n: s for n, s in released_shapes(8).items() if "pAda" not in n}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected


@pytest.mark.parametrize(("dram_ref", "dram_lr", "number"), [(0, 0, 1), (0, 1, 2), (1, 0, 3)])
def test_models_1_to_3_of_table_4(dram_ref, dram_lr, number):
    """They have no convolutions for the residuals that they leave out."""
    config = MASAConfig(channels=8, dram_ref=bool(dram_ref), dram_lr=bool(dram_lr))
    assert config.dram_model == number and MASAConfig().dram_model == 4
    unused = ("conv_down_a", "conv_up_a") * (1 - dram_ref) + ("conv_down_b",) * (1 - dram_lr)
    expected = {n for n in released_shapes(8) if not any(f".{name}." in n for name in unused)}
    assert MASA(config).state_dict().keys() == expected


def test_spade_has_the_weights_of_sam_but_reads_one_map():
    expected = released_shapes(8)
    expected["decoder.pAda.conv_shared.0.weight"] = (8, 8, 3, 3)
    state = MASA(MASAConfig(channels=8, adaptation="spade")).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected
    assert not state["decoder.pAda.conv_gamma.weight"].any()


def test_initialisation():
    torch.manual_seed(0)
    for name, tensor in MASA().state_dict().items():
        if name.endswith("bias") or name in (
            "decoder.pAda.conv_gamma.weight",
            "decoder.pAda.conv_beta.weight",
        ):
            assert not tensor.any(), name
            continue
        outputs = tensor.shape[1] if "conv_up" in name else tensor.shape[0]
        std = 0.5 * (2 / (9 * outputs)) ** 0.5 * (0.1 if "blk" in name else 1)
        # Five standard errors of a sample's deviation and mean.
        error = 5 / tensor.numel() ** 0.5
        assert tensor.std().item() == pytest.approx(std, rel=error / 2**0.5), name
        assert abs(tensor.mean().item()) < error * std, name


def test_different_seeds_initialise_differently():
    torch.manual_seed(0)
    first = MASA(MASAConfig(channels=4)).enc.conv_L1.weight
    second = MASA(MASAConfig(channels=4)).enc.conv_L1.weight
    assert not torch.equal(first, second)


# ---------------------------------------------------------------------------- forward and trace


def test_forward_is_the_trace_s_output(small_model):
    lr, ref, ref_down = inputs((24, 16), (28, 36), n=2)
    output = small_model(lr, ref, ref_down)
    assert output.shape == (2, 3, 96, 64)
    assert output.dtype == torch.float32
    assert torch.equal(output, small_model.trace(lr, ref, ref_down).output)
    assert torch.equal(output, small_model.trace(lr, ref, ref_down, keep=()).output)


def test_a_batch_is_its_pictures_one_by_one(small_model):
    batch = inputs((16, 24), (24, 20), n=3)
    together = small_model(*batch)
    alone = torch.cat([small_model(*(x[i : i + 1] for x in batch)) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", get_args(Adaptation))
def test_trace_holds_everything(mode):
    n, c, h, w, hr, wr = 2, 4, 16, 24, 20, 32
    model = MASA(MASAConfig(channels=c, adaptation=mode))
    lr, ref, ref_down = inputs((h, w), (hr, wr), n)
    trace = model.trace(lr, ref, ref_down)

    matches, blocks = trace.matches, 2 * 3
    assert matches.geometry.blocks == blocks
    assert matches.coarse.index.shape == matches.coarse.score.shape == (n, blocks)
    assert matches.coarse.per_dilation.shape == (n, blocks, 3)
    torch.testing.assert_close(matches.coarse.per_dilation.sum(2), matches.coarse.score)
    assert matches.corner.shape == (n, blocks, 2)
    assert matches.index.shape == (n, h, w)
    assert matches.position.shape == (n, 2, h, w)
    assert matches.similarity.shape == (n, 1, h, w)
    for whole in (matches.coarse.index, matches.corner, matches.index, matches.position):
        assert whole.dtype == torch.int64
    assert matches.similarity.dtype == torch.float32
    assert matches.similarity.abs().max() <= 1 + 1e-6

    for scale, at in ((1, trace.x1), (2, trace.x2), (4, trace.x4)):
        shape = (n, c, scale * h, scale * w)
        assert at.lr.shape == at.ref.shape == at.adapted.out.shape == shape
        assert at.adaptation == mode
        if mode in ("sam", "spade"):
            assert at.adapted.gamma.shape == at.adapted.beta.shape == shape
        else:
            assert at.adapted.gamma is None
            assert at.adapted.beta is None
        if scale == 1:
            assert at.aggregated is None
        else:
            out, ref_branch, lr_branch, *residuals = at.aggregated
            assert out.shape == ref_branch.shape == lr_branch.shape == shape
            half = (n, c, scale // 2 * h, scale // 2 * w)
            assert [residual.shape for residual in residuals] == [half, half]
    assert trace.output.shape == (n, 3, 4 * h, 4 * w)


@pytest.mark.parametrize("keep", [(), (1,), (2,), (4,), (1, 4)])
def test_trace_keeps_the_scales_asked_for(small_model, keep):
    trace = small_model.trace(*inputs((16, 16), (16, 16)), keep=keep)
    kept = {1: trace.x1, 2: trace.x2, 4: trace.x4}
    assert {scale for scale, at in kept.items() if at is not None} == set(keep)
    assert trace.matches.index.shape == (1, 16, 16)


@pytest.mark.parametrize("branches", [Branches(r, b) for r in (True, False) for b in (True, False)])
def test_branches_of_one_run_are_those_of_a_configuration(small_model, branches):
    """Switching a branch off for a run equals a network built without it."""
    built = MASA(MASAConfig(channels=8, dram_ref=branches.ref, dram_lr=branches.lr))
    has = built.state_dict().keys()
    built.load_state_dict({k: w for k, w in small_model.state_dict().items() if k in has})
    lr, ref, ref_down = inputs((16, 16), (16, 16))
    encoded = small_model.encode_lr(lr), small_model.encode_ref(ref, ref_down)
    output = small_model.decode(*encoded, branches=branches).output
    assert torch.equal(output, built(lr, ref, ref_down))
    whole = small_model.decode(*encoded).output
    assert torch.equal(output, whole) == all(branches)


def test_given_matches_are_used_as_they_are(small_model):
    lr, ref, ref_down = inputs((16, 16), (24, 24))
    encoded = small_model.encode_lr(lr), small_model.encode_ref(ref, ref_down)
    varied = MASAConfig(channels=8, dilations=(1,), ref_factor=3)
    matches = small_model.match(*encoded, varied)
    assert matches.coarse.per_dilation.shape[2] == 1
    trace = small_model.decode(*encoded, matches)
    assert trace.matches is matches
    assert not torch.equal(trace.output, small_model.decode(*encoded).output)


def test_sizes_that_do_not_fit_are_refused(small_model):
    lr, ref, ref_down = inputs((16, 16), (16, 16))
    with pytest.raises(ValueError, match="multiples of 8"):
        small_model(lr[..., :12], ref, ref_down)
    with pytest.raises(ValueError, match="multiples of 4"):
        small_model.encode_lr(lr[..., :15])
    with pytest.raises(ValueError, match="4 times"):
        small_model.encode_ref(ref, ref_down[..., :12])
    with pytest.raises(ValueError, match="must be"):
        small_model.encode_lr(lr[:, :1])
    two = [torch.cat((x, x)) for x in (lr, ref, ref_down)]
    with pytest.raises(ValueError, match="of one batch, not of 2 and 1"):
        small_model.encode_ref(two[1], ref_down)
    for batches in ((two[0], ref, ref_down), (lr, *two[1:])):
        with pytest.raises(ValueError, match="reference of its own"):
            small_model(*batches)


def test_mixed_precision_leaves_matching_alone(small_model):
    lr, ref, ref_down = inputs((16, 16), (20, 24))
    encoded = small_model.encode_lr(lr), small_model.encode_ref(ref, ref_down)
    plain = small_model.match(*encoded)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = small_model.match(*encoded)
    assert mixed.similarity.dtype == torch.float32
    assert torch.equal(mixed.similarity, plain.similarity)
    assert torch.equal(mixed.position, plain.position)


# ---------------------------------------------------------------------------- gradients


def model_in(mode="sam", dram_ref=True, dram_lr=True):
    config = MASAConfig(channels=8, adaptation=mode, dram_ref=dram_ref, dram_lr=dram_lr)
    return fill(MASA(config))


def test_gradients_reach_the_encoder_through_the_similarity_map_alone():
    model = model_in()
    lr, ref, ref_down = inputs((16, 16), (16, 20))
    matches = model.match(model.encode_lr(lr), model.encode_ref(ref, ref_down))
    for positions in (matches.index, matches.position, matches.corner, matches.coarse.index):
        assert not positions.requires_grad
    assert not matches.coarse.score.requires_grad
    matches.similarity.mean().backward()
    assert model.enc.conv_L1.weight.grad.abs().sum() > 0
    touched = {name for name, p in model.named_parameters() if p.grad is not None}
    assert all(name.startswith(("enc.conv_L1", "enc.blk_L1")) for name in touched)


@pytest.mark.parametrize("mode", get_args(Adaptation))
@pytest.mark.parametrize("dram_ref", [True, False])
@pytest.mark.parametrize("dram_lr", [True, False])
def test_backward_gives_every_parameter_a_finite_gradient(mode, dram_ref, dram_lr):
    model = model_in(mode, dram_ref, dram_lr)
    output = model(*inputs((16, 16), (16, 20), n=2))
    (output - 0.5).abs().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("mode", get_args(Adaptation))
def test_flat_pictures_give_finite_results_and_gradients(mode):
    model = model_in(mode)
    for parameter in model.parameters():  # without biases black stays exactly 0 all the way
        if parameter.ndim == 1:
            torch.nn.init.zeros_(parameter)
    output = model(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 16, 16))
    assert output.isfinite().all()
    output.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


# ---------------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    "values",
    [
        {"channels": 0},
        {"lr_block": 6},
        {"lr_block": 0},
        {"ref_factor": 0},
        {"ref_factor": float("nan")},
        {"dilations": ()},
        {"dilations": (0, 1)},
        {"patch": 2},
        {"patch": -1},
        {"adaptation": "other"},
    ],
)
def test_configurations_that_make_no_sense_are_refused(values):
    with pytest.raises(ValueError):
        MASAConfig(**values)


def test_configuration_survives_a_dictionary():
    config = MASAConfig(channels=16, dilations=(2, 5), adaptation="none", dram_lr=False)
    assert MASAConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="colour"):
        MASAConfig.from_dict({"colour": 1})
