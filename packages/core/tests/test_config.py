"""Configurations to JSON and back, their hash, and the layers of the command line."""

import dataclasses
import enum
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paperloop.arguments import parse_arguments, parse_config
from paperloop.config import (
    config_document,
    config_hash,
    field_paths,
    from_dict,
    load_config,
    replace_in,
    save_config,
    to_dict,
)
from paperloop.errors import UserError


class Mode(enum.Enum):
    FAST = 1
    EXACT = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class PPO:
    """PPO."""

    lr: float = 1e-4
    epochs: int = 5

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"ppo.lr is {self.lr}; it must be positive.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ES:
    """Evolution strategies."""

    sigma: float = 0.1
    inner: PPO | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer:
    width: int = 64
    name: str = "dense"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """A configuration with every kind of field."""

    ppo: PPO = PPO()
    method: Literal["dr", "plr"] = "dr"
    learner: PPO | ES = PPO()
    probe: PPO | None = None
    layers: tuple[Layer, ...] = (Layer(), Layer(width=32))
    sizes: tuple[int, ...] = (64, 64)
    pair: tuple[float, str] = (0.5, "x")
    limit: int | float = 1
    note: str | None = None
    data: Path = Path("data")
    mode: Mode = Mode.FAST
    anneal: Annotated[bool, "a note"] = True
    n_envs: int = 32

    @property
    def batch(self) -> int:
        return self.n_envs * 2


def test_json_is_what_a_reader_expects():
    assert to_dict(Train(learner=ES(), probe=PPO(lr=1), mode=Mode.EXACT)) == {
        "ppo": {"lr": 1e-4, "epochs": 5},
        "method": "dr",
        "learner": {"type": "ES", "sigma": 0.1, "inner": None},
        "probe": {"lr": 1.0, "epochs": 5},
        "layers": [{"width": 64, "name": "dense"}, {"width": 32, "name": "dense"}],
        "sizes": [64, 64],
        "pair": [0.5, "x"],
        "limit": 1,
        "note": None,
        "data": "data",
        "mode": "EXACT",
        "anneal": True,
        "n_envs": 32,
    }


