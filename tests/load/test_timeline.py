import json
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from loadstair.load.exchange import Exchange
from loadstair.load.sse import DROP_BYTES_MIN, EVENT_BYTES_MAX
from loadstair.load.timeline import StreamParser
from loadstair.samples.record import Outcome
from tests.load.streams import DONE, MS, ROLE, UNTIMED, arrive, event, finish, grown, read_ends, split, timeline, token

LONG_COMMENT = b":" + b"-" * DROP_BYTES_MIN + b"\n"
STREAM_PARTS = [
    b"\xef\xbb\xbf",
    event(ROLE),
    event(token("a")),
    event(token("\u00e9")).replace(b"\n", b"\r\n"),
    event(token("b")).replace(b"\n", b"\r"),
    event(token("c", usage={"completion_tokens": 4})),
    b": comment\n",
    LONG_COMMENT,
    b"data: {\n",
    b"data: {}\n\n",
    b"\r",
    b"\n",
    event(finish()),
    event({"choices": [{"index": 1, "delta": {"content": "z"}}]}),
    event({"error": {"type": "odd"}}),
    DONE,
]
"""Of streams good and bad, whole events and halves of them."""


def test_the_role_chunk_and_the_finish_chunk_are_no_tokens() -> None:
    result = timeline(event(ROLE), event(token("a")), event(token("b")), event(finish()), DONE)
    assert list(result.arrivals) == [20 * MS, 30 * MS]
    assert (result.outcome, result.finish_reason, result.bunching.bunched) == (Outcome.OK, "length", 0)


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


def test_token_ids_or_log_probabilities_tell_the_tokens_of_each_chunk() -> None:
    ids = [
        {"choices": [{"delta": {"content": text}, "token_ids": [7] * count}]} for text, count in [("", 1), ("ab", 2)]
    ]
    assert timeline(*map(event, ids), DONE).chunk_tokens == [3]  # 1 + 2: the first token shows in the second's text
    logprobs = {"content": [{"token": "a", "logprob": -1}] * 2}
    one = {"choices": [{"delta": {"content": "aa"}, "logprobs": logprobs}]}
    assert timeline(event(one), event(one), DONE).chunk_tokens == [2, 2]
    assert timeline(event(one), event(token()), DONE).chunk_tokens is None  # the second does not tell


def test_usage_is_believed_before_what_the_chunks_list() -> None:
    chunk = {"choices": [{"text": "a", "token_ids": [1, 2, 3]}], "usage": {"completion_tokens": 2}}
    assert timeline(event(chunk), DONE).chunk_tokens == [2]


def test_tokens_from_the_prefix_cache_are_kept() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}
    assert timeline(event(token()), event(finish(usage=usage)), DONE).cached_input_tokens == 4
    assert (
        timeline(event(token()), event(finish(usage={"prompt_tokens_details": None})), DONE).cached_input_tokens is None
    )


def test_without_usage_the_token_count_is_unknown() -> None:
    assert timeline(event(token()), DONE).output_tokens is None


def test_an_error_object_ends_the_stream_and_its_message_stays_out() -> None:
    error = {"error": {"message": "the prompt was: secret", "type": "server_error", "code": 500}}
    result = timeline(event(token()), event(error), event(token()))
    assert result.outcome is Outcome.STREAM_ERROR
    assert result.error == "error in the stream: server_error: 500"
    assert len(result.arrivals) == 1


def test_done_behind_an_error_does_not_make_it_good() -> None:
    assert timeline(event(token()), event({"error": {"code": 500}}), DONE).outcome is Outcome.STREAM_ERROR


def test_an_event_of_type_error_is_one_whatever_its_data() -> None:
    errors = {'{"code": 503}': "error in the stream: 503", '{"error": {"code": 1}}': "error in the stream: 1"}
    for data, error in {**errors, "busy": "error in the stream"}.items():
        result = timeline(event(token()), f"event: error\ndata: {data}\n\n".encode(), DONE)
        assert (result.outcome, result.error) == (Outcome.STREAM_ERROR, error)


