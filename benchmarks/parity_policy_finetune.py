"""TD3, TD3+BC and IQL of policy-finetune against the code of others: the same weights, the same batches, n updates.

    python -m benchmarks.parity_policy_finetune          # two minutes; peers.md says how to install the peers

| peer | what is called | runs in |
|---|---|---|
| sfujim/TD3_BC | `TD3_BC.train` | .cache/peers/td3-bc |
| corl-team/CORL | `TD3_BC.train`, `ImplicitQLearning.train` | .cache/peers/corl |
| ikostrikov/implicit_q_learning | `learner._update_jit` | .cache/peers/iql |

The target policy's smoothing noise is zero everywhere, as no two libraries draw the same numbers. The strict comparison
is in float64: every weight, target and loss, relative to the largest entry of its tensor. In float32 two libraries
round differently, and two things make much of it: Adam turns a gradient that is nothing but rounding error into a whole
step of that weight, and a unit whose input is zero but for rounding passes a sample on one side and not on the other.
There the losses and the median weight of each tensor are held to 1e-5, and the largest difference is printed.

Known and harmless differences: ours divides by |q| + 1e-6 where the two TD3+BC divide by |q| (the critics' last biases
are shifted by 5 here, so that it is 2e-7 of it), and CORL's IQL takes the mean of the two critics' losses where the
paper's code and ours take the sum, which Adam's ε alone can tell apart (it runs with half the ε, for which it is the
same). The expectile is 0.75 and the discount 63/64, as CORL multiplies by them in float32 in any precision, in which
0.7 and 0.99 are other numbers.

A peer that is not installed is skipped. Exit status 1 where a difference is above its tolerance.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".cache" / "peers"
OBS, ACT, BATCH, HIDDEN = 11, 3, 256, 256
ACTOR_LR_STEPS = 1_000_000
EXPECTILE, DISCOUNT = 0.75, 63 / 64
Arrays = dict[str, np.ndarray]

#: peer -> (environment, script and its arguments, our learner, tolerance in float64)
COMPARISONS: dict[str, tuple[str, list[str], str, float]] = {
    "sfujim/TD3_BC": ("td3-bc", ["pf_torch_steps.py", "td3_bc"], "td3bc", 1e-5),
    "CORL TD3+BC": ("corl", ["pf_torch_steps.py", "corl_td3_bc"], "td3bc", 1e-5),
    "CORL IQL": ("corl", ["pf_torch_steps.py", "corl_iql"], "iql-stale", 1e-10),
    "implicit_q_learning": ("iql", ["pf_iql_steps.py"], "iql", 1e-10),
}


def make_case(updates: int, seed: int) -> Arrays:
    """Random weights, as torch.nn.Linear draws them, and `updates` random batches."""
    rng = np.random.default_rng(seed)
    shape = updates, BATCH
    data: Arrays = {
        "obs": rng.normal(size=(*shape, OBS)),
        "action": np.clip(rng.normal(size=(*shape, ACT)), -0.999, 0.999),
        "next_obs": rng.normal(size=(*shape, OBS)),
        "reward": rng.normal(1.0, 1.0, size=shape),
        "terminal": (rng.random(shape) < 0.05).astype(float),
        "log_std": rng.normal(-0.5, 0.2, size=ACT),
    }
    networks = {"actor": (OBS, ACT), "value": (OBS, 1), "critic/0": (OBS + ACT, 1), "critic/1": (OBS + ACT, 1)}
    for name, (first, last) in networks.items():
        for number, (fan_in, fan_out) in enumerate([(first, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, last)]):
            data[f"{name}/{number}/w"] = rng.uniform(-1, 1, (fan_in, fan_out)) / fan_in**0.5
            data[f"{name}/{number}/b"] = rng.uniform(-1, 1, fan_out) / fan_in**0.5
        if name != "actor":
            data[f"{name}/2/b"] += 5.0
    data = {name: value.astype(np.float32) for name, value in data.items()}  # both precisions start from these numbers
    return data | {
        "actor_lr_steps": np.array(ACTOR_LR_STEPS),
        "expectile": np.array(EXPECTILE),
        "discount": np.array(DISCOUNT),
    }


def run_ours(name: str, data: Arrays, dtype: str) -> Arrays:
    """The updates by policy_finetune's learner."""
    import jax
    import jax.numpy as jnp

    from policy_finetune.agents.structure import weights_of
    from policy_finetune.learners.registry import Batch, make_learner
    from policy_finetune.presets import learner as preset

    config = preset("iql" if name.startswith("iql") else name)
    changes: dict[str, Any] = {"target_noise": 0.0}
    if config.type == "iql":
        stale = name == "iql-stale"
        changes = {"actor_lr_steps": ACTOR_LR_STEPS, "expectile": EXPECTILE, "stale_value": stale}
    network = replace(config.network, hidden=(HIDDEN, HIDDEN))
    config = replace(config, discount=DISCOUNT, network=network, **changes)
    tensors = {name: jnp.asarray(value, dtype) for name, value in data.items() if value.dtype.kind == "f"}

    def layers(prefix: str) -> list[Any]:
        return [{key: tensors[f"{prefix}/{i}/{key}"] for key in ("w", "b")} for i in range(3)]

    *hidden, mean = layers("actor")
    pair = layers("critic/0"), layers("critic/1")
    params: dict[str, Any] = {
        "actor": {"hidden": hidden, "mean": mean},
        "critic": jax.tree.map(lambda a, b: jnp.stack([a, b]), *pair),
    }
    if config.type == "iql":
        params["actor"]["log_std"] = tensors["log_std"]
        params["value"] = layers("value")
    learner: Any = make_learner(config, OBS, ACT)
    state = learner.init(jax.random.key(0))
    if jax.tree.structure(state.params) != jax.tree.structure(params):
        raise SystemExit(f"the parameters of {name} have another structure than this script knows")
    state = state.replace(
        params=params,
        target={key: params[key] for key in state.target},
        opt={key: learner.optimiser.init(value) for key, value in params.items()},
    )
    weights = {key: jnp.asarray(value, dtype) for key, value in weights_of(config, act_dim=ACT).items()}
    update, delay = jax.jit(learner.round), config.policy_delay
    losses: dict[str, list[float]] = {"critic": [], "actor": [], "value": []}
    for start in range(0, len(data["obs"]), delay):
        part = {key: tensors[key][start : start + delay] for key in ("obs", "action", "next_obs", "reward", "terminal")}
        mask = 1 - part.pop("terminal")
        state, info = update(
            state, Batch(**part, mask=mask, to_go=jnp.zeros_like(mask)), jax.random.key(start), weights
        )
        for key, seen in losses.items():
            if f"{key}_loss" in info:
                seen.append(float(info[f"{key}_loss"]))
    out: dict[str, Any] = {f"loss/{key}": np.array(seen) for key, seen in losses.items() if seen}
    for where, tree in (("", state.params), ("target/", state.target)):
        if "actor" in tree:
            for i, layer in enumerate([*tree["actor"]["hidden"], tree["actor"]["mean"]]):
                out |= {f"{where}actor/{i}/{key}": value for key, value in layer.items()}
        for i, layer in enumerate(tree["critic"]):
            out |= {f"{where}critic/{m}/{i}/{key}": value[m] for key, value in layer.items() for m in range(2)}
        for i, layer in enumerate(tree.get("value", [])):
            out |= {f"{where}value/{i}/{key}": value for key, value in layer.items()}
    if "log_std" in state.params["actor"]:
        out["log_std"] = state.params["actor"]["log_std"]
    return {key: np.asarray(value) for key, value in out.items()}


