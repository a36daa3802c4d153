"""Are our functions sheeprl's, and our bodies dm_control's? Largest differences on the peers' own inputs and weights.

    python -m benchmarks.cascade.parity

sheeprl writes inputs and outputs in an environment of its own (`peers/cascade_sheeprl_traces.py`, `peers.md`). Each is
repeated here: λ-returns of DreamerV2 and DreamerV3, steps of DreamerV2's RSSM with its weights, the balanced KL
divergence with gradients, and the truncated normal. Tolerances are absolute, in float32. dm_control writes steps of
its walker and cheetah (`peers/cascade_dmc_traces.py`); each is done again from its state, and its rewards are compared.

Differences on purpose, which the traces do not touch: disagreement is the standard deviation over heads (ddof 0),
sheeprl's their variance (ddof 1); LayerNorm's epsilon is 1e-6, sheeprl's 1e-3.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import PEERS, ROOT, Json, child_environment, record, table, write_result
from cascade_explore.config import Cheetah, Walker, WorldModel
from cascade_explore.envs.planar import PlanarEnv
from cascade_explore.envs.spec import Actions, Numbers
from cascade_explore.explore.policies import TruncatedNormal
from cascade_explore.explore.returns import lambda_returns
from cascade_explore.tasks.planar import TASKS
from cascade_explore.world.categorical import balanced_kl
from cascade_explore.world.model import Latents, World

Trace = dict[str, np.ndarray]
#: Peer -> its script and arguments.
SCRIPTS = {"sheeprl": ("cascade_sheeprl_traces.py", []), "dmc": ("cascade_dmc_traces.py", ["1000"])}


def traces(peer: str) -> Trace | None:
    """Return a peer's inputs and outputs, or None where it is not installed."""
    python, (script, arguments) = PEERS / peer / "bin" / "python", SCRIPTS[peer]
    if not python.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "traces.npz"
        command = [str(python), f"benchmarks/peers/{script}", str(out), *arguments]
        subprocess.run(command, cwd=ROOT, env=child_environment(1), check=True, stdout=subprocess.DEVNULL)
        with np.load(out) as file:
            return {name: file[name] for name in file.files}


def rssm_weights(trace: Trace, deter: int) -> Json:
    """Return the peer's weights as our parameters. Its GRU reads [h, x], ours [x, h]."""

    def pair(name: str, called: str) -> Json:
        weight, bias = (jnp.asarray(trace[f"weight_{name}.{what}"]) for what in ("weight", "bias"))
        return {called: weight.T, "bias": bias}

    def dense(name: str) -> Json:
        return pair(name, "kernel")

    def norm(name: str) -> Json:
        return pair(name, "scale")

    gru = dense("recurrent_model.rnn.linear")
    gru["kernel"] = jnp.concatenate([gru["kernel"][deter:], gru["kernel"][:deter]])
    nets = {
        ours: {"Dense_0": dense(f"{theirs}._model.0"), "LayerNorm_0": norm(f"{theirs}._model.1")}
        for ours, theirs in (("enter", "recurrent_model.mlp"), ("prior_net", "transition_model"),
                             ("post_net", "representation_model"))
    }  # fmt: skip
    for ours, theirs in (("prior_net", "transition_model"), ("post_net", "representation_model")):
        nets[ours]["Dense_1"] = dense(f"{theirs}._model.3")
    return {"params": {**nets, "cell": {"Dense_0": gru, "LayerNorm_0": norm("recurrent_model.rnn.layer_norm")}}}


def rssm(trace: Trace) -> Json:
    """Return the largest difference of recurrent states, of posteriors and of priors, step by step."""
    get = {name.removeprefix("rssm_"): jnp.asarray(x) for name, x in trace.items() if name.startswith("rssm_")}
    deter, units = get["h"].shape[-1], get["seen"].shape[-1]
    groups, classes = trace["kl_post"].shape[-2:]
    config = WorldModel(deter=deter, groups=groups, classes=classes, hidden=units, units=units)
    world = World(config, Numbers(units), Actions(get["action"].shape[-1], discrete=True))
    params = {"rssm": rssm_weights(trace, deter)}
    state, post, prior = world.observe(
        params, Latents(get["h"], get["z"]), get["action"], get["first"], get["seen"], jax.random.key(0)
    )
    imagined, expected = world.advance(params, Latents(get["h"], get["z"]), get["action"])
    inner = get["first"] == 0  # imagination knows of no first rows
    theirs = {name: jax.nn.log_softmax(get[name].reshape(post.shape)) for name in ("post", "prior")}
    return {
        "h": _gap(state.h, get["after"]),
        "posterior": _gap(post, theirs["post"]),
        "prior": _gap(prior, theirs["prior"]),
        "imagined h": _gap(imagined[inner], get["after"][inner]),
        "imagined prior": _gap(expected[inner], theirs["prior"][inner]),
    }