def test_an_error_in_a_field_of_that_name_is_one() -> None:
    result = timeline(event(token()), b'error: {"code":400,"message":"secret","type":"too_long"}\n\n', DONE)
    assert (result.outcome, result.error) == (Outcome.STREAM_ERROR, "error in the stream: too_long: 400")


def test_a_finish_reason_that_means_failure_is_an_error() -> None:
    result = timeline(event(token()), event(finish("abort")), DONE)
    assert (result.outcome, result.error) == (Outcome.STREAM_ERROR, "finish_reason abort")


def test_what_comes_behind_done_is_ignored() -> None:
    result = timeline(event(token()), DONE, event(token()), b"data: {oops\n\n")
    assert (result.outcome, list(result.arrivals)) == (Outcome.OK, [10 * MS])


def test_empty_data_is_passed_over() -> None:
    assert timeline(b"data:\n\n", event(token()), b"data\n\ndata:  \n\n", DONE).outcome is Outcome.OK


def of_choice(index: int, chunk: dict[str, object]) -> bytes:
    return event({"choices": [{**chunk["choices"][0], "index": index}]})  # type: ignore[index]


def test_the_tokens_of_all_choices_are_arrivals() -> None:
    both = event({"choices": [{"index": number, "delta": {"content": "x"}} for number in (0, 1)]})
    result = timeline(of_choice(0, token()), of_choice(1, token()), both, DONE)
    assert list(result.arrivals) == [10 * MS, 20 * MS, 30 * MS]


def test_a_stream_is_complete_when_every_choice_has_finished() -> None:
    begun = of_choice(0, token()) + of_choice(1, token()) + of_choice(1, finish())
    assert timeline(begun).error == "the stream ended with 1 of 2 choices unfinished"
    assert timeline(begun, of_choice(0, finish("stop"))).outcome is Outcome.OK
    assert timeline(begun, of_choice(0, finish("stop")), of_choice(1, {"choices": [{}]})).outcome is Outcome.OK
    assert timeline(begun, DONE).outcome is Outcome.OK


