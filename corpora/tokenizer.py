"""Words and pieces to ids and back: a SentencePiece model with fixed special ids."""

import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Literal, Protocol, SupportsIndex, runtime_checkable

import numpy as np
import sentencepiece
from jaxtyping import Int64
from pydantic import Field, PositiveInt

from corpora.digests import draws

PAD, BOS, EOS, UNK = range(4)  # <pad>, <s>, </s>, <unk>; words and pieces follow from 4
UNKNOWN_WORD = "<unk>"
TokenizerKind = Literal["word", "unigram", "bpe", "char"]

_MARK = "\u2581"  # SentencePiece's sign for a blank, so it separates words wherever it stands in a text
_CHUNK = 10_000  # characters; SentencePiece's BPE trainer aborts the process at a word of 65,536
MOST_WORDS = 2**20  # distinct ones that are counted
MOST_CHARACTERS = 2**26  # of the lines that pieces are learned from
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
        evidence = EVIDENCE[config.kind]()
        evidence.add(evidence.look(lines))
        return cls.learn(evidence, config)

    @classmethod
    def learn(cls, evidence: "Evidence", config: TokenizerConfig) -> "Tokenizer":
        """Learn a vocabulary from what was seen of the training split; the same evidence gives the same bytes.

        Raises ValueError as `train`.
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
            **evidence.settings(config),
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
        return list(self.encode_all([text])[0].tolist())

    def encode_all(
        self, texts: Sequence[str], limit: int | None = None
    ) -> tuple[Int64[np.ndarray, " ids"], Int64[np.ndarray, " N"]]:
        """The ids of all texts in a row, without `<s>` and `</s>`, and how many each has: its first `limit`, or all.

        No more of a text than its first `limit` words is looked at, so that an absurdly long line costs little.
        """
        texts_words = [_words(text, limit) for text in texts]
        words = list(chain.from_iterable(texts_words))
        numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
        encoded = self._processor.encode(list(numbers))
        number = np.fromiter(map(numbers.__getitem__, words), np.int64, len(words))
        num_ids = np.fromiter(map(len, encoded), np.int64, len(encoded))
        pool = np.fromiter(chain.from_iterable(encoded), np.int64, num_ids.sum())
        ids = pool[_in_a_row((np.cumsum(num_ids) - num_ids)[number], num_ids[number])]
        ends = np.cumsum([0, *map(len, texts_words)])
        starts = np.concatenate([[0], np.cumsum(num_ids[number])])[ends]
        lengths = np.diff(starts)
        if limit is None or lengths.max(initial=0) <= limit:
            return ids, lengths
        kept = np.minimum(lengths, limit)
        return ids[_in_a_row(starts[:-1], kept)], kept

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The text of ids, which may include marks: these are dropped, and the unknown word shows as `<unk>`."""
        return str(self._processor.decode([int(i) for i in ids])).strip()


def _in_a_row(starts: Int64[np.ndarray, " N"], lengths: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " all"]:
    """The positions start, start + 1, … of each stretch, one stretch after the other."""
    ends = np.cumsum(lengths)
    return np.asarray(np.arange(lengths.sum()) + np.repeat(starts - ends + lengths, lengths))


def _words(text: str, limit: int | None = None) -> list[str]:
    return text.replace(_MARK, " ").split(maxsplit=-1 if limit is None else limit)[:limit]


@runtime_checkable
class Evidence(Protocol):
    """What is kept of a training split to learn a vocabulary from: added block by block, of bounded size."""

    @staticmethod
    def look(lines: Iterable[str]) -> Any:
        """What some lines say, to be added; this may be found in another process."""
        ...

    def add(self, found: Any) -> None:
        """Add what `look` found in the next lines."""
        ...

    def settings(self, config: TokenizerConfig) -> dict[str, Any]:
        """What SentencePiece is to train on. Raises ValueError where that is nothing."""
        ...


class WordCounts:
    """How often each word occurs. With more than `MOST_WORDS` distinct ones the rarer half is forgotten each time, so
    that a rare word of a vast text may be counted short; up to then counts are exact.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @staticmethod
    def look(lines: Iterable[str]) -> Counter[str]:
        """The words that a vocabulary may have, counted."""
        counts = Counter(_words("\n".join(lines)))
        del counts[UNKNOWN_WORD]
        for word in [word for word in counts if len(word) > _LONGEST_WORD]:
            del counts[word]
        return counts

    def add(self, found: Counter[str]) -> None:
        """Add the counts of the next lines."""
        self._counts.update(found)
        if len(self._counts) > MOST_WORDS:
            self._counts = Counter(dict(self._ranked()[: MOST_WORDS // 2]))

    def settings(self, config: TokenizerConfig) -> dict[str, Any]:
        """`word<TAB>count`, the most frequent first; `<unk>` and `</s>` have their ids already."""
        kept = [(word, count) for word, count in self._ranked() if count >= config.min_count]
        if not kept:
            raise ValueError(
                f"corpus.tokenizer: no word of the training split occurs min_count={config.min_count} times; lower it"
            )
        rows = [f"{word}\t{count}" for word, count in kept[: config.vocabulary_size - 2]]
        return {
            "sentence_iterator": iter(rows),
            "input_format": "tsv",
            "vocab_size": UNK + 1 + len(rows),
            "unk_surface": f" {UNKNOWN_WORD}",
        }

    def _ranked(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))


class LineSample:
    """The lines, in order; of more than `MOST_CHARACTERS` a half, a quarter and so on, drawn by their numbers."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, str]] = []
        self._num_seen = self._num_characters = self._level = 0

    @staticmethod
    def look(lines: Iterable[str]) -> list[str]:
        """The lines, long ones in pieces."""
        return [line[start : start + _CHUNK] for line in lines for start in range(0, len(line), _CHUNK)]

    def add(self, found: list[str]) -> None:
        """Add those of the next lines that are drawn."""
        numbers = np.arange(self._num_seen, self._num_seen + len(found), dtype=np.uint64)
        self._num_seen += len(found)
        self._keep(zip(draws(numbers).tolist(), found, strict=True))
        while self._num_characters > MOST_CHARACTERS:
            self._level += 1
            kept, self._kept, self._num_characters = self._kept, [], 0
            self._keep(kept)

    def settings(self, config: TokenizerConfig) -> dict[str, Any]:
        """The lines as they are."""
        return {
            "sentence_iterator": iter([line for _, line in self._kept]),
            "vocab_size": 2 + config.vocabulary_size,  # and <pad> and <s>
            "unk_surface": UNKNOWN_WORD,
        }

    def _keep(self, lines: Iterable[tuple[int, str]]) -> None:
        new = [(draw, line) for draw, line in lines if draw % 2**self._level == 0]
        self._kept += new
        self._num_characters += sum(len(line) for _, line in new)


EVIDENCE: dict[TokenizerKind, type[Evidence]] = {
    "word": WordCounts,
    "unigram": LineSample,
    "bpe": LineSample,
    "char": LineSample,
}
