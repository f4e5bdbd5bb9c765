"""A probabilistic grammar of English: a corpus whose every sentence has a known probability."""

from corpora.grammar.corpus import Grammar
from corpora.grammar.english import FACTORS, english, factors
from corpora.grammar.pcfg import Derivation, Pcfg, Rule

__all__ = ["FACTORS", "Derivation", "Grammar", "Pcfg", "Rule", "english", "factors"]
