"""The grammar's phrases around nouns: each function gives the rules of one category of symbols.

A symbol is a category and its features, joined by dots: `NP.human.sg.1` is a noun phrase that names humans, in the
singular, of depth 1. A phrase holds only phrases of a lower depth, which bounds every sentence. A rule is a line: its
weight among the rules of its symbol, its right side, and after a bar what it says about the sentence.
"""

from collections.abc import Callable

from corpora.grammar import lexicon

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
    "human": "10 PP.loc 5 PP.with 3 PP.having 13 REL",
    "animal": "15 PP.loc 10 REL",
    "thing": "16 PP.loc 13 REL",
    "food": "12 PP.loc 10 REL",
    "text": "5 PP.loc 15 PP.about 12 REL",
    "vehicle": "12 PP.loc 10 REL",
    "place": "10 PP.loc 7 REL",
    "surface": "14 PP.loc",
    "topic": "8 PP.about 10 REL",
}


def _noun_phrase(kind: str, number: str, depth: str) -> str:
    rules = f"80 SIMPLE.{kind}.{number}\n"
    if kind == "human" and number == "sg":
        rules += "16 NAME\n"
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
        """ if possessed else ""  # fmt: skip
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
        """


def _owner() -> str:
    return "1 the NOUN.human.sg 's"


def _prepositional(role: str, depth: str) -> str:
    return {
        "loc": f"""
            40 in OBJECT.place.{depth}
            14 near OBJECT.place.{depth}
            5 behind NP.place.sg.{depth}
            5 outside NP.place.sg.{depth}
            16 on OBJECT.surface.{depth}
            5 under NP.surface.sg.{depth}
            3 between the NOUN.place.sg and the NOUN.place.sg
            """,
        "goal": f"""
            70 to OBJECT.place.{depth}
            6 into NP.place.sg.{depth}
            6 across NP.surface.sg.{depth}
            7 from CITY to CITY
            """,
        "with": f"""
            8 with OBJECT.human.{depth}
            2 with NP.animal.sg.{depth}
            2 without OBJECT.human.{depth}
            """,
        "having": f"1 with NP.thing.sg.{depth}",
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
        "present": """
            6 every day
            3 every PERIOD
            2 every PART
            3 PP.weekday
            2 PP.season
            2 in the PART
            2 at night
            """,
        "progressive": "6 now\n 4 today\n 2 at the moment\n 2 again",
        "past": """
            9 yesterday
            5 last PERIOD
            2 last night
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
    "OWNER": _owner,
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
