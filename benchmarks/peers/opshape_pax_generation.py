"""pax's evolution runner, unchanged, one generation per measured unit: runs in pax's environment.

    python opshape_pax_generation.py GENERATIONS +experiment/ipd=... ++popsize=64 ...

Every generation ends with a call of the strategy's `tell`. That call is wrapped: the first one says that everything is
compiled, and after so many more the trial is over. The options after the first are Hydra's.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
import time


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    generations = int(sys.argv[1])
    # The runner would stop by itself; it is stopped from outside instead.
    sys.argv = ["pax", *sys.argv[2:], "++num_iters=1000000", "++wandb.log=False", "++save=False"]
    os.chdir(tempfile.mkdtemp())  # it writes where it runs
    begun = time.perf_counter(), time.process_time()

    import jax
    from pax.runners import runner_evo

    state = {"left": 0, "clock": begun, "ready": False}
    steps = {}

    def answer() -> None:
        if not state["ready"]:
            spent = time.perf_counter() - begun[0], time.process_time() - begun[1]
            state["ready"] = True
            said = {
                "ready": True,
                "setup_wall_s": spent[0],
                "setup_cpu_s": spent[1],
                "versions": {"jax": jax.__version__},
            }
        elif state["left"]:
            state["left"] -= 1
            if state["left"]:
                return
            wall, cpu = time.perf_counter() - state["clock"][0], time.process_time() - state["clock"][1]
            said = {"work": generations * steps["joint"], "wall_s": wall, "cpu_s": cpu}
        channel.write(json.dumps(said) + "\n")
        if sys.stdin.readline().strip() != "go":
            os._exit(0)
        state["left"] = generations
        state["clock"] = time.perf_counter(), time.process_time()

    begin = runner_evo.EvoRunner.__init__

    def init(self, *args, **kwargs) -> None:
        begin(self, *args, **kwargs)
        strategy = next(a for a in (*args, *kwargs.values()) if hasattr(a, "tell"))
        config = next(a for a in (*args, *kwargs.values()) if hasattr(a, "popsize") and hasattr(a, "num_envs"))
        steps["joint"] = (
            config.popsize * config.num_opps * config.num_envs * config.num_outer_steps * config.num_inner_steps
        )
        tell = strategy.tell

        def counted(*a, **k):
            result = jax.block_until_ready(tell(*a, **k))
            answer()
            return result

        strategy.tell = counted

    runner_evo.EvoRunner.__init__ = init
    runpy.run_module("pax.experiment", run_name="__main__")  # as `python -m`: Hydra finds the settings by the file


if __name__ == "__main__":
    main()
