r"""Gated masked convolutions: p(x|z) pixel by pixel, each given all before it, row by row from the upper left.

Two stacks: the vertical one has seen the rows above a pixel, the horizontal one these and the pixels to its left, so
that nothing before a pixel is hidden from it. Reference: van den Oord et al. 2016, "Conditional Image Generation with
PixelCNN Decoders", section 2; z in every layer as in Gulrajani et al. 2017, "PixelVAE".
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from imagevae.form import ImageForm
from latent.distributions import at_least_float32


def gated(both: Float[Tensor, "N M2 h w"]) -> Float[Tensor, "N M h w"]:
    r"""\(\tanh(a) \odot \sigma(b)\), a and b being the halves of the 2M maps."""
    a, b = both.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class GatedLayer(nn.Module):
    r"""One layer of both stacks, of kernel k = 2r + 1, with biases b_v and b_h of its own at every place from z's maps:

    \[ a_v = W_v * v + b_v, \quad a_h = W_h * h + U a_v^{\downarrow} + b_h, \quad
       v' = g(a_v), \quad h' = h + V g(a_h), \]
    g being tanh times sigmoid and ↓ a shift down by a row. W_v covers a place's own row and the r above it, r columns
    to either side; W_h the r pixels to the left and, but for the first layer (mask A), the place itself. The first
    layer reads pixels, so that it has no h to add.
    """

    def __init__(self, num_inputs: int, num_maps: int, num_features: int, kernel_size: int, *, is_first: bool) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.num_maps = num_maps
        self.radius = kernel_size // 2
        self.is_first = is_first
        self.num_left = self.radius + (not is_first)  # columns that the horizontal convolution covers
        self.vertical = nn.Conv2d(num_inputs, 2 * num_maps, (self.radius + 1, kernel_size), bias=False)
        self.horizontal = nn.Conv2d(num_inputs, 2 * num_maps, (1, self.num_left), bias=False)
        self.link = nn.Conv2d(2 * num_maps, 2 * num_maps, 1, bias=False)
        self.bias = nn.Conv2d(num_features, 4 * num_maps, 1)
        self.last = nn.Conv2d(num_maps, num_maps, 1)

    def forward(
        self, v: Float[Tensor, "N I H W"], h: Float[Tensor, "N I H W"], features: Float[Tensor, "N F H W"]
    ) -> tuple[Float[Tensor, "N M H W"], Float[Tensor, "N M H W"]]:
        """v' and h' of whole images."""
        r, (of_v, of_h) = self.radius, self.bias(features).chunk(2, 1)
        a_v = self.vertical(F.pad(v, (r, r, r, 0))) + of_v
        above = F.pad(a_v, (0, 0, 1, 0))[:, :, :-1]
        left = F.pad(h, (r, -1 if self.is_first else 0))
        return gated(a_v), self.across(left, self.link(above) + of_h)

    def across(self, h: Float[Tensor, "N I H w"], rest: Float[Tensor, "N M2 H W"]) -> Float[Tensor, "N M H W"]:
        """h' of W columns, `h` having those that the convolution covers to their left, and `rest` the rest of a_h."""
        found: Tensor = self.last(gated(self.horizontal(h) + rest))
        return found if self.is_first else found + h[..., self.radius :]


class Positions(nn.Module):
    """Values that are learned and no function of anything: what is decoded from a z without dimensions."""

    def __init__(self, num_values: int) -> None:
        super().__init__()
        self.values = nn.Parameter(0.1 * torch.randn(num_values))

    def forward(self, z: Float[Tensor, "N Z"]) -> Float[Tensor, "N D"]:
        """The same for each row of z."""
        return self.values.expand(len(z), -1)


