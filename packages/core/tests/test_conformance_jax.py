"""The conformance suite on a small real JAX trainer: ridge regression by SGD, several seeds in one program."""

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp

from paperloop.conformance import ConformanceError, check_trainer, fingerprint
from paperloop.jax_backend import load_pytree, save_pytree


@dataclass(frozen=True, kw_only=True)
class RegressionConfig:
    features: int = 4
    lr: float = 0.05
    seeds: int = 2


class RegressionState(NamedTuple):
    weights: jax.Array  # [S, D]
    momentum: jax.Array  # [S, D]
    key: jax.Array  # [S] typed keys
    updates: jax.Array  # []


class RegressionTrainer:
    """Minimises mean (w.x - 1.x)^2 over x ~ N(0, I); the loss goes to zero."""

    headlines = ("loss",)

    donates = True

    def __init__(self, config):
        self.config = config

    def init(self, seed):
        keys = jax.random.split(jax.random.key(seed), self.config.seeds)
        pairs = jax.vmap(jax.random.split)(keys)
        weights = jax.vmap(partial(jax.random.normal, shape=(self.config.features,)))(pairs[:, 0])
        return RegressionState(weights, jnp.zeros_like(weights), pairs[:, 1], jnp.zeros((), jnp.uint32))

    @partial(jax.jit, static_argnums=0, donate_argnums=1)
    def step(self, state):
        def one(weights, momentum, key):
            key, sub = jax.random.split(key)
            x = jax.random.normal(sub, (32, weights.size))
            loss, gradient = jax.value_and_grad(lambda w: jnp.mean((x @ w - x.sum(1)) ** 2))(weights)
            momentum = 0.9 * momentum + gradient
            return weights - self.config.lr * momentum, momentum, key, loss

        weights, momentum, key, loss = jax.vmap(one)(state.weights, state.momentum, state.key)
        return RegressionState(weights, momentum, key, state.updates + 1), {"loss": loss}

    def progress(self, state):
        return {"updates": int(state.updates)}

    def save(self, state, folder):
        save_pytree(state, folder)

    def restore(self, folder, like):
        return load_pytree(folder, like)


def make(config):
    return RegressionTrainer(config)


class ForgetsItsKey(RegressionTrainer):
    """Breaks the contract as people do: the random stream is not restored."""

    def restore(self, folder, like):
        return super().restore(folder, like)._replace(key=like.key)


class DonatesInSilence(RegressionTrainer):
    donates = False


class ChangesItsKeys(RegressionTrainer):
    def step(self, state):
        self.calls = getattr(self, "calls", 0) + 1
        new, metrics = super().step(state)
        return new, {**metrics, f"call_{self.calls}": jnp.zeros(())}


@pytest.mark.parametrize("kills", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_jax_trainer_meets_the_contract(tmp_path, kills):
    other = RegressionConfig(features=5)
    passed = check_trainer(make, RegressionConfig(), folder=tmp_path, other_config=other, kills=kills)
    assert len(passed) == 7 + bool(kills)


def test_it_learns():
    trainer = make(RegressionConfig())
    state = trainer.init(0)
    state, first = trainer.step(state)
    for _ in range(100):
        state, last = trainer.step(state)
    assert (last["loss"] < 1e-3 * first["loss"]).all()


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (ForgetsItsKey, "restored state differs"),
        (DonatesInSilence, "does not declare donates"),
        (ChangesItsKeys, "keys, shapes or dtypes"),
    ],
)
def test_broken_trainers_are_caught(tmp_path, broken, complaint):
    with pytest.raises(ConformanceError, match=complaint):
        check_trainer(broken, RegressionConfig(), folder=tmp_path, kills=0)


def test_a_mutable_configuration_is_caught(tmp_path):
    @dataclass
    class Loose:
        features: int = 4

    with pytest.raises(ConformanceError, match="not frozen"):
        check_trainer(make, Loose(), folder=tmp_path)


