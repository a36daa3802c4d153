"""Messages in the words of the command line: what is renamed, and above all what is not."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from paperloop.checks import ONE_OR_MORE, POSITIVE, check
from paperloop.command import App
from paperloop.errors import UserError
from paperloop.option_names import OptionNames, in_option_names, option_names


@dataclasses.dataclass(frozen=True)
class Adam:
    lr: float = 0.1
    decay_steps: int = 0

    def __post_init__(self):
        check(self, lr=POSITIVE)


@dataclasses.dataclass(frozen=True)
class Reading:
    drop_nonfinite: bool | None = None
    actions: Literal["env", "canonical"] | None = None
    observation_keys: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Replay:
    decay_steps: int = 10


@dataclasses.dataclass(frozen=True)
class Config:
    adam: Adam = Adam()
    loading: Reading = Reading()
    replay: Replay = Replay()
    updates: int = 3
    layer_norm: bool = False
    agents: Annotated[tuple[int, ...], tyro.conf.Suppress] = ()

    def __post_init__(self):
        check(self, updates=ONE_OR_MORE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    run_dir: Annotated[Path, tyro.conf.Positional] = Path()
    log_every: int | None = None


NAMES = OptionNames.of(Options(), Config())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Config.updates is -5; it must be 1.", "--updates is -5; it must be 1."),
        ("Adam.lr is 0; raise it.", "--adam.lr is 0; raise it."),
        ("Replay.decay_steps and adam.decay_steps", "--replay.decay-steps and --adam.decay-steps"),
        ("load it with drop_nonfinite=True to", "load it with --loading.drop-nonfinite True to"),
        ("load them with actions='canonical'.", "load them with --loading.actions canonical."),
        ("such as observation_keys=('a', 'b').", "such as --loading.observation-keys a b."),
        ("set layer_norm=True, or layer_norm=False.", "set --layer-norm, or --no-layer-norm."),
        ("Config: layer_norm needs log_every = 2.", "--layer-norm needs --log-every = 2."),
        ("log_every=100.", "--log-every 100."),
        ("x.hdf5: lr=0.1, or layer_norm=True; mend it.", "x.hdf5: --adam.lr 0.1, or --layer-norm; mend it."),
        ("runs/x differs in log_every.", "runs/x differs in --log-every."),
    ],
)
def test_fields_are_named_as_options(text, expected):
    assert NAMES.say(text) == expected
    assert NAMES.say(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "decay_steps is 3",  # of which?
        "the actions and updates are words",
        "run_dir is no option but a place, and agents=3 cannot be given",
        "data/log_every.npz, log_every.npz, x-log_every and 'log_every' are other names",
        "use --log-every 3, --adam.lr 3 or --loading.actions=env",
        "call log_every(3) of Trainer.updates, or Adam.momentum",
        "unknown=3",
        "updates=3.hdf5: there is no such file",
        "There is no dataset at updates=3.hdf5; check --data.",
        "updates=3,lr=0.1.hdf5 and 'updates=3 lr=0.1.npz' are files",
        "data/updates=3,lr=0.1: there is no such folder",
        "updates=3+lr=1/x is a path, and so is updates=3,lr=1/x",
        "updates=3-a.b.hdf5.",
        "x.hdf5: log_every is an array of its own, and Adam.lr an attribute",
        "x.jsonl, line 3: log_every is no number",
        "data/x: log_every is missing",
    ],
)
def test_what_is_not_clearly_an_option_stays(text):
    assert NAMES.say(text) == text


def test_classes_stand_where_there_is_no_instance():
    assert OptionNames.of(Options, Config).say("Adam.lr is 0") == "--adam.lr is 0"
    assert OptionNames.of(None, None).say("Adam.lr is 0") == "Adam.lr is 0"


def test_names_hold_inside_the_block_only():
    with option_names(NAMES):
        assert in_option_names("log_every=1") == "--log-every 1"
    assert in_option_names("log_every=1") == "log_every=1"


@pytest.fixture
def app():
    app = App("method", "Does it.", distribution="paperloop")

    @app.command(options=Options, config=Config)
    def train(options, config):
        """Train."""
        app.seen = config
        print(in_option_names("note: drop_nonfinite=True"))
        raise UserError("x.hdf5: load it with drop_nonfinite=True.")

    return app


def test_a_command_names_its_options(app, capsys, tmp_path):
    assert app.main(["train", "--adam.lr", "-1"]) == 2
    assert capsys.readouterr().err.startswith("error: --adam.lr is -1.0; it must be")
    assert app.main(["train"]) == 2
    out, err = capsys.readouterr()
    assert out == "note: --loading.drop-nonfinite True\n"
    assert err == "error: x.hdf5: load it with --loading.drop-nonfinite True.\n"
    (tmp_path / "c.json").write_text('{"updates": 0}')
    assert app.main(["train", "--config", str(tmp_path / "c.json")]) == 2
    assert "c.json: Config.updates is 0" in capsys.readouterr().err  # nobody typed an option


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--loading.drop-nonfinite"], True),
        (["--loading.drop_nonfinite", "--updates", "4"], True),
        (["--loading.no-drop-nonfinite"], False),
        (["--loading.drop-nonfinite", "False"], False),
        (["--loading.drop-nonfinite=True"], True),
        (["--loading.drop-nonfinite", "None"], None),
        ([], None),
    ],
)
def test_a_flag_that_may_be_none_is_a_flag(app, argv, value):
    app.main(["train", *argv])
    assert app.seen.loading.drop_nonfinite is value


def test_help_shows_types_plainly(app, capsys):
    assert app.main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--log-every INT" in text
    assert "--loading.actions {env,canonical}" in text
    assert "--loading.drop-nonfinite {True,False}" in text
    assert "--loading.observation-keys [STR ...]" in text
    assert "(default: empty)" in text
    app.main(["train", "--log-every", "None", "--loading.actions", "None", "--loading.observation-keys", "a", "b"])
    assert app.seen.loading == Reading(observation_keys=("a", "b"))
