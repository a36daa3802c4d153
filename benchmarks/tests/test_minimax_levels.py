"""The command that drew the held-out levels."""

import jax
import numpy as np
import pytest

from benchmarks.minimax_levels import draw, main
from minimax_ued.envs.maze import pack_levels, paths
from minimax_ued.levels.held_out import HELD_OUT


@pytest.mark.slow
def test_the_stored_levels_can_be_drawn_again_in_kind(tmp_path, monkeypatch, capsys):
    entry = HELD_OUT["maze7"]
    levels, hard = draw(entry)
    assert levels.wall_map.shape == (entry.n, 7, 7)
    assert hard.shape == (entry.n_hard,)
    assert np.asarray(jax.jit(jax.vmap(paths.min_actions))(levels)).min() > 0
    monkeypatch.setattr("sys.argv", ["minimax_levels", "maze7", "--out", str(tmp_path)])
    main()
    assert [path.name for path in tmp_path.iterdir()] == ["maze7.npz"]
    with np.load(tmp_path / "maze7.npz", allow_pickle=False) as stored:
        assert np.array_equal(stored["levels"], pack_levels(levels))
        assert stored["jax"] == jax.__version__
    monkeypatch.setattr("sys.argv", ["minimax_levels", "maze8", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert "there is no set 'maze8'" in capsys.readouterr().err
