"""Names as a picture can show them: anybody's class names, in a legend."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

from matplotlib import font_manager
from matplotlib.legend import Legend

_LONGEST = 28
# Fonts that have what the default font lacks, where they are installed; the first found is used.
_WIDE_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei"),
    *("IPAexGothic", "IPAGothic", "Droid Sans Fallback", "Hiragino Sans", "PingFang SC"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS", "Unifont"),
)


def shown_name(name: str, number: int, longest: int = _LONGEST) -> str:
    """A name on one line, of `longest` characters at most.

    What is cut out is marked by an ellipsis in the middle, as names often differ at their ends.
    Characters that no font here can draw become "?", and the class's number goes before them.
    """
    # Line breaks and other control characters, and lone halves of a pair, which no font takes.
    name = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in name)
    drawn = "".join(c if _can_draw(c) else "?" for c in name)
    if drawn != name or not drawn.strip():
        drawn = f"{number}: {drawn}"
    if len(drawn) > longest:
        half = (longest - 1) // 2
        drawn = f"{drawn[: longest - 1 - half]}…{drawn[-half:]}"
    return drawn


def shown_names(names: Sequence[str], numbers: Sequence[int]) -> list[str]:
    """`shown_name` of several classes; those that would look alike have their numbers, too."""
    shown = [shown_name(name, number) for name, number in zip(names, numbers, strict=True)]
    counts = Counter(shown)
    return [
        short if counts[short] == 1 else shown_name(f"{number}: {name}", number)
        for short, name, number in zip(shown, names, numbers, strict=True)
    ]


def set_names(legend: Legend, names: Sequence[str]) -> None:
    """Sets a legend's texts as they are: "$" starts no formula and "_" hides no entry."""
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_fontfamily(font_families())
        text.set_text(name)


@cache
def font_families() -> list[str]:
    """The default font, and one for wide scripts where there is one."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in _WIDE_FONTS if name in installed][:1]]


@cache
def _can_draw(character: str) -> bool:
    fonts = [font_manager.findfont(family) for family in font_families()]
    return any(font_manager.get_font(f).get_char_index(ord(character)) for f in fonts)
