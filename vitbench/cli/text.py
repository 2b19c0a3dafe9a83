"""Text that is safe to print."""


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters become spaces."""
    return "".join(c if c == "\n" or c.isprintable() else " " for c in text)
