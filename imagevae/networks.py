"""Encoder and decoder networks: multilayer perceptrons and strided convolutions, each with an optional context."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from imagevae.form import ImageForm
from latent.distributions import NormalHead

Activation = Literal["tanh", "relu"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


class FlatNetwork(ABC):
    """Encoders to features without a place, and decoders: what the networks of structured prediction consist of."""

    @abstractmethod
    def encoder(self, form: ImageForm, context_size: int) -> "MlpEncoder | ConvEncoder":
        """From pixels and a context to features."""

    @abstractmethod
    def decoder(self, form: ImageForm, num_inputs: int) -> "MlpDecoder | ConvDecoder":
        """From z and a context to an output for every pixel."""

    def predictor(self, form: ImageForm) -> "Predictor":
        """From x to logits."""
        return Predictor(self.encoder(form.given, 0), form.num_pixels)

    def normal(self, form: ImageForm, latent_size: int) -> "NormalNetwork":
        """From x and y as one image to a normal."""
        return NormalNetwork(self.encoder(form.joined, 0), latent_size)

    def generator(self, form: ImageForm, latent_size: int, coarser_scales: int) -> "MlpDecoder | ConvDecoder":
        """From z to logits; of x there is no more to know. Raises ValueError for scales of which there is no map."""
        if coarser_scales > 0:
            raise ValueError(
                "model.coarser_scales: this network has no maps of coarser scales to predict from; "
                "set model.network.kind=unet or model.coarser_scales=0"
            )
        return self.decoder(form, latent_size)


@dataclass(frozen=True, kw_only=True)
class MlpConfig(FlatNetwork):
    """Hidden layers of the encoder from the pixels on; the decoder has them in reverse."""

    kind: Literal["mlp"] = "mlp"
    hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=20)] = (200, 200)
    activation: Activation = "tanh"

    def encoder(self, form: ImageForm, context_size: int) -> "MlpEncoder":
        """From pixels and a context to features."""
        return MlpEncoder((form.num_pixels + context_size, *self.hidden_sizes), self.activation)

    def decoder(self, form: ImageForm, num_inputs: int) -> "MlpDecoder":
        """From z and a context to an output for every pixel."""
        return MlpDecoder((num_inputs, *reversed(self.hidden_sizes), form.num_pixels), self.activation)


@dataclass(frozen=True, kw_only=True)
class ConvConfig(FlatNetwork):
    """4×4 convolutions of stride 2, one for each number of channels, then a hidden layer; the decoder in reverse."""

    kind: Literal["conv"] = "conv"
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=8)] = (32, 64)
    hidden_size: PositiveInt = 256
    activation: Activation = "relu"

    def encoder(self, form: ImageForm, context_size: int) -> "ConvEncoder":
        """From pixels and a context to features."""
        return ConvEncoder(form, self.channels, self.hidden_size, context_size, self.activation)

    def decoder(self, form: ImageForm, num_inputs: int) -> "ConvDecoder":
        """From z and a context to an output for every pixel."""
        return ConvDecoder(form, self.channels, self.hidden_size, num_inputs, self.activation)


Network = Annotated[MlpConfig | ConvConfig, Field(discriminator="kind")]


def default_network() -> MlpConfig:
    """Two layers of 200, as in Burda et al. 2016."""
    return MlpConfig()


def perceptron(sizes: Sequence[int], activation: Activation) -> nn.Sequential:
    """Linear layers between the sizes, each followed by the activation; Glorot & Bengio 2010's initialisation."""
    layers: list[nn.Module] = []
    for num_inputs, num_outputs in itertools.pairwise(sizes):
        layers += [initialised(nn.Linear(num_inputs, num_outputs)), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


def initialised(layer: nn.Linear) -> nn.Linear:
    """The layer with Glorot's uniform weights and no bias to begin with."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class MlpEncoder(nn.Module):
    """Pixels beside the context."""

    def __init__(self, sizes: Sequence[int], activation: Activation) -> None:
        super().__init__()
        self.num_features = sizes[-1]
        self.layers = perceptron(sizes, activation)

    def forward(self, pixels: Float[Tensor, "B C H W"], context: Float[Tensor, "B Y"]) -> Float[Tensor, "B F"]:
        """The last hidden layer."""
        found: Tensor = self.layers(torch.cat([pixels.flatten(1), context], 1))
        return found


class MlpDecoder(nn.Module):
    """From z beside the context; `output` is the last, linear layer, a value for every pixel."""

    def __init__(self, sizes: Sequence[int], activation: Activation) -> None:
        super().__init__()
        self.layers = perceptron(sizes[:-1], activation)
        self.output = initialised(nn.Linear(sizes[-2], sizes[-1]))

    def start_at(self, values: Float[Tensor, " D"]) -> None:
        """Put the output's bias where the decoder gives these values whatever z is."""
        with torch.no_grad():
            self.output.bias.copy_(values)

    def forward(self, z: Float[Tensor, "N Z"]) -> Float[Tensor, "N D"]:
        """An output for each of the D = C·H·W values."""
        found: Tensor = self.output(self.layers(z))
        return found


class ConvEncoder(nn.Module):
    """Convolutions that halve the image, then a hidden layer which also reads the context."""

    def __init__(
        self, form: ImageForm, channels: Sequence[int], hidden_size: int, context_size: int, activation: Activation
    ) -> None:
        super().__init__()
        self.num_features = hidden_size
        layers: list[nn.Module] = []
        for num_before, num_after in itertools.pairwise((form.channels, *channels)):
            layers += [nn.Conv2d(num_before, num_after, 4, stride=2, padding=1), ACTIVATIONS[activation]()]
        self.convolutions = nn.Sequential(*layers)
        factor = reduction(form, channels)
        num_inputs = channels[-1] * (form.height // factor) * (form.width // factor) + context_size
        self.layers = perceptron((num_inputs, hidden_size), activation)

    def forward(self, pixels: Float[Tensor, "B C H W"], context: Float[Tensor, "B Y"]) -> Float[Tensor, "B F"]:
        """The hidden layer."""
        found: Tensor = self.layers(torch.cat([self.convolutions(pixels).flatten(1), context], 1))
        return found


class ConvDecoder(nn.Module):
    """The encoder's mirror: transposed convolutions that double the image, cut to its size at the end."""

    def __init__(
        self, form: ImageForm, channels: Sequence[int], hidden_size: int, num_inputs: int, activation: Activation
    ) -> None:
        super().__init__()
        self.form = form
        factor = reduction(form, channels)
        height, width = math.ceil(form.height / factor), math.ceil(form.width / factor)
        self.layers = perceptron((num_inputs, hidden_size, channels[-1] * height * width), activation)
        self.unflatten = nn.Unflatten(1, (channels[-1], height, width))
        layers: list[nn.Module] = []
        for num_before, num_after in itertools.pairwise(reversed(channels)):
            layers += [nn.ConvTranspose2d(num_before, num_after, 4, stride=2, padding=1), ACTIVATIONS[activation]()]
        layers.append(nn.ConvTranspose2d(channels[0], form.channels, 4, stride=2, padding=1, bias=False))
        self.convolutions = nn.Sequential(*layers)
        self.bias = nn.Parameter(torch.zeros(form.num_pixels))

    def start_at(self, values: Float[Tensor, " D"]) -> None:
        """Put the output's bias where the decoder gives these values whatever z is."""
        with torch.no_grad():
            self.bias.copy_(values)

    def forward(self, z: Float[Tensor, "N Z"]) -> Float[Tensor, "N D"]:
        """An output for each of the D = C·H·W values."""
        images: Tensor = self.convolutions(self.unflatten(self.layers(z)))
        return images[..., : self.form.height, : self.form.width].flatten(1) + self.bias


@dataclass(frozen=True)
class Prediction:
    """What a predictor says: a logit for each of D pixels, and maps of x that a generator may read."""

    logits: Float[Tensor, "B D"]
    maps: tuple[Tensor, ...] = ()

    def detached(self) -> "Prediction":
        """The same without a gradient."""
        return Prediction(self.logits.detach(), tuple(each.detach() for each in self.maps))


class Predictor(nn.Module):
    """From x to a logit for every pixel; where x is a part of the image, those of its own pixels are of no use."""

    def __init__(self, encoder: MlpEncoder | ConvEncoder, num_pixels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = initialised(nn.Linear(encoder.num_features, num_pixels))

    def start_at(self, logits: Float[Tensor, " D"]) -> None:
        """Begin with these whatever x is."""
        with torch.no_grad():
            self.output.bias.copy_(logits)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Prediction:
        """Logits alone."""
        return Prediction(self.output(read(self.encoder, images.to(self.output.weight.dtype))))


class NormalNetwork(nn.Module):
    """From x and y, or a guess of y, as one image to a diagonal normal."""

    def __init__(self, encoder: MlpEncoder | ConvEncoder, latent_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = NormalHead(encoder.num_features, latent_size)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Distribution:
        """Batch shape B, event shape Z."""
        found: Distribution = self.head(read(self.encoder, images.to(self.head.mean.weight.dtype)))
        return found


def read(encoder: nn.Module, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
    """The encoder's features of images alone."""
    found: Tensor = encoder(images, images.new_zeros(len(images), 0))
    return found


def reduction(form: ImageForm, channels: Sequence[int], key: str = "model.network.channels") -> int:
    """How much smaller the convolutions make an image. Raises ValueError where nothing would be left of it."""
    factor, side = int(2 ** len(channels)), min(form.height, form.width)
    if side < factor:
        raise ValueError(
            f"{key}: {len(channels)} convolutions of stride 2 leave nothing of an image of "
            f"{form.height}×{form.width}; give at most {int(math.log2(side))} numbers"
        )
    return factor
