"""The grammar's adjuncts, prepositional phrases, times and adverbs, written as in `phrases`."""

from collections.abc import Callable

import corpora.grammar.lexicon as lexicon


def _pp(role: str, depth: str = "") -> str:
    fixed = {
        "day": "1 on DAY",
        "weekday": "1 on WEEKDAY",
        "month": "1 in MONTH",
        "season": "1 in SEASON\n 1 in the SEASON",
        "hour": "1 at HOUR o'clock",
        "part": "1 in the PART",
        "night": "1 at night",
        "moment": "1 at the moment",
        "delay": "1 in NUMBER DURATION",
        "since": "1 since DAY",
        "recipient": "1 to RECIPIENT",
    }
    return fixed[role] if role in fixed else _prepositional(role, depth)


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
            3 about OBJECT.human.{depth}
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
            2 PP.part
            2 PP.night
            """,
        "progressive": "6 now\n 4 today\n 2 PP.moment\n 2 again",
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
            3 PP.delay
            """,
        "perfect": "4 today\n 3 recently\n 2 twice\n 2 many times\n 2 before\n 2 this PERIOD\n 2 PP.since",
    }[tense]


ADJUNCTS: dict[str, Callable[..., str]] = {
    "PP": _pp,
    "TIME": _time,
    "HOUR": lexicon.rules_of(lexicon.HOURS),
    "DAY": lexicon.rules_of(lexicon.DAYS),
    "WEEKDAY": lexicon.rules_of(lexicon.WEEKDAYS),
    "MONTH": lexicon.rules_of(lexicon.MONTHS),
    "SEASON": lexicon.rules_of(lexicon.SEASONS),
    "PERIOD": lexicon.rules_of(lexicon.PERIODS),
    "DURATION": lexicon.rules_of(lexicon.DURATIONS),
    "PART": lexicon.rules_of(lexicon.PARTS),
    "MANNER": lexicon.rules_of(lexicon.ADVERBS["manner"]),
    "OFTEN": lexicon.rules_of(lexicon.ADVERBS["often"]),
    "DEGREE": lexicon.rules_of(lexicon.ADVERBS["degree"]),
}
