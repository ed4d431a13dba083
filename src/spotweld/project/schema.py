"""The project file's JSON Schema (draft 2020-12), for editors.

What the schema refuses the loader refuses too. The loader refuses more: paths that do not exist, two currencies,
keys that stand twice.
"""

from __future__ import annotations

import math
from pathlib import Path as FilePath
from typing import Any

import msgspec

from spotweld.project.keys import PROJECT
from spotweld.project.nouns import EveryAuto
from spotweld.project.shapes import Choice, Named, Number, Path, Several, Shape, Table, Text, Truth, Whole


def schema() -> dict[str, Any]:
    """The schema of the project file as plain JSON values."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": "Spotweld project file", **_schema_of(PROJECT)}


def schema_json() -> str:
    """The schema as text, indented."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"


def _schema_of(shape: Shape) -> dict[str, Any]:  # noqa: C901 - one case for each kind
    match shape:
        case Text():
            form = {"type": "string", "pattern": f"^(?:{shape.form})$", "maxLength": shape.longest}
            return form | {"examples": [shape.example]}
        case Whole():
            return {"type": "integer", "minimum": shape.least, "maximum": shape.most}
        case Number():
            return {"type": "number", "exclusiveMinimum": shape.above, "maximum": shape.most}
        case Truth():
            return {"type": "boolean"}
        case Choice():
            return {"enum": [str(word) for word in shape.of]}
        case Path():
            return {"type": "string", "minLength": 1}
        case Several():
            bounds = {"minItems": shape.least, "maxItems": shape.most}
            return {"type": "array", "items": _schema_of(shape.of), **bounds}
        case Named():
            names = {"pattern": f"^(?:{shape.name.form})$", "maxLength": shape.name.longest}
            bounds = {"minProperties": shape.least, "maxProperties": shape.most}
            return {
                "type": "object",
                "propertyNames": names,
                "additionalProperties": _schema_of(shape.value),
                **bounds,
            }
        case Table(short=""):
            return _schema_of_table(shape)
        case Table():
            return {"anyOf": [_schema_of(shape.keys[shape.short].shape), _schema_of_table(shape)]}


def _schema_of_table(shape: Table) -> dict[str, Any]:
    defaults = {field.name: field.default for field in _fields(shape.becomes)}
    properties: dict[str, Any] = {}
    for name, key in shape.keys.items():
        properties[name] = {"description": key.about, **_schema_of(key.shape)}
        shown = _as_written(defaults.get(name, msgspec.NODEFAULT), key.shape)
        if shown is not None:
            properties[name]["default"] = shown
    required = [name for name, key in shape.keys.items() if key.required]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _fields(becomes: Any) -> tuple[msgspec.structs.FieldInfo, ...]:  # noqa: ANN401 - a struct or any function
    is_struct = isinstance(becomes, type) and issubclass(becomes, msgspec.Struct)
    return msgspec.structs.fields(becomes) if is_struct else ()


def _as_written(value: Any, shape: Shape) -> Any:  # noqa: ANN401 - JSON values of any type
    """A default as the file would say it; None where it is nothing that one would write."""
    match value, shape:
        case str(), Text() | Choice():
            return str(value) or None
        case bool(), Truth():
            return value
        case int(), Whole():
            return value
        case float(), Number():
            return value
        case float(), Text():
            return f"{value:g}s" if math.isfinite(value) else None
        case EveryAuto(), _:
            return "auto"
        case tuple(), Several():
            return [_as_written(item, shape.of) for item in value]
        case FilePath(), Path(folder=True):
            return "."
        case FilePath(), Text():
            return str(value)
    return None
