"""Data of large pages, compressed: JSON in gzip in base64, which browsers unpack by themselves."""

from __future__ import annotations

import base64
import gzip

from markupsafe import Markup

MOST_PLAIN = 1_000_000  # characters of JSON that a page holds as they are


def packed(text: str) -> Markup:
    """JSON as a page holds it: as it is, or as `{"gzip": …}` if it is long; the same text always gives the same."""
    text = str(text)  # of Markup, `replace` escapes what it is given
    if len(text) <= MOST_PLAIN:
        return Markup(text.replace("<", "\\u003c"))
    inside = base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()
    return Markup(f'{{"gzip": "{inside}"}}')
