"""Plans or training updates of TAP or of ours, one measured trial per line: `python hgap_tap.py WHO WHAT SIZE COUNT`.

WHO is tap or hgap. WHAT is plan (one environment, 256 candidate plans of 15 steps in 5 codes), plan64 (64 of them),
plan120 (64 of them in each of 120 environments) or train (updates of the
autoencoder on batches of 64 windows). SIZE is small or reference. Weights are random: what is timed does not depend on
them. A plan begins with a state in host memory and ends with an action in host memory.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from serve import serve

STATES, ACTIONS, STEPS, LATENT, CODES, BEAM, EXPAND, BATCH = 224, 56, 15, 3, 512, 64, 4, 64
WIDTHS = {"small": 128, "reference": 512}
#: What is planned -> environments at once, samples of each.
PLANS = {"plan": (1, BEAM * EXPAND), "plan64": (1, BEAM), "plan120": (120, BEAM)}


def tap(what: str, width: int, count: int) -> tuple[dict[str, Any], Any]:
    """Its own modules, unchanged; `latentplan.search` imports wandb, so its planner is loaded by file."""
    import numpy as np
    import torch
    from latentplan.models.vqvae import TransformerPrior, VQContinuousVAE  # ty: ignore[unresolved-import]

    torch.set_num_threads(1)
    file = Path(os.environ["PEER_SOURCE"]) / "src" / "latentplan" / "search" / "optimizer.py"
    spec: Any = importlib.util.spec_from_file_location("optimizer", file)
    planning = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(planning)

    class Config(SimpleNamespace):
        def __contains__(self, name: str) -> bool:
            return name in self.__dict__

    joined = STATES + ACTIONS + 2
    config = Config(
        vocab_size=100, block_size=(STEPS + 1) * (joined + 1), transition_dim=joined + 1, observation_dim=STATES,
        action_dim=ACTIONS, n_embd=width, n_layer=4, n_head=4, K=CODES, trajectory_embd=512, latent_step=LATENT,
        state_conditional=True, embd_pdrop=0.1, resid_pdrop=0.1, attn_pdrop=0.1, action_weight=5, reward_weight=1,
        value_weight=1, position_weight=1, first_action_weight=0, sum_reward_weight=0, last_value_weight=0,
        bottleneck="pooling", masking="none", residual=True, ma_update=True, block_size_prior=STEPS // LATENT,
    )  # fmt: skip
    vae = VQContinuousVAE(config)
    prior = TransformerPrior(Config(**{**config.__dict__, "block_size": STEPS // LATENT}))
    sizes = {"decoder": _count(vae.model.decoder), "autoencoder": _count(vae), "prior": _count(prior)}
    rng = np.random.default_rng(0)
    if what == "plan":
        vae.eval(), prior.eval()
        vae.model.codebook.embedding.normal_()
        state = rng.standard_normal((1, 1, joined)).astype(np.float32)

        def unchanged(x: Any) -> Any:
            return x

        def trial() -> dict[str, Any]:
            for _ in range(count):
                found = planning.beam_with_prior(
                    prior, vae, torch.from_numpy(state), unchanged, unchanged, 0.99, STEPS, BEAM, EXPAND
                )
            assert np.isfinite(found).all()
            return {"work": count}

        return sizes, trial
    optimizer = vae.configure_optimizers(SimpleNamespace(weight_decay=0.1, learning_rate=2e-4, betas=(0.9, 0.95)))
    batch = torch.from_numpy(rng.standard_normal((BATCH, STEPS, joined)).astype(np.float32))
    ends, mask = torch.zeros(BATCH, STEPS, 1), torch.ones(BATCH, STEPS, 1)
    vae.train()

    def updates() -> dict[str, Any]:
        for _ in range(count):
            _, reconstruction, vq, commit = vae(batch, batch, mask, ends)
            vae.zero_grad()
            loss = reconstruction + vq + commit
            loss.backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step()
        assert torch.isfinite(loss)
        return {"work": count * BATCH}

    return sizes, updates


def _count(module: Any) -> int:
    return sum(x.numel() for x in module.parameters())


def hgap(what: str, width: int, count: int) -> tuple[dict[str, Any], Any]:
    """As many candidate plans of as many codes; blocks chosen so that no network has fewer parameters than TAP's."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from hgap.config import (
        EMA,
        AutoencoderConfig,
        Codes,
        PlanConfig,
        PriorConfig,
        Sampling,
        TrainConfig,
        Width,
        Windows,
    )
    from hgap.data.windows import Scale
    from hgap.loading import Model
    from hgap.model.autoencoder import Autoencoder
    from hgap.model.layers import draw_parameters
    from hgap.model.learning import Learned, autoencoder_update, make_optimizer
    from hgap.model.prior import Prior
    from hgap.planner.plan import Planner

    config = TrainConfig(
        windows=Windows(steps=STEPS),
        autoencoder=AutoencoderConfig(
            codes=Codes(latent_step=LATENT, per_step=1, quantizer=EMA(codes=CODES, size=512)),
            size=Width(width=width, heads=4, blocks=6, dropout=0.1), batch=BATCH,
        ),
        prior=PriorConfig(size=Width(width=width, heads=4, blocks=4)),
    )  # fmt: skip
    autoencoder = Autoencoder(config.autoencoder, STEPS, STATES, ACTIONS)
    prior = Prior(config.prior.size, CODES, autoencoder.tokens)
    keys = jax.random.split(jax.random.key(0), 3)
    weights = autoencoder.init((keys[0], keys[1], keys[2]))
    params = draw_parameters(prior, keys[0], jnp.zeros((1, 5), jnp.int32), jnp.zeros((1, STATES)))
    total = {"decoder": weights.decoder, "autoencoder": weights, "prior": params}
    sizes = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in total.items()}

    def scale(size: int) -> Scale:
        return Scale(jnp.zeros(size), jnp.ones(size), jnp.ones(size, bool), jnp.asarray(10.0))

    rng = np.random.default_rng(0)
    if what.startswith("plan"):
        environments, samples = PLANS[what]
        model = Model(config, {}, autoencoder, prior, weights, params, scale(STATES), scale(ACTIONS))
        settings = PlanConfig(samples=samples, search=Sampling(top_p=1.0))
        planner = Planner(model, lambda trajectory: trajectory.states[..., 0], settings)
        states = rng.standard_normal((environments, STATES)).astype(np.float32)
        memory, _ = planner(planner.start(environments), states)

        def trial() -> dict[str, Any]:
            nonlocal memory
            for _ in range(count):
                memory, plan = planner(memory, states)
                action = np.asarray(plan.action)
            assert np.isfinite(action).all()
            return {"work": count * environments}

        return sizes, trial
    optimizer = make_optimizer(config.autoencoder.optimiser, 1000)
    batch = [jnp.asarray(rng.standard_normal((BATCH, STEPS, size)), jnp.float32) for size in (STATES, ACTIONS)]
    update = jax.jit(lambda learned, key: autoencoder_update(learned, autoencoder, optimizer, *batch, key))
    learned = Learned(weights, optimizer.init((weights.encoder, weights.decoder)))
    learned, _ = update(learned, keys[0])

    def updates() -> dict[str, Any]:
        nonlocal learned
        for i in range(count):
            learned, metrics = update(learned, jax.random.fold_in(keys[1], i))
        assert all(np.isfinite(value).all() for value in jax.device_get(metrics).values())
        return {"work": count * BATCH}

    return sizes, updates


def floor(what: str, width: int, count: int) -> tuple[dict[str, Any], Any]:
    """The arithmetic alone: products of [1024, width] x [width, width] at this machine's rate, in GFLOP."""
    import numpy as np

    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((rows, width)).astype(np.float32) for rows in (1024, width))

    def trial() -> dict[str, Any]:
        for _ in range(count):
            x @ w
        return {"work": count * 2 * x.size * width / 1e9}

    trial()
    return {}, trial


if __name__ == "__main__":
    WHO, WHAT, SIZE, COUNT = sys.argv[1:5]
    serve(lambda: {"tap": tap, "hgap": hgap, "floor": floor}[WHO](WHAT, WIDTHS[SIZE], int(COUNT)))
