"""The words of the grammar by class, the most frequent of each class first, and their inflected forms."""

from collections.abc import Callable, Sequence

# Nouns by what they name; `singular/plural` where the plural is irregular.
NOUNS = {
    "human": """man/men woman/women child/children teacher doctor friend boy girl student farmer nurse king writer
        driver painter singer lawyer soldier actor artist engineer baker guest lady waiter sailor judge visitor officer
        stranger hunter tailor prince queen""",
    "kin": """friend mother father brother sister teacher son daughter neighbor wife/wives husband uncle aunt cousin
        doctor""",
    "animal": """dog cat horse bird cow sheep/sheep mouse/mice fox rabbit duck goose/geese wolf/wolves bear elephant
        lion monkey owl pig goat donkey""",
    "thing": """key box bag lamp ball knife/knives bottle coat hat umbrella ring watch camera clock cup mirror
        basket coin rope hammer pencil plate toy gift ticket map blanket candle envelope""",
    "food": """apple cake egg orange sandwich potato pie tomato banana carrot pear onion cookie peach""",
    "text": """book letter story newspaper report poem article message novel diary essay note""",
    "vehicle": """car bus train boat truck taxi bicycle ship plane ferry""",
    "place": """house garden school park market office station hospital library church museum village forest hotel
        restaurant shop castle city kitchen airport theater bakery""",
    "surface": """table bench hill bridge beach roof sofa shelf/shelves desk stage island farm""",
    "topic": """problem plan idea question answer truth mistake secret reason accident game war""",
}
MASS_FOODS = "bread soup cheese rice meat butter honey salad chocolate"
MEN = "john peter paul david thomas george james robert daniel henry frank oscar"
WOMEN = "mary anna susan helen alice emma laura julia sarah rose clara ida"
CITIES = "paris london rome berlin boston madrid vienna chicago dublin athens oslo lisbon"

ADJECTIVES = {
    "human": "old young tall famous clever poor rich kind brave honest strange friendly lonely shy",
    "animal": "small big black white old wild hungry young brown gentle angry",
    "thing": "old new small red big heavy blue green beautiful cheap expensive ugly",
    "food": "fresh sweet cold green delicious expensive ripe old",
    "text": "long new short old interesting boring strange famous important",
    "vehicle": "old red new fast white slow yellow big",
    "place": "old small new big quiet beautiful large crowded famous",
    "surface": "old high long narrow low",
    "topic": "difficult new simple serious strange important terrible interesting obvious",
}
STATES = {  # what a subject of each kind can be besides: the book is lost
    "human": "happy tired sick ready sad angry busy late afraid hungry asleep right wrong nervous proud alone",
    "animal": "asleep hungry tired quiet afraid sick thirsty",
    "thing": "dirty broken missing wet clean useful empty lost dry",
    "food": "ready warm good bad hot",
    "text": "true famous lost good difficult funny",
    "vehicle": "late fast full ready early dirty",
    "topic": "clear wrong good bad over dangerous",
    "place": "open closed full safe dark",
}

# Verbs by what stands after them; a class named by a kind of noun takes an object of that kind.
VERBS = {
    "rest": """sleep laugh wait smile work cry dance sing swim arrive run dream shout rest cough leave complain
        return escape pray""",
    "stay": "live sit wait stand stay work sleep walk play hide",
    "go": "go walk run drive come travel return hurry ride move",
    "at": "look laugh smile stare shout point",
    "for": "wait work pay cook look",
    "to": "talk listen speak write lie sing",
    "human": "meet help visit call follow thank invite watch kiss teach marry greet hug blame save",
    "animal": "feed chase catch watch find follow buy ride",
    "thing": """take buy find lose break carry sell drop hide steal bring throw wash clean repair borrow open lift
        paint""",
    "food": "eat buy cook cut taste prepare share finish serve bring",
    "text": "read write finish study translate publish print copy burn quote",
    "vehicle": "drive take park repair rent wash stop steal",
    "place": "leave visit enter clean build photograph",
    "topic": "explain forget discuss solve describe mention study ignore",
    "give": "give show send offer lend bring hand sell throw",
    "put": "put leave hide drop place lose",
    "say": "say hear dream claim explain complain insist report learn admit",
    "tell": "tell warn remind promise convince assure",
    "try": "try decide refuse plan begin learn forget promise",
    "prowl": "run sleep jump swim escape play disappear wander hide drink fight",
    "nibble": "eat find steal smell taste",
    "hunt": "chase follow watch bite frighten attack",
    "fall": "fall break disappear shake move vanish",
    "travel": "arrive stop leave return crash turn depart wait",
}
STATIVE_VERBS = {  # no progressive
    "human": "see know love like hear trust hate remember respect miss admire",
    "animal": "see like hear fear",
    "thing": "want need like see own keep prefer",
    "vehicle": "see want own hear",
    "place": "know see love",
    "hunt": "see hear smell",
    "topic": "know understand remember like doubt",
    "say": "think know believe hope remember fear",
    "try": "want like need love hope prefer",
}
_PAST_AND_PARTICIPLE = """
    begin began begun; bite bit bitten; break broke broken; bring brought brought; build built built;
    buy bought bought; catch caught caught; come came come; cut cut cut; drink drank drunk; drive drove driven;
    eat ate eaten; fall fell fallen; feed fed fed; fight fought fought; find found found; forget forgot forgotten;
    give gave given; go went gone; hear heard heard; hide hid hidden; keep kept kept; know knew known; leave left left;
    lend lent lent; lose lost lost; meet met met; pay paid paid; put put put; read read read; ride rode ridden;
    run ran run; say said said; see saw seen; sell sold sold; send sent sent; shake shook shaken; show showed shown;
    sing sang sung; sit sat sat; sleep slept slept; speak spoke spoken; stand stood stood; steal stole stolen;
    swim swam swum; take took taken; teach taught taught; tell told told; think thought thought; throw threw thrown;
    understand understood understood; write wrote written
    """
