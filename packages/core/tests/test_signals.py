"""Handlers that a package sets through the core: put back afterwards, and answered as said."""

import signal

import pytest

from paperloop.signals import ignore_interrupts, leaving_with, screened_interrupts


@pytest.fixture
def set_to():
    """Set the handler of SIGINT for one test."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_is_let_through_when_the_answer_says_so(set_to):
    set_to(signal.default_int_handler)
    answers = [False, True]
    with screened_interrupts(lambda: answers.pop(0)):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert answers == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_ignored_interrupt_stays_ignored(set_to):
    set_to(signal.default_int_handler)
    ignore_interrupts()
    with screened_interrupts(lambda: pytest.fail("asked")):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_callers_own_handler_says_what_it_says(set_to):
    set_to(own := lambda *_: None)
    leaving_with("another note")
    assert signal.getsignal(signal.SIGINT) is own
