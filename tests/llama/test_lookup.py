"""What prompt lookup guesses, and how far."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.llama.lookup import Lookup, SpeculationParams

QUOTE = list(b"the caravan leaves at dawn, and the car")


def test_it_guesses_what_followed_the_same_tokens_before():
    lookup = Lookup(SpeculationParams())
    assert bytes(lookup.draft(QUOTE, 4)) == b"avan"


def test_it_guesses_nothing_without_a_precedent():
    lookup = Lookup(SpeculationParams())
    assert lookup.draft(list(b"nothing twice"), 9) == []
    assert lookup.draft([], 9) == lookup.draft([1], 9) == lookup.draft([1, 1, 1], 9) == []


def test_of_several_places_that_which_fits_best():
    text = list(b"an old camel sleeps. a new camel walks. an old camel ")
    assert bytes(Lookup(SpeculationParams()).draft(text, 4)) == b"slee"


def test_it_guesses_further_while_it_is_right_and_less_far_when_wrong():
    lookup, text = Lookup(SpeculationParams(max_draft_tokens=9)), list(range(100))
    known, lengths = [*text, 0, 1, 2], []
    for _ in range(4):
        draft = lookup.draft(known, 50)
        lengths.append(len(draft))
        lookup.result(len(draft), len(draft))
        known = [*text, *range(len(known) - len(text) + len(draft) + 1)]
    assert lengths == [5, 8, 9, 9]
    known = [*text, 1, 2, 3]
    for _ in range(3):
        lengths.append(len(lookup.draft(known, 50)))
        lookup.result(1, 0)
        lookup.draft(known, 50)
        lookup.draft(known, 50)
    assert lengths[4:] == sorted(lengths[4:], reverse=True)
    assert lengths[-1] < 6


def after(*answer: int, text: Sequence[int] = range(10, 60)) -> list[int]:
    """What is guessed behind the text and this answer, which follows it or does not."""
    lookup, known, rest = Lookup(SpeculationParams()), [*text, 7], list(answer)
    while rest:
        draft = lookup.draft(known, len(rest) - 1) if len(rest) > 1 else []
        came = 0
        while came < len(draft) and draft[came] == rest[came]:
            came += 1
        if draft:
            lookup.result(len(draft), came)
        known += rest[: came + 1]
        del rest[: came + 1]
    return lookup.draft(known, 15)


def test_a_copy_goes_on_behind_a_token_that_was_replaced():
    assert after(20, 21, 22, 23, 24, 99) == [26, 27, 28]
    assert after(20, 21, 22, 23, 24, 99, 26) == [27, 28, 29]
    assert after(20, 21, 22, 23, 24, 99, 26, 27) == [28, 29, 30]


def test_a_copy_goes_on_behind_tokens_that_were_inserted_or_left_out():
    assert after(20, 21, 22, 23, 24, 99, 25) == [26, 27, 28]
    assert after(20, 21, 22, 23, 24, 27) == [28, 29, 30]
    assert after(20, 21, 22, 23, 24, 98, 99, 27) == [28, 29, 30]


def test_the_other_end_is_looked_for_about_where_the_answer_stands():
    begun = (20, 21, 22, 23, 24, 95, 96, 97)
    found = {token: after(*begun, token) for token in (12, 24, 25, 31, 32)}
    assert found == {12: [], 24: [], 25: [26, 27, 28], 31: [32, 33, 34], 32: []}
    # Of two the nearest.
    twice = [*range(10, 25), 77, 26, 27, 77, *range(29, 60)]
    assert after(*begun, 77, text=twice) == [29, 30, 31]


def test_an_end_that_is_found_may_break_off_like_a_copy():
    found = (20, 21, 22, 23, 24, 99, 26, 94)
    assert after(*found) == [28, 29, 30]
    assert after(*found, 93, 92, 30) == [31, 32, 33]


def test_an_image_is_not_guessed():
    known = [5, 6, 7, 0, -1, 9, 5, 6, 7]
    assert Lookup(SpeculationParams()).draft(known, 9) == [0]


def test_the_other_end_is_not_looked_for_for_ever():
    assert after(20, 21, 22, 23, 24, 95, 96, 97, 98, 99, 27) == []
    assert after(20, 21, 22, 23, 24, 95, 96, 97, 98, 30) == []
    # Three tokens are enough at any time.
    assert after(20, 21, 22, 23, 24, 95, 96, 97, 98, 99, 27, 28, 29)[:2] == [30, 31]


def test_what_is_no_copy_has_no_other_end():
    known = [*range(10, 20), 11, 12, 13]
    for other in (99, 16):
        lookup = Lookup(SpeculationParams())
        lookup.result(len(lookup.draft(known, 15)), 0)
        assert lookup.draft([*known, other], 15) == []


def test_it_rests_longer_and_longer_after_misses():
    lookup, rest = Lookup(SpeculationParams()), 0
    rests: list[int] = []
    known = [1, 2, 3, 4] * 5
    while len(rests) < 9:
        draft = lookup.draft(known, 9)
        if draft:
            lookup.result(len(draft), 0)
            rests.append(rest)
            rest = 0
        else:
            rest += 1
    assert rests == [0, 0, 2, 6, 14, 30, 62, 64, 64]


def test_a_hit_ends_the_row_of_misses():
    lookup, known = Lookup(SpeculationParams()), [1, 2, 3, 4] * 5
    lookup.result(len(lookup.draft(known, 9)), 0)
    lookup.result(len(lookup.draft(known, 9)), 1)
    assert lookup.draft(known, 9)
    lookup.result(1, 0)
    assert lookup.draft(known, 9)


class Counted(list[int]):
    """Counts how often single tokens are looked at."""

    looked = 0

    def __getitem__(self, index: Any) -> Any:
        Counted.looked += 1
        return super().__getitem__(index)


def test_a_token_costs_the_same_however_long_the_text_is():
    source = random.Random(4)
    for alphabet in (1, 2, 3):
        lookup, tokens, worst = Lookup(SpeculationParams()), Counted([0] * 50), 0
        lookup.draft(tokens, 8)
        for _ in range(1500):
            Counted.looked = 0
            draft = lookup.draft(tokens, 8)
            if draft:
                lookup.result(len(draft), 1)
            tokens.append(source.randrange(alphabet))
            worst = max(worst, Counted.looked)
        # Nine places, two tokens for each of 32 that are compared, and slices.
        assert worst < 11 * 2 * 33


@settings(max_examples=60)
@given(
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_drafts_follow_the_same_tokens_and_keep_their_bounds(ngram, longest, alphabet, source):
    lookup = Lookup(SpeculationParams(max_draft_tokens=longest, max_ngram=ngram))
    tokens = [source.randint(0, alphabet) for _ in range(source.randint(0, 20))]
    begun = False
    for _ in range(60):
        most = source.randint(1, 10)
        draft = lookup.draft(tokens, most)
        assert len(draft) <= min(most, longest)
        if draft:
            # The first stands behind the same tokens; later ones maybe near where a copy broke off.
            pattern = draft if begun else tokens[len(tokens) - ngram :] + draft
            places = range(len(tokens) - len(pattern) + 1)
            assert any(tokens[at : at + len(pattern)] == pattern for at in places)
            begun = True
            taken = source.randint(0, len(draft))
            if source.random() < 0.8:  # else the batch had no place for it
                lookup.result(len(draft), taken)
            tokens += draft[:taken]
        tokens.append(source.randint(0, alphabet))
