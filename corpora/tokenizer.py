"""Words and pieces to ids and back: a SentencePiece model with fixed special ids."""

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, SupportsIndex

import sentencepiece
from pydantic import Field, PositiveInt

PAD, BOS, EOS, UNK = range(4)  # <pad>, <s>, </s>, <unk>; words and pieces follow from 4
UNKNOWN_WORD = "<unk>"
TokenizerKind = Literal["word", "unigram", "bpe", "char"]

_MARK = "\u2581"  # SentencePiece's sign for a blank, so it separates words wherever it stands in a text
_CHUNK = 10_000  # characters; SentencePiece's BPE trainer aborts the process at a word of 65,536
_LONGEST_WORD = 1_000  # characters; SentencePiece refuses to load a model with far longer ones


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """What the units of text are, and how many of them there may be.

    `vocabulary_size` counts what can be scored, as the literature does: words or pieces, `<unk>` and `</s>`, but not
    `<pad>` and `<s>`. The Penn Treebank has 10,000 of them. A text with fewer gets fewer.
    """

    kind: TokenizerKind = "word"
    vocabulary_size: Annotated[int, Field(ge=3)] = 10_000
    min_count: PositiveInt = 1  # of kind word: seen fewer times in the training split, a word is <unk>


class Tokenizer:
    """Text to ids and back. Ids: `<pad>` 0, `<s>` 1, `</s>` 2, `<unk>` 3, words or pieces from 4.

    A text is split at blanks and each word is encoded by itself, so that two unknown words in a row stay two ids
    (SentencePiece alone would merge them, and every figure per word with them). Within a word, a run of unknown
    characters is one `<unk>`; with kind word, so is a word of more than 1,000 characters.
    """

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def train(cls, lines: Iterable[str], config: TokenizerConfig) -> "Tokenizer":
        """Learn a vocabulary from the lines of the training split; the same lines give the same bytes.

        Raises ValueError where the lines hold no word, or more characters than `vocabulary_size` has room for.
        """
        model = io.BytesIO()
        # The text's own characters are kept as they are: what stands in the file is what is scored.
        settings: dict[str, Any] = {
            "model_writer": model,
            "model_type": config.kind,
            "pad_id": PAD,
            "bos_id": BOS,
            "eos_id": EOS,
            "unk_id": UNK,
            "normalization_rule_name": "identity",
            "character_coverage": 1.0,
            "hard_vocab_limit": False,
            "max_sentence_length": 4 * _CHUNK,  # bytes; a longer line would be dropped without a word
            "minloglevel": 3,
        }
        if config.kind == "word":
            rows = _word_rows(lines, config)
            settings |= {
                "sentence_iterator": iter(rows),
                "input_format": "tsv",
                "vocab_size": UNK + 1 + len(rows),
                "unk_surface": f" {UNKNOWN_WORD}",
            }
        else:
            settings |= {
                "sentence_iterator": _chunks(lines),
                "vocab_size": 2 + config.vocabulary_size,  # and <pad> and <s>
                "unk_surface": UNKNOWN_WORD,
            }
        try:
            sentencepiece.SentencePieceTrainer.train(**settings)
        except RuntimeError as error:
            reason = str(error).rpartition("] ")[2].strip() or "no text that it can use"
            raise ValueError(
                f"corpus.tokenizer: cannot train kind {config.kind} with vocabulary_size {config.vocabulary_size} "
                f"(and <pad> and <s>): {reason}"
            ) from error
        return cls(model.getvalue())

    @classmethod
    def from_bytes(cls, model: bytes) -> "Tokenizer":
        """The tokenizer that `to_bytes` wrote. Raises ValueError for anything else."""
        try:
            tokenizer = cls(model)
        except RuntimeError as error:
            raise ValueError("not a SentencePiece model; take the tokenizer.model of a run's folder") from error
        processor = tokenizer._processor
        ids = (processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id())
        if ids != (PAD, BOS, EOS, UNK):
            raise ValueError(f"a SentencePiece model with pad, <s>, </s>, <unk> at {ids}; (0, 1, 2, 3) is needed")
        try:
            processor.id_to_piece(list(range(len(tokenizer))))
            processor.decode([UNK])
        except UnicodeDecodeError as error:
            raise ValueError(f"a SentencePiece model with pieces that are not UTF-8 ({error})") from error
        return tokenizer

    def to_bytes(self) -> bytes:
        """The model, as SentencePiece's own file `tokenizer.model` holds it."""
        return self._model

    def __len__(self) -> int:
        """The number of ids, all marks included: the rows of an embedding."""
        return int(self._processor.get_piece_size())

    @property
    def vocabulary_size(self) -> int:
        """The number of ids that can be scored: all but `<pad>` and `<s>`."""
        return len(self) - 2

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without `<s>` and `</s>`."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        """The ids of each text, without `<s>` and `</s>`: the first `limit` of them, or all.

        No more of a text than its first `limit` words is looked at, so that an absurdly long line costs little.
        """
        texts_words = [_words(text, limit) for text in texts]
        distinct = list({word for words in texts_words for word in words})
        ids = dict(zip(distinct, self._processor.encode(distinct), strict=True))
        return [[i for word in words for i in ids[word]][:limit] for words in texts_words]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of ids, which may include marks: these are dropped, and the unknown word shows as `<unk>`."""
        return str(self._processor.decode([int(i) for i in ids])).strip()


def _words(text: str, limit: int | None = None) -> list[str]:
    return text.replace(_MARK, " ").split(maxsplit=-1 if limit is None else limit)[:limit]


def _word_rows(lines: Iterable[str], config: TokenizerConfig) -> list[str]:
    """`word<TAB>count`, the most frequent first; `<unk>` and `</s>` have their ids already."""
    counts = Counter(word for line in lines for word in _words(line))
    del counts[UNKNOWN_WORD]
    kept = sorted(
        (-count, word) for word, count in counts.items() if count >= config.min_count and len(word) <= _LONGEST_WORD
    )
    if not kept:
        raise ValueError(
            f"corpus.tokenizer: no word of the training split occurs min_count={config.min_count} times; lower it"
        )
    return [f"{word}\t{-count}" for count, word in kept[: config.vocabulary_size - 2]]


def _chunks(lines: Iterable[str]) -> Iterator[str]:
    return (line[start : start + _CHUNK] for line in lines for start in range(0, len(line), _CHUNK))
