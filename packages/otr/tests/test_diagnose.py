from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from otr import ConstantConfig, OTRConfig, Parity, SinkhornConfig, label, transport_plan
from otr.diagnosis.diagnose import diagnose, spearman
from otr.diagnosis.figures import effective_support, plan_figure, returns_figure
from paperloop.errors import UserError
from paperloop_lab.plots import save_figure

CONFIG = OTRConfig(solver=SinkhornConfig(backend="reference"))


def test_spearman_is_scipys(rng):
    a, b = rng.integers(0, 5, 40), rng.normal(size=40)  # with ties
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert math.isnan(spearman(a, np.ones(40)))
    assert math.isnan(spearman(a[:1], b[:1]))


def test_numbers(small):
    labelled = label(small, small.select([3, 2]), CONFIG).dataset
    found = diagnose(labelled)
    true = small.returns()
    assert found.by_episode == pytest.approx(spearmanr(labelled.returns(), true).statistic)
    assert found.by_step == pytest.approx(spearmanr(labelled.rewards, small.rewards).statistic)
    assert found.length_with_truth == pytest.approx(spearmanr(small.lengths, true).statistic)
    assert found.length_with_labels > 0.8  # positive rewards: length counts
    assert (found.episodes, found.steps, found.labeller) == (7, small.num_steps, "otr")
    assert sum(found.demonstrations) == 7
    assert len(found.demonstrations) == 2
    errors = labelled.attributes["otr"]["episodes"]["marginal_error"]
    assert found.marginal_error == (np.mean(errors), np.max(errors))
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_confound_is_said(rng, dataset, walk):
    lengths = (3, 9, 5, 14, 7, 21)
    data = dataset(
        [walk(rng, n, 4) for n in lengths], rewards=np.ones(sum(lengths)) + 1e-3 * rng.normal(size=sum(lengths))
    )
    found = diagnose(label(data, data.select([5]), ConstantConfig()).dataset)
    assert found.by_episode == pytest.approx(1.0)
    assert found.length_with_truth == pytest.approx(1.0)
    assert any("length of an episode alone ranks" in line for line in found.findings)


def test_labels_against_the_truth_are_said(small):
    labelled = label(small, small.select([3]), CONFIG).dataset
    found = diagnose(labelled, truth=-labelled.rewards)
    assert found.by_episode == pytest.approx(-1)
    assert any("rank the episodes against the truth (rank correlation -1.00)" in line for line in found.findings)
    assert not any("hardly agree" in line for line in found.findings)


def test_the_marginal_error_is_said_as_in_the_table(small):
    few = OTRConfig(solver=SinkhornConfig(backend="reference", mode=Parity(iterations=1)))
    found = diagnose(label(small, small.select([3]), few).dataset)
    assert found.marginal_error is not None
    said = next(line for line in found.findings if "marginal error" in line)
    assert f"up to {found.marginal_error[1]:.2g}, of 2" in said
    assert "the preset otr-converged iterates until it fits" in said


def test_equal_lengths_take_length_out(rng, dataset, walk):
    data = dataset([walk(rng, n, 4) for n in (5, 5, 5, 5, 9)])
    found = diagnose(label(data, data.select([4]), CONFIG).dataset)
    assert found.equal_length_episodes == 4


def test_without_truth(small):
    blind = small.replace(rewards=np.zeros(small.num_steps))
    found = diagnose(label(blind, small.select([3]), CONFIG).dataset)
    assert math.isnan(found.by_episode)
    assert found.to_dict()["by_episode"] is None
    given = diagnose(label(blind, small.select([3]), CONFIG).dataset, truth=small.rewards)
    assert not math.isnan(given.by_episode)
    with pytest.raises(UserError, match="true rewards of shape"):
        diagnose(small, truth=np.zeros(3))
    assert diagnose(small).labeller is None  # any dataset will do


def test_effective_support():
    plan = np.array([[0.5, 0.0, 0.0, 0.0], [0.125] * 4])
    np.testing.assert_allclose(effective_support(plan), [1.0, 4.0])


def test_figures(small, tmp_path):
    labelled = label(small, small.select([3]), CONFIG)
    plan = labelled.fitted.plan(small, 0)
    np.testing.assert_allclose(
        plan, transport_plan(small.episode(0).observations, small.episode(3).observations, solver=CONFIG.solver)
    )
    for name, figure in (("plan", plan_figure(plan)), ("returns", returns_figure(labelled.dataset))):
        path = save_figure(figure, tmp_path / f"{name}.png")
        assert path.read_bytes()[:4] == b"\x89PNG"
    even = label(small.select([2, 5]), small.select([3]), CONFIG).dataset
    captions = [text.get_text() for text in returns_figure(even).findobj(lambda a: hasattr(a, "get_text"))]
    assert any("rank correlation" in text for text in captions)
    assert not any("nan" in text for text in captions)  # both are 25 steps long: nothing to say of the length
    with pytest.raises(UserError, match="the true rewards are not known"):
        returns_figure(small)