def returns(trace: Trace) -> Json:
    """Return the largest difference of λ-returns."""
    reward, discount, value = (trace[f"returns_{name}"] for name in ("reward", "discount", "value"))
    ours = lambda_returns(reward, discount, value, lam=0.95)
    return {"DreamerV2": _gap(ours, trace["returns_v2"]), "DreamerV3": _gap(ours, trace["returns_v3"])}


def divergence(trace: Trace) -> Json:
    """Return the largest difference of the loss and of both gradients, for all free nats."""
    found: Json = {}
    for free in (0.0, 0.5, 100.0):
        value, slopes = jax.value_and_grad(lambda a, b, f=free: balanced_kl(a, b, balance=0.8, free=f)[0], (0, 1))(
            jnp.asarray(trace["kl_post"]), jnp.asarray(trace["kl_prior"])
        )
        gaps = (_gap(value, trace[f"kl_{free}"]), _gap(slopes[0], trace[f"kl_{free}_post"]),
                _gap(slopes[1], trace[f"kl_{free}_prior"]))  # fmt: skip
        found[f"free {free:g}"] = max(gaps)
    return found


def actions(trace: Trace) -> Json:
    """Return the largest difference of log densities and entropies."""
    mean, std, at = (jnp.asarray(trace[f"normal_{name}"])[:, None] for name in ("mean", "std", "at"))
    ours = TruncatedNormal(mean, std)
    return {
        "log density": _gap(ours.log_prob(at), trace["normal_log_prob"]),
        "entropy": _gap(ours.entropy(), trace["normal_entropy"]),
    }


def body(config: Walker | Cheetah, found: Trace) -> Json:
    """Return the largest difference of what a body sees after a step, its angular momentum, and its rewards."""
    env, tasks, worst = PlanarEnv(config), TASKS[config.type], {}
    trace = {name.removeprefix(f"{config.type}_"): x for name, x in found.items() if name.startswith(config.type)}
    env.reset(0)
    for i, action in enumerate(trace["action"]):
        seen = env.step_from(trace["qpos"][i], trace["qvel"][i], trace["warm"][i], action)
        facts = {name: np.asarray(value) for name, value in zip(env.facts, env.measure(), strict=True)}
        gaps = {"observation": _gap(seen, trace["seen"][i]), "spin": _gap(facts["spin"], trace["spin"][i])}
        gaps |= {name: _gap(task(facts), trace[name][i]) for name, task in tasks.items() if name in trace}
        worst = {name: max(gap, worst.get(name, 0.0)) for name, gap in gaps.items()}
    return worst


def _gap(ours: object, theirs: object) -> float:
    one, other = np.asarray(ours), np.asarray(theirs)
    assert one.shape == other.shape, (one.shape, other.shape)
    return float(np.abs(one - other).max())


#: Check -> its peer, how, and the tolerance.
CHECKS = {
    "lambda-returns": ("sheeprl", returns, 1e-5),
    "RSSM of DreamerV2": ("sheeprl", rssm, 1e-5),
    "balanced KL": ("sheeprl", divergence, 1e-5),
    "truncated normal": ("sheeprl", actions, 1e-5),
    "walker": ("dmc", partial(body, Walker(repeat=1)), 1e-9),
    "cheetah": ("dmc", partial(body, Cheetah(repeat=1)), 1e-9),
}


def main(argv: list[str] | None = None) -> int:
    """Run all checks; 0 if no difference is above its tolerance in those whose peer is installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade.parity", description=__doc__.splitlines()[0])
    parser.parse_args(argv)
    results: Json = {}
    origin = record("benchmarks.cascade.parity", sys.argv[1:] if argv is None else argv, ["jax", "cascade-explore"])
    for peer in SCRIPTS:
        trace = traces(peer)
        if trace is None:
            print(f"skipped: {peer} is not installed (benchmarks/peers.md)")
            continue
        checks = {}
        for name, (whose, check, tolerance) in CHECKS.items():
            if whose == peer:
                gaps = check(trace)
                checks[name] = {"gaps": gaps, "tolerance": tolerance, "equal": max(gaps.values()) <= tolerance}
        write_result(f"cascade_parity-{peer}", {"record": origin, "checks": checks})
        results |= checks
    rows = [
        [name, f"{max(r['gaps'].values()):.1e}", f"{r['tolerance']:.0e}", "yes" if r["equal"] else "NO"]
        for name, r in results.items()
    ]
    print(table(rows, ["check", "largest difference", "tolerance", "equal"]))
    return 0 if all(r["equal"] for r in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
