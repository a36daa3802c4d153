"""Sinks other than metrics.jsonl."""

import numpy as np
import pytest

from paperloop.errors import UserError
from paperloop_lab.sinks import make_sinks


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboardX")
    (sink,) = make_sinks(["tensorboard"])
    sink.open(tmp_path, 0)
    sink.write(1, 0.5, "train", {"loss": np.float32(0.25), "return": np.arange(3.0)})
    sink.flush()
    sink.close()
    (events,) = (tmp_path / "tb").iterdir()
    content = events.read_bytes()
    assert all(name in content for name in (b"train/loss", b"train/return", b"train/return/2"))


def test_an_unknown_sink_is_refused():
    with pytest.raises(UserError, match="choose among tensorboard, wandb"):
        make_sinks(["tensorboard", "tensorbord"])
