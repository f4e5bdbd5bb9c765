"""The image models: one file per model, its config beside its class, its name in the union below."""

from typing import Annotated

from pydantic import Field

from imagevae.models.draw import Draw, DrawConfig
from imagevae.models.layered import LayeredVae, LayeredVaeConfig
from imagevae.models.pixelvae import PixelCnn, PixelCnnConfig, PixelVae, PixelVaeConfig
from imagevae.models.structured import (
    StructuredBaseline,
    StructuredBaselineConfig,
    StructuredCvae,
    StructuredCvaeConfig,
)
from imagevae.models.two_layer import TwoLayerVae, TwoLayerVaeConfig
from imagevae.models.vade import Vade, VadeConfig
from imagevae.models.vae import CvaeConfig, Vae, VaeConfig

ImageModelConfig = Annotated[
    CvaeConfig
    | DrawConfig
    | LayeredVaeConfig
    | PixelCnnConfig
    | PixelVaeConfig
    | StructuredBaselineConfig
    | StructuredCvaeConfig
    | TwoLayerVaeConfig
    | VadeConfig
    | VaeConfig,
    Field(discriminator="kind"),
]
ImageModel = Draw | LayeredVae | PixelCnn | PixelVae | StructuredBaseline | StructuredCvae | TwoLayerVae | Vade | Vae

__all__ = [
    "CvaeConfig",
    "Draw",
    "DrawConfig",
    "ImageModel",
    "ImageModelConfig",
    "LayeredVae",
    "LayeredVaeConfig",
    "PixelCnn",
    "PixelCnnConfig",
    "PixelVae",
    "PixelVaeConfig",
    "StructuredBaseline",
    "StructuredBaselineConfig",
    "StructuredCvae",
    "StructuredCvaeConfig",
    "TwoLayerVae",
    "TwoLayerVaeConfig",
    "Vade",
    "VadeConfig",
    "Vae",
    "VaeConfig",
]
