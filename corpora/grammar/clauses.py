"""The grammar's sentences, clauses and verb groups, written as in `phrases`."""

from collections.abc import Callable, Mapping

SUBJECTS = {  # the weight of each kind of subject
    "human": 74,
    "animal": 10,
    "thing": 6,
    "vehicle": 4,
    "text": 2,
    "place": 2,
    "food": 1,
    "topic": 2,
}
ACTIVE = ("human", "animal", "thing", "vehicle")  # kinds of subject that have verbs besides "be"
AGREEMENTS = {"i": 14, "sg": 56, "pl": 30}  # I, the third person singular, all others
TENSES = {  # tense, aspect, weight, form of the verb
    "present": ("present", "simple", 30, ""),
    "past": ("past", "simple", 40, "past"),
    "future": ("future", "simple", 11, "base"),
    "progressive": ("present", "progressive", 8, "ing"),
    "pastprogressive": ("past", "progressive", 6, "ing"),
    "perfect": ("present", "perfect", 11, "participle"),
}
MAY_BE = ("present", "past", "future", "perfect")  # tenses of the copula
DO = {"present": {"i": "do", "sg": "does", "pl": "do"}, "past": {"i": "did", "sg": "did", "pl": "did"}}
BE = {"present": {"i": "am", "sg": "is", "pl": "are"}, "past": {"i": "was", "sg": "was", "pl": "were"}}
BE_AFTER = {"future": "be", "perfect": "been"}  # what stands between the auxiliary of a tense and a state
HAVE = {"i": "have", "sg": "has", "pl": "have"}
COPULAR_SHARE = {"human": 0.15, "animal": 0.2, "thing": 0.6, "vehicle": 0.4}  # of clauses; 1 for all others
AFFIRMATIVE = 0.84


def _root() -> str:
    return """
        46 CLAUSE.2 . | clause_type=statement
        5 CLAUSE.1 , and CLAUSE.0 . | clause_type=statement conjunction=and
        4 CLAUSE.1 , but CLAUSE.0 . | clause_type=statement conjunction=but
        4 CLAUSE.1 because CLAUSE.0 . | clause_type=statement conjunction=because
        3 CLAUSE.1 although CLAUSE.0 . | clause_type=statement conjunction=although
        3 there THERE.1 . | clause_type=statement verb=be aspect=simple
        13 QUESTION.2 ? | clause_type=question
        9 WH ? | clause_type=wh_question
        7 COMMAND | clause_type=command tense=none aspect=none number=none subject=none
        """


def _clause(depth: str) -> str:
    inner = max(int(depth) - 1, 0)
    return _by_subject(lambda kind, a: f"SUBJECT.{kind}.{a}.{inner} VP.{kind}.{a}.{depth}", AGREEMENTS)


def _question(depth: str) -> str:
    return _by_subject(lambda kind, a: f"ASKED.{kind}.{a}.{depth}", {"i": 3, "sg": 50, "pl": 47})


def _by_subject(right: Callable[[str, str], str], agreements: Mapping[str, float]) -> str:
    return "\n".join(
        f"{weight * share} {right(kind, agreement)}"
        for kind, weight in SUBJECTS.items()
        for agreement, share in agreements.items()
        if kind == "human" or agreement != "i"
    )


def _vp(kind: str, agreement: str, depth: str) -> str:
    return _by_tense("FINITE", kind, agreement, depth)


def _asked(kind: str, agreement: str, depth: str) -> str:
    return _by_tense("INVERTED", kind, agreement, depth)


def _by_tense(category: str, kind: str, agreement: str, depth: str) -> str:
    rules = ""
    for name, (tense, aspect, weight, _) in TENSES.items():
        if kind in ACTIVE or name in MAY_BE:
            symbol = f"{category}.{kind}.{agreement}.{name}.{depth}"
            dated = 0 if depth == "0" else 0.3
            factors = f"tense={tense} aspect={aspect}"
            rules += f"{weight * (1 - dated)} {symbol} | {factors}\n"
            rules += f"{weight * dated} {symbol} TIME.{name} | {factors}\n"
    return rules


