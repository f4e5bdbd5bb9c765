import json
import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from corpora import Corpus, Grammar, TokenizerConfig, corpus_statistics, load_splits
from corpora.grammar import FACTORS, Derivation, english, factors, lexicon
from corpora.texts import gather

PREPOSITIONS = "in on at near behind outside under between with without about for from into across since"
MARKS = {"statement": ".", "question": "?", "wh_question": "?"}


def parses(pcfg, sentence):
    """All derivations of a sentence, by trying every rule."""
    first = {}  # the words that each symbol can begin with
    for symbol in pcfg.symbols:
        first[symbol] = {w for r in pcfg.rules[symbol] for w in first.get(r.right[0], {r.right[0]})}

    def search(pending, words, rules):
        if not pending or not words:
            if not pending and not words:
                yield rules
        elif pending[0] not in first:
            if pending[0] == words[0]:
                yield from search(pending[1:], words[1:], rules)
        elif words[0] in first[pending[0]]:
            for rule in pcfg.rules[pending[0]]:
                yield from search(rule.right + pending[1:], words, (*rules, rule))

    words = tuple(sentence.split())
    return [Derivation(words=words, rules=rules) for rules in search((pcfg.start,), words, ())]


@pytest.fixture(scope="module")
def pcfg():
    return english()


@pytest.fixture(scope="module")
def drawn(pcfg):
    """1,500 derivations, with log p of their sentences."""
    derivations = list(pcfg.sample(1_500, np.random.default_rng(5)))
    return derivations, [pcfg.log_prob(d.words) for d in derivations]


def test_the_words_are_many_and_lower_case(pcfg):
    assert len(pcfg.words) > 1_300
    assert all(word == word.lower() for word in pcfg.words)  # an undefined symbol would stand here in capitals


def test_no_sentence_is_too_long(pcfg):
    assert pcfg.longest(lambda _: 1) + 1 <= Grammar().max_length


def test_the_length_and_the_entropy(pcfg, drawn):
    derivations, log_probs = drawn
    lengths = np.array([len(d.words) for d in derivations])
    assert lengths.mean() == pytest.approx(pcfg.mean_length, abs=4 * lengths.std() / math.sqrt(len(lengths)))
    assert 9 < pcfg.mean_length < 11
    surprisals = -np.array(log_probs)
    value, error = pcfg.entropy(800, seed=1)
    other, other_error = pcfg.entropy(800, seed=2)
    assert abs(value - other) < 4 * math.hypot(error, other_error)
    assert error < 0.02
    assert value < pcfg.derivation_entropy
    assert surprisals.mean() == pytest.approx(value, abs=4 * surprisals.std() / math.sqrt(len(surprisals)))


def test_every_sample_has_at_least_the_probability_of_its_derivation(drawn):
    derivations, log_probs = drawn
    ambiguity = np.array(log_probs) - [d.log_prob for d in derivations]
    assert ambiguity.min() > -1e-9
    assert 0.05 < (ambiguity > 1e-9).mean() < 0.5


@pytest.mark.parametrize(
    ("sentence", "num_derivations"),
    [
        ("he saw the man .", 1),
        ("he saw the man in the park .", 2),  # the man or the seeing is in the park
        ("they said we slept yesterday .", 2),  # the saying or the sleeping was yesterday
        ("she said that the boy slept in the park near the house .", 3),
        ("you read the book .", 2),  # present or past
    ],
)
def test_ambiguous_sentences_against_all_their_derivations(pcfg, sentence, num_derivations):
    found = parses(pcfg, sentence)
    assert len(found) == num_derivations
    total = math.log(math.fsum(math.exp(derivation.log_prob) for derivation in found))
    assert pcfg.log_prob(sentence.split()) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(
    "sentence",
    [
        "she knows the teacher .",
        "he does n't know that an old friend has given me a key .",
        "did they go to london yesterday ?",
        "who wo n't sleep ?",
        "the book that she wrote is on the table .",
        "please do n't open the box .",
        "i am not tired .",
        "two children were singing in the garden , and the dogs slept .",
        "the man who sleeps said that he wanted to buy an apple .",
    ],
)
def test_english_is_in_the_grammar(pcfg, sentence):
    assert pcfg.log_prob(sentence.split()) > -80


