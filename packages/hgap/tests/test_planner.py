"""Sampling and planning: nucleus sets, brute force on a linear system, greedy, warm start, objectives of any kind."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgap.config import Iterated, PlanConfig, Sampling, TrainConfig, Width
from hgap.data.windows import Scale
from hgap.envs.objectives import OBJECTIVES, Trajectory, Weighted, find_objective, total
from hgap.loading import Model
from hgap.model.layers import draw_parameters
from hgap.model.prior import Prior
from hgap.planner.budget import Budgeted
from hgap.planner.plan import Planner
from hgap.planner.sampling import draw_codes, nucleus
from paperloop import UserError

RNG = np.random.default_rng(0)
STEPS, DT = 5, 0.5
SLICES = {"position": (0, 1), "velocity_x": (1, 2)}


class DoubleIntegrator:
    """Stands for an autoencoder: code k of step t is the acceleration k - 1, and decoding integrates exactly."""

    state_size, action_size = 2, 1

    def __init__(self, steps=STEPS):
        self.steps = self.tokens = steps

    def vectors(self, weights, codes):
        return codes.astype(jnp.float32)[..., None] - 1

    def decode(self, weights, vectors, first):
        states = [first]
        for t in range(self.steps - 1):
            position, velocity = states[-1].T
            states.append(jnp.stack([position + DT * velocity, velocity + DT * vectors[:, t, 0]], -1))
        return jnp.stack(states, 1), vectors

    def encode(self, weights, states, actions):
        from hgap.model.autoencoder import Encoding

        return Encoding(None, (actions[..., 0] + 1).astype(jnp.int32), None, None)


def identity(size):
    return Scale(jnp.zeros(size), jnp.ones(size), jnp.ones(size, bool), jnp.asarray(1e6))


def make_model(steps):
    prior = Prior(Width(width=16, heads=2, blocks=1), 3, steps)
    params = draw_parameters(prior, jax.random.key(0), jnp.zeros((1, steps), jnp.int32), jnp.zeros((1, 2)))
    return Model(TrainConfig(), SLICES, DoubleIntegrator(steps), prior, (), params, identity(2), identity(1))


@pytest.fixture(scope="module")
def model():
    return make_model(STEPS)


def reach(trajectory):
    return -((trajectory["position"] - 1.0) ** 2) - 0.1 * trajectory["velocity_x"] ** 2


def brute_force(first, objective):
    best = -np.inf
    for actions in itertools.product((-1.0, 0.0, 1.0), repeat=STEPS - 1):
        state, states = np.array(first), []
        for action in actions:
            state = np.array([state[0] + DT * state[1], state[1] + DT * action])
            states.append(state)
        found = float(objective(Trajectory(np.array([states]), np.array(actions)[None, :, None], SLICES)).sum())
        best = max(best, found)
    return best


@pytest.mark.parametrize("search", [Sampling(top_p=1.0), Iterated(top_p=1.0, rounds=4)])
def test_the_planner_finds_what_brute_force_finds(model, search):
    planner = Planner(model, reach, PlanConfig(samples=2048, search=search))
    starts = np.array([[0.0, 0.0], [2.0, 1.0], [-1.0, 0.5]], np.float32)
    _, plan = planner(planner.start(3), starts)
    np.testing.assert_allclose(plan.score, [brute_force(s, reach) for s in starts], atol=1e-4)
    np.testing.assert_array_equal(plan.states[:, 0], starts)
    np.testing.assert_array_equal(plan.action, plan.actions[:, 0])


def test_rounds_find_more_than_one_draw_of_as_many():
    """Among 3^15 plans, of which 64 are seen either way."""
    model, starts = make_model(16), np.zeros((512, 2), np.float32)

    def scores(search):
        planner = Planner(model, reach, PlanConfig(samples=64, search=search, warm_start=False))
        return np.asarray(planner(planner.start(512), starts)[1].score)

    gained = scores(Iterated(top_p=1.0, rounds=4, elites=4)) - scores(Sampling(top_p=1.0))
    assert gained.mean() > 2 * gained.std() / 512**0.5  # standard errors; four were measured


def test_temperature_zero_is_greedy(model):
    planner = Planner(model, reach, PlanConfig(samples=4, search=Sampling(temperature=0.0), warm_start=False))
    first = np.array([[0.3, -0.2]], np.float32)
    _, plan = planner(planner.start(1), first)
    codes = jnp.zeros((1, STEPS), jnp.int32)
    for at in range(STEPS):
        logits = model.prior.apply(model.params, codes, jnp.asarray(first))
        codes = codes.at[:, at].set(logits[:, at].argmax(-1))
    np.testing.assert_array_equal(plan.codes, codes)
    assert float(jnp.ptp(plan.scores)) == 0.0


def test_environments_in_a_batch_do_not_mix(model):
    planner = Planner(model, reach, PlanConfig(samples=1024, search=Sampling(top_p=1.0)))
    starts = np.array([[0.0, 0.0], [2.0, 1.0]], np.float32)
    together = planner(planner.start(2), starts)[1].score
    alone = [float(planner(planner.start(1), starts[i : i + 1])[1].score[0]) for i in range(2)]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_the_rest_of_the_last_plan_competes(model):
    config = PlanConfig(samples=1, search=Sampling(top_p=1.0))
    planner = Planner(model, reach, config)
    memory, plan = Planner(model, reach, PlanConfig(samples=2048, search=Sampling(top_p=1.0)))(
        planner.start(1), np.zeros((1, 2), np.float32)
    )
    following = np.asarray(plan.states[:, 1])
    _, second = planner(memory, following)
    assert second.scores.shape == (1, 2)
    _, expected = model.autoencoder.decode(
        (), jnp.concatenate([plan.actions[:, 1:], plan.actions[:, -1:]], 1), following
    )
    np.testing.assert_array_equal(second.codes[0] if second.scores[0].argmax() else expected[0, :, 0] + 1,
                                  expected[0, :, 0] + 1)  # fmt: skip
    _, forgotten = planner(planner.forget(memory, np.array([True])), following)
    assert float(forgotten.scores[0, 1]) == -np.inf


def test_numpy_on_the_host_equals_jax_on_the_device(model):
    def on_host(trajectory):
        states = np.array(trajectory.states)  # refuses to be traced
        states[np.isnan(states)] = 0.0
        return -((states[..., 0] - 1.0) ** 2) - 0.1 * states[..., 1] ** 2

    start = np.array([[0.0, 0.3]], np.float32)
    plans = []
    for objective in (reach, on_host):
        planner = Planner(model, objective, PlanConfig(samples=64))
        plans.append(planner(planner.start(1), start)[1])
        assert planner.traced == (objective is reach)
    np.testing.assert_allclose(plans[0].scores, plans[1].scores, atol=1e-5)
    np.testing.assert_array_equal(plans[0].codes, plans[1].codes)


def test_likelihood_prefers_what_the_prior_prefers(model):
    first = np.zeros((1, 2), np.float32)

    def log_prob(weight):
        planner = Planner(model, reach, PlanConfig(samples=512, search=Sampling(top_p=1.0), likelihood=weight))
        return float(planner(planner.start(1), first)[1].log_prob[0])

    assert log_prob(1e4) > log_prob(0.0)


def test_drift_penalises_states_far_from_the_data(model):
    import dataclasses

    near = dataclasses.replace(model, state_scale=model.state_scale._replace(clip=jnp.asarray(0.5)))
    flee = Weighted({"velocity": 1.0})
    speeds = []
    for drift in (0.0, 1e3):
        planner = Planner(near, flee, PlanConfig(samples=1024, search=Sampling(top_p=1.0), drift=drift))
        _, plan = planner(planner.start(1), np.zeros((1, 2), np.float32))
        speeds.append(float(jnp.abs(plan.states).max()))
    assert speeds[1] <= 0.5 < speeds[0]


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (lambda t: t["position"][0], r"returned shape \[4\] for \[2\] trajectories"),
        (lambda t: t["height"], "have no part 'height'"),
    ],
)
def test_bad_objectives_are_refused(model, objective, said):
    with pytest.raises(UserError, match=said):
        Planner(model, objective)


def test_an_objective_without_a_finite_number_is_refused_and_some_nans_are_not(model):
    planner = Planner(model, lambda t: t["position"] * jnp.nan, PlanConfig(samples=8))
    with pytest.raises(UserError, match="no finite number for any of the plans of environment 0"):
        planner(planner.start(1), np.zeros((1, 2), np.float32))
    some = Planner(model, lambda t: jnp.where(t["velocity_x"] < 0, jnp.nan, t["velocity_x"]), PlanConfig(samples=256))
    _, plan = some(some.start(1), np.zeros((1, 2), np.float32))
    assert np.isnan(plan.scores).any()
    assert float(plan.score[0]) == float(np.nanmax(plan.scores)) > 0


def test_wrong_observations_are_refused(model):
    planner = Planner(model, reach)
    with pytest.raises(UserError, match=r"shape \[1, 3\]; they must be \[1, 2\]"):
        planner(planner.start(1), np.zeros((1, 3)))


# The nucleus


def test_the_nucleus_is_the_smallest_set_that_reaches_its_mass():
    logits = jnp.log(jnp.array([0.15, 0.5, 0.05, 0.3]))
    np.testing.assert_array_equal(nucleus(logits, top_p=0.9), [True, True, False, True])
    np.testing.assert_array_equal(nucleus(logits, top_p=0.9, rule="reference"), [False, True, False, True])
    np.testing.assert_array_equal(nucleus(logits, top_p=1e-6), [False, True, False, False])


@pytest.mark.parametrize("rule", ["usual", "reference"])
def test_the_nucleus_is_what_sorting_finds_and_ties_stay_together(rule):
    logits = (3 * RNG.standard_normal((200, 64))).astype(np.float32)
    probs = np.asarray(jax.nn.softmax(logits))
    order = np.argsort(-probs, axis=-1, kind="stable")
    likeliest = np.take_along_axis(probs, order, -1)
    for top_p in (1e-6, 0.5, 0.9, 0.999):
        mass = np.asarray(jnp.cumsum(likeliest, -1))
        keep = (mass - likeliest if rule == "usual" else mass) < top_p
        keep[:, 0] = True
        expected = np.zeros_like(keep)
        np.put_along_axis(expected, order, keep, -1)
        np.testing.assert_array_equal(nucleus(jnp.asarray(logits), top_p=top_p, rule=rule), expected)
    even = np.asarray(nucleus(jnp.zeros((1, 4)), top_p=0.9, rule=rule))
    assert even.all()


def test_the_nucleus_equals_that_of_transformers():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    logits = (3 * RNG.standard_normal((1000, 50))).astype(np.float32)
    for top_p in (0.3, 0.9, 0.99):
        warped = transformers.TopPLogitsWarper(top_p)(None, torch.from_numpy(logits))
        np.testing.assert_array_equal(nucleus(jnp.asarray(logits), top_p=top_p), np.isfinite(warped.numpy()))


def test_draws_have_the_frequencies_of_the_nucleus(model):
    first = jnp.zeros((1, 2))
    logits = np.asarray(model.prior.apply(model.params, jnp.zeros((1, STEPS), jnp.int32), first))[0, 0]
    hot = logits / 0.01  # far from uniform
    drawn = draw_codes(
        model.params, model.prior, first, jax.random.key(0), samples=20_000, temperature=0.01, top_p=0.9
    )  # fmt: skip
    keep = np.asarray(nucleus(jnp.asarray(hot), top_p=0.9))
    expected = np.where(keep, np.exp(hot - hot.max()), 0)
    found = np.bincount(np.asarray(drawn.codes[:, 0]), minlength=3) / 20_000
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.02)
    whole = model.prior.apply(model.params, drawn.codes[:50], jnp.zeros((50, 2)))
    log_p = np.take_along_axis(np.asarray(jax.nn.log_softmax(whole)), np.asarray(drawn.codes[:50])[..., None], -1)
    np.testing.assert_allclose(drawn.log_prob[:50], log_p[..., 0].sum(-1), atol=1e-4)


def test_beginnings_are_kept(model):
    given = jnp.asarray(RNG.integers(0, 3, (6, STEPS)), jnp.int32)
    kept = jnp.array([0, 1, 2, 3, 4, 5])
    drawn = draw_codes(
        model.params, model.prior, jnp.zeros((1, 2)), jax.random.key(3), samples=6, temperature=1.0, top_p=1.0,
        given=given, kept=kept,
    )  # fmt: skip
    for row, count in enumerate(kept):
        np.testing.assert_array_equal(drawn.codes[row, :count], given[row, :count])


# Objectives


def test_terms_are_what_they_say():
    slices = {"height": (0, 1), "pitch": (1, 2), "velocity_x": (2, 3), "velocity_z": (3, 4), "pitch_rate": (4, 5)}
    states = np.array([[[1.0, np.pi / 3, 3.0, -4.0, 2.0], [2.0, 0.0, -1.0, 5.0, 0.5]]])
    trajectory = Trajectory(states, np.full((1, 2, 2), 0.5), slices)
    expected = {
        "forward": [3, -1], "backward": [-3, 1], "speed": [5, 26**0.5], "stop": [-5, -(26**0.5)], "jump": [0, 5],
        "turn": [2, 0.5], "tall": [1, 2], "upright_forward": [3.5, 0], "slow": [np.exp(-16), np.exp(-16)],
    }  # fmt: skip
    for name, rewards in expected.items():
        np.testing.assert_allclose(OBJECTIVES[name](trajectory)[0], rewards, atol=1e-6, err_msg=name)
    effort = Weighted({"effort": 2.0}, constraints={"height": (0.0, 1.5)}, penalty=3.0)
    np.testing.assert_allclose(effort(trajectory)[0], [-0.5, -3.5])


def test_upright_of_a_quaternion_is_the_z_of_the_rotated_up_axis():
    from scipy.spatial.transform import Rotation

    rotation = Rotation.random(20, random_state=0)
    x, y, z, w = rotation.as_quat().T
    trajectory = Trajectory(np.stack([w, x, y, z], -1)[None], np.zeros((1, 20, 1)), {"orientation": (0, 4)})
    np.testing.assert_allclose(Weighted({"upright": 1.0})(trajectory)[0], rotation.apply([0, 0, 1])[:, 2], atol=1e-9)


def test_objectives_are_found_by_name_and_in_files(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def objective(trajectory):\n    return trajectory['height'] * 2\n")
    trajectory = Trajectory(np.ones((1, 3, 1)), np.zeros((1, 3, 1)), {"height": (0, 1)})
    assert total(find_objective(str(file))(trajectory), (1,)) == 6
    with pytest.raises(UserError, match=r"Unknown objective 'foward'.*forward"):
        find_objective("foward")
    file.write_text("x = 1\n")
    with pytest.raises(UserError, match="does not define a function"):
        find_objective(str(file))
    with pytest.raises(UserError, match="Unknown term 'velocty'"):
        Weighted({"velocty": 1.0})


def test_bad_searches_are_refused():
    with pytest.raises(UserError, match=r"search.rounds is 5; it must be a divisor of .*samples = 64"):
        PlanConfig(search=Iterated(rounds=5))
    with pytest.raises(UserError, match=r"search.elites is 40; it must be at most"):
        PlanConfig(search=Iterated(rounds=4, elites=40))
    for wrong in (0.0, -0.1, 1.5):
        with pytest.raises(UserError, match="top_p is"):
            Sampling(top_p=wrong)


# Within a budget


class Clock:
    """A clock that each plan moves by what its number of samples costs."""

    def __init__(self, planner=None, cost=0.001):
        self.planner, self.cost, self.now, self.reads = planner, cost, 0.0, 0

    def __call__(self):
        self.reads += 1
        if self.reads % 2 == 0:
            self.now += self.cost * self.planner.samples
        return self.now


def test_a_budget_is_kept_by_fewer_samples_and_then_by_greedy_decoding(model):
    clock = Clock()
    planner = Budgeted(model, reach, PlanConfig(samples=64), seconds=0.03, patience=5, clock=clock)
    clock.planner, first = planner, np.array([[0.3, -0.2]], np.float32)
    memory = planner.start(1)
    seen = []
    for cost in [0.001] * 6 + [0.01] * 4 + [0.0001] * 12:  # seconds a sample
        clock.cost = cost
        seen.append(planner.samples)
        memory, plan = planner(memory, first)
        assert plan.action.shape == (1, 1)
    assert seen == [64] * 2 + [16] * 6 + [1] * 7 + [16] * 5 + [64] * 2
    assert planner.late == 4


def test_greedy_decoding_within_a_budget_is_greedy_decoding(model):
    clock = Clock(cost=1.0)
    planner = Budgeted(model, reach, PlanConfig(samples=8), seconds=0.5, clock=clock)
    clock.planner, first = planner, np.array([[0.3, -0.2]], np.float32)
    memory = planner.start(1)
    for _ in range(4):
        memory, _ = planner(memory, first)
    alone = Planner(model, reach, PlanConfig(samples=1, search=Sampling(temperature=0.0), warm_start=False))
    np.testing.assert_array_equal(planner(memory, first)[1].codes, alone(alone.start(1), first)[1].codes)