finite = st.floats(allow_nan=False, allow_infinity=False)
ppo = st.builds(PPO, lr=st.floats(min_value=1e-12, max_value=1e12), epochs=st.integers(-(2**63), 2**63))
train = st.builds(
    Train,
    ppo=ppo,
    method=st.sampled_from(["dr", "plr"]),
    learner=ppo | st.builds(ES, sigma=finite, inner=st.none() | ppo),
    probe=st.none() | ppo,
    layers=st.lists(st.builds(Layer, width=st.integers(), name=st.text()), max_size=3).map(tuple),
    sizes=st.lists(st.integers(), max_size=4).map(tuple),
    pair=st.tuples(finite, st.text()),
    limit=st.integers() | finite,
    note=st.none() | st.text(),
    mode=st.sampled_from(Mode),
    anneal=st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(train)
def test_round_trip(config):
    again = from_dict(Train, json.loads(json.dumps(to_dict(config))))
    assert again == config
    assert config_hash(again) == config_hash(config)
    assert type(again.limit) is type(config.limit)


@settings(deadline=None, max_examples=60)
@given(train, train)
def test_equal_hash_only_for_equal_configurations(a, b):
    # 1 and 1.0 in `limit: int | float` compare equal and are written differently; nothing else may differ.
    if config_hash(a) == config_hash(b):
        assert a == b
    elif a == b:
        assert type(a.limit) is not type(b.limit)


def test_an_int_in_a_float_field_and_numpy_numbers_hash_like_pythons():
    plain = Train(ppo=PPO(lr=2.0, epochs=3))
    assert config_hash(Train(ppo=PPO(lr=2, epochs=np.int64(3)))) == config_hash(plain)
    assert config_hash(Train(ppo=PPO(lr=np.float32(2), epochs=np.int32(3)))) == config_hash(plain)
    assert config_hash(Train(pair=(-0.0, "x"))) == config_hash(Train(pair=(0.0, "x")))


def test_hash_is_stable():
    # A literal: the ids of existing sweeps depend on it. sha256 of '["test_config","PPO"]...' cannot be used directly,
    # as the module's name depends on how the tests are collected; Layer's module is set here.
    cls = dataclasses.make_dataclass("Frozen", [("lr", float, 0.5), ("n", int, 3)], frozen=True, kw_only=True)
    cls.__module__ = "package.config"
    import hashlib

    expected = hashlib.sha256(b'[["package","Frozen"],{"lr":0.5,"n":3}]').hexdigest()[:12]
    assert config_hash(cls()) == expected
    cls.__module__ = "package.elsewhere"
    assert config_hash(cls()) == expected
    cls.__module__ = "other.config"
    assert config_hash(cls()) != expected


def test_missing_keys_take_defaults_or_the_base():
    assert from_dict(Train, {}) == Train()
    assert from_dict(Train, {"ppo": {"lr": 1}}).ppo == PPO(lr=1.0, epochs=5)
    base = Train(ppo=PPO(epochs=9), n_envs=7, layers=(Layer(name="a"), Layer(name="b")))
    merged = from_dict(Train, {"ppo": {"lr": 1}, "layers": [{"width": 1}, {"width": 2}]}, base=base)
    assert merged == dataclasses.replace(
        base, ppo=PPO(lr=1.0, epochs=9), layers=(Layer(width=1, name="a"), Layer(width=2, name="b"))
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"n_env": 3}, ["config.json", '"n_env"', 'did you mean "n_envs"']),
        ({"ppo": {"lrr": 3}}, ['"ppo.lrr"', 'did you mean "ppo.lr"']),
        ({"ppo": {"lr": "fast"}}, ["ppo.lr must be float", "'fast'"]),
        ({"ppo": {"lr": True}}, ["ppo.lr must be float", "bool True"]),
        ({"ppo": {"epochs": 1.5}}, ["ppo.epochs must be int", "1.5"]),
        ({"ppo": {"epochs": True}}, ["ppo.epochs must be int"]),
        ({"ppo": {"lr": None}}, ["ppo.lr must be float", "null"]),
        ({"ppo": {"lr": 2**53 + 1}}, ["ppo.lr must be float"]),
        ({"ppo": {"lr": 10**400}}, ["ppo.lr must be float"]),
        ({"ppo": {"lr": math.nan}}, ["ppo.lr", "finite"]),
        ({"ppo": {"lr": math.inf}}, ["ppo.lr", "finite"]),
        ({"ppo": {"lr": -1}}, ["config.json", "ppo.lr is -1.0", "positive"]),
        ({"ppo": 3}, ["ppo must be an object (PPO)"]),
        ({"method": "prl"}, ['method must be "dr" or "plr"', "'prl'"]),
        ({"anneal": 1}, ["anneal must be bool"]),
        ({"sizes": 3}, ["sizes must be a list of int"]),
        ({"sizes": [1, "a"]}, ["sizes.1 must be int"]),
        ({"pair": [1.0]}, ["pair must be a list of 2"]),
        ({"layers": [{}, {"widht": 3}]}, ['"layers.1.widht"', '"layers.1.width"']),
        ({"learner": {"sigma": 1}}, ['learner needs a "type"', "PPO, ES"]),
        ({"learner": {"type": "EES"}}, ['"EES"', '"ES"']),
        ({"learner": {"type": "ES", "lr": 1}}, ['"learner.lr"']),
        ({"mode": "SLOW"}, ['mode must be "FAST" or "EXACT"']),
        ({"note": 3}, ["note must be str or null"]),
        ([], ["must be an object (Train)"]),
        (None, ["must be an object (Train)", "null"]),
    ],
)
def test_refusals_name_the_path(data, words):
    with pytest.raises(UserError) as caught:
        from_dict(Train, data)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whole_floats_are_taken_for_ints():
    value = from_dict(Train, {"n_envs": 1e6}).n_envs
    assert value == 1_000_000
    assert type(value) is int
    assert type(from_dict(Train, {"ppo": {"lr": 1}}).ppo.lr) is float


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (Train(ppo=PPO(lr=math.nan)), "ppo.lr is nan"),
        (Train(pair=(math.inf, "x")), "pair.0 is inf"),
        (Train(n_envs="3"), "n_envs must be int"),  # ty: ignore[invalid-argument-type]
        (Train(layers=(PPO(),)), "layers.0 must be an object (Layer)"),  # ty: ignore[invalid-argument-type]
        (Train(ppo=ES()), "ppo must be an object (PPO)"),  # ty: ignore[invalid-argument-type]
    ],
)
def test_what_is_no_json_is_refused_when_written(config, word, tmp_path):
    with pytest.raises(UserError, match=word.replace("(", r"\(").replace(")", r"\)")):
        save_config(config, tmp_path / "config.json")
    assert not list(tmp_path.iterdir())


def test_fields_that_json_cannot_hold_are_the_developers_error():
    cls = dataclasses.make_dataclass("Bad", [("x", dict, dataclasses.field(default_factory=dict))], frozen=True)
    with pytest.raises(TypeError, match="cannot hold"):
        from_dict(cls, {"x": 3})
    with pytest.raises(TypeError):
        to_dict({"x": 3})


