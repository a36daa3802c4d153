"""The demo's second half, at a size that only shows that it runs; what it shows is measured in benchmarks."""

from __future__ import annotations

import pytest

pytest.importorskip("policy_finetune", reason="otr train needs the extra train")


@pytest.mark.slow
def test_a_learner_on_labels(tmp_path, capsys):
    from otr.training.demo import run_training_demo

    arms = run_training_demo(tmp_path, steps=2000, updates=20)
    labels = ("oracle", "otr", "constant")
    named = [f"{learner} {name}" for learner in ("bc10-labels", "iql") for name in labels]
    assert [arm.name for arm in arms] == ["bc", *named]
    assert all(arm.returns.shape == (2,) for arm in arms)
    assert (tmp_path / "halfcheetah" / "plots" / "arms.png").stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "constant" in shown
    before = (tmp_path / "halfcheetah" / "report.json").read_text()
    run_training_demo(tmp_path, steps=2000, updates=20)  # a complete one is shown once more
    assert (tmp_path / "halfcheetah" / "report.json").read_text() == before
