"""What a corpus is like, in figures: size, lengths, unknown words, duplicates, overlap of the splits."""

from collections import Counter
from typing import Any

import numpy as np

from corpora.load import Splits
from corpora.sentences import Sentences
from corpora.tokenizer import UNK

_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def corpus_statistics(splits: Splits) -> dict[str, Any]:
    """Figures of a corpus as JSON takes them.

    Lengths count scored ids (words or pieces, and `</s>`) and T is their mean; the unknown rate is of the words
    alone. Two sentences are the same when their ids are, which is all that a model sees of them. `duplicates` are
    the sentences beyond the first of their kind within a split, `overlap` those that the training split holds too.
    """
    contents = {name: _contents(sentences) for name, sentences in splits.by_name().items()}
    return {
        "tokenizer": splits.tokenizer_kind,
        "vocabulary_size": splits.tokenizer.vocabulary_size,
        "labels": list(splits.label_names),
        "splits": {
            name: _figures(sentences)
            | _repetition(contents[name], Counter() if name == "train" else contents["train"])
            | {"empty_lines": splits.counts[name].empty, "sentences_cut": splits.counts[name].cut}
            for name, sentences in splits.by_name().items()
        },
    }


def _contents(sentences: Sentences) -> Counter[bytes]:
    return Counter(sentences[i].tobytes() for i in range(len(sentences)))


def _figures(sentences: Sentences) -> dict[str, Any]:
    num_scored = sentences.lengths - 1
    num_words = sentences.num_scored_tokens - len(sentences)
    return {
        "sentences": len(sentences),
        "scored_tokens": sentences.num_scored_tokens,
        "tokens_per_sentence": sentences.num_scored_tokens / len(sentences),
        "length_quantiles": {f"{q:g}": float(np.quantile(num_scored, q)) for q in _QUANTILES},
        "unknown_rate": int((sentences.tokens == UNK).sum()) / num_words,
    }


def _repetition(content: Counter[bytes], train: Counter[bytes]) -> dict[str, Any]:
    overlap = sum(count for ids, count in content.items() if ids in train)
    return {
        "duplicates": content.total() - len(content),
        "overlap": overlap,
        "overlap_share": overlap / content.total(),
    }