def test_save_and_load(tmp_path):
    config = Train(ppo=PPO(lr=3e-4), learner=ES(inner=PPO()))
    save_config(config, tmp_path / "config.json", schema=4)
    document = json.loads((tmp_path / "config.json").read_text())
    assert document == config_document(config, 4)
    assert document["type"].endswith(".Train")
    assert load_config(Train, tmp_path / "config.json", 4) == config
    assert load_config(Train, tmp_path, 4) == config, "a run folder is accepted too"
    with pytest.raises(UserError, match=r"has schema 4, and Train of this version has schema 5"):
        load_config(Train, tmp_path, 5)
    with pytest.raises(UserError, match=r"of type .*\.Train, and .*\.PPO is expected"):
        load_config(PPO, tmp_path, 4)
    with pytest.raises(UserError, match="does not exist"):
        load_config(Train, tmp_path / "absent.json")


def test_a_folder_whose_configuration_has_another_name(tmp_path):
    config = Train(ppo=PPO(lr=3e-4))
    with pytest.raises(UserError, match=r"is no run folder \(no config.json\): give the file of a saved Train"):
        load_config(Train, tmp_path)
    (tmp_path / "damaged.json").write_text("{")
    (tmp_path / "report.json").write_text(json.dumps({"config": config_document(config)}))
    save_config(PPO(), tmp_path / "other.json")
    save_config(config, tmp_path / "train.json")
    assert load_config(Train, tmp_path) == config
    save_config(config, tmp_path / "again.json")
    with pytest.raises(UserError, match=r"holds several: again.json, train.json"):
        load_config(Train, tmp_path)
    save_config(Train(), tmp_path / "config.json")
    assert load_config(Train, tmp_path) == Train()


def test_a_file_of_bytes_is_no_json(tmp_path):
    (tmp_path / "data.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UserError, match=r"data.hdf5 is not a JSON file: it does not hold text.$"):
        load_config(Train, tmp_path / "data.hdf5")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "cannot be read as JSON"),
        ('{"schema": 1', "cannot be read as JSON"),
        ("[]", "instead of a JSON object"),
        ('{"ppo": {}}', 'no "schema"'),
        ('{"schema": 1, "type": "x.Train", "config": {"ppo": {"lr": NaN}}}', "NaN"),
        ('{"schema": 1, "schema": 2}', '"schema" is there twice'),
        ('{"schema": 1, "config": {}}', "of type None"),
        ('{"schema": 1e999}', "too large"),
        ('{"schema": "a"}', 'schema "a"'),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, word):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(Train, tmp_path / "c.json")
    assert word in str(caught.value)
    assert "c.json" in str(caught.value)


def test_replace_in():
    config = Train()
    changed = replace_in(
        config,
        {
            "ppo.lr": 1,
            "layers.1.width": 5,
            "sizes": (1, 2, 3),
            "learner": ES(sigma=2),
            "probe": PPO(),
            "data": Path("x"),
        },
    )
    assert changed == Train(
        ppo=PPO(lr=1.0),
        layers=(Layer(), Layer(width=5)),
        sizes=(1, 2, 3),
        learner=ES(sigma=2),
        probe=PPO(),
        data=Path("x"),
    )
    assert config == Train()
    for path, word in [
        ("ppo.lrr", '"ppo.lr"'),
        ("pp.lr", '"ppo.lr"'),
        ("layers.7.width", '"layers.1.width"'),
        ("probe.lr", "probe"),
        ("ppo.lr.x", '"ppo.lr"'),
        ("layers.-1.width", '"layers.'),
    ]:
        with pytest.raises(UserError) as caught:
            replace_in(config, {path: 1})
        assert path in str(caught.value)
        assert word in str(caught.value)
    with pytest.raises(UserError, match=r"ppo\.lr is -1\.0"):
        replace_in(config, {"ppo.lr": -1})


def test_changes_are_checked_together():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Pair:
        low: int = 1
        high: int = 2

        def __post_init__(self) -> None:
            if self.low >= self.high:
                raise UserError(f"low is {self.low}; it must be below high, {self.high}.")

    assert replace_in(Pair(), {"low": 5, "high": 6}) == Pair(low=5, high=6)


def test_field_paths():
    paths = field_paths(Train())
    assert paths[:3] == ["ppo", "ppo.lr", "ppo.epochs"]
    assert "layers.1.width" in paths
    assert "sizes.0" not in paths


PRESETS = {"small": Train(n_envs=8, method="plr"), "es": Train(learner=ES(), ppo=PPO(lr=7.0))}


