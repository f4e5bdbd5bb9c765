"""A discriminator of images: strided convolutions and a hidden layer, whose features may measure a distance."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from imagevae.form import ImageForm
from imagevae.networks import reduction

SLOPE = 0.2  # of the rectifiers below 0, as in Radford et al. 2016


class Discriminator(nn.Module):
    """4×4 convolutions of stride 2, one for each number of channels, a hidden layer and a logit, leaky rectifiers.

    All layers but the first are normalised over the values of one image (Ba et al. 2016, "Layer Normalization"), so
    that observed and generated images share no statistics and the features keep their scale as the weights grow.
    """

    def __init__(self, form: ImageForm, channels: Sequence[int], hidden_size: int, feature_layer: int) -> None:
        super().__init__()
        self.feature_layer = feature_layer  # counted from 1
        factor = reduction(form, channels, "update.channels")
        layers: list[nn.Module] = []
        for num_before, num_after in pairwise((form.channels, *channels)):
            norm = nn.GroupNorm(1, num_after) if layers else nn.Identity()
            layers.append(nn.Sequential(nn.Conv2d(num_before, num_after, 4, stride=2, padding=1), norm))
        num_values = channels[-1] * (form.height // factor) * (form.width // factor)
        layers.append(nn.Sequential(nn.Flatten(), nn.Linear(num_values, hidden_size), nn.LayerNorm(hidden_size)))
        self.layers = nn.ModuleList(layers)
        self.output = nn.Linear(hidden_size, 1)

    def forward(self, images: Float[Tensor, "M C H W"]) -> tuple[Float[Tensor, "M F"], Float[Tensor, " M"]]:
        """The feature layer before its rectifier, in a row, and the logit of being observed."""
        found, features = images, images
        for number, layer in enumerate(self.layers, 1):
            before = layer(found)
            features = before if number == self.feature_layer else features
            found = F.leaky_relu(before, SLOPE)
        logits: Tensor = self.output(found).squeeze(1)
        return features.flatten(1), logits