def _finite(kind: str, agreement: str, tense: str, depth: str) -> str:
    """The verb group and what follows: went, did n't go, will go, is going, has gone; is old, has n't been old."""
    share = _copular_share(kind, tense)
    finite = f"PREDICATE.{kind}.{_form(tense, agreement)}.{depth}"
    if tense in DO:
        often = 0.1 if kind == "human" else 0
        weight = (1 - share) * AFFIRMATIVE
        rules = f"""
            {weight * (1 - often)} {finite} | polarity=affirmative
            {weight * often} OFTEN {finite} | polarity=affirmative
            """
        rules += _negated(1 - share, DO[tense][agreement], f"PREDICATE.{kind}.base.{depth}")
    else:
        rules = _with_auxiliary(1 - share, _auxiliary(tense, agreement), finite)
    state = f"{BE_AFTER.get(tense, '')} STATE.{kind}.{agreement}.{depth}"
    return rules + _with_auxiliary(share, _auxiliary(tense, agreement), state, "verb=be")


def _with_auxiliary(weight: float, auxiliary: str, rest: str, factors: str = "") -> str:
    affirmative = f"{weight * AFFIRMATIVE} {auxiliary} {rest} | polarity=affirmative {factors}\n"
    return affirmative + _negated(weight, auxiliary, rest, factors)


def _negated(weight: float, auxiliary: str, rest: str, factors: str = "") -> str:
    contracted = 0 if auxiliary == "am" else 0.7
    weight *= 1 - AFFIRMATIVE
    return f"""
        {weight * (1 - contracted)} {auxiliary} not {rest} | polarity=negative {factors}
        {weight * contracted} {_before_nt(auxiliary)} n't {rest} | polarity=negative {factors}
        """


def _inverted(kind: str, agreement: str, tense: str, depth: str) -> str:
    """The verb group of a question, around its subject: did n't she go, is she going, has she been old."""
    share = _copular_share(kind, tense)
    auxiliary = _auxiliary(tense, agreement)
    if tense in DO:
        predicate = _asking(1 - share, DO[tense][agreement], kind, agreement, f"PREDICATE.{kind}.base.{depth}")
    else:
        form = _form(tense, agreement)
        predicate = _asking(1 - share, auxiliary, kind, agreement, f"PREDICATE.{kind}.{form}.{depth}")
    state = f"{BE_AFTER.get(tense, '')} STATE.{kind}.{agreement}.{depth}"
    return predicate + _asking(share, auxiliary, kind, agreement, state, "verb=be")


def _asking(weight: float, auxiliary: str, kind: str, agreement: str, rest: str, factors: str = "") -> str:
    rest = f"SUBJECT.{kind}.{agreement}.0 {rest}"
    negative = 0 if auxiliary == "am" else 0.5 * (1 - AFFIRMATIVE)
    return f"""
        {weight * (1 - negative)} {auxiliary} {rest} | polarity=affirmative {factors}
        {weight * negative} {_before_nt(auxiliary)} n't {rest} | polarity=negative {factors}
        """


def _copular_share(kind: str, tense: str) -> float:
    return COPULAR_SHARE.get(kind, 1.0) if tense in MAY_BE else 0.0


def _form(tense: str, agreement: str) -> str:
    return TENSES[tense][3] or ("third" if agreement == "sg" else "base")


def _auxiliary(tense: str, agreement: str) -> str:
    """The finite form of be, have or will."""
    if tense == "future":
        return "will"
    if tense == "perfect":
        return HAVE[agreement]
    return BE[TENSES[tense][0]][agreement]


def _before_nt(auxiliary: str) -> str:
    return "wo" if auxiliary == "will" else auxiliary


