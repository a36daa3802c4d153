"""The benchmarks of llm-probes: their verdicts can fail."""

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks.llm_probes import implicature, pcfg, rlhf, speed, wrapped


def test_claims_on_implicatures_can_fail():
    def rows(base, examples, guess=50.0):
        return [{"base": base + i, "direct": base, "examples": examples + i, "no facts": guess} for i in range(4)]

    assert all(implicature.verdicts(rows(50, 80)).values())
    assert not implicature.verdicts(rows(50, 69))["examples above base by more than 20 points"]
    assert not implicature.verdicts(rows(50, 90, guess=75.0))["without facts within 10 points of chance"]


def counter(with_=100.0, without=0.0, restored=70.0, chance=0.0, back=10.0, control=100.0, word="wrapped", probe=0.9):
    return {
        "tuned_with": with_, "tuned_without": without, "after": 2.0, "verdict": word,
        "shares": {"probe": [1.0, probe, 1.0]}, "prune": {"accuracy": 2 + restored, "random": 2 + chance},
        "back, steps": back, "control back, steps": control,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("wrapped: over 94 % with the relation", {"with_": 94.0}),
        ("wrapped: under 5 % without it", {"without": 5.0}),
        ("wrapped: the probe finds more than half", {"probe": 0.5}),
        ("wrapped: the verdict says so", {"word": "undecided"}),
        ("wrapped, last block: pruning restores over 60 points", {"restored": 50.0}),
        ("wrapped, last block: random weights restore under 5", {"chance": 9.0}),
        ("back in at most half the steps of the control", {"back": 51.0}),
    ],
)
def test_claims_on_wrappers_can_fail(claim, change):
    def numbers(**change):
        removed = [{"verdict": change.pop("gone", "removed")}]
        rows = [counter(), counter(**change)]
        return {
            "wrapped": rows[:1] if {"restored", "chance"} & change.keys() else rows,
            "wrapped, last block": rows[1:],
            "removed": removed,
        }

    assert all(wrapped.verdicts(numbers()).values())
    failed = [name for name, holds in wrapped.verdicts(numbers(**change)).items() if not holds]
    assert failed == [claim]
    assert not wrapped.verdicts(numbers(gone="undecided"))["removed: the verdict says so"]


def test_claims_on_rlhf_can_fail():
    def policy(gold=0.0, ead=0.9, across=0.9, kl=0.0):
        metric = {"per_input": {"mean": ead, "std": 0.05, "inputs": 50}, "across_input": {"first": across}}
        values = gold + 0.05 * np.sin(np.arange(50))
        test = {"gold": gold, "gold_error": 0.007, "gold_of": values, "kl": kl}
        return {"test": test | {"diversity": {"ead": metric, "cosine": metric}}}

    def found(**change):
        return {
            "reward model": {"test": {"accuracy": 0.7}}, "sft": policy(), "best-of-16": policy(0.1),
            "ppo-0": policy(**({"gold": 0.2, "ead": 0.5, "across": 0.85, "kl": 6.0} | change)),
            "ppo-strong-penalty": policy(0.1, kl=1.0), "ppo-random-labels": policy(0.0),
        }  # fmt: skip

    assert all(rlhf.verdicts(found()).values())
    assert not rlhf.verdicts(found(gold=0.0))["PPO above SFT in gold by 2 standard errors"]
    assert not rlhf.verdicts(found(ead=0.89))["ead per input below SFT by 3 standard errors"]
    assert not rlhf.verdicts(found(across=0.3))["ead drops less across inputs than per input"]
    assert not rlhf.verdicts(found(kl=0.5))["the stronger penalty has the smaller KL"]


def test_ranks_of_rewards():
    assert rlhf._ranks(np.array([0.3, 0.1, 0.2])).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("wrapped: over 94 % with the relation", {"b_with": 94.0}),
        ("wrapped: at most 5 % without it", {"b_without": 6.0}),
        ("wrapped: the probe finds half, and not in the control", {"probe": 0.4}),
        ("wrapped: 20 neurons restore 30 points", {"pruned": 31.0}),
        ("wrapped: 20 neurons, each verified by the loss, restore 30 points", {"verified": 31.0}),
        ("wrapped: random neurons restore under 5", {"random": 8.0}),
        ("wrapped: back in half of the control's steps", {"back": 51.0}),
        ("wrapped: the verdict says so", {"word": "undecided"}),
        ("with verified pruning, both verdicts say so", {"sure": "undecided"}),
    ],
)
def test_claims_on_the_grammar_can_fail(claim, change):
    def row(
        b_with=99.0, b_without=1.0, probe=0.9, pruned=60.0, verified=70.0, random=3.0, back=10.0, word="wrapped",
        sure="wrapped",
    ):  # fmt: skip
        return {
            "accuracy": {"b_with": b_with, "b_without": b_without}, "shares": {"probe": [1.0, probe, 1.0]},
            "prune": {"accuracy": pruned, "random": random}, "after": 2.0, "back, steps": back,
            "control back, steps": 100.0, "verdict": word,
            "verified": {"accuracy": verified, "verdict": sure},
        }  # fmt: skip

    learned, gone = {"a_without": 99.0, "b_without": 20.0}, [row(word="removed", sure="removed")]
    assert all(pcfg.verdicts(learned, {"wrapped": [row()], "removed": gone}).values())
    unread = {"wrapped": [row(probe=None)], "removed": gone}
    assert not pcfg.verdicts(learned, unread)["wrapped: the probe finds half, and not in the control"]
    found = pcfg.verdicts(learned, {"wrapped": [row(), row(**change)], "removed": gone})
    assert [name for name, holds in found.items() if not holds] == [claim]
    unlearned = {"wrapped": [{"verdict": "nothing to recover"}], "removed": gone}
    assert pcfg.verdicts(learned | {"a_without": 30.0}, unlearned) == {"pretraining counts a in 95 %": False}


def test_what_is_compared_in_speed_gives_equal_results():
    rows = speed.measure(inputs=3, steps=2, rounds=1)
    assert [row["name"] for row in rows] == ["n-grams", "cosine", "ensemble, batch 96", "ensemble, batch 16"]
    assert all(row["difference"] < 1e-5 for row in rows)
