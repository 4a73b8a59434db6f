"""The keys of the configuration one by one: what each is, what it is set to, and by what; for `carfs config`."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent import config as configuration
from agent.config import Config
from agent.dagstore.settings import LOTUS_VARIABLES


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `origin`: "default", the variable of the environment, or the file that has set it."""

    name: str  # section.key
    value: Any  # as TOML and JSON have it
    default: Any
    variable: str
    origin: str
    meaning: str


def keys(path: Path, *, required: bool, environ: Mapping[str, str]) -> Iterator[Key]:
    """All keys, in the order in which they are declared; raises ConfigError."""
    defaults = msgspec.to_builtins(Config())
    in_file = msgspec.to_builtins(configuration.load(path, required=required, environ={}))
    now = msgspec.to_builtins(configuration.load(path, required=required, environ=environ))
    lotus = {key: name for name, key in LOTUS_VARIABLES.items() if name in environ}
    for section in msgspec.structs.fields(Config):
        meanings = _comments(type(section.default))
        for key, value in now[section.name].items():
            variable = f"CARFS_{section.name}_{key}".upper()
            origin = "default" if in_file[section.name][key] == defaults[section.name][key] else str(path)
            if variable in environ:
                origin = variable
            elif section.name == "dagstore" and key in lotus:
                origin = lotus[key]
            default = defaults[section.name][key]
            yield Key(f"{section.name}.{key}", value, default, variable, origin, meanings[key])


def _comments(section: type) -> dict[str, str]:
    """What stands beside each field in the source, which is the one place that says what it means."""
    source = inspect.getsource(section)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    (class_,) = ast.parse(inspect.cleandoc("\n" + source)).body
    assert isinstance(class_, ast.ClassDef)
    fields = [node for node in class_.body if isinstance(node, ast.AnnAssign)]
    return {
        ast.unparse(field.target): " ".join(
            lines[line]
            for line in range(field.lineno, (field.end_lineno or field.lineno) + 1)
            if line in lines
        )
        for field in fields
    }
