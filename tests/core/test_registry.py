import sys
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from vitbench.core.errors import UsageError
from vitbench.core.registry import BACKBONES, Registry


@pytest.fixture
def registry():
    return Registry("backbone")


def test_parameters_are_options_with_types_defaults_and_bounds(registry):
    @registry.register("net")
    def net(width: Annotated[int, Field(ge=8)] = 64, checkpoint: Path | None = None):
        """A net."""

    entry, argument = registry.get("net")
    assert argument == ""
    assert entry.summary == "A net"
    assert entry.options.model_validate({}).width == 64
    assert entry.locations == {"checkpoint"}
    with pytest.raises(ValidationError, match="greater than or equal to 8"):
        entry.options.model_validate({"width": 2})
    with pytest.raises(ValidationError, match="Extra inputs"):
        entry.options.model_validate({"widht": 64})


def test_an_unknown_name_is_told_with_the_nearest_one(registry):
    registry.register("raw_pixels")(lambda: None)
    with pytest.raises(
        UsageError,
        match=r"unknown backbone 'raw_pixel'[\s\S]*did you mean: raw_pixels[\s\S]*vitbench list backbones",
    ):
        registry.get("raw_pixel")


def test_a_spec_with_an_argument(registry):
    registry.register("npz", argument="path")(lambda path: path)
    assert registry.get("npz:a:b.npz")[1] == "a:b.npz"
    for wrong in ("npz", "npz:"):
        with pytest.raises(UsageError, match="npz:PATH"):
            registry.get(wrong)


def test_a_name_belongs_to_who_came_first():
    with BACKBONES.restored(), pytest.raises(UsageError, match="already registered by vitbench"):
        BACKBONES.register("raw_pixels")(lambda: None)


def test_the_version_of_a_loose_file_follows_its_source(registry, tmp_path):
    versions = []
    for text in ("A = 1", "A = 2"):
        path = tmp_path / "loose.py"
        path.write_text(f"{text}\ndef build(): pass\n")
        namespace = {"__name__": "loose"}
        sys.modules["loose"] = type(sys)("loose")
        sys.modules["loose"].__file__ = str(path)
        exec(compile(path.read_text(), str(path), "exec"), namespace)
        fresh = Registry("backbone")
        fresh.register("x")(namespace["build"])
        versions.append(fresh.get("x")[0].version)
    assert versions[0] != versions[1]
    assert all(version.startswith("1+") for version in versions)


def test_built_in_options_have_types():
    timm, _ = BACKBONES.get("timm:resnet18")
    assert timm.locations == {"checkpoint"}
    with pytest.raises(ValidationError):
        timm.options.model_validate({"size_px": "abc"})


def test_a_type_that_cannot_be_resolved_is_told_when_it_registers(registry):
    def net(width: "Nonsense" = 3):  # noqa: F821
        pass

    with pytest.raises(UsageError, match=r"type of a parameter cannot be resolved.*TYPE_CHECKING"):
        registry.register("net")(net)
