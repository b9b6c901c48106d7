"""Captions in plain English, and their exact inverse.

In the phrases below a star marks the word that carries the meaning. Every starred word belongs to one value
of one attribute, so that a text can be read back whatever its word order.
"""

import re
from collections.abc import Collection, Mapping

import numpy as np

from .scene import ATTRIBUTES, Scene

Phrases = Mapping[str, tuple[str, ...]]

SUBJECT: Phrases = {
    "house": ("a {color} *house", "a {color} *house", "a little {color} *house", "a {color} *cottage"),
    "tree": ("a {color} *tree", "a {color} *tree", "a big {color} *tree"),
    "tent": ("a {color} *tent", "a {color} *tent", "a {color} camping *tent"),
    "lighthouse": ("a {color} *lighthouse", "a {color} *lighthouse", "a tall {color} *lighthouse"),
    "balloon": ("a {color} *balloon", "a {color} hot air *balloon", "a big {color} *balloon"),
    "windmill": ("a {color} *windmill", "a {color} *windmill", "an old {color} *windmill"),
}
COLOR: Phrases = {
    "red": ("*red",),
    "yellow": ("*yellow",),
    "green": ("*green",),
    "blue": ("*blue",),
    "purple": ("*purple", "*purple", "*violet"),
    "white": ("*white",),
}
PLACE: Phrases = {
    "meadow": ("in a *meadow", "in a *meadow", "in the *meadows", "among the flowers of a *meadow"),
    "desert": ("in the *desert", "in the *desert", "in a sandy *desert", "among the *dunes"),
    "sea": ("by the *sea", "by the *sea", "at *sea", "in the *ocean"),
    "mountains": ("in the *mountains", "in front of the *mountains", "below high *mountains", "among high *peaks"),
    "city": ("in the *city", "in a *city", "in a big *city", "in *town"),
}
POSITION: Phrases = {
    "left": ("on the *left", "on the *left", "to the *left", "on the *left side"),
    "middle": ("in the *middle", "in the *middle", "in the *center"),
    "right": ("on the *right", "on the *right", "to the *right", "on the *right side"),
}
TIME: Phrases = {
    "day": ("by *day", "in the *daytime", "in *daylight", "at *noon"),
    "sunset": ("at *sunset", "at *sunset", "at *dusk", "in the *evening"),
    "night": ("at *night", "at *night", "by *night", "in the *moonlight"),
}
WEATHER: Phrases = {
    "clear": ("under a *clear sky", "in *clear weather", "under a *cloudless sky"),
    "cloudy": ("under a *cloudy sky", "in *cloudy weather", "under gray *clouds", "under an *overcast sky"),
    "rain": ("in the *rain", "in the *rain", "in *rainy weather", "while it *rains"),
    "snow": ("in the *snow", "in *snowy weather", "in falling *snow", "while it *snows"),
}
# The adjective and noun of "on a rainy night", for when both time and weather are named.
WEATHER_ADJECTIVE: Phrases = {"clear": ("*clear",), "cloudy": ("*cloudy",), "rain": ("*rainy",), "snow": ("*snowy",)}
TIME_NOUN: Phrases = {"day": ("*day",), "sunset": ("*evening",), "night": ("*night",)}
# The style before what is shown ...
STYLE_FIRST: Phrases = {
    "postcard": ("a *postcard of", "a *postcard of", "a picture *postcard showing", "a *postcard with"),
    "oil painting": ("an *oil painting of", "an *oil painting of", "an *oil painting showing"),
    "pencil sketch": ("a *pencil sketch of", "a *pencil drawing of", "a colored *pencil drawing of"),
    "pixel art": ("*pixel art of", "a *pixel art picture of", "*pixel art showing"),
    "watercolor": ("a *watercolor of", "a *watercolor of", "a *watercolor painting of"),
}
# ... or after it.
STYLE_LAST: Phrases = {
    "postcard": ("on a *postcard", "as a *postcard"),
    "oil painting": ("as an *oil painting", "painted in *oils"),
    "pencil sketch": ("as a *pencil sketch", "drawn in colored *pencil"),
    "pixel art": ("in *pixel art", "as *pixel art"),
    "watercolor": ("as a *watercolor", "painted in *watercolor"),
}
# What a text may also say; captions do not.
ALSO_READ: Mapping[str, Mapping[str, str]] = {
    "place": {"field": "meadow", "mountain": "mountains", "seaside": "sea", "island": "sea", "dune": "desert"},
    "time": {"twilight": "sunset", "midnight": "night", "nighttime": "night"},
    "weather": {"raining": "rain", "snowing": "snow", "cloud": "cloudy"},
    "position": {"central": "middle", "centered": "middle"},
    "style": {
        "postcards": "postcard",
        "pixelated": "pixel art",
        "sketch": "pencil sketch",
        "watercolors": "watercolor",
    },
}
PHRASES: tuple[tuple[str, Phrases], ...] = (
    ("place", PLACE),
    ("time", TIME),
    ("time", TIME_NOUN),
    ("weather", WEATHER),
    ("weather", WEATHER_ADJECTIVE),
    ("subject", SUBJECT),
    ("color", COLOR),
    ("position", POSITION),
    ("style", STYLE_FIRST),
    ("style", STYLE_LAST),
)
DETAILS: Mapping[str, Phrases] = {"place": PLACE, "position": POSITION, "time": TIME, "weather": WEATHER}
SOMETHING, ON_A, COMMA, STOP = "something {color}", "on a", ",", "."
FLOATING, STANDING = ("floats", "drifts"), ("stands", "is seen")
THERE_IS, PLAIN_OPENINGS = "there is", ("", "", "a picture of", "a view of")

