"""Names as people type them: one spelling for many, and the nearest known name for a wrong one."""

import difflib
from collections.abc import Iterable

SHOWN = 3
LONGEST = 200  # the search takes the square of the length


def simplify(name: str) -> str:
    """Drop capitals and punctuation, but for plus signs: ``Grad-CAM++`` and ``gradcam++`` are one name."""
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "+")


def find_near(wrong: str, known: Iterable[str], count: int = SHOWN) -> list[str]:
    """Find the known names that are most like a wrong one, the nearest first; capitals and punctuation do not count."""
    if len(wrong) > LONGEST:
        return []
    by_key = {simplify(name): name for name in known}
    key = simplify(wrong)
    begins = sorted((each for each in by_key if len(key) > 1 and each.startswith(key)), key=len)
    keys = dict.fromkeys([*difflib.get_close_matches(key, by_key, n=count), *begins])
    return [by_key[each] for each in keys][:count]


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Write `` Did you mean 'explain'?`` behind a sentence, or nothing where no known name is near."""
    near = [repr(name) for name in find_near(wrong, known)]
    return f" Did you mean {' or '.join(near)}?" if near else ""