def test_wrong_leaves_are_named(tmp_path):
    from paperloop import CheckpointError

    state = {"w": jnp.ones((2, 3)), "key": jax.random.key(0)}
    save_pytree(state, tmp_path)
    again = load_pytree(tmp_path, {"w": jnp.zeros((2, 3)), "key": jax.random.key(7)})
    assert (again["w"] == state["w"]).all()
    assert (jax.random.key_data(again["key"]) == jax.random.key_data(state["key"])).all()
    for like, complaint in [
        ({**state, "w": jnp.ones((3, 3))}, r"\['w'\] has shape \[2, 3\], not \[3, 3\]"),
        ({**state, "w": jnp.ones((2, 3), jnp.int32)}, r"\['w'\] has dtype float32, not int32"),
        ({**state, "v": jnp.ones(1)}, r"no leaf \['v'\]"),
        ({"w": state["w"]}, r"leaf \['key'\] that is unknown"),
    ]:
        with pytest.raises(CheckpointError, match=complaint):
            load_pytree(tmp_path, like)


def test_every_dtype_and_a_spread_array_come_back(tmp_path):
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(jnp.arange(4.0), NamedSharding(mesh, PartitionSpec("x")))
    values = jnp.linspace(-3, 3, 6)
    state = {
        "bf16": values.astype(jnp.bfloat16),
        "f8": values.astype(jnp.float8_e4m3fn),
        "f16": values.astype(jnp.float16),
        "i4": jnp.arange(-8, 8).astype(jnp.int4),
        "bool": values > 0,
        "scalar": jnp.uint32(2**32 - 1),
        "empty": jnp.zeros((0, 3)),
        "keys": jax.random.split(jax.random.key(3, impl="rbg"), 2),
        "spread": spread,
        "pair": (jnp.ones(1), [jnp.zeros(2)]),
    }
    save_pytree(state, tmp_path)
    again = load_pytree(tmp_path, jax.tree.map(lambda x: x, state))
    assert fingerprint(again) == fingerprint(state)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert again["spread"].sharding == spread.sharding
    assert not again["bf16"].committed


def test_devices_are_laid_out_or_refused():
    code = """
import jax
from paperloop import UserError
from paperloop.jax_backend import device_mesh
jax.config.update("jax_num_cpu_devices", 2)
assert device_mesh(1, "seed", seeds=3) is None
assert device_mesh(2, "seed", seeds=4).shape == {"seed": 2}
for call in (lambda: device_mesh(3, "seed"), lambda: device_mesh(2, "seed", n_seeds=3)):
    try:
        call()
    except UserError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    few, odd = done.stdout.splitlines()
    assert few.startswith("devices is 3, but JAX sees 2 cpu device(s)")
    assert odd == "n_seeds is 3, which devices = 2 does not divide: change one of them."


def test_a_damaged_file_is_named(tmp_path):
    from paperloop import CheckpointError

    state = {"w": jnp.ones(100)}
    save_pytree(state, tmp_path)
    whole = (tmp_path / "leaves.npz").read_bytes()
    for broken in (whole[:-50], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], b""):
        (tmp_path / "leaves.npz").write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"leaves\.npz cannot be read"):
            load_pytree(tmp_path, state)
    (tmp_path / "tree.json").write_text("[" * 10_000)
    with pytest.raises(CheckpointError, match=r"tree\.json cannot be read"):
        load_pytree(tmp_path, state)


def test_another_x64_setting_is_refused(tmp_path):
    from paperloop import CheckpointError

    save_pytree({"w": jnp.ones(2)}, tmp_path)
    with jax.enable_x64(True), pytest.raises(CheckpointError, match="jax_enable_x64=False"):
        load_pytree(tmp_path, {"w": jnp.ones(2, jnp.float32)})


@pytest.mark.slow
def test_a_full_disk_is_one_sentence(tmp_path):
    """A file-size limit stands in for the full disk, as in test_checkpoint.py."""
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_conformance_jax import RegressionConfig, make
from paperloop import CheckpointError, run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    run(make(RegressionConfig(features=20_000)), {str(tmp_path / "run")!r}, steps=1)
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len((done.stdout + done.stderr).splitlines()) == 1
    assert "Could not write the checkpoint of step 1" in done.stdout
    assert "File too large" in done.stdout
