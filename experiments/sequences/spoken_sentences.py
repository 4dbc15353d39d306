"""English sentences of a small grammar of our own, for a speech synthesiser to say."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_PEOPLE = (
    ("baker", "bakers"), ("boy", "boys"), ("farmer", "farmers"), ("fisher", "fishers"),
    ("gardener", "gardeners"), ("girl", "girls"), ("guard", "guards"), ("judge", "judges"),
    ("king", "kings"), ("neighbour", "neighbours"), ("nurse", "nurses"), ("painter", "painters"),
    ("poet", "poets"), ("sailor", "sailors"), ("shepherd", "shepherds"), ("singer", "singers"),
    ("soldier", "soldiers"), ("teacher", "teachers"), ("thief", "thieves"),
    ("visitor", "visitors"), ("waiter", "waiters"), ("watchmaker", "watchmakers"),
    ("youth", "youths"),
)  # fmt: skip
_THINGS = (
    ("apple", "apples"), ("bird", "birds"), ("boat", "boats"), ("box", "boxes"),
    ("cart", "carts"), ("chair", "chairs"), ("coin", "coins"), ("cloud", "clouds"),
    ("feather", "feathers"), ("fish hook", "fish hooks"), ("garage", "garages"),
    ("hammer", "hammers"), ("jar", "jars"), ("ladder", "ladders"), ("letter", "letters"),
    ("mouse", "mice"), ("onion", "onions"), ("path", "paths"), ("picture", "pictures"),
    ("ring", "rings"), ("shoe", "shoes"), ("song book", "song books"), ("spoon", "spoons"),
    ("treasure", "treasures"), ("vase", "vases"),
    ("watch", "watches"), ("wheel", "wheels"), ("yoke", "yokes"), ("zebra", "zebras"),
)  # fmt: skip
_ADJECTIVES = (
    "blue", "brave", "broken", "calm", "cheerful", "clean", "curious", "empty", "foreign", "gentle",
    "huge", "idle", "jolly", "large", "lazy", "little", "loud", "narrow", "old", "proud", "quiet",
    "royal", "rough", "short", "smooth", "strange", "tall", "thin", "useful", "vain", "weary",
    "white", "young",
)  # fmt: skip
# (with a plural, with a singular, in the past): what somebody does with a thing.
_TRANSITIVE = (
    ("admire", "admires", "admired"), ("borrow", "borrows", "borrowed"),
    ("buy", "buys", "bought"), ("carry", "carries", "carried"), ("choose", "chooses", "chose"),
    ("draw", "draws", "drew"), ("enjoy", "enjoys", "enjoyed"), ("find", "finds", "found"),
    ("forget", "forgets", "forgot"), ("hide", "hides", "hid"), ("hold", "holds", "held"),
    ("lose", "loses", "lost"), ("measure", "measures", "measured"), ("move", "moves", "moved"),
    ("need", "needs", "needed"), ("push", "pushes", "pushed"), ("see", "sees", "saw"),
    ("sell", "sells", "sold"), ("show", "shows", "showed"), ("take", "takes", "took"),
    ("think about", "thinks about", "thought about"), ("touch", "touches", "touched"),
    ("wash", "washes", "washed"), ("watch", "watches", "watched"),
)  # fmt: skip
_INTRANSITIVE = (
    ("argue", "argues", "argued"), ("dance", "dances", "danced"), ("laugh", "laughs", "laughed"),
    ("play", "plays", "played"), ("rest", "rests", "rested"), ("shout", "shouts", "shouted"),
    ("sing", "sings", "sang"), ("sleep", "sleeps", "slept"), ("smile", "smiles", "smiled"),
    ("travel", "travels", "travelled"), ("wait", "waits", "waited"), ("walk", "walks", "walked"),
    ("whistle", "whistles", "whistled"), ("work", "works", "worked"), ("yawn", "yawns", "yawned"),
)  # fmt: skip
_SETTINGS = (
    "above the valley", "at the station", "behind the church", "beside the fire", "by the sea",
    "in the kitchen", "in the dark cellar", "near the old bridge", "on the beach", "on the road",
    "outside the town", "through the forest", "under the trees", "with joy", "without a word",
)  # fmt: skip
_TIMES = (
    "after lunch", "at five o'clock", "at noon", "before breakfast", "during the show",
    "every evening", "in the morning", "on Thursdays", "twice a month", "usually",
)  # fmt: skip
_OF_ONE = ("the", "a", "this", "that", "every", "one")
_OF_MANY = ("the", "these", "those", "some", "many", "two", "three", "four", "seven", "eight")
_PLURAL, _SINGULAR, _PAST = range(3)
_VOWELS = tuple("aeio")  # no word above begins with a "u" that asks for "an"

_Option = TypeVar("_Option")


def sentences(count: int, rng: np.random.Generator) -> list[str]:
    """Sentences of which no two are equal; the grammar has thousands of millions."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[_sentence(rng)] = None
    return list(found)


def _sentence(rng: np.random.Generator) -> str:
    """One sentence, of four kinds, in the present or in the past."""
    kind = rng.integers(4)
    past = bool(rng.integers(2))
    if kind == 0:
        text = f"{_clause(rng, past)} {_pick(rng, _SETTINGS)}."
    elif kind == 1:
        text = f"{_pick(rng, _TIMES)}, {_clause(rng, past)}."
    elif kind == 2:
        text = f"{_clause(rng, past)}, and {_short_clause(rng, past)}."
    else:
        text = _question(rng, past)
    return text[0].upper() + text[1:]


def _clause(rng: np.random.Generator, past: bool) -> str:
    """Somebody does something with a thing."""
    subject, form = _somebody(rng)
    verb = _pick(rng, _TRANSITIVE)[_PAST if past else form]
    return f"{subject} {verb} {_something(rng)}"


def _short_clause(rng: np.random.Generator, past: bool) -> str:
    subject, form = _somebody(rng)
    return f"{subject} {_pick(rng, _INTRANSITIVE)[_PAST if past else form]} {_pick(rng, _SETTINGS)}"


def _question(rng: np.random.Generator, past: bool) -> str:
    subject, form = _somebody(rng)
    auxiliary = "did" if past else ("do", "does")[form]
    verb = _pick(rng, _TRANSITIVE)[_PLURAL]
    return f"{auxiliary} {subject} {verb} {_something(rng)} {_pick(rng, _SETTINGS)}?"


def _somebody(rng: np.random.Generator) -> tuple[str, int]:
    """Who does it, and which form the verb has then."""
    return _noun_phrase(rng, _PEOPLE)


def _something(rng: np.random.Generator) -> str:
    return _noun_phrase(rng, _THINGS)[0]


def _noun_phrase(rng: np.random.Generator, nouns: tuple[tuple[str, str], ...]) -> tuple[str, int]:
    singular, plural = _pick(rng, nouns)
    many = bool(rng.integers(2))
    words = [plural if many else singular]
    if rng.integers(3):
        words.insert(0, _pick(rng, _ADJECTIVES))
    determiner = _pick(rng, _OF_MANY if many else _OF_ONE)
    if determiner == "a" and words[0].startswith(_VOWELS):
        determiner = "an"
    return " ".join([determiner, *words]), _PLURAL if many else _SINGULAR


def _pick(rng: np.random.Generator, options: Sequence[_Option]) -> _Option:
    return options[int(rng.integers(len(options)))]
