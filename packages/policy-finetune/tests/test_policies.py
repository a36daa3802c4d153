"""Policies in npz files: round trip, other people's actors, damage."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from paperloop.errors import UserError
from policy_finetune.data import policies
from policy_finetune.data.policies import GradedPolicy, load_policy, save_policy, shipped
from policy_finetune.envs.acting import HostPolicy
from policy_finetune.envs.rollouts import evaluate
from policy_finetune.envs.spec import EnvSpec


def layer(rng, i, o):
    return rng.normal(size=(i, o)) / i**0.5, rng.normal(size=o) / 10


def policy(seed=0, obs=3, act=1, spread=True, **fields):
    rng = np.random.default_rng(seed)
    layers = [layer(rng, obs, 8), layer(rng, 8, 8), layer(rng, 8, act)]
    log_std = layer(rng, 8, act) if spread else None
    return GradedPolicy(
        HostPolicy.single(layers, rng.normal(size=obs), rng.uniform(0.5, 2, obs)),
        log_std,
        metadata={"env_id": "Pendulum-v1", "env_steps": 100, "seed": seed},
        **fields,
    )


def others() -> Path | None:
    """`shared/data/policies` next to the repository, looked for above this file and above the working folder."""
    for start in (Path(__file__).resolve(), Path.cwd() / "here"):
        for folder in start.parents:
            if (folder / "shared" / "data" / "policies").is_dir():
                return folder / "shared" / "data" / "policies"
    return None


@pytest.fixture
def folder() -> Path:
    found = others()
    if found is None:
        pytest.skip("shared/data/policies is not next to the repository")
    return found


@pytest.mark.parametrize("spread", [True, False])
def test_round_trip(tmp_path, spread):
    before = policy(spread=spread)
    path = save_policy(before, tmp_path / "sub" / "a.npz")
    after = load_policy(path)
    assert after.digest == before.digest
    assert after.metadata == before.metadata
    assert (after.name, after.env_steps, after.log_std is not None) == ("a.npz", 100, spread)
    seen = np.random.default_rng(0).normal(size=(1, 4, 3))
    np.testing.assert_array_equal(after.host(seen), before.host(seen))
    again = save_policy(after, tmp_path / "b.npz")
    assert again.read_bytes() == path.read_bytes()
    with np.load(path) as archive:
        assert archive["w0"].shape == (8, 3)  # (out, in)
    for copied in (pickle.loads(pickle.dumps(before)), copy.deepcopy(before)):  # for worker processes
        assert copied.digest == before.digest


def test_the_digest_is_of_the_arrays_alone():
    assert policy(0).digest == policy(0, name="other").digest
    assert policy(0).digest != policy(1).digest
    assert policy(0).digest != policy(0, spread=False).digest


def test_a_policy_taken_out_of_many():
    rng = np.random.default_rng(0)
    stacked = [(rng.normal(size=(3, i, o)), rng.normal(size=(3, 1, o))) for i, o in ((4, 8), (8, 2))]
    host = HostPolicy(stacked, mean=rng.normal(size=(3, 4)), std=np.full(4, 2.0))
    one = GradedPolicy(host.agent(1))
    seen = rng.normal(size=(3, 5, 4))
    np.testing.assert_array_equal(one.host(seen[1:2])[0], host(seen)[1])


def test_samples_have_the_distribution_of_a_squashed_normal():
    chosen = policy()
    seen = np.array([0.3, -0.2, 1.0], np.float32)
    rng = np.random.default_rng(0)
    draws = np.arctanh(np.array([chosen.sample(seen, rng)[0] for _ in range(4000)], float))
    x = (seen - chosen.host.mean) / chosen.host.std
    *hidden, (w_mu, b_mu) = [(w[0], b[0, 0]) for w, b in chosen.host.layers]
    for w, b in hidden:
        x = np.maximum(x @ w + b, 0)
    mu, std = (x @ w_mu + b_mu)[0], float(np.exp(x @ chosen.log_std[0] + chosen.log_std[1])[0])
    assert draws.mean() == pytest.approx(mu, abs=4 * std / 4000**0.5)
    assert draws.std() == pytest.approx(std, rel=0.05)
    assert np.tanh(mu) == pytest.approx(chosen.host(seen[None])[0, 0], abs=1e-6)


def test_shipped_policies_are_listed_in_the_order_of_training(tmp_path, monkeypatch):
    assert shipped("Nowhere-v0") == {}
    for name, steps in (("expert", 900), ("medium", 300), ("step-50", 50)):
        graded = GradedPolicy(policy().host, metadata={"env_steps": steps})
        save_policy(graded, tmp_path / "policies" / "toy-v0" / f"{name}.npz")
    monkeypatch.setattr(policies.importlib.resources, "files", lambda package: tmp_path)
    assert list(shipped("Toy-v0")) == ["step-50", "medium", "expert"]


def test_policies_that_are_shipped_say_what_they_are():
    """Holds for whatever is in the package, nothing included."""
    for env_id in ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "InvertedDoublePendulum-v5"):
        for grade, path in shipped(env_id).items():
            found = load_policy(path)
            assert path.stat().st_size < 500_000, grade
            assert {"algorithm", "env_steps", "return_mean", "command"} <= set(found.metadata), f"{env_id} {grade}"
            assert found.metadata["env_id"] == env_id
            found.check_fits(EnvSpec.of(env_id))


def test_actors_of_other_libraries_are_read(folder):
    found = load_policy(folder / "tqc-hopper-v3.npz")
    assert (found.host.obs_dim, found.host.act_dim, dict(found.metadata)) == (11, 3, {})
    assert found.log_std is not None
    with np.load(folder / "tqc-hopper-v3.npz") as z:
        seen = np.random.default_rng(0).normal(size=11)
        x = np.maximum(z["w0"] @ seen + z["b0"], 0)
        x = np.maximum(z["w1"] @ x + z["b1"], 0)
        np.testing.assert_allclose(found.host(seen[None])[0], np.tanh(z["w_mu"] @ x + z["b_mu"]), atol=1e-5)
    returns = evaluate(found.host, EnvSpec.of("Hopper-v4"), episodes=1).returns
    assert 3500 < returns[0, 0] < 3800  # known to be 3.6k


def arrays():
    rng = np.random.default_rng(0)
    return {
        "w0": rng.normal(size=(8, 3)),
        "b0": np.zeros(8),
        "w_mu": rng.normal(size=(1, 8)),
        "b_mu": np.zeros(1),
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"w0": None}, "there is no 'w0'"),
        ({"w_mu": None}, "there is no 'w_mu'"),
        ({"b0": None}, "w0 but no b0"),
        ({"b_mu": np.zeros(2)}, "Layer 1 of a policy has weights"),
        ({"w_mu": np.zeros((1, 9))}, r"Layer 1 .* in is the width of the layer before \(8\)"),
        ({"w0": np.full((8, 3), np.nan)}, "NaN or infinity"),
        ({"w0": np.full((8, 3), "x")}, "holds no numbers"),
        ({"w0": np.array([{}], object)}, "pickled"),
        ({"w_log_std": np.zeros((2, 8)), "b_log_std": np.zeros(2)}, "w_log_std is of shape"),
        ({"obs_mean": np.zeros(4)}, r"mean of a policy's observations is of shape \(4,\)"),
        ({"obs_std": np.zeros(3)}, "std of a policy's observations is positive"),
        ({"metadata": np.array("{")}, "metadata is not a JSON"),
    ],
)
def test_files_that_hold_no_policy(tmp_path, change, says):
    np.savez(tmp_path / "a.npz", **{k: v for k, v in {**arrays(), **change}.items() if v is not None})
    with pytest.raises(UserError, match=f"a.npz.*{says}") as caught:
        load_policy(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)


def test_damage_is_one_sentence(tmp_path):
    path = save_policy(policy(), tmp_path / "a.npz")
    whole = path.read_bytes()
    for content in (b"", b"nothing", whole[:400], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is damaged, cut short, or not an npz archive"):
            load_policy(path)
    broken = bytearray(whole)
    broken[len(whole) // 3] ^= 0xFF
    path.write_bytes(bytes(broken))
    with pytest.raises(UserError):
        load_policy(path)
    with pytest.raises(UserError, match="does not exist"):
        load_policy(tmp_path / "b.npz")
    with pytest.raises(UserError):
        load_policy(tmp_path)


def test_saving_refuses(tmp_path):
    path = save_policy(policy(), tmp_path / "a.npz")
    with pytest.raises(UserError, match="exists already"):
        save_policy(policy(1), path)
    assert load_policy(path).digest == policy().digest
    save_policy(policy(1), path, overwrite=True)
    assert load_policy(path).digest == policy(1).digest
    with pytest.raises(UserError, match=r"ends in \.npz"):
        save_policy(policy(), tmp_path / "a.pkl")
    assert json.dumps(dict(policy().metadata))
