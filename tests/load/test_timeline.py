import json
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from loadstair.load.timeline import EVENT_BYTES_MAX, StreamParser, Timeline
from loadstair.samples.record import Outcome

MS = 1_000_000
DONE = b"data: [DONE]\n\n"
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}


def token(text: str = "x", **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


def finish(reason: str = "length", **more: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **more}


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


STREAM_PARTS = [
    b"\xef\xbb\xbf",
    event(ROLE),
    event(token("a")),
    event(token("\u00e9")).replace(b"\n", b"\r\n"),
    event(token("b")).replace(b"\n", b"\r"),
    event(token("c", usage={"completion_tokens": 4})),
    b": comment\n",
    b"data: {\n",
    b"data: {}\n\n",
    b"\r",
    b"\n",
    event(finish()),
    event({"error": {"type": "odd"}}),
    DONE,
]
"""Of streams good and bad, whole events and halves of them."""


def timeline(*reads: bytes, lag_ns: int = 0, kernel: bool = True, slice_events: int = 100) -> Timeline:
    """Read i is stamped (i + 1) * 10 ms by the kernel and read `lag_ns` later."""
    stamps = [(number + 1) * 10 * MS for number in range(len(reads))]
    parser = StreamParser(
        b"".join(reads),
        kernel_ns=stamps if kernel else [0] * len(reads),
        read_ns=[stamp + lag_ns for stamp in stamps],
        end_offset=list(accumulate(map(len, reads))),
    )
    while not parser.advance(slice_events):
        pass
    return parser.timeline()


def test_the_role_chunk_and_the_finish_chunk_are_no_tokens() -> None:
    result = timeline(event(ROLE), event(token("a")), event(token("b")), event(finish()), DONE)
    assert list(result.arrivals) == [20 * MS, 30 * MS]
    assert (result.outcome, result.finish_reason, result.bunched) == (Outcome.OK, "length", 0)


def test_reasoning_text_is_a_token_under_either_of_its_names() -> None:
    deltas = [{"content": None, "reasoning_content": "hm"}, {"reasoning": "so"}, {"content": "yes"}]
    result = timeline(*[event({"choices": [{"delta": delta}]}) for delta in deltas], DONE)
    assert list(result.arrivals) == [10 * MS, 20 * MS, 30 * MS]


def test_null_and_empty_content_are_no_tokens() -> None:
    deltas = [{"content": None}, {"content": ""}, {}, {"content": "yes"}]
    assert list(timeline(*[event({"choices": [{"delta": delta}]}) for delta in deltas], DONE).arrivals) == [40 * MS]


def test_completions_chunks_carry_their_text_in_the_choice() -> None:
    result = timeline(event({"choices": [{"text": "a"}]}), event({"choices": [{"text": "", "finish_reason": "stop"}]}))
    assert list(result.arrivals) == [10 * MS]
    assert result.outcome is Outcome.OK


def test_usage_is_read_from_a_last_chunk_without_choices() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    result = timeline(event(token()), event(token()), event(finish()), event({"choices": [], "usage": usage}), DONE)
    assert (result.input_tokens, result.output_tokens, result.chunk_tokens) == (7, 2, None)


def test_usage_is_read_from_the_chunk_that_finishes() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 1}
    result = timeline(event(token()), event(finish(usage=usage)), DONE)
    assert (result.input_tokens, result.output_tokens) == (7, 1)


def test_usage_in_every_chunk_tells_the_tokens_of_each() -> None:
    chunks = [token(usage={"prompt_tokens": 7, "completion_tokens": count}) for count in (1, 4, 5)]
    result = timeline(*map(event, chunks), DONE)
    assert result.chunk_tokens == [1, 3, 1]  # 1 - 0, 4 - 1, 5 - 4
    assert result.output_tokens == 5


def test_a_running_usage_that_goes_back_is_not_believed() -> None:
    chunks = [token(usage={"completion_tokens": count}) for count in (3, 1)]
    assert timeline(*map(event, chunks), DONE).chunk_tokens is None


def test_without_usage_the_token_count_is_unknown() -> None:
    assert timeline(event(token()), DONE).output_tokens is None


