"""Reads tables and queries as JSON, answers the queries: see datafusion.rs."""

import json
import sys

import pyarrow as pa
from datafusion import SessionContext

TYPES = {
    "i64": pa.int64(),
    "u64": pa.uint64(),
    "f64": pa.float64(),
    "bool": pa.bool_(),
    "text": pa.string(),
}


def table(described):
    columns = {}
    for name, values in described["tags"].items():
        columns[name] = pa.array(values, pa.dictionary(pa.int32(), pa.string()))
    for name, field in described["fields"].items():
        columns[name] = pa.array(field["values"], TYPES[field["type"]])
    columns["time"] = pa.array(described["time"], pa.timestamp("ns"))
    return pa.record_batch(columns)


def answer(context, query):
    try:
        result = context.sql(query).to_arrow_table()
    except Exception as error:  # the engine's own words are what the test shows
        return {"error": str(error)}
    columns = []
    for column in result.columns:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ns")).cast(pa.int64())
        columns.append(column.to_pylist())
    return {"columns": result.column_names, "rows": list(zip(*columns))}


def main():
    given = json.load(sys.stdin)
    context = SessionContext()
    for name, described in given["tables"].items():
        context.register_record_batches(name, [[table(described)]])
    json.dump([answer(context, query) for query in given["queries"]], sys.stdout)


main()
