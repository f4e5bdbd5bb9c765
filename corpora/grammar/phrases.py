"""The grammar's phrases around nouns: each function gives the rules of one category of symbols.

A symbol is a category and its features, joined by dots: `NP.human.sg.1` is a noun phrase that names humans, in the
singular, of depth 1. What is embedded in a phrase has a lower depth, which bounds every sentence. A rule is a line: its
weight among the rules of its symbol (none with 0), its right side, and after a bar what it says about the sentence.
"""

from collections.abc import Callable

import corpora.grammar.lexicon as lexicon

SHARE_PLURAL = {"human": 30, "animal": 35, "food": 40, "place": 10, "surface": 8, "vehicle": 20}  # of 100; others 25
DETERMINERS = {  # the weights of the, of a or an, and of possessors; of this and others together about 14
    "human": (36, 26, 0),
    "animal": (44, 28, 4),
    "thing": (32, 24, 18),
    "food": (30, 24, 8),
    "text": (36, 26, 10),
    "vehicle": (36, 22, 16),
    "place": (54, 20, 5),
    "surface": (54, 18, 5),
    "topic": (44, 16, 10),
}
MODIFIERS = {  # what may follow a noun, by its kind
    "human": "10 PP.loc 5 PP.with 3 PP.having 24 REL",
    "animal": "15 PP.loc 18 REL",
    "thing": "16 PP.loc 24 REL",
    "food": "12 PP.loc 18 REL",
    "text": "5 PP.loc 15 PP.about 22 REL",
    "vehicle": "12 PP.loc 18 REL",
    "place": "10 PP.loc 14 REL",
    "surface": "14 PP.loc",
    "topic": "8 PP.about 20 REL",
}


def _noun_phrase(kind: str, number: str, depth: str) -> str:
    rules = f"80 SIMPLE.{kind}.{number}\n"
    if kind == "human":
        rules += f"12 POSSESSOR NOUN.kin.{number}\n 3 POSSESSOR ADJECTIVE.human NOUN.kin.{number}\n"
    if depth == "0":
        return rules
    inner = int(depth) - 1
    modifiers = MODIFIERS[kind].split()
    for weight, modifier in zip(modifiers[::2], modifiers[1::2], strict=True):
        features = f".{kind}.{number}" if modifier == "REL" else ""
        rules += f"{weight} NP.{kind}.{number}.{inner} {modifier}{features}.{inner}\n"
    return rules


def _simple(kind: str, number: str) -> str:
    noun = f"NBAR.{kind}.{number}"
    the, indefinite, possessed = DETERMINERS[kind]
    possessors = f"""
        {0.65 * possessed} POSSESSOR NOUN.{kind}.{number}
        {0.2 * possessed} POSSESSOR ADJECTIVE.{kind} NOUN.{kind}.{number}
        {0.15 * possessed} OWNER NOUN.{kind}.{number}
        """
    if number == "pl":
        return f"""
            {the} the {noun}
            {indefinite / 2} {noun}
            {possessors}
            7 NUMBER {noun}
            5 some {noun}
            3 many {noun}
            3 these {noun}
            2 those {noun}
            2 several {noun}
            2 all the NOUN.{kind}.pl
            """
    mass = "6 the MASS\n 5 some MASS\n 5 MASS" if kind == "food" else ""
    return f"""
        {the} the {noun}
        {indefinite} INDEFINITE.{kind}
        {possessors}
        5 this {noun}
        3 that {noun}
        1 every {noun}
        1 another {noun}
        {mass}
        """


def _nbar(kind: str, number: str) -> str:
    return f"""
        72 NOUN.{kind}.{number}
        26 ADJECTIVE.{kind} NOUN.{kind}.{number}
        2 very ADJECTIVE.{kind} NOUN.{kind}.{number}
        """


