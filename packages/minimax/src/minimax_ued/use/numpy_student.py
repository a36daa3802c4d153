"""An exported student in NumPy alone. This file imports nothing of the package: copy it next to the .npz file.

student, memory = NumpyStudent("student.npz"), None
logits, memory = student(observation, memory)    # None at the start of an episode
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

__all__ = ["NumpyStudent"]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class NumpyStudent:
    """A student that `LoadedStudent.export` wrote, one observation at a time.

    Attributes:
        weights: name -> array, as in the file.
        about: the configuration of its run, as JSON.
    """

    def __init__(self, path: Any) -> None:
        """Read the file."""
        with np.load(path) as file:
            self.weights = {name: file[name] for name in file.files}
        self.about = json.loads(str(self.weights.pop("about")))
        self._step = {"lstm": self._lstm, "gru": self._gru, "s5": self._s5}[self.about["core"]]

    def __call__(self, observation: Any, memory: Any = None) -> tuple[np.ndarray, Any]:
        """Return the logits of the actions `[A]` and the memory of the next step.

        Args:
            observation: for mazes `image [v, v, 3]` and `direction []`, as attributes or keys; else a vector `[n]`.
            memory: what the call before returned; None at the start of an episode.
        """
        w = self.weights
        hidden, memory = self._step(self._encode(observation), memory)
        return np.tanh(hidden @ w["hidden"] + w["hidden_bias"]) @ w["policy"] + w["policy_bias"], memory

    def _encode(self, observation: Any) -> np.ndarray:
        w = self.weights
        if "dense" in w:
            return np.maximum(np.asarray(observation, np.float32) @ w["dense"] + w["dense_bias"], 0)
        seen = observation if isinstance(observation, dict) else vars(observation)
        windows = np.lib.stride_tricks.sliding_window_view(np.asarray(seen["image"]), (3, 3), axis=(0, 1))
        view = np.maximum(np.einsum("xycij,ijcf->xyf", windows, w["conv"]) + w["conv_bias"], 0)
        return np.concatenate([view.ravel(), w["directions"][int(seen["direction"])]])

    def _lstm(self, x: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        w = self.weights
        cell, hidden = np.zeros((2, len(w["recurrent"]))) if memory is None else memory
        i, f, g, o = np.split(x @ w["input"] + hidden @ w["recurrent"] + w["bias"], 4)
        cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
        hidden = _sigmoid(o) * np.tanh(cell)
        return hidden, (cell, hidden)

    def _gru(self, x: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        w = self.weights
        before = np.zeros(len(w["recurrent"])) if memory is None else memory
        pr, pz, pn = np.split(x @ w["input"] + w["bias"], 3)
        ur, uz, un = np.split(before @ w["recurrent"], 3)
        candidate = np.tanh(pn + _sigmoid(pr + ur) * (un + w["candidate_bias"]))
        hidden = candidate + _sigmoid(pz + uz) * (before - candidate)
        return hidden, hidden

    def _s5(self, x: np.ndarray, memory: Any) -> tuple[np.ndarray, Any]:
        w, u, later = self.weights, x @ self.weights["embed"] + self.weights["embed_bias"], []
        pre = self.about["norm"] == "pre"
        for i in range(self.about["layers"]):
            a, b, c, d, gate, gate_bias, scale, offset = (w[f"{name}{i}"] for name in S5_ARRAYS)

            def norm(v: np.ndarray, scale: np.ndarray = scale, offset: np.ndarray = offset) -> np.ndarray:
                return (v - v.mean()) / np.sqrt(v.var() + 1e-6) * scale + offset

            into = norm(u) if pre else u
            state = into @ b if memory is None else a * memory[i] + into @ b
            y = 2 * (state @ c).real + d * into
            y = y * _sigmoid(np.sqrt(8 / np.pi) * (y + 0.044715 * y**3))  # gelu
            u = u + y * _sigmoid(y @ gate + gate_bias)
            u = u if pre else norm(u)
            later.append(state)
        return u, later


#: The arrays of each S5 layer: diagonal, input and output matrices (complex), feed-through, gate, layer normalisation.
S5_ARRAYS = ("a", "b", "c", "d", "gate", "gate_bias", "scale", "offset")
