"""From a corpus to encoded splits: read, train the tokenizer, encode once, map from the cache ever after."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Annotated

from pydantic import Field

from corpora.bbe import Bbe
from corpora.cache import Arrays, load_arrays, store_streams, work_folder
from corpora.encoding import encode, survey_of
from corpora.files import BLOCK_BYTES, Files
from corpora.grammar import Grammar
from corpora.hub import Hub
from corpora.sentences import Sentences
from corpora.texts import BLOCK_LINES, SPLITS
from corpora.tokenizer import Tokenizer, TokenizerKind
from corpora.workers import num_workers

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

    The text is read block by block, by several processes where it is long (`TEXTVAE_WORKERS`), and a call that was
    interrupted is gone on with.

    `tokenizer` replaces the trained one (a stored run's own). Raises ValueError for a corpus that cannot be used,
    naming file, line and remedy.
    """
    settings = asdict(corpus.tokenizer) if tokenizer is None else tokenizer.to_bytes().hex()
    identity = json.dumps([_FORMAT, corpus.fingerprint(), settings, corpus.max_length])
    key = hashlib.sha256(identity.encode()).hexdigest()
    arrays = load_arrays(key)
    if arrays is None:
        arrays = _encoded(corpus, tokenizer, key)
    return _splits(arrays, corpus.tokenizer.kind)


def _encoded(corpus: Corpus, tokenizer: Tokenizer | None, key: str) -> Arrays:
    workers = num_workers()
    with work_folder(hashlib.sha256(json.dumps([key, BLOCK_BYTES, BLOCK_LINES]).encode()).hexdigest()) as folder:
        arrays = load_arrays(key)  # another process may have made it while this one waited for the folder
        if arrays is None:
            blocks = corpus.read()
            try:
                survey = survey_of(blocks, corpus.tokenizer, tokenizer, folder, workers)
                streams = encode(blocks, survey, corpus.max_length, folder, workers)
            except OSError as error:
                raise ValueError(
                    f"{folder}: cannot keep what is encoded ({error.strerror}); what is done stays: make room "
                    "and run again, or set TEXTVAE_CACHE"
                ) from error
            arrays = store_streams(key, streams)
    return arrays


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
