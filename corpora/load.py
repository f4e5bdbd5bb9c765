"""From a corpus to encoded splits: read, train the tokenizer, encode once, map from the cache ever after."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from corpora.bbe import Bbe
from corpora.cache import Arrays, load_arrays, store_arrays
from corpora.files import Files
from corpora.grammar import Grammar
from corpora.hub import Hub
from corpora.sentences import Sentences, encode_and_count_cuts
from corpora.texts import SPLITS, Texts
from corpora.tokenizer import Tokenizer, TokenizerKind

Corpus = Annotated[Bbe | Files | Grammar | Hub, Field(discriminator="kind")]

_FORMAT = 1  # of the cache's arrays; raise it when they change


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What reading a split did to it."""

    empty: int  # lines skipped because nothing stood on them
    cut: int  # sentences cut to max_length


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """A corpus, encoded. `counts` has a member for each split; `label_names[i]` is what label i stands for."""

    train: Sentences
    valid: Sentences
    test: Sentences
    tokenizer: Tokenizer
    tokenizer_kind: TokenizerKind
    counts: dict[str, Counts]
    label_names: tuple[str, ...] = ()

    def by_name(self) -> dict[str, Sentences]:
        """The splits under their names: train, valid, test."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def load_splits(corpus: Corpus, tokenizer: Tokenizer | None = None) -> Splits:
    """Read a corpus, train its tokenizer on the training split, encode it; or map what an earlier call encoded.

    `tokenizer` replaces the trained one (a stored run's own). Raises ValueError for a corpus that cannot be used,
    naming file, line and remedy.
    """
    settings = asdict(corpus.tokenizer) if tokenizer is None else tokenizer.to_bytes().hex()
    identity = json.dumps([_FORMAT, corpus.fingerprint(), settings, corpus.max_length])
    key = hashlib.sha256(identity.encode()).hexdigest()
    arrays = load_arrays(key)
    if arrays is None:
        arrays = store_arrays(key, _encode(corpus, tokenizer))
    return _splits(arrays, corpus.tokenizer.kind)


def _encode(corpus: Corpus, tokenizer: Tokenizer | None) -> Arrays:
    texts = corpus.read()
    if tokenizer is None:
        tokenizer = Tokenizer.train(texts["train"].sentences, corpus.tokenizer)
    label_names = _label_names(texts)
    numbers = {label: number for number, label in enumerate(label_names)}
    arrays: Arrays = {}
    counts: dict[str, dict[str, int]] = {}
    for name in SPLITS:
        sentences, num_cut = encode_and_count_cuts(texts[name].sentences, tokenizer, corpus.max_length)
        arrays[f"{name}.tokens"], arrays[f"{name}.offsets"] = sentences.tokens, sentences.offsets
        if label_names:
            labels = texts[name].labels or ()
            arrays[f"{name}.labels"] = np.array([numbers[label] for label in labels], dtype=np.int64)
        counts[name] = {"empty": texts[name].num_empty, "cut": num_cut}
    arrays["tokenizer"] = np.frombuffer(tokenizer.to_bytes(), dtype=np.uint8)
    about = json.dumps({"counts": counts, "label_names": label_names})
    arrays["about"] = np.frombuffer(about.encode(), dtype=np.uint8)
    return arrays


def _label_names(texts: dict[str, Texts]) -> list[str]:
    """The labels of the training split in order, numbers by value. Raises ValueError for others in valid and test."""
    known = set(texts["train"].labels or ())
    for split in texts.values():
        for number, label in enumerate(split.labels or ()):
            if label not in known:
                line = split.line_numbers[number]
                raise ValueError(
                    f"{split.source}: line {line}: label {label!r} does not occur in the training split; "
                    "mend it, or add sentences with it there"
                )
    return sorted(known, key=int if all(label.isdecimal() and len(label) < 10 for label in known) else str)


def _splits(arrays: Arrays, tokenizer_kind: TokenizerKind) -> Splits:
    about = json.loads(arrays["about"].tobytes())
    sentences = {
        name: Sentences(
            tokens=arrays[f"{name}.tokens"], offsets=arrays[f"{name}.offsets"], labels=arrays.get(f"{name}.labels")
        )
        for name in SPLITS
    }
    return Splits(
        **sentences,
        tokenizer=Tokenizer.from_bytes(arrays["tokenizer"].tobytes()),
        tokenizer_kind=tokenizer_kind,
        counts={name: Counts(**numbers) for name, numbers in about["counts"].items()},
        label_names=tuple(about["label_names"]),
    )
