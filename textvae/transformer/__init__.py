"""Transformers: positions, layers, the encoder, where z enters, the decoder and its cache."""

from textvae.transformer.decoder import TransformerDecoder
from textvae.transformer.encoder import TransformerEncoder
from textvae.transformer.injection import InjectionName
from textvae.transformer.positions import LearnedPositionsConfig, PositionsConfig, RotaryPositionsConfig

__all__ = [
    "InjectionName",
    "LearnedPositionsConfig",
    "PositionsConfig",
    "RotaryPositionsConfig",
    "TransformerDecoder",
    "TransformerEncoder",
]
