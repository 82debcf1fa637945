import json

from hypothesis import given
from hypothesis import strategies as st

from loadstair.load.alike import Form
from loadstair.load.chunks import decode_chunk
from loadstair.load.sse import EVENT_BYTES_MAX
from loadstair.samples.record import Outcome
from tests.load.streams import DONE, ROLE, UNTIMED, event, finish, timeline, token

COMMENT = b": not alike\n"
TEXTS = (
    st.sampled_from(["a", " token", "\u00e9", "\u65e5", '"', "\\", "\n", "\t", "", "content", 'a","x":"b']) | st.text()
)


def deltas() -> st.SearchStrategy[dict[str, object]]:
    return st.dictionaries(st.sampled_from(["content", "reasoning", "reasoning_content", "refusal"]), TEXTS, max_size=2)


CHUNKS = st.one_of(
    st.builds(token, TEXTS),
    st.builds(token, TEXTS, usage=st.fixed_dictionaries({"completion_tokens": st.integers(0, 9)})),
    st.builds(lambda delta: {"choices": [{"index": 0, "delta": delta}]}, deltas()),
    st.builds(lambda text, index: {"choices": [{"index": index, "text": text}]}, TEXTS, st.integers(0, 1)),
    st.builds(lambda text: {"choices": [{"delta": {"content": text}, "token_ids": [1, 2]}]}, TEXTS),
    st.builds(lambda text: {"object": text, "choices": [{"delta": {"content": text}}]}, TEXTS),
    st.sampled_from([ROLE, finish(), {"error": {"type": "odd"}}]),
)


@UNTIMED
@given(st.lists(CHUNKS, max_size=12), st.booleans())
def test_events_that_are_taken_for_alike_say_what_they_say_when_each_is_parsed(
    chunks: list[dict[str, object]], ascii_only: bool
) -> None:
    """A comment in front of each event keeps it from being alike."""
    events = [
        b"data: " + json.dumps(chunk, ensure_ascii=ascii_only).encode("utf-8", "replace") + b"\n\n" for chunk in chunks
    ]
    assert timeline(*events, DONE) == timeline(*[COMMENT + each for each in events], DONE)


def form(chunk: dict[str, object]) -> Form | None:
    data = json.dumps(chunk).encode()
    decoded, _ = decode_chunk(data)
    return Form.of(decoded, data)


def test_a_form_stands_around_the_text() -> None:
    assert form({"choices": [{"delta": {"content": "hi"}}], "x": "hi"}) == (
        b'data: {"choices": [{"delta": {"content": "',
        b'"}}], "x": "hi"}\n\n',
    )


def test_what_has_to_be_looked_at_has_no_form() -> None:
    hi = {"delta": {"content": "hi"}}
    for chunk in (
        {"choices": [hi | {"finish_reason": "stop"}]},
        {"choices": [hi | {"token_ids": [1]}]},
        {"choices": [hi], "usage": {"completion_tokens": 1}},
        {"choices": [hi], "error": "no"},
        {"choices": [hi, hi]},
        {"choices": [{"delta": {"content": ""}}]},
        {"choices": [{"delta": {"content": 'say "hi"'}}]},
        {"content": "hi", "choices": [hi]},
    ):
        assert form(chunk) is None


def test_an_alike_event_keeps_to_the_limit_of_all_events() -> None:
    chunk = event(token("a"))
    longer = chunk.replace(b'"a"', b'"%b"' % (b"a" * EVENT_BYTES_MAX))
    assert timeline(chunk, chunk, chunk, longer, DONE).outcome is Outcome.MALFORMED


def test_text_that_is_no_utf8_is_a_token_all_the_same() -> None:
    chunk = event(token("a"))
    assert len(timeline(chunk, chunk, chunk.replace(b'"a"', b'"\xff"'), DONE).arrivals) == 3


def test_a_text_that_is_no_json_is_malformed_though_all_around_it_is_alike() -> None:
    chunk = event(token("a"))
    for text in (rb"\x", rb"\u12", b"\\", b"\t"):
        assert timeline(chunk, chunk, chunk.replace(b'"a"', b'"%b"' % text), DONE).outcome is Outcome.MALFORMED
    assert len(timeline(chunk, chunk, chunk.replace(b'"a"', rb'"\n\u00e9\\"'), DONE).arrivals) == 3
