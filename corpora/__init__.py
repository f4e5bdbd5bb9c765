"""Data sets, tokenizers and batches of text. Knows no models."""

from corpora.batches import TokenBatches, evaluation_batches
from corpora.bbe import Bbe
from corpora.embeddings import FileSpace, PpmiSpace, Space
from corpora.files import Files, read_sentences
from corpora.grammar import Grammar
from corpora.hub import Hub
from corpora.load import Corpus, Counts, Splits, load_splits
from corpora.sentences import Sentences, TextBatch, encode_sentences
from corpora.statistics import corpus_statistics
from corpora.tokenizer import BOS, EOS, PAD, UNK, Tokenizer, TokenizerConfig

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "UNK",
    "Bbe",
    "Corpus",
    "Counts",
    "FileSpace",
    "Files",
    "Grammar",
    "Hub",
    "PpmiSpace",
    "Sentences",
    "Space",
    "Splits",
    "TextBatch",
    "TokenBatches",
    "Tokenizer",
    "TokenizerConfig",
    "corpus_statistics",
    "encode_sentences",
    "evaluation_batches",
    "load_splits",
    "read_sentences",
]