def test_an_error_object_ends_the_stream_and_its_message_stays_out() -> None:
    error = {"error": {"message": "the prompt was: secret", "type": "server_error", "code": 500}}
    result = timeline(event(token()), event(error), event(token()))
    assert result.outcome is Outcome.STREAM_ERROR
    assert result.error == "error in the stream: server_error: 500"
    assert len(result.arrivals) == 1


def test_a_stream_without_finish_reason_or_done_is_truncated() -> None:
    assert timeline(event(token())).outcome is Outcome.TRUNCATED
    assert timeline(event(token()), event(finish())).outcome is Outcome.OK
    assert timeline(event(token()), DONE).outcome is Outcome.OK


def test_an_empty_body_is_truncated() -> None:
    assert timeline().outcome is Outcome.TRUNCATED


def test_a_page_of_html_is_malformed() -> None:
    assert timeline(b"<html>\n<body>busy</body>\n").outcome is Outcome.MALFORMED


def test_events_that_are_not_the_apis_are_malformed() -> None:
    for body in (b"data: {oops\n\n", b"data: 3\n\n", event({"choices": 3}), event({"choices": [3]})):
        assert timeline(body).outcome is Outcome.MALFORMED


def test_what_no_file_could_hold_is_not_taken_over() -> None:
    usage = {"prompt_tokens": -1, "completion_tokens": 10**12}
    result = timeline(event(token(usage=usage)), event(finish("\ud800" + "x" * 99)))
    assert (result.input_tokens, result.output_tokens, result.chunk_tokens) == (None, None, None)
    assert result.finish_reason == "?" + "x" * 30 + "…"  # 32 characters


def test_json_nested_without_end_is_malformed() -> None:
    assert timeline(b"data: " + b"[" * 200_000 + b"\n\n").outcome is Outcome.MALFORMED


def test_a_line_without_end_is_malformed() -> None:
    assert timeline(b"data: " + b"x" * EVENT_BYTES_MAX).outcome is Outcome.MALFORMED


def test_an_event_over_lines_without_end_is_malformed() -> None:
    lines = b"data: 0,\n" * (EVENT_BYTES_MAX // 3 + 1)  # "0," and the newline between: 3 bytes each
    assert timeline(b"data: [\n" + lines + b"data: 0]\n\n").error == f"an event longer than {EVENT_BYTES_MAX} bytes"


def test_the_last_event_may_lack_its_empty_line() -> None:
    assert timeline(event(token()), b"data: [DONE]").outcome is Outcome.OK


def test_comments_other_fields_and_a_byte_order_mark_are_passed_over() -> None:
    body = b"\xef\xbb\xbf: ping\n\nevent: message\nid: 3\nretry: 10\n" + event(token())
    assert len(timeline(body, DONE).arrivals) == 1


def test_data_over_several_lines_is_one_event() -> None:
    body = b'data: {"choices": [{"delta":\ndata: {"content": "x"}}]}\n\n'
    assert len(timeline(body, DONE).arrivals) == 1


def test_a_token_gets_the_stamp_of_the_read_that_completed_its_event() -> None:
    whole = event(token())
    assert list(timeline(whole[:10], whole[10:-1], whole[-1:], DONE).arrivals) == [30 * MS]


def slices(body: bytes, work_max: int) -> int:
    parser = StreamParser(body, kernel_ns=[1], read_ns=[1], end_offset=[len(body)])
    count = 1
    while not parser.advance(work_max):
        count += 1
    return count


def test_lines_without_an_event_end_a_slice_too() -> None:
    assert slices(b":\n" * 10_000, 1000) >= 10  # 10000 lines / 1000


def test_long_lines_end_a_slice_sooner() -> None:
    assert slices((b":" + b"x" * 6399 + b"\n") * 100, 1000) >= 10  # 100 lines * 6400 bytes / 64 / 1000


def test_tokens_merged_by_the_server_are_bunched_but_not_late() -> None:
    result = timeline(event(token()), event(token()) + event(token()), event(token()), DONE, lag_ns=MS // 20)
    assert (result.bunched, result.bunched_late) == (1, 0)
    assert list(result.arrivals) == [10 * MS, 20 * MS, 20 * MS, 30 * MS]


def test_tokens_merged_in_a_read_that_lagged_are_bunched_late() -> None:
    # The median gap is 10 ms; the read lags by 3 ms, more than the tenth of it that is allowed.
    result = timeline(event(token()), event(token()) + event(token()), event(token()), DONE, lag_ns=3 * MS)
    assert (result.bunched, result.bunched_late) == (1, 1)


def test_without_kernel_stamps_the_read_times_are_used_and_blame_nobody() -> None:
    result = timeline(event(token()) + event(token()), DONE, lag_ns=3 * MS, kernel=False)
    assert list(result.arrivals) == [13 * MS, 13 * MS]  # 10 ms + 3 ms of lag
    assert (result.bunched, result.bunched_late) == (1, 0)


texts = st.text(min_size=1, max_size=8)
chunks = st.one_of(texts.map(token), st.just(ROLE), st.just(finish()))


@given(data=st.data(), values=st.lists(chunks, max_size=12), newline=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_gives_the_same_events_each_with_the_read_that_holds_its_last_byte(
    data: st.DataObject, values: list[dict[str, object]], newline: bytes
) -> None:
    events = [b": hi" + newline + b"data: " + json.dumps(value).encode() + newline * 2 for value in values]
    body = b"".join(events)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=20).map(sorted))
    reads = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True) if start < end]
    result = timeline(*reads, slice_events=data.draw(st.integers(1, 5)))
    ends = list(accumulate(map(len, reads)))
    expected = []
    for value, event_end in zip(values, accumulate(map(len, events)), strict=True):
        if value["choices"][0]["delta"].get("content"):  # type: ignore[index]
            read = next(number for number, end in enumerate(ends) if end >= event_end)
            expected.append((read + 1) * 10 * MS)
    assert list(result.arrivals) == expected


