"""The CMU humanoid next to dm-control, its tasks in numbers, and other people's files."""

import h5py
import mujoco
import numpy as np
import pytest

from hgap.data.amc import load_poses, read_amc, save_poses, to_poses
from hgap.data.mocapact import read_mocapact
from hgap.envs.bodies import find_body
from hgap.envs.cmu import OBSERVABLES, CMUHumanoid
from hgap.envs.objectives import OBJECTIVES, Trajectory
from hgap.envs.simulator import Simulator
from hgap.envs.tracking import THRESHOLD, comic_reward, features, tracking_error, tracking_reward
from paperloop import UserError

SLICES = CMUHumanoid().slices
WIDTH = sum(width for _, width in OBSERVABLES)


@pytest.fixture(scope="module")
def simulator():
    try:
        return Simulator(CMUHumanoid(), threads=1)
    except UserError as error:
        pytest.skip(str(error))


def state(**parts):
    row = np.zeros(WIDTH)
    for name, values in parts.items():
        row[slice(*SLICES[name])] = values
    return Trajectory(row[None], np.zeros((1, 56)), SLICES)


def test_the_tasks_are_the_documented_formulas():
    assert WIDTH == 224
    v, w, u = np.array([0.4, -0.3, 1.2]), np.array([0.1, 0.7, -0.2]), np.array([0.2, 0.9, -0.4])
    sensed = state(sensors_velocimeter=v, sensors_gyro=w, world_zaxis=u)
    ahead = u[1] / np.hypot(u[1], u[2]) * v[2]
    expected = {
        "speed": np.linalg.norm(v), "forward": ahead, "backward": -ahead, "left": u[1] / np.hypot(u[0], u[1]) * v[0],
        "turn": w[1], "jump": max(0.0, v @ u), "rotate_x": w[0], "rotate_z": w[2], "x_vel": v[0], "y_vel": v[1],
        "z_vel": v[2], "negative_z_vel": -v[2],
    }  # fmt: skip
    for name, value in expected.items():
        assert OBJECTIVES[name](sensed)[0] == pytest.approx(value), name
    lying = state(sensors_velocimeter=v, world_zaxis=[1.0, 0.0, 0.0])
    assert OBJECTIVES["forward"](lying)[0] == 0.0


def test_a_body_that_drops_falls_unless_contacts_do_not_count(simulator):
    states = simulator.reset(2, np.random.default_rng(0))
    assert simulator.observation_size == WIDTH
    assert not simulator.fallen(states).any()
    after = simulator.roll(states, np.zeros((2, 40, 56)))
    fell = simulator.fallen(after.states)
    assert fell[:, -1].all()
    assert not fell[:, 0].any()
    heights = Trajectory(after.observations, np.zeros((2, 40, 56)), SLICES)["height"]
    assert (heights[fell] < 1.0).all()
    assert not find_body("CMUHumanoid", "rotate_x").fallen(simulator.model, after.states).any()
    # A state that is returned says all that follows from it, sensors included.
    again = simulator.roll(after.states[:, 9], np.zeros((2, 5, 56)))
    np.testing.assert_allclose(again.observations, after.observations[:, 10:15], atol=1e-3)


def test_a_motion_tracks_itself_and_its_error_is_in_metres_and_radians(simulator):
    states = simulator.reset(1, np.random.default_rng(0))
    qpos, qvel = (part.repeat(3, 0) for part in np.split(states[:, 1:126], [63], -1))
    reference = features(simulator, qpos, qvel)
    np.testing.assert_allclose(tracking_error(reference, reference), 0.0)
    np.testing.assert_allclose(tracking_reward(reference, reference), 1.0)
    np.testing.assert_allclose(comic_reward(reference, reference), 0.5 + 0.5 * 1.9)
    away = qpos.copy()
    away[:, 2] += 0.3  # a third of the coordinates of each body
    away[:, 7] += 0.56  # one joint of 56; bodies below it move a little, too
    error = tracking_error(features(simulator, away, qvel), reference)
    assert ((error > 0.5 * 0.1 + 0.5 * 0.01) & (error < 0.5 * 0.1 + 0.5 * 0.01 + 0.02)).all()


# dm-control


def dm_control(name):
    if int(mujoco.__version__.split(".")[0]) >= 4:
        pytest.skip("dm-control does not run on MuJoCo 4: needs mujoco below 4")
    return pytest.importorskip(f"dm_control.{name}", reason="needs dm-control")


