"""Other sizes and tensors."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from photos import few, noise
from PIL import Image

from masa.pictures.photo import Photo
from masa.pictures.resize import (
    crop_to_multiple,
    enlarge_x4,
    pad_replicate,
    reduce_x4,
    resize_to_fit,
    to_tensor,
    to_uint8,
)

# ---------------------------------------------------------------------------- sizes

sides = st.integers(1, 24)


@few
@given(height=sides, width=sides)
def test_reduction_and_enlargement_are_those_of_pillow(height, width):
    large = noise(4 * height, 4 * width)
    small = reduce_x4(large)
    expected = Image.fromarray(large).resize((width, height), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(small, np.asarray(expected))
    expected = Image.fromarray(small).resize((4 * width, 4 * height), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(enlarge_x4(small), np.asarray(expected))
    plane = enlarge_x4(small[:, :, 0])
    np.testing.assert_array_equal(plane, enlarge_x4(small)[:, :, 0])


def test_reduction_is_antialiased():
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(reduce_x4(stripes).astype(int) - 128).max() < 16


@pytest.mark.parametrize("shape", [(8, 9, 3), (10, 8, 3), (8, 8, 4), (8, 8, 1), (8,)])
def test_reduction_of_other_shapes(shape):
    with pytest.raises(ValueError):
        reduce_x4(np.zeros(shape, np.uint8))


def test_sizes_are_changed_of_8_bit_pictures_only():
    with pytest.raises(ValueError, match="float64"):
        enlarge_x4(np.zeros((8, 8, 3)))


@few
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 2000))
@example(1, 300, 10)
@example(300, 1, 10)
@example(2, 300, 1)
def test_resize_to_fit(height, width, most):
    photo = Photo(noise(height, width), noise(height, width, 0), "n")
    fitted = resize_to_fit(photo, most)
    if height * width <= most:
        assert fitted is photo
        return
    assert 1 <= fitted.height * fitted.width <= most
    assert fitted.alpha.shape == (fitted.height, fitted.width)
    assert fitted.name == "n"
    factor = (most / (height * width)) ** 0.5
    if min(height, width) * factor >= 1:  # no side had to be held at one pixel
        assert abs(fitted.height - height * factor) <= 1
        assert abs(fitted.width - width * factor) <= 1


def test_resize_to_fit_is_antialiased_and_needs_a_positive_number():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    fitted = resize_to_fit(Photo(stripes), 16 * 16)
    assert fitted.rgb.shape == (16, 16, 3)
    assert fitted.alpha is None
    assert np.abs(fitted.rgb.astype(int) - 128).max() < 16
    with pytest.raises(ValueError):
        resize_to_fit(Photo(stripes), 0)


@few
@given(height=sides, width=sides, multiple=st.integers(1, 8))
def test_crop_to_multiple(height, width, multiple):
    pixels = noise(height, width)
    if min(height, width) < multiple:
        with pytest.raises(ValueError):
            crop_to_multiple(pixels, multiple)
        return
    cropped = crop_to_multiple(pixels, multiple)
    assert cropped.shape[0] == height // multiple * multiple
    assert cropped.shape[1] == width // multiple * multiple
    np.testing.assert_array_equal(cropped, pixels[: cropped.shape[0], : cropped.shape[1]])


@few
@given(height=sides, width=sides, below=st.integers(0, 9), right=st.integers(0, 9))
def test_pad_replicate(height, width, below, right):
    for channels in (0, 3):
        pixels = noise(height, width, channels)
        padded = pad_replicate(pixels, height + below, width + right)
        assert padded.shape[:2] == (height + below, width + right)
        rows = np.minimum(np.arange(height + below), height - 1)
        columns = np.minimum(np.arange(width + right), width - 1)
        np.testing.assert_array_equal(padded, pixels[rows][:, columns])


def test_padding_never_crops():
    with pytest.raises(ValueError, match="does not fit"):
        pad_replicate(noise(8, 8), 7, 9)
    with pytest.raises(ValueError, match="does not fit"):
        pad_replicate(noise(8, 8), 9, 7)


# ---------------------------------------------------------------------------- tensors


@few
@given(height=sides, width=sides)
def test_tensors_and_back(height, width):
    pixels = noise(height, width)
    tensor = to_tensor(pixels)
    assert tensor.shape == (1, 3, height, width)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(tensor[0].permute(1, 2, 0), pixels / 255, atol=1e-7)
    np.testing.assert_array_equal(to_uint8(tensor), pixels)
    np.testing.assert_array_equal(to_uint8(tensor[0]), pixels)
    assert to_uint8(tensor.contiguous()).flags.c_contiguous


@pytest.mark.filterwarnings("error")
def test_tensors_of_awkward_arrays_are_copies():
    pixels = noise(8, 8)
    pixels.flags.writeable = False
    tensor = to_tensor(pixels[::-1])
    np.testing.assert_array_equal(to_uint8(tensor), pixels[::-1])


def test_tensors_are_clamped_and_rounded_to_nearest():
    values = torch.tensor([-1.0, -0.001, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.2, torch.inf])
    picture = values.repeat(3, 1, 1).requires_grad_()
    assert to_uint8(picture)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255, 255]
    # 2.506 of 255: multiplied in its own precision it would be 2.5 and become 2.
    half = torch.full((3, 1, 1), 0.00982666015625, dtype=torch.bfloat16)
    assert to_uint8(half).tolist() == [[[3, 3, 3]]]


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 4, 4), (4, 4, 3), (3, 4)])
def test_other_tensors_are_refused(shape):
    with pytest.raises(ValueError):
        to_uint8(torch.zeros(shape))


def test_tensors_with_nan_are_refused():
    with pytest.raises(ValueError, match="not numbers"):
        to_uint8(torch.full((3, 4, 4), torch.nan))