@given(body=st.binary(max_size=200), prefix=st.sampled_from([b"", b"data: ", b"data: {}\n\n", event(token())]))
def test_no_body_whatever_breaks_the_parser(body: bytes, prefix: bytes) -> None:
    assert timeline(prefix + body).outcome in tuple(Outcome)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["choices", "delta", "usage", "content", "error", "completion_tokens"]), inner
            )
        ),
    )
)
def test_no_json_whatever_breaks_the_parser(value: object) -> None:
    assert timeline(event(value), event({"choices": [{"delta": value}], "usage": value})).outcome in tuple(Outcome)


def grown(*reads: bytes, kernel: bool = True, slice_events: int = 100) -> tuple[Timeline, list[int]]:
    """As `timeline`, but parsed after every read; also how many tokens were known then."""
    body, kernel_ns, read_ns, end_offset = bytearray(), [], [], []
    parser = StreamParser(body, kernel_ns=kernel_ns, read_ns=read_ns, end_offset=end_offset)
    known = []
    for number, read in enumerate(reads):
        body += read
        kernel_ns.append((number + 1) * 10 * MS if kernel else 0)
        read_ns.append((number + 1) * 10 * MS)
        end_offset.append(len(body))
        while not parser.advance(slice_events, complete=False):
            pass
        known.append(parser.tokens)
    while not parser.advance(slice_events):
        pass
    return parser.timeline(), known


def test_a_stream_under_way_is_known_as_far_as_its_events_are_complete() -> None:
    half = event(token("b"))[:9]
    _, known = grown(event(ROLE), event(token("a")) + half, event(token("b"))[9:], event(finish()), DONE)
    assert known == [0, 1, 2, 2, 2]


def test_tokens_under_way_are_those_of_the_running_usage_where_there_is_one() -> None:
    usages = [{"usage": {"prompt_tokens": 9, "completion_tokens": count}} for count in (3, 5)]
    _, known = grown(*[event(token("x", **usage)) for usage in usages], DONE)
    assert known == [3, 5, 5]


@given(st.lists(st.sampled_from(STREAM_PARTS), max_size=12), st.data(), st.booleans())
def test_parsing_as_it_comes_gives_what_parsing_at_the_end_gives(
    parts: list[bytes], data: st.DataObject, kernel: bool
) -> None:
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    reads = [whole[start:end] for start, end in pairwise([0, *cuts, len(whole)]) if end > start]
    assert grown(*reads, kernel=kernel, slice_events=1)[0] == timeline(*reads, kernel=kernel)