def composer_environment():
    dm_composer = dm_control("composer")
    from dm_control.locomotion.arenas import floors
    from dm_control.locomotion.walkers import cmu_humanoid

    class Task(dm_composer.Task):
        def __init__(self):
            self.arena, self.walker = floors.Floor((100, 100)), cmu_humanoid.CMUHumanoidPositionControlledV2020()
            self.walker.create_root_joints(self.arena.attach(self.walker))
            seen = self.walker.observables
            for observable in (*seen.proprioception, *seen.kinematic_sensors, *seen.dynamic_sensors):
                observable.enabled = True
            self.set_timesteps(physics_timestep=0.005, control_timestep=0.03)

        @property
        def root_entity(self):
            return self.arena

        def initialize_episode(self, physics, random_state):
            self.walker.reinitialize_pose(physics, random_state)

        def before_step(self, physics, action, random_state):
            self.walker.apply_action(physics, action, random_state)

        def get_reward(self, physics):
            return 0.0

        def down(self, physics):
            feet = set(physics.bind(self.walker.ground_contact_geoms).element_id)
            body = set(physics.bind(self.walker.mjcf_model.find_all("geom")).element_id) - feet
            floor = set(physics.bind(self.arena.ground_geoms).element_id)
            pairs = [{c.geom1, c.geom2} for c in physics.data.contact]
            return any(pair & body and pair & floor for pair in pairs)

    task = Task()
    return task, dm_composer.Environment(task, random_state=0, strip_singleton_obs_buffer_dim=True)


@pytest.mark.slow
def test_observations_rewards_and_ends_are_those_of_dm_control(simulator):
    task, theirs = composer_environment()

    def seen(step):
        return np.concatenate([np.ravel(step.observation[f"walker/{name}"]) for name, _ in OBSERVABLES])

    first = theirs.reset()
    physics = theirs.physics
    states = simulator.states_of(physics.data.qpos[None].copy(), physics.data.qvel[None].copy())
    np.testing.assert_allclose(simulator.observe(states)[0], seen(first), atol=1e-6)
    actions = np.random.default_rng(0).uniform(-1, 1, (1, 200, 56))
    after = simulator.roll(states, actions)
    fell = simulator.fallen(after.states)[0]
    rewards = {n: f(Trajectory(after.observations, actions, SLICES))[0] for n, f in OBJECTIVES.items() if n in NORMS}
    for t in range(200):
        found = seen(theirs.step(actions[0, t]))
        np.testing.assert_allclose(after.observations[0, t], found, atol=1e-6)
        assert fell[t] == task.down(physics)
        v, w = (physics.bind(getattr(task.walker.mjcf_model.sensor, n)).sensordata for n in ("velocimeter", "gyro"))
        u = physics.bind(task.walker.root_body).xmat[6:]
        for name, formula in NORMS.items():
            assert rewards[name][t] == pytest.approx(formula(np.array(v), np.array(w), np.array(u)), abs=1e-6), name
    assert fell.any()
    assert not fell.all()


NORMS = {
    "speed": lambda v, w, u: np.linalg.norm(v),
    "forward": lambda v, w, u: u[1] / np.hypot(u[1], u[2]) * v[2],
    "backward": lambda v, w, u: -u[1] / np.hypot(u[1], u[2]) * v[2],
    "left": lambda v, w, u: u[1] / np.hypot(u[0], u[1]) * v[0],
    "turn": lambda v, w, u: w[1],
    "jump": lambda v, w, u: max(0.0, v @ u),
    "rotate_x": lambda v, w, u: w[0],
    "negative_z_vel": lambda v, w, u: -v[2],
}


@pytest.mark.slow
def test_tracking_rewards_are_those_of_dm_control(simulator):
    task, theirs = composer_environment()
    from dm_control.locomotion.tasks.reference_pose import rewards, utils

    theirs.reset()
    rows, feats = [], []
    for _ in range(6):
        theirs.step(np.random.default_rng(len(rows)).uniform(-0.3, 0.3, 56))
        rows.append(np.concatenate([theirs.physics.data.qpos, theirs.physics.data.qvel]))
        feats.append(utils.get_features(theirs.physics, task.walker))
    ours = features(simulator, *np.split(np.stack(rows), [63], 1))
    shifted = type(ours)(*(np.roll(part, 1, 0) for part in ours))
    errors, comic = tracking_error(ours, shifted), comic_reward(ours, shifted)
    for t in range(1, 6):
        now, before = feats[t], feats[t - 1]
        error = 0.5 * np.abs(now["body_positions"] - before["body_positions"]).mean()
        error += 0.5 * np.abs(now["joints"] - before["joints"]).mean()
        assert errors[t] == pytest.approx(error, abs=1e-9)
        expected = rewards.comic_reward_fn(error, THRESHOLD, dict(now), dict(before)).reward
        assert comic[t] == pytest.approx(float(expected), abs=1e-6)


