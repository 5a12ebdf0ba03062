"""Sizes of objects that dask reads."""

import sys

import numpy as np
import torch
from torch import nn

from mmestim._utils.sizes import sizeof_attributes


class Holder:
    __sizeof__ = sizeof_attributes

    def __init__(self, value):
        self.value = value


class Unmeasurable:
    @property
    def nbytes(self):
        raise RuntimeError("nbytes is not defined")


def test_an_object_without_a_size_does_not_hide_the_others():
    sparse = nn.Module()
    sparse.register_buffer("adjacency", torch.eye(3).to_sparse())
    array = np.zeros(10_000)
    for value in (sparse, Unmeasurable(), torch.eye(3).to_sparse()):
        assert sys.getsizeof(Holder([value, array])) > array.nbytes


def test_a_chain_that_is_too_deep_is_left_out():
    chain = None
    for _ in range(10_000):
        chain = Holder(chain)
    assert sys.getsizeof(chain) >= sys.getsizeof(object())
    while chain is not None:  # else its destruction would be as deep
        chain = chain.value
