"""The JSON schema of suite files, with the options of all registered backbones, tasks and protocols."""

from __future__ import annotations

from typing import Any

from vitbench.core.entry import Entry
from vitbench.suite.suite_file import KINDS, SuiteFile


def suite_schema() -> dict[str, Any]:
    """Return the schema with which editors check and complete suite files."""
    schema = SuiteFile.model_json_schema()
    schema["title"] = "vitbench suite"
    schema["properties"]["include"] = {
        "description": "Suite files to include; this file adds to them or overrides them.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    models = {"backbones": "BackboneEntry", "tasks": "TaskEntry", "protocols": "ProtocolEntry"}
    for kind, registry in KINDS.items():
        base = schema["$defs"].pop(models[kind])["properties"]
        names: list[Any] = [_name_schema(entry) for entry in registry.entries()]
        objects = [_entry_schema(entry, base) for entry in registry.entries()]
        schema["properties"][kind]["items"] = {"anyOf": [*names, *objects]}
    return schema


def _name_schema(entry: Entry) -> dict[str, Any]:
    if entry.argument:
        return {"type": "string", "pattern": f"^{entry.name}:.+", "description": entry.summary}
    return {"const": entry.name, "description": entry.summary}


def _entry_schema(entry: Entry, base: dict[str, Any]) -> dict[str, Any]:
    options = entry.options.model_json_schema()
    own = {"source": _name_schema(entry)} if "source" in base else {"name": _name_schema(entry)}
    named = {"name": {"type": "string"}} if "source" in base else {}
    return {
        "type": "object",
        "title": entry.name,
        "description": entry.summary,
        "properties": {**base, **options.get("properties", {}), **own, **named},
        "required": ["name", *options.get("required", [])],
        "additionalProperties": False,
    }
