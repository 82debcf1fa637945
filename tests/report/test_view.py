import pytest

from loadstair.report import view


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.00001234, "1.2e-05"), (0.01234, "0.0123"), (0.68, "0.680"), (1.2358, "1.24"), (56.12, "56.1"),
        (99.96, "100.0"), (1404.4, "1,404"), (-3.14159, "-3.14"),
    ],
)  # fmt: skip
def test_numbers_have_three_significant_digits_or_all_whole_ones(value: float, text: str) -> None:
    assert view.digits(value) == text


def test_an_estimate_shows_its_interval_or_its_absence() -> None:
    assert view.estimate({"value": 1.4, "low": 1.3, "high": 1.5}, "×") == "1.40× [1.30, 1.50]"
    assert view.estimate({"value": 1.4, "low": None, "high": None}, "×") == "1.40×"
    assert view.estimate({"value": None, "low": None, "high": None}, "×") == "–"


def test_plus_minus_is_half_the_interval_as_a_share() -> None:
    assert view.plus_minus({"value": 1000, "low": 970, "high": 1030}) == "1,000 ±3%"  # (1030 - 970) / 2 / 1000
    assert view.plus_minus({"value": 1000, "low": 998, "high": 1002}) == "1,000 ±0.2%"
    assert view.plus_minus({"value": 0, "low": 0, "high": 0}) == "0"


def test_one_user_is_not_several() -> None:
    assert [view.load_words(value, "users") for value in (1, 64, None)] == ["1 user", "64 users", "–"]
    assert view.load_words(1, "requests/s") == "1 requests/s"


def test_zero_errors_are_zero_and_unknown_ones_are_absent() -> None:
    assert view.percent(0.0) == "0 %"
    assert view.percent(0.0123) == "1.2 %"
    assert view.percent(None) == "–"


def test_a_ratio_inside_the_noise_is_called_so() -> None:
    assert view.claim_words({"value": 1.1, "claim": None}) == "inside the noise"
    assert view.claim_words({"value": 1.1, "claim": "higher"}) == "higher"
    assert view.claim_words({"value": None, "claim": None}) == "not measured"


def test_a_share_is_in_percent_with_its_interval() -> None:
    assert view.share({"value": 0.02, "low": 0.01, "high": 0.04}) == "2.0 % [1.0 %, 4.0 %]"
    assert view.share({"value": 0.02, "low": None, "high": None}) == "2.0 %"
    assert view.share({"value": None, "low": None, "high": None}) == "–"


def test_a_load_between_steps_has_two_digits() -> None:
    assert [view.two_digits(value) for value in (1.54, 17.2, 99.7, 352.4)] == ["1.5", "17", "100", "352"]


def test_a_moment_is_told_in_utc() -> None:
    assert view.moment("2026-11-21T10:43:19+00:00") == "2026-11-21 10:43:19 UTC"
