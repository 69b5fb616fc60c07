"""Arrow types of Python types, so that dataclasses travel as typed columns."""

from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pyarrow as pa

_PLAIN: dict[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def arrow_type(kind: Any) -> pa.DataType:
    """The Arrow type of a Python type.

    Args:
        kind: str, int, float, bool, a `StrEnum`, a dataclass, `tuple` or `dict` of such types, or one of them or None.

    Returns:
        A string, int64, float64 or bool; a struct for a dataclass; a list for a tuple; a map for a dict.

    Raises:
        TypeError: for any other type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (present,) = [argument for argument in arguments if argument is not NoneType]
        return arrow_type(present)
    if origin is tuple:
        return pa.list_(arrow_type(arguments[0]))
    if origin is dict:
        return pa.map_(arrow_type(arguments[0]), arrow_type(arguments[1]))
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return pa.string()
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return pa.struct([(f.name, arrow_type(hints[f.name])) for f in fields(kind)])
    raise TypeError(f"{kind} has no Arrow type")
