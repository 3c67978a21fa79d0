"""Configurations: YAML in, frozen dataclasses out.

Knows nothing of what is configured. A layer declares a frozen dataclass with typed fields; ``build`` fills it from
plain mappings, refuses unknown keys with the nearest known one, and checks every value against its annotation.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hashret._lazy import require
from hashret.errors import ConfigError
from hashret.registry import nearest

C = TypeVar("C")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, is no UTF-8, no YAML, or holds no mapping.
    """
    yaml = require("yaml", extra="learn")
    path = Path(path)
    try:
        content = _parsed(yaml, path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration {str(path)!r}; give the path of a YAML file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {str(path)!r} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"the configuration {str(path)!r} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"the configuration {str(path)!r} must hold a mapping, not {type(content).__name__}")
    return content


def _parsed(yaml: Any, text: str) -> Any:
    """What YAML's safe loader makes of ``text``; it would take the last of two equal keys, which are refused here."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_twice(yaml, node, set())
        return loader.construct_document(node)
    except yaml.YAMLError:
        raise
    except Exception as error:  # !!int abc, a 13th month, brackets in brackets: the loader has many errors for these
        raise yaml.YAMLError(f"a value cannot be read ({type(error).__name__}: {error})") from error
    finally:
        loader.dispose()


def _refuse_twice(yaml: Any, node: Any, seen: set[int]) -> None:
    if id(node) in seen or not isinstance(node.value, list):
        return
    seen.add(id(node))
    mapping = isinstance(node, yaml.MappingNode)
    keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key.value, str)] if mapping else []
    twice = next((value for at, (tag, value) in enumerate(keys) if (tag, value) in keys[:at] and value != "<<"), None)
    if twice is not None:
        raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} comes twice", node.start_mark)
    for child in node.value:
        for part in child if mapping else (child,):
            _refuse_twice(yaml, part, seen)


def override(content: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """``content`` with settings such as ``"stages.heads.lr=1e-4"`` applied.

    A dotted path walks mappings by key, and lists by position or by the ``name`` of an entry.

    Raises:
        ConfigError: a setting has no ``=``, or its path leads nowhere.
    """
    yaml = require("yaml", extra="learn")
    result: dict[str, Any] = _copy(content)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise ConfigError(f"an override reads KEY=VALUE, such as stages.heads.lr=1e-4, and not {setting!r}")
        *parents, last = path.split(".")
        node: Any = result
        for key in parents:
            node = _child(node, key, setting)
        try:
            value = _parsed(yaml, text)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value in {setting!r} is not valid YAML: {error}") from error
        if isinstance(node, list):
            node[_position(node, last, setting)] = value
        elif isinstance(node, dict):
            node[last] = value
        else:
            raise ConfigError(f"{setting!r} does not lead to a mapping; {'.'.join(parents)!r} is a plain value")
    return result


def build(cls: type[C], content: Any, *, where: str = "") -> C:
    """An instance of the dataclass ``cls`` from plain data.

    Args:
        cls: a (frozen) dataclass; nested dataclasses, ``tuple[X, ...]``, ``dict[str, X]``, ``Literal`` and
            ``X | None`` are followed.
        content: a mapping of field names to values.
        where: the path of ``content`` in its file, for messages.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type.
    """
    place = where or cls.__name__
    if not isinstance(content, Mapping):
        raise ConfigError(f"{place} must be a mapping, not {content!r}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in content:
        if key not in fields:
            raise ConfigError(f"{place} has no key {key!r}{nearest(str(key), tuple(fields))}")
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in content:
            values[name] = _value(hints[name], content[name], f"{where}.{name}" if where else name)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{place} needs the key {name!r}")
    return cls(**values)


def plain(value: Any) -> Any:
    """The plain data (dicts, lists, numbers, strings) that ``build`` would turn into ``value`` again."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def difference(before: Any, after: Any, where: str = "") -> str:
    """The first key of plain data in which two differ, such as ``stages.0.lr``; empty where they are equal."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = dict.fromkeys((*before, *after))
        pairs = [(str(key), before.get(key), after.get(key)) for key in keys]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = [(str(number), *pair) for number, pair in enumerate(zip(before, after))]
    else:
        return "" if before == after else where or "everything"
    return next(filter(None, (difference(x, y, f"{where}.{key}" if where else key) for key, x, y in pairs)), "")


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _union(args, value, where)
    if origin is typing.Literal:
        if value not in args:
            choices = tuple(str(choice) for choice in args)
            raise ConfigError(f"{where} cannot be {value!r}{nearest(str(value), choices)}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, not {value!r}")
        kinds = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise ConfigError(f"{where} must have {len(kinds)} entries, not {len(value)}")
        return tuple(_value(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value)))
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a mapping, not {value!r}")
        kind = args[1] if args else Any
        return {str(key): _value(kind, item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, where=where)  # type: ignore[arg-type]
    return _scalar(hint, value, where)


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    problems: list[tuple[bool, ConfigError]] = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return _value(kind, value, where)
            except ConfigError as error:
                alike = (dict, Mapping) if isinstance(value, Mapping) else (tuple,) if isinstance(value, list) else ()
                problems.append((typing.get_origin(kind) in alike, error))
    # what was meant is most likely the alternative of the same shape
    raise next((error for same, error in problems if same), problems[0][1])


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 reads 1e-4, without a dot, as a string
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{where} must be a number, not {value!r}") from None
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be {kind.__name__}, not {value!r}")
    return value


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value


def _child(node: Any, key: str, setting: str) -> Any:
    if isinstance(node, dict):
        if node.get(key) is None:  # left out, or an optional part that is not there
            node[key] = {}
        return node[key]
    if isinstance(node, list):
        return node[_position(node, key, setting)]
    raise ConfigError(f"{setting!r}: nothing lies below {key!r}")


def _position(node: list[Any], key: str, setting: str) -> int:
    if key.isdecimal() and int(key) < len(node):
        return int(key)
    names = [str(item.get("name", "")) if isinstance(item, dict) else "" for item in node]
    if key in names:
        return names.index(key)
    raise ConfigError(f"{setting!r}: there is no entry {key!r}{nearest(key, tuple(filter(None, names)))}")