def run_peer(environment: str, command: list[str], data: Arrays, dtype: str) -> Arrays:
    """The updates by a peer, in its environment."""
    folder = PEERS / environment
    with tempfile.TemporaryDirectory() as place:
        given, answer = Path(place) / "in.npz", Path(place) / "out.npz"
        np.savez(given, allow_pickle=False, **data)
        script, *arguments = command
        subprocess.run(
            [folder / "bin" / "python", ROOT / "benchmarks" / "peers" / script, *arguments, given, answer, dtype],
            check=True,
            env=os.environ | {"PEER_SOURCE": str(folder / "src"), "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"},
        )
        return dict(np.load(answer))


def differences(ours: Arrays, peer: Arrays) -> dict[str, np.ndarray]:
    """Tensor -> absolute differences relative to the peer's largest entry, in rising order."""
    out = {}
    for name, theirs in peer.items():
        mine = ours[name]
        if name.startswith("loss/") and len(mine) < len(theirs):  # ours reports the last critic update of a round
            step = len(theirs) // len(mine)
            theirs = theirs[step - 1 :: step]
        if mine.shape != theirs.shape:
            raise SystemExit(f"{name} has shape {mine.shape} here and {theirs.shape} there")
        out[name] = np.sort(np.abs(mine - theirs) / np.abs(theirs).max(), axis=None)
    return out


def moved(data: Arrays, peer: Arrays) -> float:
    """How far the weights moved, relative to their largest entry: without it, agreement would say nothing."""
    names = [name for name in peer if name in data]
    return min(float(np.abs(peer[name] - data[name]).max() / np.abs(data[name]).max()) for name in names)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parity_policy_finetune", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--updates", type=int, default=4, help="in float32; an even number")
    parser.add_argument("--many", type=int, default=20, help="in float64; an even number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=tuple(COMPARISONS), action="append")
    parser.add_argument("--verbose", action="store_true", help="print every tensor, not only the worst")
    options = parser.parse_args()
    import jax

    failed = False
    numbers = f"{'updates':>7} {'worst':>8}  {'tolerance':>9}  {'largest':>8}  {'moved':>7}"
    print(f"{'peer':<20} {'precision':<9} {numbers}  worst tensor")
    for peer_name in options.only or COMPARISONS:
        environment, command, ours_name, fine = COMPARISONS[peer_name]
        missing = [part for part in ("bin/python", "src") if not (PEERS / environment / part).exists()]
        if missing:
            print(f"{peer_name:<20} skipped: no .cache/peers/{environment}/{missing[0]} (benchmarks/peers.md)")
            continue
        for dtype, updates, tolerance in (("float32", options.updates, 1e-5), ("float64", options.many, fine)):
            data = make_case(updates, options.seed)
            peer = run_peer(environment, command, data, dtype)
            jax.config.update("jax_enable_x64", dtype == "float64")
            ours = run_ours(ours_name, data, dtype)
            apart = differences(ours, peer)
            found = {name: float(values[-1]) for name, values in apart.items()}
            largest = max(found.values())
            if dtype == "float32":
                found |= {
                    name: float(np.median(values)) for name, values in apart.items() if not name.startswith("loss/")
                }
            worst = max(found, key=found.__getitem__)
            failed |= not found[worst] <= tolerance
            print(
                f"{peer_name:<20} {dtype:<9} {updates:>7} {found[worst]:>8.1e}  {tolerance:>9.0e}  {largest:>8.1e}  "
                f"{moved(data, peer):>7.0e}  {worst}{'' if found[worst] <= tolerance else '  TOO LARGE'}",
                flush=True,
            )
            if options.verbose:
                for name, value in found.items():
                    print(f"    {name:<24} {value:.1e}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