BRITISH = {"colour": "color", "centre": "center", "grey": "gray"}
COMPLETE_SHARE, MENTION_SHARE = 0.26, 0.8


def tokenize(text: str) -> list[str]:
    """Returns lower-case words and punctuation, American spelling."""
    text = text.lower()
    for british, american in BRITISH.items():
        text = text.replace(british, american)
    return re.findall(r"[a-z]+|[.,]", text)


def _keywords() -> dict[str, tuple[str, str]]:
    """Word -> the attribute and value it names."""
    found: dict[str, tuple[str, str]] = {}
    starred = [
        (word, (attribute, value))
        for attribute, phrases in PHRASES
        for value, choices in phrases.items()
        for word in re.findall(r"\*([a-z]+)", " ".join(choices))
    ]
    also = [(word, (attribute, value)) for attribute, words in ALSO_READ.items() for word, value in words.items()]
    for word, meaning in starred + also:
        if found.setdefault(word, meaning) != meaning:
            raise ValueError(f"{word!r} names both {found[word]} and {meaning}")
    return found


def _vocabulary() -> tuple[str, ...]:
    pieces = [choice for _, phrases in PHRASES for choices in phrases.values() for choice in choices]
    pieces += [SOMETHING, ON_A, COMMA, STOP, THERE_IS, *FLOATING, *STANDING, *PLAIN_OPENINGS]
    return tuple(sorted({token for piece in pieces for token in tokenize(piece.format(color=""))}))


KEYWORDS = _keywords()
VOCABULARY: tuple[str, ...] = _vocabulary()
"""Every word and punctuation mark a caption can contain, sorted."""


def parse(text: str) -> dict[str, str]:
    """Returns the attributes a text names, in the order of `ATTRIBUTES`; of two values for one the first counts.

    Undoes `caption`: parse(caption(scene, rng, mention)) holds the mentioned attributes and no others.
    """
    found: dict[str, str] = {}
    for token in tokenize(text):
        if token in KEYWORDS:
            attribute, value = KEYWORDS[token]
            found.setdefault(attribute, value)
    return {name: found[name] for name in ATTRIBUTES if name in found}


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[rng.integers(len(choices))].replace("*", "")


