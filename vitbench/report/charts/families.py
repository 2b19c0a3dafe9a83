"""What a family of backbones looks like: one colour, shape and dash on every chart of a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitbench.core.lazy_import import lazy_module
from vitbench.core.record import Record
from vitbench.report.charts.style import drawable

if TYPE_CHECKING:
    import altair as alt
else:
    alt = lazy_module("altair")

# Found by search: any two differ by 29 or more (CIE 1976) to readers with full colour vision and with each of the three
# deficiencies, on white and on black. tests/report/charts/test_families.py simulates them.
PALETTE = ("#00aaaa", "#ea8000", "#9500ff", "#bf0015", "#555595", "#bf956a", "#ea55ff", "#954055")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (12, 3), (4, 6))


@dataclass(frozen=True)
class Look:
    """The colour and shape of a family's points, and their names."""

    colour: str
    shape: str


class Families:
    """The families of a page, by name: colours first, then other shapes in the same colours."""

    def __init__(self, names: Iterable[str]) -> None:
        ordered = sorted({drawable(name) for name in names})
        self._looks = {
            name: Look(PALETTE[i % len(PALETTE)], SHAPES[i // len(PALETTE) % len(SHAPES)])
            for i, name in enumerate(ordered)
        }

    def look(self, name: str) -> Look:
        """What a family looks like; a name that is not of this page looks like the first."""
        return self._looks.get(drawable(name), Look(PALETTE[0], SHAPES[0]))

    @property
    def looks(self) -> dict[str, Look]:
        """All families by name."""
        return dict(self._looks)

    def colour(self, names: Iterable[str], field: str = "family", symbol: str = "circle") -> alt.Color:
        """The colours of these families, with a legend."""
        shown = _distinct(names)
        legend = alt.Legend(
            orient="bottom", columns=6, symbolType=symbol, symbolOpacity=1, symbolStrokeWidth=3
        )
        scale = alt.Scale(domain=shown, range=[self.look(name).colour for name in shown])
        return alt.Color(f"{field}:N", title=None, sort=None, scale=scale, legend=legend)

    def shape(self, names: Iterable[str], field: str = "family") -> alt.Shape:
        """The shapes of these families; the legend is that of the colours."""
        shown = _distinct(names)
        scale = alt.Scale(domain=shown, range=[self.look(name).shape for name in shown])
        return alt.Shape(f"{field}:N", title=None, sort=None, scale=scale, legend=None)


def family_of(record: Record) -> str:
    """The family of a record's backbone, as its row has it."""
    return record.backbone.family if record.backbone else "unknown"


def dashes(field: str, names: Iterable[str], *, with_legend: bool = True) -> alt.StrokeDash:
    """A dash for each name, by which members of one family differ; the legend, or a label, tells which is which."""
    shown = _distinct(names)
    scale = alt.Scale(domain=shown, range=[list(DASHES[i % len(DASHES)]) for i in range(len(shown))])
    legend = alt.Legend(orient="bottom", columns=4, symbolType="stroke", symbolStrokeWidth=2, symbolSize=400)
    return alt.StrokeDash(
        f"{field}:N", title=None, sort=None, scale=scale, legend=legend if with_legend else None
    )


def _distinct(names: Iterable[str]) -> Sequence[str]:
    return list(dict.fromkeys(map(drawable, names)))
