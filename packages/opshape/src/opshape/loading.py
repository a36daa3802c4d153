"""A trained shaper for use elsewhere: load it from a run or an exported file, act with it, export it."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from opshape.agents.nets import Params
from opshape.agents.players import sample
from opshape.agents.policies import Policy
from opshape.build import make_game, make_shaper
from opshape.config import TrainConfig
from opshape.games.base import Game
from paperloop.errors import CheckpointError, UserError
from paperloop.files import check_is_file, write_atomically
from paperloop.settings import from_dict, load_config, to_dict

__all__ = ["LoadedShaper", "load"]

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class LoadedShaper:
    """A trained shaper.

        shaper = load("runs/imp")
        memory = shaper.start(games=2)                       # once a trial
        memory, actions = shaper.act(memory, seen, key)      # every step; all games at once
        memory = shaper.next_episode(memory)                 # whenever the co-player has learned

    All methods are pure and work under `jit`, `vmap` and `scan`. Observations are those of the game it was trained in:
    in matrix games the integers 0 CC, 1 CD, 2 DC, 3 DD (own action first) and 4 at the start, `[games]`; in CoinGame
    four indices `[games, 4]`; in InTheMatrix {"view": `[games, 25]`, "inventory": `[games, 6]`}.

    Attributes:
        config: of the run.
        game: that it was trained in.
        policy: its network.
        params: its parameters.
    """

    config: TrainConfig
    game: Game
    policy: Policy
    params: Params

    def start(self, games: int) -> Any:
        """Return its memory at the start of a trial. It may play another number of games than in training."""
        return self.policy.start(self.params, games)

    def act(self, memory: Any, observation: Any, key: Array) -> tuple[Any, Array]:
        """Return the next memory and an action for each game, int32 `[games]`."""
        memory, logits, _ = self.policy.apply(self.params, memory, observation)
        return memory, sample(logits, jax.random.uniform(key, logits.shape[:-1]))

    def probabilities(self, memory: Any, observation: Any) -> tuple[Any, Array]:
        """Return the next memory and the probabilities of all actions, `[games, actions]`."""
        memory, logits, _ = self.policy.apply(self.params, memory, observation)
        return memory, jax.nn.softmax(logits)

    def next_episode(self, memory: Any) -> Any:
        """Return the memory with which the next episode of the same trial begins."""
        return self.policy.turn(self.params, memory)

    def export(self, path: Path | str) -> Path:
        """Write it to one .npz file: the arrays by name, and its configuration.

        Raises:
            UserError: the file cannot be written.
        """
        path = Path(path)
        named = {jax.tree_util.keystr(place): leaf for place, leaf in jax.tree_util.tree_leaves_with_path(self.params)}
        about = json.dumps({"format": FORMAT, "config": to_dict(self.config)})
        buffer = io.BytesIO()
        arrays: Any = {name: np.asarray(leaf) for name, leaf in named.items()}
        np.savez(buffer, about=np.array(about), **arrays)
        try:
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror}): choose another place.") from None
        return path


def load(source: Path | str, *, seed: int = 0, best: bool = False) -> LoadedShaper:
    """Return the shaper of a run folder, or of a file that `LoadedShaper.export` wrote.

    Args:
        source: the folder or file.
        seed: which of the run's seeds.
        best: the best candidate of the last generation instead of the mean of the search.

    Raises:
        UserError: it is neither, or the run has no such seed.
        CheckpointError: the file is damaged or holds another shaper.
    """
    source = Path(source)
    if source.is_dir():
        return _from_run(source, seed, best)
    config, arrays = _read(check_is_file(source))
    game = make_game(config.game)
    policy = make_shaper(config.shaper, game)
    like = jax.eval_shape(policy.init, jax.random.key(0))
    places = [(jax.tree_util.keystr(place), leaf) for place, leaf in jax.tree_util.tree_leaves_with_path(like)]
    for name, leaf in places:
        if name not in arrays or arrays[name].shape != leaf.shape:
            found = list(arrays[name].shape) if name in arrays else "missing"
            raise CheckpointError(f"{source}: the array {name} should have shape {list(leaf.shape)} and is {found}.")
    leaves = [jnp.asarray(arrays[name], leaf.dtype) for name, leaf in places]
    return LoadedShaper(config, game, policy, jax.tree.unflatten(jax.tree.structure(like), leaves))


def _read(path: Path) -> tuple[TrainConfig, dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise CheckpointError(f"{path} is not an exported shaper, or is damaged ({error}).") from None
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {about.get('format')}, and this version reads format {FORMAT}.")
    return from_dict(TrainConfig, about["config"], where=str(path)), arrays


def _from_run(folder: Path, seed: int, best: bool) -> LoadedShaper:
    from opshape.trainer import ShapingTrainer
    from paperloop.loop.runner import restore

    config = load_config(TrainConfig, folder)
    if not 0 <= seed < config.seeds:
        raise UserError(f"{folder} has the seeds 0 to {config.seeds - 1}, and not {seed}.")
    trainer = ShapingTrainer(config)
    vector = trainer.parameters(restore(trainer, folder), best=best)[seed]
    arena = trainer.arena
    return LoadedShaper(config, arena.trial.game, arena.policy, arena.unravel(vector))
