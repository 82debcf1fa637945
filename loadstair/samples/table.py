"""The sample columns on disk, and the data frames that the analysis reads."""

import pyarrow as pa

SAMPLE_SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("visit", pa.int32(), nullable=False),
        pa.field("topology", pa.string(), nullable=False),
        pa.field("repeat", pa.int32(), nullable=False),
        pa.field("step", pa.int32(), nullable=False),
        pa.field("load", pa.float64(), nullable=False),
        pa.field("phase", pa.string(), nullable=False),
        pa.field("worker", pa.string(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("due_ns", pa.int64()),
        pa.field("dispatch_ns", pa.int64(), nullable=False),
        pa.field("sent_ns", pa.int64()),
        pa.field("dns_ns", pa.int64()),
        pa.field("connect_ns", pa.int64()),
        pa.field("tls_ns", pa.int64()),
        pa.field("headers_ns", pa.int64()),
        pa.field("first_token_ns", pa.int64()),
        pa.field("last_token_ns", pa.int64()),
        pa.field("end_ns", pa.int64(), nullable=False),
        pa.field("arrivals", pa.list_(pa.int64()), nullable=False),
        pa.field("chunk_tokens", pa.list_(pa.int32())),
        pa.field("output_tokens", pa.int32()),
        pa.field("input_tokens", pa.int32()),
        pa.field("cached_input_tokens", pa.int32()),
        pa.field("output_tokens_asked", pa.int32(), nullable=False),
        pa.field("input_tokens_asked", pa.int32(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("status", pa.int32()),
        pa.field("error", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("upstream", pa.string()),
        pa.field("read_lag_ns", pa.int64()),
        pa.field("bunched", pa.int32(), nullable=False),
        pa.field("bunched_late", pa.int32(), nullable=False),
        pa.field("late_reads", pa.int32()),
        pa.field("clock", pa.string(), nullable=False),
        pa.field("clock_step", pa.bool_(), nullable=False),
    ],
)

ARRIVALS_PATH = "arrivals.list.element"
"""The stamps inside the list, as Parquet names them."""

TELEMETRY_SCHEMA = pa.schema(
    [
        pa.field("time_ns", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("series", pa.string(), nullable=False),
        pa.field("labels", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ],
)
"""Long form: one row per value read (`loadstair.telemetry`). A series that was not there has no row."""