# Motion capture

BONES = {
    "lowerback": 3, "upperback": 3, "thorax": 3, "lowerneck": 3, "upperneck": 3, "head": 3, "rclavicle": 2,
    "rhumerus": 3, "rradius": 1, "rwrist": 1, "rhand": 2, "rfingers": 1, "rthumb": 2, "lclavicle": 2, "lhumerus": 3,
    "lradius": 1, "lwrist": 1, "lhand": 2, "lfingers": 1, "lthumb": 2, "rfemur": 3, "rtibia": 1, "rfoot": 2, "rtoes": 1,
    "lfemur": 3, "ltibia": 1, "lfoot": 2, "ltoes": 1,
}  # fmt: skip


def amc(frames=60, newline="\n", header=(":FULLY-SPECIFIED", ":DEGREES")):
    """A wave through all joints, in the order of CMU's files."""
    lines = ["#!OML:ASF made for a test", *header]
    for t in range(frames):
        lines.append(str(t + 1))
        lines.append(f"root {0.1 * t:.6f} {17 + np.sin(t / 9):.6f} {-0.2 * t:.6f} {3 * np.sin(t / 8):.6f} {t / 2} 2")
        for i, (bone, count) in enumerate(BONES.items()):
            lines.append(" ".join([bone, *(f"{10 * np.sin(t / 7 + i + j):.6f}" for j in range(count))]))
    return newline.join(lines) + newline


def test_poses_are_those_of_dm_controls_parser(simulator, tmp_path):
    suite = dm_control("suite")
    from dm_control.suite.utils import parse_amc

    path = tmp_path / "02_01.amc"
    path.write_text(amc())
    physics = suite.load("humanoid_CMU", "stand").physics
    theirs = parse_amc.convert(str(path), physics, 0.03)
    ours = to_poses(path, simulator, ground="none")
    np.testing.assert_allclose(ours.qpos[:, :3] / 1.2, theirs.qpos.T[:, :3], atol=1e-6)
    np.testing.assert_allclose(ours.qpos[:, 3:7], theirs.qpos.T[:, 3:7], atol=1e-6)
    index = physics.named.data.qpos.axes.row
    low, high = simulator.model.jnt_range[1:].T
    for i in range(1, simulator.model.njnt):
        expected = theirs.qpos[index.convert_key_item(simulator.model.joint(i).name)].ravel()
        np.testing.assert_allclose(ours.qpos[:, 6 + i], np.clip(expected, low[i - 1], high[i - 1]), atol=1e-6)


def test_poses_stand_on_the_floor_and_are_kept(simulator, tmp_path):
    path = tmp_path / "a.amc"
    path.write_text(amc(newline="\r\n"))
    poses = to_poses(path, simulator)
    assert poses.qpos.shape == (17, 63)
    states = simulator.states_of(poses.qpos + np.eye(63)[2] * -0.002, poses.qvel)
    height = simulator.observe(states)[:, slice(*SLICES["height"])]
    assert 0.8 < height.min() < height.max() < 1.6
    ahead = poses.qpos[:-1, :3] + 0.03 * poses.qvel[:-1, :3]
    np.testing.assert_allclose(ahead, poses.qpos[1:, :3], atol=1e-9)
    save_poses(tmp_path / "poses.npz", {"a": poses})
    np.testing.assert_array_equal(load_poses(tmp_path / "poses.npz")["a"].qpos, poses.qpos)
    with pytest.raises(UserError, match="not a file of poses"):
        load_poses(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no frames"),
        ("hello 1 2\n", "line 1: 'hello' before the first frame"),
        ("1\nroot 0 0 0 0 0 0\n3\n", "line 3: frame 3 where frame 2 should be"),
        ("1\nroot 0 0 0 0 zero 0\n", "line 2: .*not all numbers"),
        ("1\nroot 0 0 0 0 0 0\n2\nroot 0 0\n", "frame 2 has no 6 finite values for root"),
    ],
)
def test_bad_motion_capture_is_refused_with_its_line(tmp_path, text, said):
    path = tmp_path / "bad.amc"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_amc(path)