def _indefinite(kind: str) -> str:
    """The article agrees with the sound of the word after it."""
    rules = f"4 a very ADJECTIVE.{kind} NOUN.{kind}.sg\n"
    for weight, rest, symbol, words in (
        (66, "", f"NOUN.{kind}.sg", [s for s, _ in _nouns(kind)]),
        (30, f" NOUN.{kind}.sg", f"ADJECTIVE.{kind}", lexicon.ADJECTIVES[kind].split()),
    ):
        shares = lexicon.frequencies(words)
        for article in ("a", "an"):
            share = sum(p for word, p in shares.items() if lexicon.article(word) == article)
            rules += f"{weight * share / sum(shares.values())} {article} {symbol}.{article}{rest}\n"
    return rules


def _noun(kind: str, number: str, article: str = "") -> str:
    words = {s if number == "sg" else p: s for s, p in _nouns(kind)}
    return "\n".join(
        f"{weight} {word} | subject={words[word]}"
        for word, weight in lexicon.frequencies(list(words)).items()
        if not article or lexicon.article(word) == article
    )


def _nouns(kind: str) -> list[tuple[str, str]]:
    return [lexicon.noun_forms(entry) for entry in lexicon.NOUNS[kind].split()]


def _adjective(kind: str, article: str = "") -> str:
    weights = lexicon.frequencies(lexicon.ADJECTIVES[kind].split())
    return "\n".join(f"{w} {word}" for word, w in weights.items() if not article or lexicon.article(word) == article)


def _subject(kind: str, agreement: str, depth: str) -> str:
    if agreement == "i":
        return "1 i | subject=i number=singular"
    noun = f"NP.{kind}.{agreement}.{depth}"
    if kind != "human":
        pronoun = "it" if agreement == "sg" else "they"
        number = "singular" if agreement == "sg" else "plural"
        return f"""
            9 {noun} | number={number}
            1 {pronoun} | subject={pronoun} number={number}
            """
    if agreement == "sg":
        return f"""
            46 {noun} | number=singular
            12 NAME | number=singular
            19 he | subject=he number=singular
            17 she | subject=she number=singular
            3 everyone | subject=everyone number=singular
            3 someone | subject=someone number=singular
            """
    return f"""
        45 {noun} | number=plural
        5 the NOUN.human.sg and the NOUN.human.sg | number=plural
        4 NAME and NAME | number=plural
        17 they | subject=they number=plural
        17 we | subject=we number=plural
        15 you | subject=you number=plural
        """


def _object(kind: str, depth: str) -> str:
    plural = SHARE_PLURAL.get(kind, 25)
    rules = f"{100 - plural} NP.{kind}.sg.{depth}\n {plural} NP.{kind}.pl.{depth}\n"
    if kind == "human":
        return rules + "11 NAME\n 7 me\n 6 him\n 6 her\n 5 them\n 4 us\n 4 you\n 2 everyone\n 2 someone"
    if kind == "thing":
        return rules + "5 it\n 3 them\n 2 something"
    if kind == "place":
        return rules + "16 CITY"
    if kind == "surface":
        return rules
    return rules + "4 it\n 2 them"


def _possessor() -> str:
    return """
        6 his
        6 her
        6 my
        4 their
        4 your
        4 our
        3 NAME 's
        """


def _owner() -> str:
    return "1 the NOUN.human.sg 's"


PHRASES: dict[str, Callable[..., str]] = {
    "NP": _noun_phrase,
    "SIMPLE": _simple,
    "NBAR": _nbar,
    "INDEFINITE": _indefinite,
    "NOUN": _noun,
    "ADJECTIVE": _adjective,
    "SUBJECT": _subject,
    "OBJECT": _object,
    "POSSESSOR": _possessor,
    "OWNER": _owner,
    "NAME": lexicon.rules_of(f"{lexicon.MEN} {lexicon.WOMEN}", "subject"),
    "CITY": lexicon.rules_of(lexicon.CITIES),
    "MASS": lexicon.rules_of(lexicon.MASS_FOODS, "subject"),
    "NUMBER": lexicon.rules_of(lexicon.NUMBERS),
}
