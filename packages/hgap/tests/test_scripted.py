"""Motion of the CMU humanoid without recordings: it stands, goes from stance to stance, and says what it follows."""

import dataclasses

import numpy as np
import pytest

from hgap.data.motion import Switching, make_motion
from hgap.data.scripted import Goal, Scripted, scripted, stances
from hgap.envs.bodies import find_body
from hgap.envs.cmu import CMUHumanoid, standing_frames
from hgap.envs.simulator import Simulator, mujoco
from paperloop import UserError


@pytest.fixture(scope="module")
def simulator():
    try:
        return Simulator(find_body("CMUHumanoid"), threads=1)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def behaviours(simulator):
    return scripted(simulator, ("stand", "crouch/1"))


def go(simulator, policy, goals, noise=0.05):
    rng, copies = np.random.default_rng(0), 4
    states = simulator.reset(copies, rng)
    policy.begin(copies)
    for goal in goals:
        action = policy.choose(np.full(copies, goal), simulator.observe(states))
        states = simulator.roll(states, (action + noise * rng.standard_normal(action.shape))[:, None]).states[:, -1]
    return states


def test_a_stance_has_flat_feet_below_the_centre_of_mass(simulator, behaviours):
    found, model = behaviours.policy.stances, simulator.model
    data = mujoco.MjData(model)
    for qpos, height in zip(found.qpos, (1.115, 1.04), strict=True):
        data.qpos[:] = qpos
        mujoco.mj_forward(model, data)
        assert np.abs(data.subtree_com[1][:2]).max() < 0.01
        assert qpos[2] == pytest.approx(height, abs=0.01)
        feet = [data.geom(name).xpos[2] for name in ("lfoot", "lfoot_ch", "rfoot", "rfoot_ch")]
        np.testing.assert_allclose(feet, 0.03, atol=0.002)


def test_it_stands_and_crouches_under_noise_and_without_its_policy_it_falls(simulator, behaviours):
    policy = behaviours.policy
    up = go(simulator, policy, [0] * 100)
    down = go(simulator, policy, [0] * 40 + [1] * 60)
    assert not simulator.fallen(np.concatenate([up, down])).any()
    np.testing.assert_allclose(up[:, 3], 1.115, atol=0.04)
    np.testing.assert_allclose(down[:, 3], 1.04, atol=0.04)
    np.testing.assert_allclose(policy.reference()[:, 2], policy.stances.qpos[1, 2])
    still = simulator.roll(simulator.reset(4, np.random.default_rng(0)), np.zeros((4, 60, 56)))
    assert simulator.fallen(still.states).any(1).all()


def test_the_feedback_does_not_see_where_the_body_is_and_where_it_faces(simulator, behaviours):
    frames = standing_frames()
    assert frames.shape == (12, 125)
    moved = frames.copy()
    moved[:, :2] += [3.0, -1.0]
    turn = np.array([np.cos(0.4), 0.0, 0.0, np.sin(0.4)])
    for row in moved:
        placed = row[3:7].copy()
        mujoco.mju_mulQuat(row[3:7], turn, placed)
        velocity = row[63:66].copy()
        mujoco.mju_rotVecQuat(row[63:66], velocity, turn)
    policy: Scripted = behaviours.policy
    acted = []
    for rows in (frames, moved):
        policy.begin(12)
        observed = simulator.observe(simulator.states_of(rows[:, :63], rows[:, 63:]))
        acted.append(policy.choose(np.zeros(12, int), observed))
    np.testing.assert_allclose(*acted, atol=1e-6)


def test_parts_of_motion_begin_without_memory(simulator, behaviours, tmp_path):
    asked = {"steps": 200, "episode": 5, "seed": 0, "switching": Switching(2, 4, (0.05,))}
    whole = make_motion(simulator, behaviours, parts=tmp_path / "a", **asked)
    again = make_motion(simulator, behaviours, parts=tmp_path / "a", **asked)
    (tmp_path / "a" / "0.npz").unlink()
    anew = make_motion(simulator, behaviours, parts=tmp_path / "a", **asked)
    assert whole.num_steps == 320
    for data in (again, anew):
        np.testing.assert_array_equal(data.observations, whole.observations)
    assert set(whole.extras["behaviour"]) == {0, 1}
    meant = make_motion(
        simulator, behaviours, parts=tmp_path / "b", **asked | {"switching": Switching(2, 4, (0.05,), True)}
    )
    np.testing.assert_array_equal(meant.observations, whole.observations)
    inside = np.abs(whole.actions) < 1
    assert (whole.actions - meant.actions)[inside].std() == pytest.approx(0.05, rel=0.05)


def test_what_cannot_be_is_refused(simulator):
    with pytest.raises(UserError, match=r"no behaviour 'crouch/4'.*crouch"):
        scripted(simulator, ("crouch/4",))
    with pytest.raises(UserError, match="no joint 'lknee'"):
        stances(simulator, {"mine": Goal({"lknee": 0.3})})


def test_episodes_begin_in_frames_of_standing(simulator):
    qpos, _ = simulator.body.begin(simulator.model, 5, np.random.default_rng(0))
    assert all((np.abs(standing_frames()[:, :63] - row).max(1) < 1e-6).any() for row in qpos)
    assert not find_body("CMUHumanoid", "rotate_x").contact_ends
    assert dataclasses.replace(find_body("CMUHumanoid"), starts=None) == CMUHumanoid()
