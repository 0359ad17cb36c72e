"""The JSON Schema of sweep files, for editors: made of the models that read them.

It knows every key, type, word and default, and ranges as far as a schema can say them. What needs the whole file to be
judged (a space that the trainable cannot take, rungs behind the last epoch) is left to `kdsearch ... --dry-run`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from kdsearch.search.config import SweepFile
from kdsearch.spaces.schema import space_schema
from kdsearch.trainables.declared import settings_schema
from kdsearch.trainables.registry import trainable_names

Schema = dict[str, Any]
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
TITLE: Final = "A sweep file of kdsearch"


def file_schema() -> Schema:
    """Return the schema of a sweep file, as plain data."""
    made = _lean(SweepFile.model_json_schema(mode="validation"))
    properties, sections = made["properties"], made["$defs"]
    properties["space"] = space_schema()
    properties["searcher"] = _searcher(properties["searcher"])
    properties["scheduler"] = _scheduler(sections.pop("AshaSettings"))
    properties["trainable"] = _trainable()
    sections.pop("TrainableSettings", None)
    return {
        "$schema": DIALECT,
        "title": TITLE,
        **{key: value for key, value in made.items() if key != "title"},
    }


def is_schema(text: str) -> bool:
    """Whether a file's text is a schema of sweep files, of whichever version of kdsearch."""
    try:
        data = json.loads(text)
    except ValueError:
        return False
    return isinstance(data, dict) and data.get("title") == TITLE


def schema_text() -> str:
    """Return the schema as a file's text."""
    return json.dumps(file_schema(), indent=2, ensure_ascii=False) + "\n"


def _lean(value: Any) -> Any:
    """A schema without the titles that pydantic makes of names, and without what is none of JSON Schema's."""
    if isinstance(value, list):
        return [_lean(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    found = {}
    for key, each in value.items():
        if key in {"title", "discriminator"}:
            continue
        if key in {"properties", "$defs"}:
            found[key] = {name: _lean(one) for name, one in each.items()}
        else:
            found[key] = _lean(each)
    return found


def _searcher(made: Schema) -> Schema:
    name = {
        "type": "string",
        "description": "a kind of searcher that needs no key, or one of the file's configurations",
    }
    return {"anyOf": [made, name]}


def _scheduler(asha: Schema) -> Schema:
    given = {"not": {"type": "null"}}
    one_way = [{"required": [name], "properties": {name: given}} for name in ("rungs", "every", "grace")]
    none = {
        "type": "object",
        "properties": {"kind": {"const": "none"}},
        "required": ["kind"],
        "additionalProperties": False,
    }
    return {"anyOf": [{"const": "none"}, {"type": "null"}, none, {**asha, "oneOf": one_way}], "default": None}


def _trainable() -> Schema:
    """By kind, as far as a kind declares its settings; `kind` may be left out for ktg."""
    kinds = []
    for name in trainable_names():
        own = settings_schema(name)
        if own is None:
            kinds.append({"type": "object", "properties": {"kind": {"const": name}}, "required": ["kind"]})
            continue
        needed = own.get("required", [])
        kinds.append(
            {
                **own,
                "properties": {"kind": {"const": name}, **own["properties"]},
                "required": needed if name == _DEFAULT else ["kind", *needed],
            }
        )
    return {"oneOf": kinds}


_DEFAULT: Final = "ktg"
