"""A small classifier of a corpus' images: the judge of conditional samples, and what Fréchet distances are taken in."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from corpora.cache import load_arrays, store_arrays
from corpora.images import ImageBatches, ImageCorpus, ImageSplits, image_evaluation_batches
from latent.measures import Estimate, evaluating, share_estimate

VERSION = 2  # of the network and its training; raise it when they change, or stored ones are taken for new
NUM_EPOCHS = 6
LEAST_STEPS = 1000  # of a corpus with few images
IMAGES_PER_BATCH = 100
IMAGES_AT_ONCE = 1000
LEARNING_RATE = 2e-3  # falls to 0 over the training
NUM_FEATURES = 128
CHANNELS = (32, 64)


class Network(nn.Module):
    """Two 3×3 convolutions, each with ReLU and 2×2 max pooling; a hidden layer; a linear layer to K classes."""

    def __init__(self, shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for num_before, num_after in pairwise((shape[0], *CHANNELS)):
            layers += [nn.Conv2d(num_before, num_after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
        side = [math.ceil(size / 2 ** len(CHANNELS)) for size in shape[1:]]
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.hidden = nn.Linear(CHANNELS[-1] * side[0] * side[1], NUM_FEATURES)
        self.dropout = nn.Dropout(0.5)
        self.output = nn.Linear(NUM_FEATURES, num_classes)

    def features(self, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """The hidden layer."""
        return F.relu(self.hidden(self.convolutions(pixels)))

    def forward(self, pixels: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """A logit for each class."""
        logits: Tensor = self.output(self.dropout(self.features(pixels)))
        return logits


@dataclass(frozen=True)
class Classifier:
    """The network in evaluation mode, and its accuracy on the test split, by which all that it says is bounded."""

    network: Network
    accuracy: Estimate

    def classify(self, images: Float[Tensor, "N C H W"]) -> Int64[Tensor, " N"]:
        """The likeliest class of each image."""
        return torch.cat([self.network(part).argmax(1) for part in self._parts(images)])

    def features(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F"]:
        """The hidden layer for each image."""
        return torch.cat([self.network.features(part) for part in self._parts(images)])

    def _parts(self, images: Float[Tensor, "N C H W"]) -> Iterator[Float[Tensor, "B C H W"]]:
        with evaluating(self.network, 0):
            yield from images.split(IMAGES_AT_ONCE)


def trained_classifier(corpus: ImageCorpus, splits: ImageSplits) -> Classifier:
    """The corpus' classifier: trained once, on its training images binarised as they are, and kept in the cache.

    The same images give the same weights on the same machine. Raises ValueError for a corpus without labels.
    """
    if not splits.class_names:
        raise ValueError(f"corpus {corpus.kind}: its images have no labels, so that no classifier can be trained on it")
    key = hashlib.sha256(json.dumps(["classifier", VERSION, corpus.fingerprint()]).encode()).hexdigest()
    arrays = load_arrays(key)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        network = Network(splits.shape, len(splits.class_names))
        if arrays is None:
            _train(network, splits)
            arrays = store_arrays(key, {name: weight.numpy() for name, weight in network.state_dict().items()})
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    return Classifier(network.eval(), _accuracy(network, splits))


def _train(network: Network, splits: ImageSplits) -> None:
    batches = ImageBatches(splits.train, IMAGES_PER_BATCH, 0, splits.binarisation)
    num_steps = max(NUM_EPOCHS * batches.num_batches, LEAST_STEPS)
    optimizer = torch.optim.Adam(network.parameters())
    network.train()
    for step in range(num_steps):
        batch = batches[step]
        assert batch.labels is not None
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / num_steps)
        loss = F.cross_entropy(network(batch.pixels), batch.labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def _accuracy(network: Network, splits: ImageSplits) -> Estimate:
    hits = []
    with evaluating(network, 0):
        for batch in image_evaluation_batches(splits.test, IMAGES_AT_ONCE):
            assert batch.labels is not None
            hits.append(network(batch.pixels).argmax(1) == batch.labels)
    return share_estimate(torch.cat(hits))
