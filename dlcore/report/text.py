"""Text that comes from files, such as names of classes: drawn as it is, on one line, in bounded room."""

import unicodedata


def shown(text: str, most: int = 20) -> str:
    r"""`text` on one line, what cannot be printed as its escape (`\n`), the middle of long text as "…".

    `most` counts columns; wide characters take two. Draw it with `parse_math=False`: "$" is a character.

    >>> shown("one\ntwo"), shown("a very long name of a class", 9)
    ('one\\ntwo', 'a ve…lass')
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if width(line) <= most:
        return line
    half = (most - 1) // 2
    return _until(line, most - 1 - half) + "…" + _until(line[::-1], half)[::-1]


def number(value: float) -> str:
    """A number for people: four places behind the point, or three digits where those would show less than two.

    >>> number(0.97541), number(3.1e-6), number(0.0), number(-0.00042), number(1234.5678)
    ('0.9754', '3.1e-06', '0.0000', '-0.00042', '1234.5678')
    """
    return f"{value:.3g}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"


def width(text: str) -> int:
    """Columns of a line of text."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _until(text: str, columns: int) -> str:
    used = 0
    for i, c in enumerate(text):
        used += width(c)
        if used > columns:
            return text[:i]
    return text
