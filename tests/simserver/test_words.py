"""Words as tokens: where a stop string ends, and ids there and back."""

from loadstair.simserver.words import StopString, Vocabulary, first_stop

# The output begins: " measure latency balance through morning", 8 characters a token.


def test_the_stop_string_that_ends_first_wins():
    assert first_stop(("balance", "tency"), min_tokens=0) == StopString("tency", 2, 3)  # " la" stays


def test_a_stop_string_may_span_tokens():
    assert first_stop(("ure lat",), min_tokens=0) == StopString("ure lat", 2, 0)


def test_a_stop_string_in_the_tokens_that_must_come_is_passed_over():
    assert first_stop(("latency",), min_tokens=2).after_tokens == 18  # its next round: 2 + 16 words


def test_a_stop_string_that_never_comes_is_none():
    assert first_stop(("never",), min_tokens=0) is None
    assert first_stop((), min_tokens=0) is None


def test_ids_go_back_to_the_words_they_came_from():
    vocabulary = Vocabulary(150_000)
    ids = vocabulary.encode(["hello", "there", "hello"])
    assert ids[0] == ids[2] != ids[1]
    assert vocabulary.decode(ids) == "hello there hello"