@pytest.mark.parametrize(
    "sentence",
    [
        "she know the teacher .",  # agreement
        "he does n't knows the teacher .",
        "they was tired .",
        "the dogs sleeps .",
        "the man who sleep said that he slept .",
        "she saw a apple .",  # article
        "an honest man saw an book .",
        "he slept tomorrow .",  # tense and time
        "did they went to london ?",
        "he slept the book .",  # what the verb takes
        "him slept .",  # case
        "she saw he .",
        "she is knowing the teacher .",
        "i am n't tired .",
        "will n't they sleep ?",
        "she slept",
        "she slept ?",
        ". she slept",
        "She slept .",
        "she slept <unk> .",
    ],
)
def test_what_is_no_english_has_no_probability(pcfg, sentence):
    assert pcfg.log_prob(sentence.split()) == -math.inf


def test_a_word_put_elsewhere_is_mostly_impossible(pcfg, drawn):
    rng = np.random.default_rng(0)
    impossible = []
    for derivation in drawn[0][:300]:
        words = list(derivation.words)
        i, j = rng.integers(len(words), size=2)
        words[i], words[j] = words[j], words[i]
        if words != list(derivation.words):
            impossible.append(pcfg.log_prob(words) == -math.inf)
    assert np.mean(impossible) > 0.9


def test_the_forms_of_verbs_and_nouns():
    forms = ("third", "past", "participle", "ing")
    for base, expected in {
        "try": "tries tried tried trying",
        "play": "plays played played playing",
        "stop": "stops stopped stopped stopping",
        "open": "opens opened opened opening",
        "go": "goes went gone going",
        "lie": "lies lied lied lying",
        "smile": "smiles smiled smiled smiling",
        "watch": "watches watched watched watching",
        "see": "sees saw seen seeing",
        "begin": "begins began begun beginning",
    }.items():
        assert [lexicon.verb_form(base, form) for form in forms] == expected.split()
    pairs = [lexicon.noun_forms(entry) for entry in ("city", "key", "box", "potato", "knife/knives", "dog")]
    assert [plural for _, plural in pairs] == ["cities", "keys", "boxes", "potatoes", "knives", "dogs"]
    verbs = {
        base for table in (lexicon.VERBS, lexicon.STATIVE_VERBS) for text in table.values() for base in text.split()
    }
    assert set(lexicon.IRREGULAR_VERBS) <= verbs
    assert set(lexicon.DOUBLED.split()) <= verbs


def test_factors_agree_with_the_sentence(drawn):
    plurals = dict(lexicon.noun_forms(entry) for text in lexicon.NOUNS.values() for entry in text.split())
    for derivation in drawn[0]:
        words, found = derivation.words, factors(derivation)
        assert tuple(found) == FACTORS
        assert words[-1] == MARKS.get(found["clause_type"], words[-1])
        negated = {"not", "n't"} & set(words)
        if found["relative_clause"] == found["clausal_object"] == "no" and found["conjunction"] == "none":
            assert bool(negated) == (found["polarity"] == "negative")
            if found["tense"] != "none":
                assert (found["tense"] == "future") == bool({"will", "wo"} & set(words))
        if found["conjunction"] != "none":
            assert found["conjunction"] in words
        if found["relative_clause"] == "no":
            assert "who" not in words[1:]
        prepositions = set(PREPOSITIONS.split()) & set(words)
        assert not prepositions or found["prepositional_phrase"] == "yes"
        assert found["prepositional_phrase"] == "no" or prepositions or "to" in words
        if found["clause_type"] == "command":
            assert found["subject"] == found["number"] == found["tense"] == "none"
        else:
            verb = found["verb"]
            verb_forms = {lexicon.verb_form(verb, form) for form in ("base", "third", "past", "participle", "ing")}
            assert verb_forms & set(words) or verb in ("be", "do")
            subject = found["subject"]
            assert found["number"] in ("singular", "plural")
            assert {subject, plurals.get(subject)} & set(words)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("the boys who did n't sleep have seen her .",
         "statement none present perfect affirmative plural boy see no yes no"),
        ("wo n't john 's father go to london ?", "question none future simple negative singular father go yes no no"),
        ("which box did the girls open ?", "wh_question none past simple affirmative plural girl open no no no"),
        ("the book that he read is old .",
         "statement none present simple affirmative singular book be no yes no"),
        ("who was sleeping ?", "wh_question none past progressive affirmative singular who sleep no no no"),
        ("do n't open the box .", "command none none none negative none none open no no no"),
        ("she says that the women slept .", "statement none present simple affirmative singular she say no no yes"),
        ("there are two dogs near the house .", "statement none present simple affirmative plural dog be yes no no"),
        ("i am not tired , but he sleeps .", "statement but present simple negative singular i be no no no"),
        ("i am a teacher .", "statement none present simple affirmative singular i be no no no"),
        ("you want to sleep .", "statement none present simple affirmative plural you want no no no"),
    ],
)  # fmt: skip
def test_factors_by_hand(pcfg, sentence, expected):
    for derivation in parses(pcfg, sentence):
        assert " ".join(factors(derivation).values()) == expected


