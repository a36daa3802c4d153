"""What the metrics of a run are read as."""

import pytest

from policy_finetune.report.health import findings


def rows(count=10, **series):
    """Rows of training; a series is a function of the row's number."""
    return [
        {"step": i, "wall": 0.0, "split": "train", "learning": [1.0, 1.0]} | {k: v(i) for k, v in series.items()}
        for i in range(count)
    ]


GOOD = {
    "q_over_bound": lambda i: [0.5, 0.9],
    "lambda": lambda i: [2.0, 0.0],
    "distance_over_epsilon": lambda i: [1.0, 0.0],  # the second agent has no constraint
}


def test_a_healthy_run_gives_no_findings():
    assert findings(rows(**GOOD)) == []
    assert findings([]) == []
    assert findings([{"step": 0, "split": "evaluation", "return": [1.0]}]) == []
    assert findings(rows(**GOOD, critic_loss=lambda i: 0.1)) == []  # a metric without the agents' axis


@pytest.mark.parametrize(
    ("name", "series", "text"),
    [
        (
            "q_over_bound",
            lambda i: [0.5, 11.0 if i == 4 else 1.0],
            "critics diverge in agent 1: mean |Q| reached 11 times",
        ),
        ("lambda", lambda i: [10.0 ** (i / 2 + 1), 0.0], "multiplier ran away in agent 0 (up to 3.16e+05)"),
        ("lambda", lambda i: [1e-7, 0.0], "fallen to its floor in agent 0"),
        ("distance_over_epsilon", lambda i: [0.2, 0.3], "never active in all agents: the distance stayed below 0.3"),
        (
            "distance_over_epsilon",
            lambda i: [3.0 + i, 0.0],
            "violated throughout the second half of the run in agent 0",
        ),
        ("critic_loss", lambda i: [1.0, None if i == 7 else 1.0], "critic_loss is not finite at step 7"),
    ],
)
def test_each_trouble_is_named(name, series, text):
    found = [sentence for sentence in findings(rows(**GOOD | {name: series})) if text in sentence]
    assert len(found) == 1


def test_a_fixed_penalty_is_given_no_advice_about_multipliers():
    assert findings(rows(distance_over_epsilon=lambda i: [0.0, 0.0], **{"lambda": lambda i: [2e4, 1e-9]})) == []


def test_rows_before_the_first_update_do_not_count():
    warm = [row | {"learning": [0.0, 0.0], "distance_over_epsilon": [0.0, 0.0]} for row in rows(**GOOD)]
    assert findings(warm + rows(**GOOD)) == []
    assert findings(warm) == [
        "No update was made: the run ended within its warm-up. Raise env_steps, or lower switch.warmup_env_steps and "
        "random_env_steps."
    ]