def parse(*argv: str) -> Train:
    return parse_config(Train, PRESETS, argv, "x train", "Trains.")


def test_layers_override_one_another(tmp_path):
    assert parse() == Train()
    assert parse("--preset", "small") == PRESETS["small"]
    (tmp_path / "part.json").write_text('{"ppo": {"lr": 0.5}, "method": "dr"}')
    file = f"--config={tmp_path / 'part.json'}"
    assert parse("--preset", "small", file) == Train(n_envs=8, method="dr", ppo=PPO(lr=0.5))
    assert parse(file, "--ppo.lr", "0.25", "--preset=small", "--sizes", "1", "2").ppo.lr == 0.25
    save_config(Train(n_envs=3), tmp_path / "config.json")
    assert parse("--preset", "small", "--config", str(tmp_path), "--no-anneal") == Train(n_envs=3, anneal=False)


def test_command_line_values():
    config = parse("--n_envs", "6e3", "--ppo.epochs=1_000", "--layers.1.width", "5", "--note", "hi", "--mode", "EXACT")
    assert config.n_envs == 6000
    assert config.ppo.epochs == 1000
    assert config.layers == (Layer(), Layer(width=5))
    assert config.note == "hi"
    assert config.mode is Mode.EXACT
    assert parse("--pair", "1", "y").pair == (1.0, "y")


def test_a_union_of_dataclasses_is_chosen_by_type():
    assert parse("--learner.type", "ES", "--learner.sigma", "2").learner == ES(sigma=2.0)
    assert parse("--learner.type=ES", "--learner.inner.type=PPO", "--learner.inner.lr=3").learner == ES(
        inner=PPO(lr=3.0)
    )
    assert parse("--preset", "es", "--learner.sigma", "3").learner == ES(sigma=3.0)
    assert parse("--probe.type", "PPO").probe == PPO()
    with pytest.raises(UserError, match='did you mean "ES"'):
        parse("--learner.type", "EES")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--ppo.lrr", "3"], ['"--ppo.lrr"', 'did you mean "--ppo.lr"', "x train --help"]),
        (["--n-env=3"], ['"--n-env"', '"--n-envs"']),
        (["--no-aneal"], ['"--no-anneal"']),
        (["--preset", "smal"], ['"smal"', '"small"']),
        (["--preset"], ["--preset needs a value"]),
        (["--preset", "es", "--preset", "small"], ["twice"]),
        (["--config", "absent.json"], ["absent.json does not exist"]),
        (["--n-envs", "3.5"], ["n-envs", '"3.5"', "whole"]),
        (["--n-envs", "many"], ["n-envs", '"many"']),
        (["--method", "prl"], ["prl", "dr", "plr"]),
        (["--ppo.lr", "nan"], ["ppo.lr is nan"]),
        (["--ppo.lr", "-1"], ["ppo.lr is -1.0"]),
        (["stray"], ["stray"]),
    ],
)
def test_bad_arguments(argv, words):
    with pytest.raises(UserError) as caught:
        parse(*argv)
    for word in words:
        assert word in str(caught.value)
    assert "│" not in str(caught.value)


def test_help_lists_presets_and_choices(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_config(Train, PRESETS, ["--help"], "x train", "Trains.", preset_help={"small": "A small one."})
    assert not stop.value.code
    text = capsys.readouterr().out
    assert "A small one." in text
    assert "learner.type=ES" in text or "learner" in text.split("  es ")[1].splitlines()[0]
    assert "--learner.type" in text
    assert "--config" in text


def test_options_beside_the_configuration():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Options:
        out: Path
        seed: int = 0

    def run(*argv: str) -> tuple[Any, Any]:
        return parse_arguments(argv, prog="x", description="", options=Options, config=Train, presets=PRESETS)

    assert run("--out", "a", "--n-envs", "2", "--seed", "3") == (Options(out=Path("a"), seed=3), Train(n_envs=2))
    with pytest.raises(UserError, match="--out"):
        run()
    clash = dataclasses.make_dataclass("Clash", [("n_envs", int, 3)], frozen=True)
    with pytest.raises(TypeError, match="n_envs"):
        parse_arguments([], prog="x", description="", options=clash, config=Train)


def test_a_configuration_without_defaults_is_asked_for():
    cls = dataclasses.make_dataclass("Needs", [("n", int), ("lr", float, 0.5)], frozen=True, kw_only=True)
    assert parse_config(cls, {}, ["--n", "3"], "x", "") == cls(n=3)
    with pytest.raises(UserError, match="--n"):
        parse_config(cls, {}, [], "x", "")
    with pytest.raises(UserError, match='key "n" is missing'):
        from_dict(cls, {})
