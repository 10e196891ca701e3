from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from v2a_dpo.artifacts.schema import (
    CLIPS,
    PAIRS,
    RATINGS,
    SCORES,
    TableSchema,
    TensorType,
    candidates_schema,
    conditions_schema,
    tensor_column,
    tensor_field,
    tensor_type,
)

DTYPES = st.sampled_from(["float16", "float32", "float64", "uint8", "int16", "int64"])


@st.composite
def stacks(draw: st.DrawFn) -> np.ndarray:
    """Rows of tensors `[rows, *shape]`, down to no rows, no dimensions and empty dimensions."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    rows = draw(st.integers(0, 7))
    dtype = draw(DTYPES)
    return draw(hnp.arrays(dtype, (rows, *shape)))


def table_of(stack: np.ndarray) -> pa.Table:
    field = tensor_field("x", TensorType(str(stack.dtype), stack.shape[1:]))
    return pa.table([pa.array([row.tobytes() for row in stack], field.type)], schema=pa.schema([field]))


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@given(stacks(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_tensor_column_gives_back_every_slice_of_every_chunking(stack: np.ndarray, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(stack)))
    table = table_of(stack)
    chunked = pa.concat_tables([table.slice(0, cut), table.slice(cut), table.slice(0, 0)])
    start = data.draw(st.integers(0, len(stack)))
    length = data.draw(st.integers(0, len(stack) + 1))

    assert same(tensor_column(table, "x"), stack)
    assert same(tensor_column(chunked, "x"), stack)
    assert same(tensor_column(chunked.slice(start, length), "x"), stack[start : start + length])
    for batch in table.to_batches():
        assert same(tensor_column(batch, "x"), stack)


@given(stacks().filter(lambda stack: stack[:1].size or not stack.shape[1:]), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_a_tensor_column_survives_parquet_with_its_type(stack: np.ndarray, group: int) -> None:
    sink = io.BytesIO()
    pq.write_table(table_of(stack), sink, row_group_size=group)
    table = pq.read_table(sink)
    assert tensor_type(table.schema.field("x")) == TensorType(str(stack.dtype), stack.shape[1:])
    assert same(tensor_column(table, "x"), stack)


def test_a_tensor_column_in_one_piece_is_not_copied() -> None:
    table = table_of(np.arange(6, dtype=np.float32).reshape(2, 3))
    address = table.column("x").chunk(0).buffers()[1].address
    assert tensor_column(table, "x").__array_interface__["data"][0] == address


def test_a_row_of_another_size_is_refused() -> None:
    field = tensor_field("x", TensorType("float32", (2,)))
    with pytest.raises(pa.ArrowInvalid):
        pa.array([b"123"], field.type)


@pytest.mark.parametrize(
    "schema",
    [
        CLIPS,
        SCORES,
        RATINGS,
        PAIRS,
        candidates_schema(TensorType("float16", (4, 2))),
        conditions_schema({"clip": TensorType("float32", (3, 2))}),
    ],
    ids=lambda schema: schema.name,
)
def test_the_key_of_every_schema_consists_of_columns_that_are_never_null(schema: TableSchema) -> None:
    assert all(not schema.arrow.field(name).nullable for name in schema.key)


def test_candidates_store_audio_as_hugging_face_datasets_reads_it() -> None:
    audio = candidates_schema(TensorType("float16", (4, 2))).arrow.field("audio").type
    assert audio == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