class PixelDecoder(nn.Module):
    r"""\(p(x|z) = \prod_i p(x_i \mid x_{<i}, z)\) of binary pixels; C channels of one are independent given z, x_<i.

    `features` makes F·H·W values of z, maps of the image's size that every layer reads. With layers of radii r_l and
    R = Σ r_l a pixel sees the R to its left and, in the R + 1 rows above, R columns to either side.
    """

    def __init__(
        self,
        form: ImageForm,
        features: nn.Module,
        *,
        kernel_sizes: Sequence[int],
        num_maps: int,
        num_features: int,
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(features, nn.Unflatten(1, (num_features, form.height, form.width)))
        self.layers = nn.ModuleList(
            GatedLayer(num_maps if place else form.channels, num_maps, num_features, size, is_first=place == 0)
            for place, size in enumerate(kernel_sizes)
        )
        self.output = nn.Conv2d(num_maps, form.channels, 1, bias=False)
        self.start = nn.Parameter(torch.zeros(form.shape))  # the logits where the layers say nothing

    def start_at(self, values: Float[Tensor, " D"]) -> None:
        """Begin at these logits."""
        with torch.no_grad():
            self.start.copy_(values.view_as(self.start))

    def forward(self, z: Float[Tensor, "N Z"], pixels: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """The logit of each pixel given z and those before it, all at once."""
        features = self.features(z)
        v = h = pixels.to(features.dtype)
        for layer in self.layers:
            v, h = layer(v, h, features)
        logits: Tensor = self.output(h) + self.start
        return logits

    def sample(self, z: Float[Tensor, "N Z"], uniform: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Draws: a pixel is 1 where its uniform number is below the probability of that.

        What has been computed is kept: a pixel costs each layer one place of the horizontal stack, and a row that has
        been drawn one row of the vertical stack, so that images cost what `forward` does.
        """
        layers, features = cast(list[GatedLayer], list(self.layers)), self.features(z)
        num_images, _, height, width = uniform.shape
        rows = []
        windows = [  # of each layer's v: the rows that the next row's convolution covers
            features.new_zeros(num_images, layer.num_inputs, layer.radius + 1, width + 2 * layer.radius)
            for layer in layers
        ]
        above = [features.new_zeros(num_images, 2 * layer.num_maps, 1, width) for layer in layers]  # a_v
        for i in range(height):
            biases = [layer.bias(features[:, :, i : i + 1]).chunk(2, 1) for layer in layers]
            rest = [layer.link(a) + of_h for layer, a, (_, of_h) in zip(layers, above, biases, strict=True)]
            rows.append(self._row(layers, rest, uniform[:, :, i : i + 1], self.start[:, i : i + 1]))
            v = rows[-1]
            for place, layer in enumerate(layers):
                windows[place] = pushed(windows[place], F.pad(v, (layer.radius, layer.radius)), 2)
                above[place] = layer.vertical(windows[place]) + biases[place][0]
                v = gated(above[place])
        return torch.cat(rows, 2)

    def _row(
        self,
        layers: Sequence[GatedLayer],
        rest: Sequence[Float[Tensor, "N M2 1 W"]],
        uniform: Float[Tensor, "N C 1 W"],
        start: Float[Tensor, "C 1 W"],
    ) -> Float[Tensor, "N C 1 W"]:
        """A row of pixels, `rest` being what each layer's a_h has of the rows above and of z."""
        pixels = []
        windows = [rest[0].new_zeros(len(uniform), layer.num_inputs, 1, layer.num_left) for layer in layers]
        for j in range(uniform.shape[-1]):
            column = slice(j, j + 1)
            h = layers[0].across(windows[0], rest[0][..., column])  # from the pixels up to the one before
            for place, layer in enumerate(layers[1:], 1):
                windows[place] = pushed(windows[place], h, 3)
                h = layer.across(windows[place], rest[place][..., column])
            probability = torch.sigmoid(at_least_float32(self.output(h) + start[..., column]))
            pixels.append((uniform[..., column] < probability).to(h.dtype))
            windows[0] = pushed(windows[0], pixels[-1], 3)
        return torch.cat(pixels, -1)


def pushed(window: Float[Tensor, "N I h w"], one: Float[Tensor, "N I a b"], dim: int) -> Float[Tensor, "N I h w"]:
    """The window with one row or column more at its end and the first dropped."""
    return torch.cat([window.narrow(dim, 1, window.shape[dim] - 1), one], dim)
