"""The prefix cache: prompts that begin alike are computed once, and no block is lost or held too long."""

from hypothesis import given, settings
from hypothesis import strategies as st

from loadstair.simserver.prompt import block_hashes
from loadstair.simserver.scheduler import Request, Scheduler
from tests.simserver.laws import request, run, scheduler, step


def prompt(name: str, words: list[str], max_tokens: int = 2) -> Request:
    return request(name, len(words), max_tokens, prompt_blocks=block_hashes(words, 16))


def cached(**settings: int) -> Scheduler:
    return scheduler(prefix_caching=True, **settings)


def words(count: int, text: str = "w") -> list[str]:
    return [f"{text}{number}" for number in range(count)]


def test_hashes_are_equal_as_far_as_prompts_begin_alike():
    long, longer = block_hashes(words(40), 16), block_hashes([*words(40), *words(40, "x")], 16)
    assert len(long) == 2  # 40 // 16: the rest is no full block
    assert longer[:2] == long
    changed_first_word = block_hashes(["other", *words(40)[1:]], 16)
    assert not set(changed_first_word) & set(long)


def test_adapters_share_no_blocks():
    assert not set(block_hashes(words(32), 16, lora="sql")) & set(block_hashes(words(32), 16))


def test_token_ids_are_hashed_as_words_are():
    assert block_hashes(list(range(32)), 16)[0] == block_hashes(list(range(16)), 16)[0]


def test_a_prompt_seen_before_is_computed_from_where_it_is_new():
    engine = cached()
    engine.add(prompt("a", words(64)))
    run(engine)
    second = engine.add(prompt("b", [*words(48), *words(30, "x")]))
    assert step(engine).shape.prefill == ((30, 48),)  # 48 = 3 blocks alike
    assert second.cached_tokens == 48
    assert (engine.counters.prefix_cache_queries, engine.counters.prefix_cache_hits) == (64 + 78, 48)


def test_of_a_prompt_that_is_all_cached_the_last_block_is_computed_again():
    engine = cached()
    engine.add(prompt("a", words(64)))
    run(engine)
    engine.add(prompt("b", words(64)))
    assert step(engine).shape.prefill == ((16, 48),)  # something must be computed, and blocks are found whole


def test_prompts_of_one_step_share_what_the_first_of_them_computes():
    engine = cached()
    engine.add(prompt("a", words(40)))
    engine.add(prompt("b", words(40)))
    assert step(engine).shape.prefill == ((40, 0), (8, 32))
    assert engine.blocks_used == 4  # two shared, and one each for the rest: 2 + 1 + 1


def test_blocks_of_finished_requests_count_as_free_and_go_longest_unused_first():
    engine = cached(kv_tokens=16 * 8)
    for name in "ab":
        engine.add(prompt(name, words(64, name), max_tokens=1))
        run(engine)
    assert engine.blocks_used == 0
    engine.add(prompt("c", words(64, "c"), max_tokens=1))  # takes four of the eight: those of a
    run(engine)
    before = engine.counters.prefix_cache_hits
    engine.add(prompt("b again", words(64, "b"), max_tokens=1))
    run(engine)
    assert engine.counters.prefix_cache_hits - before == 48
    engine.add(prompt("a again", words(64, "a"), max_tokens=1))
    run(engine)
    assert engine.counters.prefix_cache_hits - before == 48


def test_beginnings_outlive_ends():
    engine = cached(kv_tokens=16 * 8)
    engine.add(prompt("a", words(64, "a"), max_tokens=1))
    run(engine)
    engine.add(prompt("b", words(96, "b"), max_tokens=1))  # six blocks: four fresh ones and two of a
    run(engine)
    third = engine.add(prompt("c", words(64, "a"), max_tokens=1))
    run(engine)
    assert third.cached_tokens == 32


def test_what_an_aborted_step_was_about_to_compute_is_not_found():
    engine = cached()
    engine.add(prompt("a", words(64)))
    taken = engine.next_step(0)
    engine.abort("a")
    engine.finish_step(taken)
    engine.add(prompt("b", words(64)))
    assert step(engine).shape.prefill == ((64, 0),)


def test_a_preempted_sequence_finds_what_is_left_of_its_blocks():
    engine = cached(kv_tokens=64)  # 4 blocks
    engine.add(prompt("a", words(30, "a"), max_tokens=10))
    engine.add(prompt("b", words(30, "b"), max_tokens=10))
    chunks = []
    while (taken := engine.next_step(0)) is not None:
        chunks += taken.shape.prefill
        engine.finish_step(taken)
    # b had 33 tokens in two blocks when a needed a third: a took the second of b's, the first was still there.
    assert chunks == [(30, 0), (30, 0), (17, 16)]
    assert engine.counters.preemptions == 1
    assert engine.counters.prefix_cache_queries == 60  # 2 x 30: coming back is not asked again


@settings(max_examples=80, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 100), st.integers(1, 30)), min_size=1, max_size=14),
    aborts=st.dictionaries(st.integers(0, 60), st.integers(0, 13), max_size=5),
    budget=st.integers(8, 200),
    policy=st.sampled_from(["fcfs", "priority"]),
)
def test_with_a_prefix_cache_too_every_request_ends_and_every_block_comes_back(requests, aborts, budget, policy):
    engine = cached(kv_tokens=16 * 9, max_num_batched_tokens=budget, max_num_seqs=5, policy=policy)
    wanted = {}
    for number, (family, length, max_tokens) in enumerate(requests):
        one = prompt(str(number), words(length, f"f{family}-"), max_tokens)
        engine.add(request(one.id, length, max_tokens, prompt_blocks=one.prompt_blocks, priority=number % 3))
        wanted[one.id] = max_tokens
    given: dict[str, int] = {}
    count = 0
    while (taken := engine.next_step(0)) is not None:
        assert taken.shape.tokens <= budget
        assert engine.blocks_used <= 9
        if count in aborts and engine.abort(str(aborts[count])):
            del wanted[str(aborts[count])]
        for token in engine.finish_step(taken):
            given[token.sequence.request.id] = given.get(token.sequence.request.id, 0) + token.tokens
        count += 1
    assert engine.blocks_used == 0
    assert {name: given.get(name, 0) for name in wanted} == wanted
    assert engine.counters.prefix_cache_hits <= engine.counters.prefix_cache_queries
