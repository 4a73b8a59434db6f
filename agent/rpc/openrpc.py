"""The registry as an OpenRPC document (spec.open-rpc.org, 1.3), for programs that generate clients. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from agent.rpc import jsonrpc
from agent.rpc.examples import EXAMPLES
from agent.rpc.registry import CODES, Method

VERSION = "1.3.2"
REFERENCE = "#/components/schemas/{name}"
Document = dict[str, Any]  # JSON


def document(methods: Mapping[str, Method], version: str) -> Document:
    """All methods with their parameters, results, permissions and examples."""
    fields = {name: msgspec.structs.fields(one.params) for name, one in methods.items()}
    types = [one.result for one in methods.values()]
    types += [field.type for some in fields.values() for field in some]
    schemas, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    results = dict(zip(methods, schemas[: len(methods)], strict=True))
    rest = iter(schemas[len(methods) :])
    return {
        "openrpc": VERSION,
        "info": {"title": "carfs", "version": version, "license": {"name": "Apache-2.0 OR MIT"}},
        "methods": [
            _method(name, one, [_parameter(field, next(rest)) for field in fields[name]], results[name])
            for name, one in methods.items()
        ],
        "components": {"schemas": components, "errors": _errors()},
    }


def _method(name: str, one: Method, parameters: list[Document], result: Document) -> Document:
    text = inspect.getdoc(one.handler) or ""
    example = EXAMPLES.get(name)
    described = {
        "name": name,
        "summary": text.partition("\n\n")[0].replace("\n", " "),
        "paramStructure": "either",
        "params": parameters,
        "result": {"name": "value" if one.is_stream else "result", "schema": result},
        "errors": [{"$ref": f"#/components/errors/{error_class}"} for error_class in CODES],
        "x-permission": one.permission.name.lower(),
        "x-stream": one.is_stream,
    }
    if example is not None:
        described["examples"] = [
            {
                "name": name,
                "params": [{"name": key, "value": value} for key, value in example.params.items()],
                "result": {"name": "value" if one.is_stream else "result", "value": example.result},
            }
        ]
    return described


def _parameter(field: msgspec.structs.FieldInfo, schema: Document) -> Document:
    if field.default is not msgspec.NODEFAULT and field.default is not None:
        schema = {**schema, "default": msgspec.to_builtins(field.default)}
    return {"name": field.encode_name, "required": field.required, "schema": schema}


def _errors() -> Document:
    """By class; methods of Lotus have its one code in place of these, and the class in `data` all the same."""
    errors = {
        error_class.value: {"code": code, "message": error_class.value, "data": {"class": error_class.value}}
        for error_class, code in CODES.items()
    }
    return errors | {"parse": {"code": jsonrpc.PARSE_ERROR, "message": "parse error"}}
