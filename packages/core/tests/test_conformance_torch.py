"""The conformance suite on a small real PyTorch trainer: a network fitted by Adam, with a generator of its own."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from paperloop import CheckpointError
from paperloop.conformance import ConformanceError, check_trainer
from paperloop.loop.runner import to_host
from paperloop.torch_backend import load_objects, save_objects


@dataclass(frozen=True, kw_only=True)
class SineConfig:
    width: int = 8
    lr: float = 0.01


class SineTrainer:
    """Fits sin(3x) on [-1, 1] with dropout, so that the random stream matters."""

    headlines = ("loss",)
    donates = True  # modules are changed in place

    def __init__(self, config):
        self.config = config

    def init(self, seed):
        generator = torch.Generator().manual_seed(seed)
        width = self.config.width
        network = torch.nn.Sequential(torch.nn.Linear(1, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.config.lr)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.999)
        return SimpleNamespace(network=network, optimiser=optimiser, schedule=schedule, generator=generator, updates=0)

    def step(self, state):
        x = torch.rand((64, 1), generator=state.generator) * 2 - 1
        hidden = state.network[:2](x)
        mask = (torch.rand(hidden.shape, generator=state.generator) > 0.05).float()
        loss = ((state.network[2](hidden * mask) - torch.sin(3 * x)) ** 2).mean()
        state.optimiser.zero_grad()
        loss.backward()
        state.optimiser.step()
        state.schedule.step()
        state.updates += 1
        return state, {"loss": loss}

    def progress(self, state):
        return {"updates": state.updates}

    def save(self, state, folder):
        save_objects(vars(state), folder)

    def restore(self, folder, like):
        return SimpleNamespace(**load_objects(vars(like), folder))


def make(config):
    return SineTrainer(config)


class HidesItsChanges(SineTrainer):
    donates = False


class ForgetsItsOptimiser(SineTrainer):
    def restore(self, folder, like):
        fresh = like.optimiser.state_dict()
        state = super().restore(folder, like)
        state.optimiser.load_state_dict(fresh)
        return state


@pytest.mark.parametrize("kills", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_torch_trainer_meets_the_contract(tmp_path, kills):
    passed = check_trainer(make, SineConfig(), folder=tmp_path, other_config=SineConfig(width=9), kills=kills)
    assert len(passed) == 7 + bool(kills)


def test_it_learns():
    trainer = make(SineConfig())
    state = trainer.init(0)
    losses = []
    for _ in range(400):
        state, metrics = trainer.step(state)
        losses.append(float(metrics["loss"].detach()))
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [(HidesItsChanges, "does not declare donates"), (ForgetsItsOptimiser, "restored state differs")],
)
def test_broken_trainers_are_caught(tmp_path, broken, complaint):
    with pytest.raises(ConformanceError, match=complaint):
        check_trainer(broken, SineConfig(), folder=tmp_path, kills=0)


def test_trees_of_any_nesting_come_back(tmp_path):
    tree = {"a": [torch.ones(2, dtype=torch.bfloat16), (1, None, "x")], 3: {"b": torch.arange(3)}, "empty": {}}
    save_objects(tree, tmp_path)
    back = load_objects(tree, tmp_path)
    assert back["a"][1] == (1, None, "x")
    assert back["a"][0].dtype == torch.bfloat16
    assert torch.equal(back[3]["b"], torch.arange(3))
    assert back["empty"] == {}


def test_trees_of_one_path_are_kept_apart(tmp_path):
    tree = {"a/b": torch.ones(1), "a": {"b": torch.zeros(1)}, 1: torch.ones(2), "1": torch.zeros(2)}
    save_objects(tree, tmp_path)
    back = load_objects(tree, tmp_path)
    assert back["a/b"] == 1
    assert back["a"]["b"] == 0
    assert back[1].all()
    assert not back["1"].any()


def test_a_schedule_that_holds_infinity_comes_back(tmp_path):
    optimiser = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser)
    assert schedule.best == float("inf")
    save_objects({"schedule": schedule}, tmp_path)
    schedule.best = 1.0
    load_objects({"schedule": schedule}, tmp_path)
    assert schedule.best == float("inf")


def test_half_precision_metrics_reach_the_host():
    host = to_host({"loss": torch.tensor([1.5, 2.5], dtype=torch.bfloat16)})
    assert host["loss"].tolist() == [1.5, 2.5]


def test_another_shape_is_refused_and_changes_nothing(tmp_path):
    first, other = make(SineConfig()).init(0), make(SineConfig(width=9)).init(0)
    save_objects(vars(first), tmp_path)
    before = {name: value.clone() for name, value in other.network.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"network/0.weight has shape \[8, 1\], not \[9, 1\]"):
        load_objects(vars(other), tmp_path)
    assert all(torch.equal(before[name], value) for name, value in other.network.state_dict().items())
    with pytest.raises(CheckpointError, match="holds the parts"):
        load_objects({"network": first.network}, tmp_path)


def test_what_is_no_data_is_refused(tmp_path):
    from paperloop import UserError

    with pytest.raises(UserError, match="/hook is a function"):
        save_objects({"hook": make}, tmp_path)
