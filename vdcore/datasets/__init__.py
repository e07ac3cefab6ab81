"""Data sets: arrays that an iterator can take batches from, and where to get some."""

from __future__ import annotations

from vdcore.datasets.boston import get_boston
from vdcore.datasets.cifar import get_cifar10, get_cifar100
from vdcore.datasets.digits import get_digits
from vdcore.datasets.mnist import get_fashion_mnist, get_kmnist, get_mnist
from vdcore.datasets.ptb import (
    get_ptb_chars,
    get_ptb_chars_vocabulary,
    get_ptb_words,
    get_ptb_words_vocabulary,
)
from vdcore.datasets.random_crop_flip import RandomCropFlip
from vdcore.datasets.scatter_dataset import scatter_dataset
from vdcore.datasets.split_dataset import split_dataset, split_dataset_random
from vdcore.datasets.standardization import Standardization
from vdcore.datasets.sub_dataset import SubDataset
from vdcore.datasets.tuple_dataset import TupleDataset

__all__ = [
    "RandomCropFlip",
    "Standardization",
    "SubDataset",
    "TupleDataset",
    "get_boston",
    "get_cifar10",
    "get_cifar100",
    "get_digits",
    "get_fashion_mnist",
    "get_kmnist",
    "get_mnist",
    "get_ptb_chars",
    "get_ptb_chars_vocabulary",
    "get_ptb_words",
    "get_ptb_words_vocabulary",
    "scatter_dataset",
    "split_dataset",
    "split_dataset_random",
]
