"""Checks of configurations: what passes, what is refused, and in which words."""

import fractions
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paperloop.checks import (
    FINITE,
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    POSITIVE_SHARE,
    SHARE,
    Range,
    at_least,
    check,
    refusal,
)
from paperloop.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Config:
    lr: float = 0.1
    gamma: float = 0.9
    tau: float | None = None
    bias: float = 0.0
    updates: int = 4
    band: int | None = None
    hidden: tuple[int, ...] = (8, 8)
    epsilons: tuple[float, ...] | None = None
    limit: int | float = 1
    nu: float = 1.0
    critics: int = 2
    flag: bool = False
    maybe: bool | None = None
    kind: Literal["append", "drop"] = "append"
    hidden_kind: Annotated[Literal["a", "b"] | None, "a note"] = None
    free: str = "anything"
    unnamed: float = 0.0

    def __post_init__(self) -> None:
        check(self, lr=POSITIVE, gamma=SHARE, tau=POSITIVE_SHARE, bias=FINITE, updates=ONE_OR_MORE, band=NOT_NEGATIVE)
        check(self, hidden=ONE_OR_MORE, epsilons=POSITIVE, limit=at_least(-2.5, "the floor"))
        check(self, nu=Range(high=math.inf, infinite=True), critics=Range(1, 3, note="as many as there are"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lr": 1},
        {"lr": 5e-324},
        {"lr": np.float32(0.5)},
        {"lr": np.int64(2)},
        {"gamma": 0},
        {"gamma": 1.0},
        {"tau": 1.0},
        {"updates": np.int32(7)},
        {"updates": np.uint8(1)},
        {"updates": 2**70},
        {"band": 0},
        {"hidden": (1,)},
        {"hidden": [3, np.int64(4)]},
        {"epsilons": (1e-3, 1)},
        {"limit": -2.5},
        {"limit": 3},
        {"nu": math.inf},
        {"nu": -math.inf},
        {"maybe": True},
        {"kind": "drop"},
        {"hidden_kind": "b"},
        {"free": 3},  # of a type that is not looked at
        {"unnamed": math.nan},  # a number that no range names
    ],
)
def test_what_passes(changes):
    Config(**changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lr": 0}, "Config.lr is 0; it must be a finite number greater than 0."),
        ({"lr": -1e-9}, "Config.lr is -1e-09; it must be a finite number greater than 0."),
        ({"lr": math.inf}, "Config.lr is inf; it must be a finite number greater than 0."),
        ({"lr": math.nan}, "Config.lr is nan; it must be a finite number greater than 0."),
        ({"lr": True}, "Config.lr is True; it must be a finite number greater than 0."),
        ({"lr": "0.1"}, "Config.lr is '0.1'; it must be a finite number greater than 0."),
        ({"lr": None}, "Config.lr is None; it must be a finite number greater than 0."),
        ({"lr": 10**400}, "it must be a finite number greater than 0."),
        ({"lr": fractions.Fraction(1, 2)}, "Config.lr is Fraction(1, 2); it must be a finite number greater than 0."),
        ({"lr": np.float32("nan")}, "it must be a finite number greater than 0."),
        ({"lr": np.ones(())}, "it must be a finite number greater than 0."),
        ({"lr": np.bool_(True)}, "it must be a finite number greater than 0."),
        ({"gamma": 1.0000001}, "Config.gamma is 1.0000001; it must be a number in [0, 1]."),
        ({"tau": 0.0}, "Config.tau is 0.0; it must be a number in (0, 1], or None."),
        ({"bias": -math.inf}, "Config.bias is -inf; it must be a finite number."),
        ({"updates": 0}, "Config.updates is 0; it must be an integer of at least 1."),
        ({"updates": 2.0}, "Config.updates is 2.0; it must be an integer of at least 1."),
        ({"updates": True}, "Config.updates is True; it must be an integer of at least 1."),
        ({"updates": 10**400}, "it must be an integer of at least 1."),
        ({"band": -1}, "Config.band is -1; it must be an integer of at least 0, or None."),
        ({"band": np.float64(3)}, "it must be an integer of at least 0, or None."),
        ({"hidden": ()}, "Config.hidden is (); it must be one or more integers of at least 1."),
        ({"hidden": (8, 0)}, "Config.hidden is (8, 0); it must be one or more integers of at least 1."),
        ({"hidden": (8, 2.5)}, "it must be one or more integers of at least 1."),
        ({"hidden": (8, True)}, "it must be one or more integers of at least 1."),
        ({"hidden": 8}, "Config.hidden is 8; it must be one or more integers of at least 1."),
        ({"hidden": "88"}, "it must be one or more integers of at least 1."),
        ({"epsilons": (0.0,)}, "it must be one or more finite numbers greater than 0, or None."),
        ({"limit": -3}, "Config.limit is -3; it must be a finite number of at least -2.5 (the floor)."),
        ({"nu": math.nan}, "Config.nu is nan; it must be a number."),
        ({"critics": 4}, "Config.critics is 4; it must be an integer from 1 to 3 (as many as there are)."),
        ({"flag": 1}, "Config.flag is 1; it must be true or false."),
        ({"flag": None}, "Config.flag is None; it must be true or false."),
        ({"maybe": "no"}, "Config.maybe is 'no'; it must be true or false, or None."),
        ({"kind": "keep"}, "Config.kind is 'keep'; it must be one of 'append', 'drop'."),
        ({"kind": None}, "Config.kind is None; it must be one of 'append', 'drop'."),
        ({"kind": ["append"]}, "Config.kind is ['append']; it must be one of 'append', 'drop'."),
        ({"hidden_kind": "c"}, "Config.hidden_kind is 'c'; it must be one of 'a', 'b', or None."),
    ],
)
def test_what_is_refused_in_one_sentence_that_names_field_value_and_range(changes, sentence):
    with pytest.raises(UserError) as caught:
        replace(Config(), **changes)
    assert str(caught.value).endswith(sentence)
    assert f"Config.{next(iter(changes))} is " in str(caught.value)