IRREGULAR_VERBS = {
    base: (past, participle) for base, past, participle in (entry.split() for entry in _PAST_AND_PARTICIPLE.split(";"))
}
DOUBLED = "admit begin cut drop forget hug plan prefer put run sit stop swim"  # stopped, sitting

ADVERBS = {
    "manner": "quickly slowly quietly carefully happily again alone loudly suddenly calmly badly",
    "often": "often always usually sometimes rarely",
    "degree": "very too so quite rather",
}
NUMBERS = "two three four five six seven eight nine ten twelve twenty fifty"
HOURS = "one two three four five six seven eight nine ten eleven twelve"
DAYS = "monday sunday friday saturday tuesday wednesday thursday"
MONTHS = "june april march july august september october december january february november"
WEEKDAYS = " ".join(f"{day}s" for day in DAYS.split())
SEASONS = "summer winter spring autumn"
PERIODS = "week year month monday sunday"
DURATIONS = "days years weeks months hours minutes"
PARTS = "morning evening afternoon"


def frequencies(words: Sequence[str]) -> dict[str, float]:
    """Weights that fall with the rank of a word in its class, as Zipf and Mandelbrot have it: 1 / (rank + 8)."""
    assert len(set(words)) == len(words), words
    return {word: 1 / (rank + 8) for rank, word in enumerate(words, start=1)}


def noun_forms(entry: str) -> tuple[str, str]:
    """Singular and plural of an entry of `NOUNS`."""
    singular, _, plural = entry.partition("/")
    return singular, plural or add_s(singular)


def verb_form(base: str, form: str) -> str:
    """A verb in a form: base, imperative, third (person singular), past, participle or ing."""
    if form in ("base", "imperative"):
        return base
    if form == "third":
        return add_s(base)
    if form == "ing":
        if base.endswith("ie"):
            return f"{base[:-2]}ying"
        stem = base[:-1] if base.endswith("e") and not base.endswith("ee") else base
        return f"{_doubled(stem)}ing"
    if base in IRREGULAR_VERBS:
        return IRREGULAR_VERBS[base][form == "participle"]
    if base.endswith("y") and not _vowel_before_last(base):
        return f"{base[:-1]}ied"
    return f"{base}d" if base.endswith("e") else f"{_doubled(base)}ed"


def rules_of(words: str, factor: str = "") -> Callable[[], str]:
    """The category of these words alone: a function that gives its rules, as in `phrases`.

    Where a factor is named, each rule says that the word is its value.
    """
    weights = frequencies(words.split())
    return lambda: "\n".join(f"{weight} {w} | {factor and f'{factor}={w}'}" for w, weight in weights.items())


def article(word: str) -> str:
    """The indefinite article before a word."""
    return "an" if word.startswith(("a", "e", "i", "o", "u", "honest")) else "a"


def add_s(word: str) -> str:
    """The plural of a regular noun, or the third person of a regular verb."""
    if word.endswith("y") and not _vowel_before_last(word):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "z", "ch", "sh", "o")) else f"{word}s"


def _doubled(stem: str) -> str:
    return stem + stem[-1] if stem in DOUBLED.split() else stem


def _vowel_before_last(word: str) -> bool:
    return word[-2] in "aeiou"