def test_a_first_chunk_without_choices_is_no_token() -> None:
    filtered = event({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
    assert list(timeline(filtered, event(token()), DONE).arrivals) == [20 * MS]


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


def test_tokens_merged_by_the_server_are_bunched_but_not_late() -> None:
    result = timeline(event(token()), event(token()) + event(token()), event(token()), DONE, lag_ns=MS // 20)
    assert result.bunching[:2] == (1, 0)
    assert list(result.arrivals) == [10 * MS, 20 * MS, 20 * MS, 30 * MS]


def test_tokens_merged_in_a_read_that_lagged_are_bunched_late() -> None:
    # The median gap is 10 ms; the read lags by 3 ms, more than the tenth of it that is allowed.
    result = timeline(event(token()), event(token()) + event(token()), event(token()), DONE, lag_ns=3 * MS)
    assert result.bunching[:2] == (1, 1)


def test_without_kernel_stamps_the_read_times_are_used_and_blame_nobody() -> None:
    result = timeline(event(token()) + event(token()), DONE, lag_ns=3 * MS, kernel=False)
    assert list(result.arrivals) == [13 * MS, 13 * MS]  # 10 ms + 3 ms of lag
    assert result.bunching[:2] == (1, 0)


texts = st.text(min_size=1, max_size=8)
chunks = st.one_of(texts.map(token), st.just(ROLE), st.just(finish()))


@UNTIMED
@given(data=st.data(), values=st.lists(chunks, max_size=12), newline=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_gives_the_same_events_each_with_the_read_that_holds_its_last_byte(
    data: st.DataObject, values: list[dict[str, object]], newline: bytes
) -> None:
    events = [b": hi" + newline + b"data: " + json.dumps(value).encode() + newline * 2 for value in values]
    body = b"".join(events)
    reads = split(body, data.draw(st.lists(st.integers(0, len(body)), max_size=20)))
    result = timeline(*reads, work_max=data.draw(st.integers(1, 50)))
    ends = read_ends(reads)
    expected = []
    for value, event_end in zip(values, read_ends(events), strict=True):
        if value["choices"][0]["delta"].get("content"):  # type: ignore[index]
            read = next(number for number, end in enumerate(ends) if end >= event_end)
            expected.append((read + 1) * 10 * MS)
    assert list(result.arrivals) == expected


@UNTIMED
@given(body=st.binary(max_size=200), prefix=st.sampled_from([b"", b"data: ", b"data: {}\n\n", event(token())]))
def test_no_body_whatever_breaks_the_parser(body: bytes, prefix: bytes) -> None:
    assert timeline(prefix + body).outcome in tuple(Outcome)


NAMES = "choices delta usage content error completion_tokens tool_calls function arguments logprobs token_ids index"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from([*NAMES.split(), "type", "text", "thinking"]), inner)
    ),
)


@UNTIMED
@given(VALUES)
def test_no_json_whatever_breaks_the_parser(value: object) -> None:
    assert timeline(event(value), event({"choices": [{"delta": value}], "usage": value})).outcome in tuple(Outcome)


def test_a_stream_under_way_is_known_as_far_as_its_events_are_complete() -> None:
    half = event(token("b"))[:9]
    _, known = grown(event(ROLE), event(token("a")) + half, event(token("b"))[9:], event(finish()), DONE)
    assert known == [0, 1, 2, 2, 2]


def test_tokens_under_way_are_those_of_the_running_usage_where_there_is_one() -> None:
    usages = [{"usage": {"prompt_tokens": 9, "completion_tokens": count}} for count in (3, 5)]
    _, known = grown(*[event(token("x", **usage)) for usage in usages], DONE)
    assert known == [3, 5, 5]


@UNTIMED
@given(st.lists(st.sampled_from(STREAM_PARTS), max_size=12), st.data(), st.booleans())
def test_parsing_as_it_comes_gives_what_parsing_at_the_end_gives(
    parts: list[bytes], data: st.DataObject, kernel: bool
) -> None:
    whole = b"".join(parts)
    reads = split(whole, data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    assert grown(*reads, kernel=kernel, work_max=1)[0] == timeline(*reads, kernel=kernel)


def test_nothing_of_a_stream_that_is_over_is_kept() -> None:
    exchange = Exchange("r")
    parser = StreamParser(exchange)
    arrive(exchange, event(token()) + DONE)
    assert parser.advance(100, complete=False)
    arrive(exchange, b"x" * 100)
    assert parser.advance(100, complete=False)
    assert (len(exchange.body), parser.timeline().outcome) == (0, Outcome.OK)


def test_the_parser_keeps_little_for_each_token() -> None:
    exchange, tokens = Exchange("r"), 2000
    for number in range(tokens):
        arrive(exchange, event(token("x", usage={"completion_tokens": number + 1})))
    parser = StreamParser(exchange)
    tracemalloc.start()
    try:
        while not parser.advance(1000):
            pass
        assert parser.tokens == tokens
        assert tracemalloc.get_traced_memory()[0] / tokens < 45
    finally:
        tracemalloc.stop()


def work(body: bytes) -> int:
    exchange = Exchange("r")
    arrive(exchange, body)
    parser = StreamParser(exchange)
    while not parser.advance(1000):
        pass
    return parser.work


def test_events_that_have_to_be_read_leniently_count_as_more_work() -> None:
    strictly, leniently = event(token("abc")) * 100, event(token(float("nan"))) * 100  # type: ignore[arg-type]
    assert len(strictly) > len(leniently)
    assert work(leniently) > 2 * work(strictly)
