"""The references of protocols: repositories with the commits that were read, and how vitbench always differs from them.

What differs by a suite's options is said by each protocol's `departures`, and is an item of conformance. The differences here
are part of the protocol as vitbench has it; docs/protocols.md#known-departures says what they amount to.
"""

from __future__ import annotations

import re

from vitbench.protocols.heads.recipe import named_heads
from vitbench.protocols.recipes import named_recipes

# Prefixes of citations (docs/protocols.md#abbreviations): repository, and commit or release.
REPOSITORIES = {
    "TA": ("google-research/task_adaptation", "d7630d3"),
    "VJ": ("google-research/vision_transformer", "c6de1e5"),
    "BV": ("google-research/big_vision", "0127fb6"),
    "BT": ("google-research/big_transfer", "140de6e"),
    "DN": ("facebookresearch/dinov2", "b8931f7"),
    "VPT": ("KMnP/vpt", "4410440"),
    "NH": ("ZhangYuanhan-AI/NOAH", "e9c55f3"),
    "MAE": ("facebookresearch/mae", "efb2a80"),
    "CAPI": ("facebookresearch/capi", "98b4fa1"),
    "BEIT": ("microsoft/unilm", "768a3c8"),
    "DEIT": ("facebookresearch/deit", "7e160fe"),
}

ALWAYS: dict[str, tuple[str, ...]] = {
    "ridge_probe": ("the decomposition is float64; big_vision's is float32",),
    "logistic_probe": (
        "solved to a certified gap of 1e-6; DINOv2 stops cuML's solver after 1,000 steps",
        "ties go to the smaller C",
    ),
    "knn": ("one k a row, where DINOv2 reports four", "k may exceed the number of training images, which then all vote"),
    "linear_probe": (
        "heads start from other random numbers, each from a stream of its own",
        "images pass in the suite's precision, where DINOv2 and MAE use half precision; heads in float32",
    ),
    "attentive_probe": (
        "heads start from other random numbers, each from a stream of its own",
        "the query is projected instead of every token, which rounds otherwise",
        "a width that 64 does not divide has attention heads of the next larger divisor; CAPI refuses it",
    ),
    "finetune": (
        "all test images are scored",
        "each pass over the data is a fresh permutation, where the references shuffle in a buffer",
        "BatchNorm sees a piece of the batch at a time; the record says how many images",
    ),
}  # fmt: skip


def reference_of(name: str, source: str) -> dict[str, object]:
    """What a protocol follows: repositories at commits, what always departs, and the same of each of its recipes."""
    found: dict[str, object] = {"reference": _with_commits(source), "departs": list(ALWAYS.get(name, ()))}
    if name == "finetune":
        found["recipes"] = [
            {
                "name": recipe,
                "title": written["title"],
                "reference": _with_commits(written["source"]),
                "departs": sorted(_departures(written)),
            }
            for recipe, written in named_recipes().items()
        ]
    heads = {each: written for each, written in named_heads().items() if written["protocol"] == name}
    if heads:
        found["recipes"] = [
            {
                "name": recipe,
                "title": written["title"],
                "reference": _with_commits(written["source"]),
                "departs": written["departs"],
            }
            for recipe, written in heads.items()
        ]
    return found


def _departures(recipe: dict[str, object]) -> set[str]:
    parts = [recipe["common"], *recipe["settings"]]  # type: ignore[misc]
    return {part["departs"] for part in parts if "departs" in part}


def _with_commits(source: str) -> str:
    """A citation with the repository and commit of every prefix in it."""
    named = [prefix for prefix in REPOSITORIES if re.search(rf"\b{prefix}:", source)]
    places = ", ".join(
        f"{prefix} = {REPOSITORIES[prefix][0]} at {REPOSITORIES[prefix][1]}" for prefix in named
    )
    return f"{source} ({places})" if places else source
