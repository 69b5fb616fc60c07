"""Arrow types of Python types, so that dataclasses travel as typed columns.

Columns are converted as a whole: the values of a field of a dataclass become one Arrow array, and the items of all tuples
of a column another one. That is several times as fast as a dict for each value.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from itertools import pairwise
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Protocol, Union, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa

_PLAIN: dict[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


class Codec(Protocol):
    """Converts values of a Python type to an Arrow array and back.

    Attributes:
        type: the Arrow type.
    """

    type: pa.DataType

    def encode(self, values: Sequence[Any]) -> pa.Array:
        """An array of the values."""
        ...

    def decode(self, array: pa.Array) -> list[Any]:
        """The values of an array."""
        ...


def arrow_type(kind: Any) -> pa.DataType:
    """The Arrow type of a Python type; see `codec`."""
    return codec(kind).type


@cache
def codec(kind: Any) -> Codec:
    """The codec of a Python type.

    Args:
        kind: str, int, float, bool, a `StrEnum`, a dataclass, `tuple` or `dict` of such types, or one of them or None.

    Returns:
        Its Arrow type is a string, int64, float64 or bool; a struct for a dataclass; a list for a tuple; a map for a dict.

    Raises:
        TypeError: for any other type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (present,) = [argument for argument in arguments if argument is not NoneType]
        return _OptionalCodec(codec(present))
    if origin is tuple:
        return _TupleCodec(codec(arguments[0]))
    if origin is dict:
        return _DictCodec(codec(arguments[0]), codec(arguments[1]))
    if kind in _PLAIN:
        return _PlainCodec(_PLAIN[kind])
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _EnumCodec(kind)
    if is_dataclass(kind):
        return _DataclassCodec(kind)
    raise TypeError(f"{kind} has no Arrow type")


class _PlainCodec:
    def __init__(self, arrow: pa.DataType) -> None:
        self.type = arrow
        self._is_number = not pa.types.is_string(arrow)

    def encode(self, values: Sequence[Any]) -> pa.Array:
        return pa.array(values, self.type)

    def decode(self, array: pa.Array) -> list[Any]:
        if self._is_number and not array.null_count:
            return list(array.to_numpy(zero_copy_only=False).tolist())
        return list(array.to_pylist())


class _EnumCodec:
    def __init__(self, kind: type[StrEnum]) -> None:
        self.type = pa.string()
        self._members = {member.value: member for member in kind}

    def encode(self, values: Sequence[Any]) -> pa.Array:
        return pa.array([value.value for value in values], self.type)

    def decode(self, array: pa.Array) -> list[Any]:
        return [self._members[value] for value in array.to_pylist()]


class _OptionalCodec:
    """Null stands for None."""

    def __init__(self, present: Codec) -> None:
        self.type, self._present = present.type, present

    def encode(self, values: Sequence[Any]) -> pa.Array:
        present = [value for value in values if value is not None]
        array = self._present.encode(present)
        if len(present) == len(values):
            return array
        places = iter(range(len(present)))
        return array.take(pa.array([None if value is None else next(places) for value in values], pa.int64()))

    def decode(self, array: pa.Array) -> list[Any]:
        if not array.null_count:
            return self._present.decode(array)
        present = iter(self._present.decode(array.drop_null()))
        return [next(present) if valid else None for valid in array.is_valid().to_pylist()]


class _TupleCodec:
    def __init__(self, item: Codec) -> None:
        self.type, self._item = pa.list_(item.type), item

    def encode(self, values: Sequence[Any]) -> pa.Array:
        items = self._item.encode([item for value in values for item in value])
        return pa.ListArray.from_arrays(_offsets(values), items, type=self.type)

    def decode(self, array: pa.Array) -> list[Any]:
        items = self._item.decode(array.flatten())
        return [tuple(items[start:end]) for start, end in pairwise(_relative_offsets(array))]


class _DictCodec:
    def __init__(self, key: Codec, value: Codec) -> None:
        self.type, self._key, self._value = pa.map_(key.type, value.type), key, value

    def encode(self, values: Sequence[Any]) -> pa.Array:
        keys = self._key.encode([key for value in values for key in value])
        items = self._value.encode([item for value in values for item in value.values()])
        return pa.MapArray.from_arrays(_offsets(values), keys, items, type=self.type)

    def decode(self, array: pa.Array) -> list[Any]:
        offsets = array.offsets.to_numpy()
        keys, values = (items.slice(offsets[0], offsets[-1] - offsets[0]) for items in (array.keys, array.items))
        items = list(zip(self._key.decode(keys), self._value.decode(values), strict=True))
        return [dict(items[start:end]) for start, end in pairwise(_relative_offsets(array))]


class _DataclassCodec:
    """Fields that an array lacks, because it is older than they are, have their defaults; fields that it has alone are left out."""

    def __init__(self, kind: Any) -> None:
        hints = get_type_hints(kind)
        self._kind, self._codecs = kind, {f.name: codec(hints[f.name]) for f in fields(kind)}
        self._fields = [pa.field(name, item.type) for name, item in self._codecs.items()]
        self.type = pa.struct(self._fields)

    def encode(self, values: Sequence[Any]) -> pa.Array:
        arrays = [item.encode(list(map(attrgetter(name), values))) for name, item in self._codecs.items()]
        return pa.StructArray.from_arrays(arrays, fields=self._fields)

    def decode(self, array: pa.Array) -> list[Any]:
        arrays = {f.name: a for f, a in zip(array.type, array.flatten(), strict=True) if f.name in self._codecs}
        columns = [self._codecs[name].decode(values) for name, values in arrays.items()]
        if list(arrays) == list(self._codecs):
            return list(map(self._kind, *columns))
        return [self._kind(**dict(zip(arrays, values, strict=True))) for values in zip(*columns, strict=True)]


def _offsets(values: Sequence[Any]) -> pa.Array:
    """Where the items of each value begin in the concatenation of all of them, and where the last ones end."""
    return pa.array(np.cumsum([0, *map(len, values)]), pa.int32())


def _relative_offsets(array: pa.Array) -> list[int]:
    """The same for an array of lists or maps, which may be a slice of a larger one."""
    offsets = array.offsets.to_numpy()
    return list((offsets - offsets[0]).tolist())
