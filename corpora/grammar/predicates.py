"""The grammar's predicates: a verb in one of its forms and all that depends on it, written as in `phrases`."""

from collections.abc import Callable

import corpora.grammar.lexicon as lexicon

OBJECTS = {"human": 15, "thing": 17, "food": 9, "text": 9, "animal": 5, "vehicle": 5, "topic": 7, "place": 4}


def _predicate(kind: str, form: str, depth: str) -> str:
    rules = f"72 CORE.{kind}.{form}.{depth}\n"
    if depth != "0":
        inner = int(depth) - 1
        rules += f"14 PREDICATE.{kind}.{form}.{inner} PP.loc.{inner}\n"
        if kind == "human":
            rules += f"8 CORE.human.{form}.{depth} MANNER\n"
            rules += f"7 PREDICATE.human.{form}.{inner} PP.with.0\n"
            rules += f"4 PREDICATE.human.{form}.{inner} and CORE.human.{form}.0\n"
    return rules


def _core(kind: str, form: str, depth: str) -> str:
    inner = max(int(depth) - 1, 0)
    if kind == "human":
        return _human_core(form, inner) + (_deeper_core(form, inner) if depth != "0" else "")
    if kind == "animal":
        return f"""
            50 VERB.prowl.{form}
            24 VERB.hunt.{form} OBJECT.animal.{inner}
            10 VERB.hunt.{form} OBJECT.human.{inner}
            16 VERB.nibble.{form} OBJECT.food.{inner}
            """
    return f"1 VERB.fall.{form}" if kind == "thing" else f"1 VERB.travel.{form}"


def _human_core(form: str, inner: int) -> str:
    transitive = "\n".join(f"{w} VERB.{kind}.{form} OBJECT.{kind}.{inner}" for kind, w in OBJECTS.items())
    return f"""
        16 VERB.rest.{form}
        8 VERB.stay.{form} PP.loc.{inner}
        10 VERB.go.{form} PP.goal.{inner}
        2 VERB.go.{form} home
        4 VERB.at.{form} PP.at.{inner}
        4 VERB.to.{form} PP.to.{inner}
        3 VERB.for.{form} PP.for.{inner}
        4 VERB.give.{form} RECIPIENT NP.thing.sg.{inner}
        2 VERB.give.{form} RECIPIENT NP.text.sg.{inner}
        3 VERB.give.{form} OBJECT.thing.{inner} PP.recipient
        2 VERB.give.{form} NP.text.sg.{inner} PP.recipient
        {transitive}
        """


def _recipient() -> str:
    return "5 me\n 5 him\n 5 her\n 4 them\n 4 us\n 3 you\n 12 NAME\n 12 the NOUN.human.sg"


def _deeper_core(form: str, inner: int) -> str:
    return f"""
        6 VERB.put.{form} OBJECT.thing.{inner} PP.loc.{inner}
        12 VERB.say.{form} that CLAUSE.{inner}
        4 VERB.say.{form} CLAUSE.{inner}
        7 VERB.tell.{form} RECIPIENT that CLAUSE.{inner}
        11 VERB.try.{form} to PREDICATE.human.base.{inner}
        """


def _verb(verb_class: str, form: str) -> str:
    entries = lexicon.VERBS[verb_class].split()
    if form not in ("ing", "imperative"):
        entries = [*lexicon.STATIVE_VERBS.get(verb_class, "").split(), *entries]
    weights = lexicon.frequencies(entries)
    return "\n".join(f"{w} {lexicon.verb_form(base, form)} | verb={base}" for base, w in weights.items())


def _state(kind: str, agreement: str, depth: str) -> str:
    """What a subject can be: old, very old, in the garden, a teacher."""
    rules = f"50 BEING.{kind}\n 24 ADJECTIVE.{kind}\n 8 DEGREE ADJECTIVE.{kind}\n"
    if kind not in ("place", "topic"):
        rules += f"20 PP.loc.{depth}\n"
    if kind == "human":
        rules += "12 NOUN.human.pl\n" if agreement == "pl" else "12 INDEFINITE.human\n"
    return rules


def _being(kind: str) -> str:
    return lexicon.rules_of(lexicon.STATES[kind])()


PREDICATES: dict[str, Callable[..., str]] = {
    "PREDICATE": _predicate,
    "CORE": _core,
    "RECIPIENT": _recipient,
    "VERB": _verb,
    "STATE": _state,
    "BEING": _being,
}