def _noun(scene: Scene, rng: np.random.Generator, mention: Collection[str]) -> str:
    noun = _pick(rng, SUBJECT[scene.subject]) if "subject" in mention else SOMETHING
    color = _pick(rng, COLOR[scene.color]) if "color" in mention else ""
    return " ".join(noun.format(color=color).split())


def _details(scene: Scene, rng: np.random.Generator, mention: Collection[str]) -> list[str]:
    """Place, position, time and weather, each in a phrase or two of them in one, in any order."""
    details = {
        name: _pick(rng, phrases[scene.attributes[name]]) for name, phrases in DETAILS.items() if name in mention
    }
    if "time" in details and "weather" in details and rng.random() < 0.4:
        del details["weather"]
        details["time"] = f"{ON_A} {_pick(rng, WEATHER_ADJECTIVE[scene.weather])} {_pick(rng, TIME_NOUN[scene.time])}"
    phrases = list(details.values())
    return [phrases[i] for i in rng.permutation(len(phrases))]


def _join(rng: np.random.Generator, head: str, details: list[str]) -> str:
    """The details behind the head, with a comma before each but sometimes the first."""
    if details and rng.random() < 0.75:
        head, details = f"{head} {details[0]}", details[1:]
    return f"{COMMA} ".join([head, *details])


def _sentence(scene: Scene, rng: np.random.Generator, mention: Collection[str]) -> str:
    noun, details = _noun(scene, rng, mention), _details(scene, rng, mention)
    shape = rng.random()
    if "style" in mention and shape < 0.55:
        return _join(rng, f"{_pick(rng, STYLE_FIRST[scene.style])} {noun}", details)
    if "style" in mention:
        details.append(_pick(rng, STYLE_LAST[scene.style]))
    elif shape < 0.4:
        return _join(rng, f"{_pick(rng, PLAIN_OPENINGS)} {noun}".strip(), details)
    if shape < 0.7 or not details:
        return _join(rng, noun, details)
    if shape < 0.8:
        return _join(rng, f"{THERE_IS} {noun}", details)
    verb = _pick(rng, FLOATING if scene.subject == "balloon" else STANDING)
    if "subject" not in mention or shape < 0.9:
        return _join(rng, f"{details[0]}{COMMA} {noun}", details[1:])
    return _join(rng, f"{details[0]}{COMMA} {noun} {verb}", details[1:])


def choose_mention(rng: np.random.Generator) -> list[str]:
    """Returns what people would mention: everything in 45 % of captions, 85 % of all but the subject on average."""
    if rng.random() < COMPLETE_SHARE:
        return list(ATTRIBUTES)
    return [
        name
        for name, u in zip(ATTRIBUTES, rng.random(len(ATTRIBUTES)), strict=True)
        if name == "subject" or u < MENTION_SHARE
    ]


def caption(scene: Scene, rng: np.random.Generator, mention: Collection[str] | None = None) -> str:
    """Returns lower-case English of at most 28 words that names the attributes in `mention`, and no others.

    Without `mention` the subject is always named and the others are sometimes left out.
    Raises ValueError for an attribute that does not exist.
    """
    if mention is None:
        mention = choose_mention(rng)
    elif unknown := set(mention) - set(ATTRIBUTES):
        raise ValueError(f"no such attributes: {sorted(unknown)}")
    sentence = _sentence(scene, rng, mention)
    return sentence + STOP if rng.random() < 0.5 else sentence


def instruction(attribute: str, value: str, rng: np.random.Generator) -> str:
    """Returns what people would ask for to get that value: "in the snow", "make this picture an oil painting"."""
    if attribute == "style":
        return f"make this picture {_pick(rng, STYLE_FIRST[value]).rpartition(' ')[0]}"
    phrase = _pick(rng, {"subject": SUBJECT, "color": COLOR, **DETAILS}[attribute][value])
    return " ".join(phrase.format(color="").split())
