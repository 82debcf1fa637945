"""Traces are read in the layouts in which they are published; what is wrong is told with its line."""

from pathlib import Path

import pytest

from loadstair.errors import UsageError
from loadstair.plan.trace import read_trace

MOONCAKE = """\
{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}
{"timestamp": 0, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}
{"timestamp": 3052, "input_length": 7234, "output_length": 794, "hash_ids": [0, 27]}
"""
BURSTGPT = """\
Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
118,GPT-4,417,0,417,Conversation log
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "trace"
    path.write_text(text, encoding="utf-8")
    return path


def test_mooncakes_json_lines_are_read_in_milliseconds(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, MOONCAKE))
    assert trace.offsets_s == (0.0, 0.0, 3.052)
    assert (trace.input_tokens, trace.output_tokens) == ((6758, 7322, 7234), (500, 490, 794))


def test_burstgpts_csv_is_read_from_its_first_arrival_and_an_empty_answer_asks_for_a_token(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, BURSTGPT))
    assert trace.offsets_s == (0.0, 40.0, 113.0)
    assert (trace.input_tokens, trace.output_tokens) == ((472, 1087, 417), (18, 230, 1))


def test_our_own_layout_may_lack_lengths_and_order(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "offset_s\n2.5\n\n0.5\n"))
    assert trace.offsets_s == (0.0, 2.0)
    assert trace.input_tokens is None is trace.output_tokens
    trace = read_trace(written(tmp_path, "offset_s,input_tokens,output_tokens\n0,9,\n1,8,7\n"))
    assert (trace.input_tokens, trace.output_tokens) == ((9, 8), None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("offset_s\n", "is empty"),
        ("offset_s\n1\n", "needs two arrivals at different times"),
        ("offset_s\n1\n1\n", "needs two arrivals at different times"),
        ("offset_s\n0\n5e-324\n", "needs two arrivals at different times"),
        ("when,what\n1,2\n", "has the columns when, what; known are offset_s"),
        ("offset_s\n0\nsoon\n", "line 3: offset_s: 'soon' is not a number"),
        ("offset_s\n0\n-1\n", "line 3: offset_s: '-1' is not a number of at least 0"),
        ("offset_s\n0\nnan\n", "line 3: offset_s: 'nan' is not a number"),
        ('{"offset_s": 0}\n{"offset_s": true}\n', "line 2: offset_s: True is not a number"),
        ('{"offset_s": 0}\n{"offset_s"\n', "line 2: is not JSON"),
        ('{"offset_s": 0}\n[1]\n', "line 2: is not a JSON object"),
        ("offset_s,input_tokens\n0,1e9\n1,1\n", "line 2: input_tokens: 1e+09 tokens are more than"),
    ],
)
def test_a_damaged_trace_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_trace(written(tmp_path, text))
    assert str(caught.value).startswith(f"load.trace: {tmp_path / 'trace'}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trace_that_is_no_text_or_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "trace").write_bytes(b"offset_s\n\xff\n")
    with pytest.raises(UsageError, match="is not UTF-8"):
        read_trace(tmp_path / "trace")
    with pytest.raises(UsageError, match="No such file"):
        read_trace(tmp_path / "none")