@pytest.mark.parametrize(
    ("allowed", "whole", "text"),
    [
        (Range(0, 2**31 - 1), True, "an integer from 0 to 2147483647"),
        (Range(0, 3, open_high=True), True, "an integer in [0, 3)"),
        (Range(1.0, 100.0, open_low=True), False, "a number in (1, 100]"),
        (Range(0, 1, open_low=True, open_high=True), False, "a number in (0, 1)"),
        (Range(high=0, open_high=True), False, "a finite number less than 0"),
        (Range(high=5), True, "an integer of at most 5"),
        (Range(0, infinite=True), False, "a number of at least 0"),
        (FINITE, True, "an integer"),
    ],
)
def test_a_range_in_words(allowed, whole, text):
    assert allowed.describe(whole=whole) == text


numbers = st.floats(-4, 4) | st.integers(-4, 4) | st.sampled_from([math.inf, -math.inf, math.nan])


@given(numbers, numbers, st.booleans(), st.booleans(), numbers)
def test_inside_is_what_the_inequalities_say(low, high, open_low, open_high, value):
    above = value > low if open_low else value >= low
    below = value < high if open_high else value <= high
    inside = Range(low, high, open_low, open_high, infinite=True)
    assert (value in inside) == (above and below)
    assert (value in replace(inside, infinite=False)) == (above and below and math.isfinite(value))


def test_rules_that_are_no_range_read_alike():
    error = refusal(Config(updates=3), "updates", "even")
    assert str(error) == "Config.updates is 3; it must be even."
    assert isinstance(error, UserError)


def test_the_developers_errors():
    with pytest.raises(TypeError, match="no field 'lrr'"):
        check(Config(), lrr=POSITIVE)
    with pytest.raises(TypeError, match=r"Config\.free .* holds no numbers"):
        check(Config(), free=POSITIVE)


def test_it_is_light():
    code = "import sys, paperloop.checks; sys.exit(any(m in sys.modules for m in ('numpy', 'jax', 'torch', 'tyro')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
