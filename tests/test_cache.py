"""The cache of features: what is kept, and that it never is more than allowed."""

import pytest
import torch
from helpers import inputs
from torch.utils._pytree import tree_leaves

from masa.machine.cache import FeatureCache
from masa.machine.cost import feature_bytes
from masa.network.model import MASA


class Maker:
    """Makes values of given sizes and notes how much the cache holds meanwhile."""

    def __init__(self, cache):
        self.cache, self.made, self.most = cache, [], 0

    def get(self, key, size):
        def make():
            self.made.append(key)
            self.most = max(self.most, self.cache.bytes + size)
            return key

        assert self.cache.get(key, size, make) == key


def test_old_values_go_before_a_new_one_is_made():
    maker = Maker(FeatureCache(10, 100))
    for key in (1, 2, 3, 4, 2, 5):
        maker.get(key, 30)
    assert maker.made == [1, 2, 3, 4, 5]
    assert maker.most == 90
    maker.get(2, 30)  # used since 3 was
    maker.get(4, 30)
    assert maker.made == [1, 2, 3, 4, 5]
    maker.get(3, 30)
    assert maker.made[5:] == [3]


def test_what_is_too_large_to_keep_is_made_each_time_and_pushes_nothing_out():
    maker = Maker(FeatureCache(10, 100))
    for key, size in ((1, 30), (2, 101), (2, 101), (1, 30)):
        maker.get(key, size)
    assert maker.made == [1, 2, 2]
    assert maker.cache.bytes == 30


@pytest.mark.parametrize(("most", "made"), [(0, [1, 2, 1, 2]), (1, [1, 2, 1, 2]), (2, [1, 2])])
def test_values_are_counted_too(most, made):
    maker = Maker(FeatureCache(most, 100))
    for key in (1, 2, 1, 2):
        maker.get(key, 1)
    assert maker.made == made


def test_a_value_that_another_thread_made_meanwhile_is_kept_once():
    maker = Maker(FeatureCache(10, 100))

    def slow():
        maker.get(1, 60)
        return 1

    assert maker.cache.get(1, 60, slow) == 1
    assert maker.cache.bytes == 60


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_encoded_pictures_take_what_is_foreseen(small_model, dtype):
    model = MASA(small_model.config).to(dtype)
    lr, ref, down = inputs((24, 40), (48, 32))
    encoded = model.encode_lr(lr), model.encode_ref(ref, down)
    sizes = feature_bytes((24, 40), (48, 32), model.config, dtype.itemsize)
    for features, size in zip(encoded, sizes, strict=True):
        tensors = [features.image] if hasattr(features, "image") else [features.down]
        tensors += tree_leaves(features.pyramid)
        assert sum(t.untyped_storage().nbytes() for t in tensors) == size
