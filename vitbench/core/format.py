"""Numbers as people read them: 23.5 M, 3.2 h, 1.4 GB; and text that is safe to print."""


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters become spaces."""
    if text.isprintable():  # nearly always, and 100,000 titles take 2 s letter by letter
        return text
    return "".join(c if c == "\n" or c.isprintable() else " " for c in text)


def quantity(number: float, unit: str = "") -> str:
    """A number to three digits with its decimal prefix: `23.5 M`, `4.1 GFLOPs`, `0.37`."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {prefix}{unit}"
    return f"{number:.3g} {unit}".strip()


def duration(seconds: float) -> str:
    """A duration: `0.8 s`, `12 s`, `5 min`, `3.2 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def file_size(size_bytes: float) -> str:
    """A size on disk: `14 kB`, `1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit in ("B", "kB") else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.2f} TB"


def memory(size_bytes: float) -> str:
    """An amount of memory, in the binary unit that GPUs are sold by: `0.03 GiB`, `78.2 GiB`."""
    return f"{size_bytes / 2**30:.2f} GiB" if size_bytes < 10 * 2**30 else f"{size_bytes / 2**30:.1f} GiB"


def energy(joules: float) -> str:
    """Energy in watt-hours: `0.12 Wh`, `3.4 kWh`."""
    return f"{joules / 3600:.3g} Wh" if joules < 3.6e6 else f"{joules / 3.6e6:.3g} kWh"
