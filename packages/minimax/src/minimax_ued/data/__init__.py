"""Levels that are stored with the package, so that every user and every version of JAX is tested on the same ones."""

from minimax_ued.data.held_out import HELD_OUT, HeldOutSet, held_out_levels

__all__ = ["HELD_OUT", "HeldOutSet", "held_out_levels"]
