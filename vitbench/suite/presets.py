"""What a suite's author is told of its `preprocess`: old names, and backbones that a preset does not know."""

from __future__ import annotations

from collections.abc import Iterator

from vitbench.core.errors import Problem
from vitbench.core.job import OLD_PREPROCESS
from vitbench.core.registry import BACKBONES
from vitbench.core.source_files import BUILT_IN
from vitbench.suite.grid import Grid
from vitbench.suite.suite_file import SuiteFile
from vitbench.suite.yaml_lines import KeyPath, Located


def old_presets(suite: SuiteFile, located: Located) -> tuple[str, ...]:
    """A remark for every line that names a preset which the next version drops."""
    stated: list[tuple[KeyPath, str | None]] = [(("preprocess",), suite.preprocess)]
    stated += [(("protocols", i, "preprocess"), entry.preprocess) for i, entry in enumerate(suite.protocols)]
    return tuple(
        f"{located.where(path)}: `preprocess: {name}` is an old name: {OLD_PREPROCESS[name]}"
        for path, name in stated
        if name in OLD_PREPROCESS
    )


def without_evaluation(grid: Grid, located: Located) -> Iterator[Problem]:
    """Problems of backbones that `preprocess: timm_eval` cannot be run on. What a plugin declares is known once it is built."""
    for resolved in grid.protocols:
        entry = resolved.entry
        if (entry.preprocess or grid.suite.preprocess) != "timm_eval":
            continue
        path: KeyPath = ("preprocess",)
        if entry.preprocess and entry in grid.suite.protocols:
            path = ("protocols", grid.suite.protocols.index(entry), "preprocess")
        for backbone in grid.backbones:
            is_ours = BACKBONES.get(backbone.spec)[0].origin == BUILT_IN
            asked = any(resolved.applies_to(backbone, task) for task in grid.tasks)
            if is_ours and backbone.name != "timm" and asked:
                what = f"`preprocess: timm_eval` needs timm's configuration of the weights, which {backbone.spec} lacks"
                step = "choose `dinov2_knn`, `clip` or `torchvision`"
                yield Problem(what, located.where(path), next_step=step)
