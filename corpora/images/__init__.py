"""Data sets and batches of images, and their binarisations. Knows no models."""

from corpora.images.augmentation import Augmentation
from corpora.images.batches import ImageBatches, image_evaluation_batches
from corpora.images.binarisation import Binarisation, GreyBinarisation, binarise
from corpora.images.cub import Cub
from corpora.images.digits import Digits
from corpora.images.hub import ImageHub
from corpora.images.idx import FashionMnist, Mnist
from corpora.images.images import ImageBatch, Images, LevelSplits
from corpora.images.load import ImageCorpus, ImageSplits, load_images
from corpora.images.masks import Masks
from corpora.images.quadrants import DigitsQuadrants, MnistQuadrants
from corpora.images.static import MnistStatic

__all__ = [
    "Augmentation",
    "Binarisation",
    "Cub",
    "Digits",
    "DigitsQuadrants",
    "FashionMnist",
    "GreyBinarisation",
    "ImageBatch",
    "ImageBatches",
    "ImageCorpus",
    "ImageHub",
    "ImageSplits",
    "Images",
    "LevelSplits",
    "Masks",
    "Mnist",
    "MnistQuadrants",
    "MnistStatic",
    "binarise",
    "image_evaluation_batches",
    "load_images",
]
