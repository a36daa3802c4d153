"""Settings of networks and of learning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from minimax_ued.settings.counts import Count
from minimax_ued.settings.environments import EditorConfig
from paperloop.settings import NotNegative, Positive, Share, fault, settings

__all__ = ["Core", "GRUConfig", "LSTMConfig", "PPOConfig", "S5Config", "StudentConfig", "TeacherConfig"]


@settings
class LSTMConfig:
    """A long short-term memory (Hochreiter and Schmidhuber 1997).

    Attributes:
        features: H, units.
    """

    type: Literal["lstm"] = "lstm"
    features: Count = 256


@settings
class GRUConfig:
    """A gated recurrent unit (Cho et al. 2014).

    Attributes:
        features: H, units.
    """

    type: Literal["gru"] = "gru"
    features: Count = 256


@settings
class S5Config:
    """Simplified state-space layers (Smith, Warrington and Linderman 2023, arXiv 2208.04933).

    Attributes:
        features: H, width.
        layers: layers on top of one another.
        state: state size of a layer, before conjugate symmetry halves it.
        blocks: blocks of the HiPPO initialisation; divides `state` into even parts.
        norm: layer normalisation after the residual sum, or before the layer.
        dt_min: smallest initial step size.
        dt_max: largest initial step size.
    """

    type: Literal["s5"] = "s5"
    features: Count = 256
    layers: Count = 2
    state: Count = 256
    blocks: Count = 2
    norm: Literal["post", "pre"] = "post"
    dt_min: Positive = 1e-3
    dt_max: Positive = 1e-1

    def __post_init__(self) -> None:
        if self.dt_min > self.dt_max:
            raise fault(self, "dt_min", f"at most {{dt_max}} = {self.dt_max:g}")
        if self.state % (2 * self.blocks):
            raise fault(self, "state", f"a multiple of 2 x {{blocks}} = {2 * self.blocks}")


#: The recurrent core.
Core = Annotated[LSTMConfig | GRUConfig | S5Config, Field(discriminator="type")]


@settings
class StudentConfig:
    """The student network.

    Attributes:
        core: the recurrent core.
        conv_filters: filters of the 3x3 convolution over the view.
        head_width: hidden units of the policy head and of the value head.
        direction_embedding: width of the embedding of the direction the agent faces.
        dense_width: units of the layer that takes observations that are plain vectors.
    """

    core: Core = LSTMConfig()
    conv_filters: Count = 16
    head_width: Count = 32
    direction_embedding: Count = 5
    dense_width: Count = 64


@settings
class PPOConfig:
    """Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347).

    Attributes:
        lr: Adam's step size.
        anneal_lr: let the step size fall linearly to zero over the run's cycles.
        gamma: discount.
        gae_lambda: lambda of generalised advantage estimation.
        clip: epsilon of the probability ratio, and of the value where `clip_value` is set.
        clip_value: clip the change of the value as well; otherwise plain squared error.
        value_coef: weight of the value loss.
        entropy_coef: weight of the entropy bonus.
        epochs: passes over a rollout.
        minibatches: parts of a rollout, by whole environments (by whole chunks, where there are several).
        chunks: parts into which the sequence of each environment is cut for learning, each started from the memory
            that the student had there when it acted. More chunks make shorter chains of dependent steps, faster where
            latency counts, at the price of memories that are stale after the first gradient step.
        max_grad_norm: limit of the global gradient norm.
        adam_eps: Adam's epsilon.
        bootstrap_timeouts: at an episode cut off by the step limit, continue with the value of its last observation
            instead of treating it as an end worth zero. The cost is one network evaluation per cut-off, not per step.
            The reference implementation treats time-outs as ends, and the presets that reproduce it do as well.
    """

    lr: Positive = 1e-4
    anneal_lr: bool = False
    gamma: Share = 0.995
    gae_lambda: Share = 0.98
    clip: Positive = 0.2
    clip_value: bool = True
    value_coef: NotNegative = 0.5
    entropy_coef: NotNegative = 1e-3
    epochs: Count = 5
    minibatches: Count = 1
    chunks: Count = 1
    max_grad_norm: Positive = 0.5
    adam_eps: Positive = 1e-5
    bootstrap_timeouts: bool = True


@settings
class TeacherConfig:
    """The teacher of PAIRED and its kin: network, learner, and the environment in which it builds levels.

    Attributes:
        core: the recurrent core.
        conv_filters: filters of the 3x3 convolution over the whole map.
        head_width: hidden units of the policy head and of the value head.
        time_embedding: width of the embedding of the step.
        ppo: the learner.
        editor: how levels are built.
    """

    core: Core = LSTMConfig()
    conv_filters: Count = 128
    head_width: Count = 32
    time_embedding: Count = 10
    ppo: PPOConfig = PPOConfig(entropy_coef=0.05)
    editor: EditorConfig = EditorConfig()

    def __post_init__(self) -> None:
        if self.ppo.chunks != 1:
            raise fault(self, "ppo.chunks", "1, because a teacher learns from whole levels")
