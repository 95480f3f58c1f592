"""Data sets, and how their images become batches of views."""

from ssl_zoo.data.arrays import Arrays
from ssl_zoo.data.digits import Digits, DigitsAffine
from ssl_zoo.data.folders import settings_for
from ssl_zoo.data.hugging_face import HuggingFace
from ssl_zoo.data.image_folder import ImageFolder
from ssl_zoo.data.shards import Shards
from ssl_zoo.data.table import Table
from ssl_zoo.data.torchvision_sets import Cifar10, Cifar100, Stl10
from ssl_zoo.data.voc import Voc

__all__ = [
    "Arrays",
    "Cifar10",
    "Cifar100",
    "Digits",
    "DigitsAffine",
    "HuggingFace",
    "ImageFolder",
    "Shards",
    "Stl10",
    "Table",
    "Voc",
    "settings_for",
]
