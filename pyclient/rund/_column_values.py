"""One column of the caller's, of whatever library, as an Arrow array.

Knows lists, NumPy, Arrow, pandas, Polars and torch, and imports only NumPy and Arrow: the others are
recognised by where their classes come from. NaN stays NaN, None is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._plain_arrow import AnyArray, AnyColumn, plain

_PLAIN_NUMBERS = {
    np.dtype(name).str: getattr(pa, name)()
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
}
_ARROW_UNITS = {
    "M": {
        "Y": "D",
        "M": "D",
        "W": "D",
        "D": "D",
        "h": "s",
        "m": "s",
        "s": "s",
        "ms": "ms",
        "us": "us",
        "ns": "ns",
    },
    "m": {"W": "s", "D": "s", "h": "s", "m": "s", "s": "s", "ms": "ms", "us": "us", "ns": "ns"},
}
"""Arrow's unit for each of NumPy's datetime64 (M) and timedelta64 (m); the others fit no Arrow type."""


def arrow_column(values: Any) -> AnyColumn:
    """The values as an Arrow array of a plain type.

    A 2-D float array becomes a fixed-size list of float32, other arrays of two or more dimensions fixed-size
    lists of what they hold. Lists that mix integers and floats become floats.

    Raises:
        TypeError: Values of this kind can't be a column; the message says what to do.
        ValueError: The values do not fit together.
    """
    if isinstance(values, np.ndarray):
        return _from_numpy(values)
    if is_torch(values):
        return _from_numpy(_torch_to_numpy(values))
    if _comes_from(values, "pandas"):
        return _from_pandas(values)
    if (array := _as_arrow(values)) is not None:
        return plain(array)
    if hasattr(values, "__array__") and not np.isscalar(values):
        return _from_numpy(np.asarray(values))
    return _from_list(_as_list(values))


def is_torch(value: object) -> bool:
    """Whether it is a torch tensor. torch is not imported to find out: whoever has a tensor has done so."""
    return _comes_from(value, "torch") and hasattr(value, "detach")


def _as_arrow(values: Any) -> AnyColumn | None:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if _comes_from(values, "polars") and hasattr(values, "to_arrow"):
        array: AnyArray = values.to_arrow()
        return array
    return pa.array(values) if hasattr(values, "__arrow_c_array__") else None


def _as_list(values: Any) -> Sequence[Any]:
    if isinstance(values, list | tuple):
        return values
    if not hasattr(values, "__iter__") or isinstance(values, str | bytes | bytearray | dict | set | frozenset):
        kind = type(values).__name__
        raise TypeError(f"it is of type {kind}, not a column; give a list, or use constants=")
    return list(values)


def _comes_from(value: object, package: str) -> bool:
    return any(cls.__module__.partition(".")[0] == package for cls in type(value).__mro__)


def _torch_to_numpy(tensor: Any) -> npt.NDArray[Any]:
    tensor = tensor.detach()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    # NumPy knows no bfloat16 and no float8; float32 holds all their values.
    if str(tensor.dtype).startswith(("torch.bfloat16", "torch.float8")):
        tensor = tensor.float()
    array: npt.NDArray[Any] = tensor.cpu().resolve_conj().resolve_neg().numpy()
    return array


def _from_pandas(values: Any) -> AnyColumn:
    dtype = getattr(values, "dtype", None)
    if dtype is None:
        raise TypeError(f"it is of type {type(values).__name__}, not a column; give a Series")
    # NumPy's floats keep NaN as it is; in pandas' own types and in objects a missing value is null.
    if isinstance(dtype, np.dtype) and dtype.kind in "biufcM":
        return _from_numpy(values.to_numpy())
    return plain(pa.array(values, from_pandas=True))


def _from_numpy(array: npt.NDArray[Any]) -> AnyArray:
    if array.ndim == 0:
        raise TypeError("it is one number and not a column; give an array, or use constants=")
    mask = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    array = np.ascontiguousarray(_native(np.asarray(array)))
    if array.ndim == 1:
        return _from_vector(array, mask)
    if mask is not None and mask.any():
        raise TypeError("it is a masked array of two or more dimensions; fill it, or give a list of rows")
    if array.dtype.kind == "f" and array.ndim == 2:
        array = _as_float32(array)
    column = _from_vector(array.reshape(-1), None)
    for width in reversed(array.shape[1:]):
        if width == 0:
            raise ValueError("its rows have no values; give arrays of at least one value a row")
        column = pa.FixedSizeListArray.from_arrays(column, width)
    return column


def _as_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    try:
        with np.errstate(over="raise"):
            return array.astype(np.float32, copy=False)
    except FloatingPointError:
        raise ValueError("it holds values that float32 can't; scale it, or give an Arrow array of lists") from None


def _from_vector(array: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None) -> AnyArray:
    if array.dtype.kind == "O":
        values: list[Any] = array.tolist()
        if mask is not None:
            values = [None if hidden else value for value, hidden in zip(values, mask, strict=True)]
        return _from_list(values)
    if array.dtype.names is not None:
        children = [_from_numpy(array[name]) for name in array.dtype.names]
        struct: AnyArray = pa.StructArray.from_arrays(children, names=list(array.dtype.names))
        return struct
    kind = _PLAIN_NUMBERS.get(array.dtype.str)
    if kind is not None and mask is None:
        # Not by pa.array, which imports pandas where that is installed: half a second for the first column.
        return pa.Array.from_buffers(kind, len(array), [None, pa.py_buffer(array)])  # type: ignore[arg-type]  # the stubs know no buffer in an array of NumPy
    column: AnyArray = pa.array(array, mask=mask)
    return column


def _native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    dtype = array.dtype
    if dtype.kind == "c":
        raise TypeError("it holds complex numbers; give their .real and .imag as two columns")
    if dtype.kind == "V" and dtype.names is None:
        raise TypeError("it holds raw memory (dtype void); give a dtype")
    if dtype.kind == "f" and dtype.itemsize > 8:
        return array.astype(np.float64)
    if dtype.kind in "mM":
        unit = _ARROW_UNITS[dtype.kind].get(np.datetime_data(dtype)[0])
        if unit is None:
            raise TypeError(f"it has the dtype {dtype}; use a unit from days to nanoseconds")
        return array.astype(f"{dtype.kind}8[{unit}]")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _from_list(values: Sequence[Any]) -> AnyArray:
    try:
        return _decoded(pa.array(values))
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        cleaned = [_element(value) for value in values]
        if any(isinstance(value, float) for value in cleaned) and all(map(_is_number_or_none, cleaned)):
            # Arrow refuses to mix floats with integers that a double can't hold; who mixes them means floats.
            return pa.array([None if value is None else float(value) for value in cleaned], pa.float64())
        if all(new is old for new, old in zip(cleaned, values, strict=True)):
            raise ValueError(_list_fault(error)) from None
    try:
        return _decoded(pa.array(cleaned))
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        raise ValueError(_list_fault(error)) from None


def _decoded(array: Any) -> AnyArray:
    result = plain(array)
    return result.combine_chunks() if isinstance(result, pa.ChunkedArray) else result


def _element(value: Any) -> Any:
    if is_torch(value):
        value = _torch_to_numpy(value)
    if isinstance(value, np.longdouble):
        return float(value)
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "mM":
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_element(item) for item in value]
    return value


def _is_number_or_none(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _list_fault(error: Exception) -> str:
    if isinstance(error, OverflowError):
        return "it holds an integer that 64 bits can't; use floats or text"
    if isinstance(error, UnicodeEncodeError):
        return "it holds text with a lone surrogate, which is not Unicode; use bytes"
    return f"its values do not fit together: {error}"