def test_splits_are_drawn_by_seed_and_size():
    small = Grammar(num_train=300, num_valid=50, num_test=60)
    texts = gather(small.read())
    assert {name: len(t.sentences) for name, t in texts.items()} == {"train": 300, "valid": 50, "test": 60}
    assert texts["test"].sentences[:3] == [  # the same on every machine
        "he waits near their beautiful house .",
        "how does a teacher wait ?",
        "i have reminded john that the teachers saw david .",
    ]
    assert gather(small.read())["test"].sentences == texts["test"].sentences
    assert gather(replace(small, num_train=400).read())["train"].sentences[:300] == texts["train"].sentences
    assert gather(replace(small, num_train=400).read())["test"].sentences == texts["test"].sentences
    assert gather(replace(small, seed=1).read())["test"].sentences != texts["test"].sentences
    assert texts["valid"].sentences != texts["test"].sentences[:50] != texts["train"].sentences[:50]


def test_labels_and_factors_are_aligned_with_the_sentences():
    corpus = Grammar(num_train=200, num_valid=20, num_test=20)
    texts, found = gather(corpus.read()), corpus.factors()
    for name, split in texts.items():
        assert tuple(found[name]) == FACTORS
        assert found[name]["clause_type"] == split.labels
        assert {len(values) for values in found[name].values()} == {len(split.sentences)}
        for sentence, conjunction in zip(split.sentences, found[name]["conjunction"], strict=True):
            assert conjunction == "none" or f" {conjunction} " in sentence


def test_the_default_corpus_encoded():
    """All words stand in the training split, so that what a model scores is what the grammar yields."""
    splits = load_splits(Grammar())
    figures = corpus_statistics(splits)
    assert splits.label_names == ("command", "question", "statement", "wh_question")
    assert figures["vocabulary_size"] == len(english().words) + 2
    assert figures["splits"]["test"]["unknown_rate"] == figures["splits"]["valid"]["unknown_rate"] == 0
    assert figures["splits"]["test"]["tokens_per_sentence"] == pytest.approx(english().mean_length + 1, abs=0.4)
    assert figures["splits"]["train"]["sentences_cut"] == 0
    decoded = [splits.tokenizer.decode(splits.test[i]) for i in range(100)]
    assert np.isfinite(english().log_probs(decoded)).all()


def test_fingerprints_tell_corpora_apart():
    corpora = [Grammar(), Grammar(seed=1), Grammar(num_train=7), Grammar(num_valid=7), Grammar(num_test=7)]
    assert len({corpus.fingerprint() for corpus in corpora}) == len(corpora)
    assert Grammar().fingerprint() == Grammar(max_length=100).fingerprint() == Grammar().resolved().fingerprint()


def test_a_length_that_could_cut_is_refused():
    with pytest.raises(ValueError, match=r"max_length: 30 could cut .* set it to 57 or more"):
        load_splits(Grammar(max_length=30))
    pieces = Grammar(num_train=300, num_valid=9, num_test=9, tokenizer=TokenizerConfig(kind="char"))
    with pytest.raises(ValueError, match=r"set it to 37\d or more \(with tokenizer kind char\)"):
        gather(pieces.read())
    assert len(gather(replace(pieces, max_length=400).read())["train"].sentences) == 300


def test_the_config_is_read_as_the_others_are():
    adapter = TypeAdapter(Corpus)
    corpus = adapter.validate_json(json.dumps({"kind": "grammar", "num_train": 10, "seed": 3}), strict=True)
    assert corpus == Grammar(num_train=10, seed=3)
    assert adapter.validate_json(adapter.dump_json(corpus), strict=True) == corpus
    for wrong in ({"num_train": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="grammar"):
            adapter.validate_json(json.dumps({"kind": "grammar"} | wrong), strict=True)


def test_a_users_sentence_in_the_corpus_own_form(pcfg):
    text = Grammar().normalise("  John's brother doesn't sleep, and she won't  smile!")
    assert text == "john 's brother does n't sleep , and she wo n't smile !"
    assert Grammar().normalise("At six o'clock he left.") == "at six o'clock he left ."
    assert np.isfinite(pcfg.log_probs([text.replace(" !", " .")])).all()
