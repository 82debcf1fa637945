import random

import pytest

from loadstair.load.prompts import CALIBRATION_TOKENS_MAX, CALIBRATION_TOKENS_MIN, PromptMaker, shipped_words
from loadstair.plan.workload import RequestSpec


def spec(input_tokens: int, *, prefix_tokens: int = 0, text_seed: int = 5) -> RequestSpec:
    return RequestSpec(input_tokens=input_tokens, output_tokens=1, prefix_tokens=prefix_tokens, text_seed=text_seed)


def maker(words_per_token: float = 1.0, *, salt: bool = True) -> PromptMaker:
    return PromptMaker(shipped_words(), words_per_token=words_per_token, salt=salt)


@pytest.mark.parametrize("tokens", [1, 2, 128, 5000])
@pytest.mark.parametrize("salt", [True, False])
def test_a_prompt_has_exactly_the_words_asked_for_however_short_or_long(tokens: int, salt: bool) -> None:
    prompt = maker(salt=salt).prompt(spec(tokens), "0123456789abcdef")
    assert len(prompt.text.split()) == prompt.words == tokens


def test_the_length_in_words_follows_the_ratio() -> None:
    assert maker(0.75).prompt(spec(100), "0123456789").words == 75  # 100 * 0.75


def test_the_same_seed_gives_the_same_text_and_another_request_another_first_word() -> None:
    one, two = (maker().prompt(spec(50), request_id) for request_id in ("aaaaaaaa-1", "bbbbbbbb-1"))
    assert one.text.split()[0] == "aaaaaaaa"
    assert two.text.split()[0] == "bbbbbbbb"
    assert one.text.split()[1:] == two.text.split()[1:]


def test_the_shared_prefix_is_the_same_for_all_and_comes_before_the_salt() -> None:
    seeds = random.Random(1)
    prompts = [
        maker().prompt(spec(40, prefix_tokens=30, text_seed=seeds.getrandbits(32)), f"{n:08x}") for n in range(9)
    ]
    assert len({prompt.prefix for prompt in prompts}) == 1
    assert len({prompt.text for prompt in prompts}) == 9
    assert [(len(prompt.prefix.split()), len(prompt.text.split())) for prompt in prompts if prompt.prefix] == [
        (30, 10)
    ] * 9


def test_the_ratio_is_corrected_once_enough_tokens_were_counted() -> None:
    prompts = maker(1.0)
    prompts.correct(100, 130)
    assert prompts.words_per_token == 1.0
    prompts.correct(60, CALIBRATION_TOKENS_MIN - 130)
    assert prompts.words_per_token == 0.8  # (100 + 60) / 200


def test_the_ratio_stands_once_many_tokens_were_counted() -> None:
    prompts = maker(1.0)
    prompts.correct(CALIBRATION_TOKENS_MAX // 2, CALIBRATION_TOKENS_MAX)
    prompts.correct(1000, 1000)
    assert prompts.words_per_token == 0.5


def test_the_shipped_text_is_varied_enough_for_a_tokenizer() -> None:
    assert len({word.strip(".,;:").lower() for word in shipped_words()}) >= 600
