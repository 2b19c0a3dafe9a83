"""Text that is safe to print."""


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters become spaces."""
    return "".join(c if c == "\n" or c.isprintable() else " " for c in text)


def duration(seconds: float) -> str:
    """A stretch of time in words that fit a line: 12 s, 5 min, 3.2 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def amount(number: float) -> str:
    """A large number with its decimal prefix: 23.5 M, 4.1 G; a unit follows directly."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.0f} "
