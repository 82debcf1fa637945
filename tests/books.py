"""The books of a run that got to its end: each request once, and every one accounted for."""

import json
from pathlib import Path

import pyarrow.parquet as pq


def check_books(folder: Path, *, open_loop: bool = False) -> None:
    rows = pq.read_table(folder / "samples").to_pandas()
    assert rows.request_id.is_unique
    for visit in json.loads((folder / "run.json").read_text(encoding="utf-8"))["visits"]:
        for step in visit["steps"]:
            books = step["counters"]
            own = rows[(rows.visit == visit["visit"]) & (rows.step == step["step"])]
            assert books["started"] == books["ok"] + books["failed"] + books["killed"] + books["lost"]
            assert len(own) == books["started"] - books["lost"] > 0
            assert (own.outcome == "ok").sum() == books["ok"]
            assert own["index"].is_unique
            assert books["scheduled"] == (books["started"] if open_loop else 0)