def _there(depth: str) -> str:
    rules = ""
    for tense, weight in (("present", 5), ("past", 6)):
        for kind, share in (("human", 3), ("animal", 3), ("thing", 4), ("vehicle", 2)):
            for number, name, nouns in (
                ("sg", "singular", f"INDEFINITE.{kind}"),
                ("pl", "plural", f"NUMBER NBAR.{kind}.pl"),
            ):
                factors = f"tense={tense} polarity=affirmative number={name}"
                rules += f"{weight * share} {BE[tense][number]} {nouns} PP.loc.{depth} | {factors}\n"
    return rules


def _wh() -> str:
    return """
        12 who VP.human.sg.1 | subject=who number=singular
        12 what FRONTED.what
        9 where FRONTED.where
        7 why ASKED.human.sg.1
        4 why ASKED.human.pl.1
        5 when FRONTED.when
        5 how FRONTED.how
        4 who FRONTED.who
        3 WHICH FRONTED.thing
        """


def _which() -> str:
    return "1 which NOUN.thing.sg"


def _fronted(gap: str) -> str:
    rules = ""
    for agreement, share in (("sg", 56), ("pl", 44)):
        for tense, weight in (("past", 6), ("present", 3), ("future", 2)):
            auxiliary = DO[tense][agreement] if tense in DO else "will"
            right = f"{auxiliary} SUBJECT.human.{agreement}.0 GAP.{gap}"
            rules += f"{share * weight} {right} | tense={tense} aspect=simple polarity=affirmative\n"
    return rules


def _gap(gap: str) -> str:
    return {
        "what": "4 VERB.thing.base\n 3 VERB.food.base\n 3 VERB.text.base\n 2 VERB.give.base PP.to.0\n 3 do | verb=do",
        "who": "1 VERB.human.base",
        "thing": "4 VERB.thing.base\n 1 VERB.give.base PP.to.0",
        "where": """
            4 VERB.go.base
            4 VERB.stay.base
            3 VERB.thing.base OBJECT.thing.0
            2 VERB.food.base OBJECT.food.0
            2 VERB.human.base OBJECT.human.0
            """,
        "when": "1 CORE.human.base.0",
        "how": "1 CORE.human.base.0",
    }[gap]


def _command() -> str:
    predicate = "PREDICATE.human.imperative.1"
    return f"""
        38 {predicate} . | polarity=affirmative
        8 {predicate} ! | polarity=affirmative
        22 please {predicate} . | polarity=affirmative
        16 do n't {predicate} . | polarity=negative
        6 please do n't {predicate} . | polarity=negative
        10 let 's {predicate} . | polarity=affirmative
        """


def _relative(kind: str, number: str, depth: str) -> str:
    pronoun = "who" if kind == "human" else "that"
    rules = f"50 {pronoun} VP.{kind}.{number}.{depth}\n"
    for agreement, share in AGREEMENTS.items():
        clause = f"SUBJECT.human.{agreement}.0 HELD.{kind}.{agreement}"
        rules += f"{0.3 * share} that {clause}\n {0.2 * share} {clause}\n"
    return rules


def _held(kind: str, agreement: str) -> str:
    """A predicate without the object of which the relative clause speaks."""
    verb = f"VERB.{kind}"
    return f"""
        60 {verb}.past
        16 {verb}.{_form("present", agreement)}
        14 {HAVE[agreement]} {verb}.participle
        7 did n't {verb}.base
        5 will {verb}.base
        """


CLAUSES: dict[str, Callable[..., str]] = {
    "ROOT": _root,
    "CLAUSE": _clause,
    "QUESTION": _question,
    "VP": _vp,
    "ASKED": _asked,
    "FINITE": _finite,
    "INVERTED": _inverted,
    "THERE": _there,
    "WH": _wh,
    "WHICH": _which,
    "FRONTED": _fronted,
    "GAP": _gap,
    "COMMAND": _command,
    "REL": _relative,
    "HELD": _held,
}
