"""The grammar's phrases around nouns: each function gives the rules of one category of symbols.

A symbol is a category and its features, joined by dots: `NP.human.sg.1` is a noun phrase that names humans, in the
singular, of depth 1. A phrase holds only phrases of a lower depth, which bounds every sentence. A rule is a line: its
weight among the rules of its symbol, its right side, and after a bar what it says about the sentence.
"""

from collections.abc import Callable

from corpora.grammar import lexicon

SHARE_PLURAL = {"human": 30, "animal": 35, "food": 40, "place": 10, "surface": 8, "vehicle": 20}  # of 100; others 25
MODIFIERS = {  # what may follow a noun, by its kind
    "human": "12 PP.loc 5 PP.with 9 REL",
    "animal": "12 PP.loc 7 REL",
    "thing": "12 PP.loc 8 REL",
    "food": "10 PP.loc 6 REL",
    "text": "5 PP.loc 12 PP.about 8 REL",
    "vehicle": "9 PP.loc 6 REL",
    "place": "9 PP.loc 5 REL",
    "surface": "12 PP.loc",
    "topic": "8 PP.about 8 REL",
}


def _noun_phrase(kind: str, number: str, depth: str) -> str:
    rules = f"80 SIMPLE.{kind}.{number}\n"
    if kind == "human" and number == "sg":
        rules += "16 NAME\n"
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
    if number == "pl":
        return f"""
            26 the {noun}
            12 {noun}
            9 POSSESSOR {noun}
            7 NUMBER {noun}
            5 some {noun}
            3 many {noun}
            3 these {noun}
            2 those {noun}
            2 several {noun}
            1 all the {noun}
            """
    mass = "6 the MASS\n 5 some MASS\n 5 MASS" if kind == "food" else ""
    return f"""
        34 the {noun}
        24 INDEFINITE.{kind}
        10 POSSESSOR {noun}
        5 this {noun}
        3 that {noun}
        2 every {noun}
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
            rules += f"{weight * share / sum(shares.values())!r} {article} {symbol}.{article}{rest}\n" if share else ""
    return rules


def _noun(kind: str, number: str, article: str = "") -> str:
    words = {s if number == "sg" else p: s for s, p in _nouns(kind)}
    return "\n".join(
        f"{weight!r} {word} | subject={words[word]}"
        for word, weight in lexicon.frequencies(list(words)).items()
        if not article or lexicon.article(word) == article
    )


def _nouns(kind: str) -> list[tuple[str, str]]:
    return [lexicon.noun_forms(entry) for entry in lexicon.NOUNS[kind].split()]


def _adjective(kind: str, article: str = "") -> str:
    weights = lexicon.frequencies(lexicon.ADJECTIVES[kind].split())
    return "\n".join(f"{w!r} {word}" for word, w in weights.items() if not article or lexicon.article(word) == article)


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
            58 {noun} | number=singular
            19 he | subject=he number=singular
            17 she | subject=she number=singular
            3 everyone | subject=everyone number=singular
            3 someone | subject=someone number=singular
            """
    return f"""
        45 {noun} | number=plural
        6 NP.human.sg.0 and NP.human.sg.0 | number=plural
        17 they | subject=they number=plural
        17 we | subject=we number=plural
        15 you | subject=you number=plural
        """


def _object(kind: str, depth: str) -> str:
    plural = SHARE_PLURAL.get(kind, 25)
    rules = f"{100 - plural} NP.{kind}.sg.{depth}\n {plural} NP.{kind}.pl.{depth}\n"
    if kind == "human":
        return rules + "7 me\n 6 him\n 6 her\n 5 them\n 4 us\n 4 you\n 2 everyone\n 2 someone"
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
        3 the NOUN.human.sg 's
        """


def _prepositional(role: str, depth: str) -> str:
    return {
        "loc": f"""
            40 in OBJECT.place.{depth}
            14 near OBJECT.place.{depth}
            5 behind NP.place.sg.{depth}
            5 outside NP.place.sg.{depth}
            16 on OBJECT.surface.{depth}
            5 under NP.surface.sg.{depth}
            3 between NP.place.sg.0 and NP.place.sg.0
            """,
        "goal": f"""
            70 to OBJECT.place.{depth}
            6 into NP.place.sg.{depth}
            6 across NP.surface.sg.{depth}
            8 from OBJECT.place.0 to OBJECT.place.0
            """,
        "with": f"""
            6 with OBJECT.human.{depth}
            3 with NP.thing.sg.{depth}
            2 with OBJECT.animal.{depth}
            2 without NP.human.sg.{depth}
            """,
        "about": f"""
            5 about NP.topic.sg.{depth}
            3 about NP.human.sg.{depth}
            2 about NP.animal.pl.{depth}
            1 about CITY
            """,
        "at": f"1 at OBJECT.human.{depth}",
        "to": f"1 to OBJECT.human.{depth}",
        "for": f"1 for OBJECT.human.{depth}",
    }[role]


def _time(tense: str) -> str:
    return {
        "present": "6 every PERIOD\n 3 PP.weekday\n 2 PP.season\n 2 in the PART\n 2 at night",
        "progressive": "6 now\n 4 today\n 2 at the moment\n 2 again",
        "past": """
            9 yesterday
            6 last PERIOD
            4 PP.day
            3 PP.month
            2 PP.season
            3 PP.hour
            4 NUMBER DURATION ago
            2 this PART
            """,
        "pastprogressive": "4 yesterday\n 3 PP.hour\n 3 that PART\n 2 last night",
        "future": """
            9 tomorrow
            6 next PERIOD
            4 soon
            4 PP.day
            2 PP.month
            3 PP.hour
            3 in NUMBER DURATION
            """,
        "perfect": "4 today\n 3 recently\n 2 twice\n 2 many times\n 2 before\n 2 this PERIOD\n 2 since DAY",
    }[tense]


def _words(text: str) -> Callable[[], str]:
    """A class of words that has no features."""
    return lambda: "\n".join(f"{weight!r} {word}" for word, weight in lexicon.frequencies(text.split()).items())


def _name() -> str:
    names = [*lexicon.MEN.split(), *lexicon.WOMEN.split()]
    return "\n".join(f"{weight!r} {name} | subject={name}" for name, weight in lexicon.frequencies(names).items())


def _pp(role: str, depth: str = "") -> str:
    fixed = {
        "day": "1 on DAY",
        "weekday": "1 on WEEKDAY",
        "month": "1 in MONTH",
        "season": "1 in SEASON\n 1 in the SEASON",
        "hour": "1 at HOUR o'clock",
    }
    return fixed[role] if role in fixed else _prepositional(role, depth)


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
    "PP": _pp,
    "TIME": _time,
    "NAME": _name,
    "CITY": _words(lexicon.CITIES),
    "MASS": _words(lexicon.MASS_FOODS),
    "NUMBER": _words(lexicon.NUMBERS),
    "HOUR": _words(lexicon.HOURS),
    "DAY": _words(lexicon.DAYS),
    "WEEKDAY": _words(lexicon.WEEKDAYS),
    "MONTH": _words(lexicon.MONTHS),
    "SEASON": _words(lexicon.SEASONS),
    "PERIOD": _words(lexicon.PERIODS),
    "DURATION": _words(lexicon.DURATIONS),
    "PART": _words(lexicon.PARTS),
    "MANNER": _words(lexicon.ADVERBS["manner"]),
    "OFTEN": _words(lexicon.ADVERBS["often"]),
    "DEGREE": _words(lexicon.ADVERBS["degree"]),
}
