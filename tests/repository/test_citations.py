"""Every citation in code, suites and documents resolves to a heading of docs/ or to a public repository."""

from __future__ import annotations

import re
import subprocess
import unicodedata
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOCOLS = ROOT / "docs" / "protocols.md"
TEXTS = {".py", ".yaml", ".yml", ".toml", ".md", ".j2", ".js"}

ANCHOR = re.compile(r"\bdocs/([\w/-]+\.md)#([\w-]+)")
# `PREFIX:path`, with a slash or a suffix in the path: `BV:configs/transfer.py:66-77`, `BT:bit_hyperrule.py`.
SOURCE = re.compile(r"(?<![\w/:.`-])`?([A-Z]{2,4}):(?=[a-zA-Z])([\w*+./-]*(?:/[\w*+./-]*|\.(?:py|md)))")
# The same with a space in place of the colon, and the private notes that these documents replace.
LOOSE = re.compile(r"(?<![\w:/])(?:TA|TFDS|VJ|BV|BT|TM|DN|VPT|CB|SC) [\w*]+(?:/[\w*]+)*(?:\.py|/)")
PRIVATE = re.compile(
    r"(?<!\w)facts/(?=[a-z_]+\.(?:md|yaml))"
    r"|\b(?:protocols|performance|data_layer|published)\.md,? (?:\d|[A-G]\b|section|Compute)"
)


def written(*below: str) -> dict[Path, str]:
    """The tracked texts (below some folders) but this file, whose examples are not citations."""
    command = ["git", "ls-files", "-z", *below]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    return {
        file: file.read_text(encoding="utf-8")
        for file in files
        if file.suffix in TEXTS and file.is_file() and file != Path(__file__)
    }


def slug(heading: str) -> str:
    """A heading's anchor as Python-Markdown's `toc`, and so MkDocs, makes it."""
    plain = re.sub(r"\[([^]]*)]\([^)]*\)|[`*]", r"\1", heading)
    ascii_only = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())


@cache
def anchors(page: Path) -> list[str]:
    """The anchors of a page's headings, those in code blocks left out."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [slug(heading) for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose, flags=re.MULTILINE)]


def repositories() -> dict[str, str]:
    """Prefix to address, of the table below "Abbreviations"."""
    section = PROTOCOLS.read_text(encoding="utf-8").partition("\n## Abbreviations\n")[2].partition("\n## ")[0]
    return dict(
        re.findall(r"^\| ([A-Z]{2,4}) \| \[[^]]+]\((https://[^)]+)\) \|", section, flags=re.MULTILINE)
    )


def misses(found: dict[Path, set[str]]) -> list[str]:
    return [f"{file.relative_to(ROOT)}: {text}" for file, texts in found.items() for text in sorted(texts)]


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("VTAB-1k", "vtab-1k"),
        ("vit_jax recipe", "vit_jax-recipe"),
        ("Flips and crops", "flips-and-crops"),
        ("Why is my CIFAR-100 at 68 %?", "why-is-my-cifar-100-at-68"),
        ("`finetune`, and *more*", "finetune-and-more"),
        ("[Known](x.md) – departures", "known-departures"),
    ],
)
def test_headings_have_the_anchors_that_mkdocs_gives_them(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_no_two_headings_of_the_protocols_share_an_anchor() -> None:
    found = anchors(PROTOCOLS)
    assert len(found) > 50
    assert sorted(found) == sorted(set(found))


def test_cited_headings_exist() -> None:
    wrong = {
        file: {
            f"docs/{page}#{anchor}"
            for page, anchor in ANCHOR.findall(text)
            if not (ROOT / "docs" / page).is_file() or anchor not in anchors(ROOT / "docs" / page)
        }
        for file, text in written().items()
    }
    assert misses(wrong) == []


def test_cited_repositories_have_an_address() -> None:
    known = repositories()
    assert {"TA", "TFDS", "VJ", "BV", "BT", "TM", "DN", "VPT", "CB", "SC"} <= known.keys()
    wrong = {
        file: {f"{prefix}:{path}" for prefix, path in SOURCE.findall(text) if prefix not in known}
        for file, text in written().items()
    }
    assert misses(wrong) == []


@pytest.mark.parametrize("pattern", [LOOSE, PRIVATE], ids=["a space for the colon", "private notes"])
def test_no_citation_leads_nowhere(pattern: re.Pattern[str]) -> None:
    joined = {file: re.sub(r"\n\s*#\s*", " ", text) for file, text in written().items()}  # wrapped comments
    assert misses({file: set(pattern.findall(text)) for file, text in joined.items()}) == []


def test_code_cites() -> None:
    """What the patterns no longer find would pass every test above."""
    texts = "\n".join(written("vitbench", "suites", "tests").values())
    assert len(ANCHOR.findall(texts)) > 80
    assert len(SOURCE.findall(texts)) > 40


@pytest.mark.parametrize(
    "text",
    [
        "# TA:data/clevr.py:45-53",
        'source="VTAB; TA:data/oxford_iiit_pet.py:28, 52-74"',
        "(TFDS:datasets/kitti/kitti_dataset_builder.py:30-39)",
        "(BT:bit_hyperrule.py:54-62)",
        "DINOv2, DN:dinov2/eval/knn.py",
        "# 256 for 224, BV:configs/common_fewshot.py:49-57",
        "(VJ:README.md:232-246)",
        "`TA:data/*_test.py`",
        "XY:some/where.py",
    ],
)
def test_citations_of_repositories_are_seen(text: str) -> None:
    assert len(SOURCE.findall(text)) == 1


@pytest.mark.parametrize(
    "text", ["ID:abc", "https://github.com/a/b.py", "HOST:6379", "C:/data/x.py", "NOTE: see x.py"]
)
def test_other_colons_are_no_citations(text: str) -> None:
    assert SOURCE.findall(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "(docs/protocols.md#vtab-splits)",
        "docs/protocols.md#vit_jax-recipe.",
        "see docs/guides/plugins.md#your-own-head",
    ],
)
def test_citations_of_headings_are_seen(text: str) -> None:
    assert len(ANCHOR.findall(text)) == 1


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (LOOSE, "256 for 224, BV configs/common_fewshot.py:49-57"),
        (LOOSE, "(BT bit_hyperrule.py:54-62)"),
        (LOOSE, "# DN dinov2/eval/knn.py"),
        (LOOSE, "(VJ common.py:68; 100 for 500 steps"),
        (PRIVATE, "(facts/protocols.md 3.1, 4.1)"),
        (PRIVATE, "(facts/hardware.yaml)"),
        (PRIVATE, "(protocols.md 1.4.9)"),
        (PRIVATE, "protocols.md section 5"),
        (PRIVATE, "performance.md F"),
        (PRIVATE, "published.md, 6"),
        (PRIVATE, "published.md, Compute"),
        (PRIVATE, "data_layer.md 4d"),
    ],
)
def test_citations_that_lead_nowhere_are_seen(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


@pytest.mark.parametrize(
    "text", ["no facts of a data set", "docs/protocols.md#knn", "artefacts/x.md", "ViT-B/16 at 224"]
)
def test_other_words_are_no_private_notes(text: str) -> None:
    assert PRIVATE.search(text) is None
    assert LOOSE.search(text) is None
