import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadstair.inflate import InflateError, decoder

FORMS = [("gzip", 31), ("deflate", 15), ("deflate", -15)]


@given(
    body=st.binary(max_size=300),
    form=st.sampled_from(FORMS),
    cuts=st.lists(st.integers(0, 400), max_size=5).map(sorted),
)
def test_a_body_comes_out_the_same_however_it_is_cut(body: bytes, form: tuple[str, int], cuts: list[int]) -> None:
    encoding, wbits = form
    packed = zlib.compress(body, wbits=wbits)
    one = decoder(encoding)
    assert one is not None
    decoded = b"".join(one.decode(packed[a:b], 10_000) for a, b in zip([0, *cuts], [*cuts, len(packed)], strict=True))
    assert decoded == body
    assert one.complete()


@pytest.mark.parametrize(("encoding", "wbits"), FORMS)
def test_no_more_comes_out_than_may(encoding: str, wbits: int) -> None:
    one = decoder(encoding)
    assert one is not None
    assert len(one.decode(zlib.compress(bytes(1_000_000), wbits=wbits), 1000)) == 1000
    assert not one.complete()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_not_compressed_is_told(encoding: str) -> None:
    one = decoder(encoding)
    assert one is not None
    with pytest.raises(InflateError):
        one.decode(b"data: {}\n\n", 1000)


def test_nothing_is_decoded_where_nothing_is_encoded() -> None:
    assert decoder(None) is None
    assert decoder("identity") is None