def test_another_skeleton_is_refused(simulator, tmp_path):
    path = tmp_path / "bad.amc"
    path.write_text(amc(frames=8).replace("lthumb", "lpaw"))
    with pytest.raises(UserError, match="2 values for lpaw"):
        to_poses(path, simulator)


def test_radians_are_read_as_such(tmp_path):
    path = tmp_path / "r.amc"
    path.write_text(":RADIANS\n1\nroot 0 0 0 1 0 0 # turned\nrtibia 0.5\n")
    assert read_amc(path)["rtibia"][0, 0] == 0.5


# MoCapAct


def write_mocapact(path, rng, early=(True, False, False), wide=300, start=2):
    order = rng.permutation(wide)[:WIDTH]
    ends = np.cumsum([width for _, width in OBSERVABLES])
    with h5py.File(path, "w") as file:
        file["n_start_rollouts"], file["n_rsi_rollouts"] = start, len(early) - start
        file["ref_steps"] = np.arange(1, 6)
        for (name, width), end in zip(OBSERVABLES, ends, strict=True):
            file[f"observable_indices/walker/{name}"] = order[end - width : end]
        group = file.create_group("CMU_002_01-0-82")
        group["early_termination"] = np.array(early)
        stored = []
        for i in range(len(early)):
            steps = 30 + i
            whole = rng.standard_normal((steps + 1, wide)).astype(np.float32)
            actions = rng.uniform(-1, 1, (steps, 56)).astype(np.float32)
            group[f"{i}/observations/proprioceptive"] = whole
            group[f"{i}/actions"], group[f"{i}/mean_actions"] = actions, 0.5 * actions
            stored.append((whole[:, order], actions))
    return stored


def test_mocapacts_rollouts_are_read_in_the_documented_order(tmp_path):
    path = tmp_path / "CMU_002_01.hdf5"
    stored = write_mocapact(path, np.random.default_rng(0))
    data = read_mocapact([path])
    assert data.attributes["env_id"] == "CMUHumanoid"
    for episode, (observations, actions), early in zip(data, stored, (True, False, False), strict=True):
        np.testing.assert_array_equal(episode.observations, observations[:-1])
        np.testing.assert_array_equal(episode.final_observation, observations[-1])
        np.testing.assert_array_equal(episode.actions, actions)
        assert (bool(episode.terminated[-1]), bool(episode.truncated[-1])) == (early, not early)
    assert read_mocapact([path], limit=1).num_episodes == 2  # one from the start, one from within
    np.testing.assert_array_equal(read_mocapact([path], actions="mean_actions").actions, 0.5 * data.actions)


def test_damaged_rollouts_are_refused(tmp_path):
    path, rng = tmp_path / "x.hdf5", np.random.default_rng(0)
    write_mocapact(path, rng)
    with h5py.File(path, "a") as file:
        del file["observable_indices/walker/joints_vel"]
    with pytest.raises(UserError, match="not a file of MoCapAct's"):
        read_mocapact([path])
    write_mocapact(path, rng)
    with h5py.File(path, "a") as file:
        file["CMU_002_01-0-82/1/actions"][3, 2] = np.nan
    with pytest.raises(UserError, match="CMU_002_01-0-82/1 has numbers that are not finite"):
        read_mocapact([path])
    write_mocapact(path, rng)
    with h5py.File(path, "a") as file:
        del file["CMU_002_01-0-82/2"]
    with pytest.raises(UserError, match="2 rollouts, and ends of 3"):
        read_mocapact([path])
    write_mocapact(path, rng)
    with h5py.File(path, "a") as file:
        file["observable_indices/walker/joints_pos"][0] = -1
    with pytest.raises(UserError, match="joints_pos has 56 places, from -1"):
        read_mocapact([path])
    write_mocapact(path, rng)
    with h5py.File(path, "a") as file:
        del file["n_start_rollouts"]
        file["n_start_rollouts"] = np.array([1, 2])
    with pytest.raises(UserError, match="not a file of MoCapAct's"):
        read_mocapact([path])
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="damaged"):
        read_mocapact([path])
