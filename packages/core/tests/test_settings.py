"""Settings: what they take, what they refuse and in which words, and their round trip through JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import Field

from paperloop.errors import UserError, printable, setting
from paperloop.settings import (
    Count,
    Ge,
    Gt,
    Le,
    Lt,
    Note,
    Positive,
    Seed,
    SettingsError,
    Share,
    config_document,
    config_hash,
    did_you_mean,
    fault,
    from_dict,
    load_config,
    merge,
    nearest,
    parse_json,
    read_document,
    read_json,
    replace_in,
    save_config,
    settings,
    to_dict,
    validate,
)


@settings
class Layer:
    width: int = 64
    name: str = "dense"


@settings
class S5:
    state: Count = 4
    blocks: Count = 2

    def __post_init__(self) -> None:
        if self.state % (2 * self.blocks):
            raise fault(self, "state", f"a multiple of 2 x {{blocks}} = {2 * self.blocks}")


@settings
class PPO:
    """PPO."""

    type: Literal["ppo"] = "ppo"
    lr: Positive = 1e-4
    epochs: Annotated[int, Ge(1), Le(100)] = 5
    clip: Positive | None = 0.2
    s5: S5 = S5()


@settings
class ES:
    """Evolution strategies."""

    type: Literal["es"] = "es"
    sigma: float = 0.1
    low: float = 0.0
    high: float = 1.0
    inner: PPO | None = None

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise UserError(f"low is {self.low:g}, above high = {self.high:g}.")


Learner = Annotated[PPO | ES, Field(discriminator="type")]


@dataclasses.dataclass(frozen=True)
class Ordinary:
    n: int = 1
    inner: Layer = dataclasses.field(default_factory=Layer)


@settings
class Train:
    """A configuration with every kind of field."""

    ppo: PPO = PPO()
    method: Literal["dr", "plr"] = "dr"
    learner: Learner = PPO()
    probe: PPO | None = None
    other: Learner | None = None
    layers: tuple[Layer, ...] = (Layer(), Layer(width=32))
    sizes: tuple[Count, ...] = (64, 64)
    pair: tuple[float, str] = (0.5, "x")
    limit: int | float = 1
    note: str | None = None
    data: Path = Path("data")
    anneal: bool = True
    maybe: bool | None = None
    success: Annotated[float, Ge(0), Lt(1), Note("no episode lasts longer than T")] = 0.95
    n_envs: int = 32
    tags: tuple[str, ...] = dataclasses.field(default_factory=tuple)

    @property
    def batch(self) -> int:
        return self.n_envs * 2


def refusal(function) -> str:
    with pytest.raises(SettingsError) as caught:
        function()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# In Python


def test_numbers_of_numpy_and_lists_are_taken():
    config = Train(n_envs=np.int64(7), limit=np.float32(0.5), sizes=[1, np.int32(2)], success=np.float64(0.5), data="x")
    assert (config.n_envs, config.limit, config.sizes, config.success, config.data) == (7, 0.5, (1, 2), 0.5, Path("x"))
    assert [type(v) for v in (config.n_envs, config.limit, config.sizes[1])] == [int, float, int]
    assert Train(n_envs=6e5).n_envs == 600_000
    assert type(Train(n_envs=6e5).n_envs) is int
    assert type(PPO(lr=1).lr) is float
    assert type(Train(limit=1).limit) is int
    assert type(Train(limit=1.0).limit) is float
    assert Train(anneal=np.bool_(False)).anneal is False


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (PPO, {"lr": -1}, "PPO.lr is -1; it must be above 0."),
        (PPO, {"lr": math.nan}, "PPO.lr is nan; it must be a number above 0."),
        (PPO, {"lr": math.inf}, "PPO.lr is inf; it must be a number above 0."),
        (PPO, {"lr": True}, "PPO.lr is True; it must be a number above 0."),
        (PPO, {"lr": "fast"}, "PPO.lr is 'fast'; it must be a number above 0."),
        (PPO, {"lr": None}, "PPO.lr is None; it must be a number above 0."),
        (PPO, {"clip": 0}, "PPO.clip is 0; it must be above 0, or None."),
        (PPO, {"epochs": 0}, "PPO.epochs is 0; it must be from 1 to 100."),
        (PPO, {"epochs": 1.5}, "PPO.epochs is 1.5; it must be an integer from 1 to 100."),
        (PPO, {"epochs": np.bool_(True)}, "PPO.epochs is True; it must be an integer from 1 to 100."),
        (PPO, {"type": "es"}, "PPO.type is 'es'; it must be 'ppo'."),
        (PPO, {"lrr": 3}, 'there is no setting "lrr"; did you mean "lr"?'),
        (PPO, {"s5": Layer()}, "PPO.s5 is Layer(width=64, name='dense'); it must be a S5."),
        (
            Train,
            {"success": 1},
            "Train.success is 1; it must be at least 0 and below 1 (no episode lasts longer than T).",
        ),
        (Train, {"method": "prl"}, "Train.method is 'prl'; it must be one of 'dr', 'plr'."),
        (Train, {"sizes": (64, 0)}, "Train.sizes is (64, 0); it must be a list of integers of at least 1."),
        (Train, {"sizes": 3}, "Train.sizes is 3; it must be a list of integers of at least 1."),
        (Train, {"pair": (1.0,)}, "Train.pair is (1.0,); it must be a list of 2: a finite number; text."),
        (Train, {"anneal": 1}, "Train.anneal is 1; it must be True or False."),
        (Train, {"maybe": "x"}, "Train.maybe is 'x'; it must be True or False, or None."),
        (Train, {"data": 3}, "Train.data is 3; it must be a path."),
        (Train, {"note": 3}, "Train.note is 3; it must be text, or None."),
        (Train, {"limit": "a"}, "Train.limit is 'a'; it must be a finite number."),
        (Train, {"n_envs": 1, "limit": math.nan}, "Train.limit is nan; it must be a finite number."),
        (S5, {"state": 7}, "S5.state is 7; it must be a multiple of 2 x S5.blocks = 4."),
        (ES, {"low": 3}, "low is 3, above high = 1."),
    ],
)
def test_refusals_in_python(cls, values, message):
    with pytest.raises(UserError) as caught:
        cls(**values)
    assert str(caught.value) == message


def test_several_problems_are_all_known():
    with pytest.raises(SettingsError) as caught:
        PPO(lr=-1, epochs=0, foo=3)
    assert [(p.path, p.value, p.kind) for p in caught.value.problems] == [
        (("lr",), -1, "value"), (("epochs",), 0, "value"), (("foo",), None, "unknown"),
    ]  # fmt: skip


def test_replace_checks_and_equal_settings_are_one_key():
    config = dataclasses.replace(Train(), n_envs=np.int64(3), learner=ES())
    assert (config.n_envs, config.learner) == (3, ES())
    assert refusal(lambda: dataclasses.replace(PPO(), lr=0)) == "PPO.lr is 0; it must be above 0."
    assert {Train(sizes=[1]): "a"}[Train(sizes=(1,))] == "a"
    assert PPO(lr=1) == PPO(lr=1.0)
    assert hash(PPO(lr=1)) == hash(PPO(lr=1.0))
    assert PPO() != PPO(lr=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Train().n_envs = 3  # ty: ignore[invalid-assignment]
    with pytest.raises(TypeError):
        PPO(1e-3)  # ty: ignore
    assert Train(n_envs=4).batch == 8


def test_defaults_have_their_fields_type():
    @settings
    class Whole:
        lr: float = 1
        seed: Seed = 0

    assert type(Whole().lr) is float
    assert config_hash(Whole()) == config_hash(Whole(lr=1.0))
    assert refusal(lambda: Whole(seed=-1)) == "Whole.seed is -1; it must be from 0 to 9223372036854775807."


def test_a_field_without_default():
    @settings
    class Needs:
        n: int
        lr: float = 0.5

    assert refusal(lambda: Needs()) == "Needs.n is required."
    assert refusal(lambda: from_dict(Needs, {})) == 'config.json: the key "n" is missing.'
    assert from_dict(Needs, {"n": 3}) == Needs(n=3)


def test_subclasses_keep_the_rules():
    @settings
    class Wide(S5):
        width: Count = 3

    assert refusal(lambda: Wide(state=7)) == "Wide.state is 7; it must be a multiple of 2 x Wide.blocks = 4."
    assert refusal(lambda: Wide(width=0)) == "Wide.width is 0; it must be at least 1."


def test_a_fault_can_be_a_sentence_and_lie_deeper():
    @settings
    class Run:
        steps: int = 3
        s5: S5 = S5()

        def __post_init__(self) -> None:
            if self.steps < self.s5.state:
                raise fault(self, "s5.state", text=f"{{steps}} is {self.steps}, below {{s5.state}}: raise {{steps}}.")

    assert refusal(lambda: Run(steps=1)) == "Run.steps is 1, below Run.s5.state: raise Run.steps."
    assert refusal(lambda: from_dict(Run, {"steps": 1}, where="f")) == "f: steps is 1, below s5.state: raise steps."


# JSON


def test_json_is_what_a_reader_expects():
    config = Train(learner=ES(), probe=PPO(lr=1), layers=(Layer(),))
    ppo = {"type": "ppo", "lr": 1e-4, "epochs": 5, "clip": 0.2, "s5": {"state": 4, "blocks": 2}}
    assert to_dict(config) == {
        "ppo": ppo,
        "method": "dr",
        "learner": {"type": "es", "sigma": 0.1, "low": 0.0, "high": 1.0, "inner": None},
        "probe": {**ppo, "lr": 1.0},
        "other": None,
        "layers": [{"width": 64, "name": "dense"}],
        "sizes": [64, 64],
        "pair": [0.5, "x"],
        "limit": 1,
        "note": None,
        "data": "data",
        "anneal": True,
        "maybe": None,
        "success": 0.95,
        "n_envs": 32,
        "tags": [],
    }


finite = st.floats(allow_nan=False, allow_infinity=False)
ppo = st.builds(PPO, lr=st.floats(min_value=1e-12, max_value=1e12), epochs=st.integers(1, 100), clip=st.none())
learner = ppo | st.builds(ES, sigma=finite, inner=st.none() | ppo)
train = st.builds(
    Train,
    ppo=ppo,
    method=st.sampled_from(["dr", "plr"]),
    learner=learner,
    probe=st.none() | ppo,
    other=st.none() | learner,
    layers=st.lists(st.builds(Layer, width=st.integers(), name=st.text()), max_size=3).map(tuple),
    sizes=st.lists(st.integers(1, 2**70), max_size=4).map(tuple),
    pair=st.tuples(finite, st.text()),
    limit=st.integers() | finite,
    note=st.none() | st.text(),
    anneal=st.booleans(),
    maybe=st.none() | st.booleans(),
)


@hypothesis_settings(deadline=None, max_examples=20)
@given(train)
def test_round_trip(config):
    again = from_dict(Train, json.loads(json.dumps(to_dict(config))))
    assert again == config
    assert config_hash(again) == config_hash(config)
    assert type(again.limit) is type(config.limit)


@hypothesis_settings(deadline=None, max_examples=20)
@given(train, train)
def test_equal_hash_only_for_equal_settings(a, b):
    # 1 and 1.0 in `limit: int | float` compare equal and are written differently; nothing else may differ.
    if config_hash(a) == config_hash(b):
        assert a == b
    elif a == b:
        assert type(a.limit) is not type(b.limit)


def test_hash_is_stable():
    @settings
    class Frozen:
        lr: float = 0.5
        n: int = 3

    Frozen.__module__ = "package.config"
    expected = hashlib.sha256(b'[["package","Frozen"],{"lr":0.5,"n":3}]').hexdigest()[:12]
    assert config_hash(Frozen()) == expected
    Frozen.__module__ = "package.elsewhere"
    assert config_hash(Frozen()) == expected
    Frozen.__module__ = "other.config"
    assert config_hash(Frozen()) != expected
    assert config_hash(Train(pair=(-0.0, "x"))) == config_hash(Train(pair=(0.0, "x")))


def test_missing_keys_take_the_defaults_of_their_holder_or_the_base():
    @settings
    class Holder:
        ppo: PPO = PPO(lr=7.0, epochs=7)
        learner: Learner = PPO(lr=7.0)

    assert from_dict(Train, {}) == Train()
    assert from_dict(Holder, {"ppo": {"lr": 1}}).ppo == PPO(lr=1.0, epochs=7)
    assert from_dict(Holder, {"learner": {"epochs": 2}}).learner == PPO(lr=7.0, epochs=2)
    assert from_dict(Holder, {"learner": {"type": "es"}}).learner == ES()
    base = Train(ppo=PPO(epochs=9), n_envs=7, learner=ES(sigma=9.0, inner=PPO(lr=9.0)))
    merged = validate(Train, merge(Train, to_dict(base), {"ppo": {"lr": 1}, "learner": {"inner": {"epochs": 2}}}))
    assert merged == dataclasses.replace(
        base, ppo=PPO(lr=1.0, epochs=9), learner=ES(sigma=9.0, inner=PPO(lr=9.0, epochs=2))
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"n_env": 3}, 'unknown key "n_env"; did you mean "n_envs"?'),
        ({"ppo": {"lrr": 3}}, 'unknown key "ppo.lrr"; did you mean "ppo.lr"?'),
        ({"ppo": {"lr": -1}}, "ppo.lr is -1; it must be above 0."),
        ({"ppo": {"lr": "fast"}}, 'ppo.lr is "fast"; it must be a number above 0.'),
        ({"ppo": {"epochs": 1.5}}, "ppo.epochs is 1.5; it must be an integer from 1 to 100."),
        ({"ppo": {"epochs": True}}, "ppo.epochs is true; it must be an integer from 1 to 100."),
        ({"ppo": {"lr": None}}, "ppo.lr is null; it must be a number above 0."),
        ({"ppo": {"clip": "x"}}, 'ppo.clip is "x"; it must be a number above 0, or None.'),
        ({"ppo": {"lr": 10**400}}, "ppo.lr is 1000000000000000000000000000000"),
        ({"ppo": {"lr": math.nan}}, "ppo.lr is nan; it must be a number above 0."),
        ({"ppo": 3}, "ppo is 3; it must be a PPO."),
        ({"ppo": {"s5": {"state": 7}}}, "ppo.s5.state is 7; it must be a multiple of 2 x ppo.s5.blocks = 4."),
        (
            {"learner": {"s5": {"state": 7}}},
            "learner.s5.state is 7; it must be a multiple of 2 x learner.s5.blocks = 4.",
        ),
        ({"learner": {"sigma": 1}}, 'unknown key "learner.sigma"; it belongs to learner.type es, and ppo is chosen.'),
        ({"learner": {"type": "es", "lr": 1}}, 'unknown key "learner.lr"; it belongs to learner.type ppo, and es is'),
        ({"learner": {"type": "es", "inner": {"lr": -1}}}, "learner.inner.lr is -1; it must be above 0."),
        ({"learner": {"type": "es", "low": 3}}, "low is 3, above high = 1."),
        ({"learner": {"type": ["es"]}}, "learner.type is [\"es\"]; it must be one of 'ppo', 'es'."),
        ({"learner": {"type": {}}}, "learner.type is {}; it must be one of 'ppo', 'es'."),
        ({"learner": 3}, "learner is 3; it must be a PPO, or a ES."),
        ({"data": ""}, 'data is ""; it must be a path.'),
        ({"data": "a\udcff"}, 'data is "a\\udcff"; it must be text in UTF-8.'),
        ({"note": "a\udcff"}, 'note is "a\\udcff"; it must be text in UTF-8.'),
        ({"learner": {"type": "ees"}}, "learner.type is \"ees\"; it must be one of 'ppo', 'es'."),
        ({"other": {"lr": 3}}, 'the key "other.type" is missing.'),
        ({"other": {"type": "ppo", "lr": -3}}, "other.lr is -3; it must be above 0."),
        ({"method": "prl"}, "method is \"prl\"; it must be one of 'dr', 'plr'."),
        ({"anneal": 1}, "anneal is 1; it must be True or False."),
        ({"sizes": 3}, "sizes is 3; it must be a list of integers of at least 1."),
        ({"sizes": [1, "a"]}, 'sizes is [1, "a"]; it must be a list of integers of at least 1.'),
        ({"layers": [{}, {"widht": 3}]}, 'unknown key "layers.1.widht"; did you mean "layers.1.width"?'),
        ({"layers": [{}, {"width": "x"}]}, 'layers.1.width is "x"; it must be an integer.'),
        ({"note": 3}, "note is 3; it must be text, or None."),
        ([], "the settings of Train must be an object, not []."),
        (None, "the settings of Train must be an object, not null."),
    ],
)
def test_refusals_of_files(data, message):
    with pytest.raises(UserError) as caught:
        from_dict(Train, data)
    assert str(caught.value).startswith(f"config.json: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"type": "ppo", "lr": -1}, "xs.1.lr is -1; it must be above 0."),
        ({"type": "ppo", "sigma": 1}, 'unknown key "xs.1.sigma"; it belongs to xs.1.type es, and ppo is chosen.'),
        ({"lr": 1}, 'the key "xs.1.type" is missing.'),
        ({"type": "q"}, "xs.1.type is \"q\"; it must be one of 'ppo', 'es'."),
        ({"type": "es", "inner": {"s5": {"state": 7}}}, "xs.1.inner.s5.state is 7; it must be a multiple of 2 x xs.1."),
        (3, 'xs is [{"type": "ppo"}, 3]; it must be a list of PPOs, or a ES.'),
    ],
)
def test_members_in_a_tuple(item, message):
    @settings
    class Several:
        xs: tuple[Learner, ...] = ()

    with pytest.raises(SettingsError) as caught:
        from_dict(Several, {"xs": [{"type": "ppo"}, item]})
    assert str(caught.value).startswith(f"config.json: {message}")


def test_whole_floats_are_integers():
    assert from_dict(Train, {"n_envs": 1e6}) == Train(n_envs=1_000_000)
    assert type(from_dict(Train, {"n_envs": 1e6}).n_envs) is int
    assert from_dict(Train, {"sizes": [2.0]}).sizes == (2,)
    assert type(from_dict(Train, {"ppo": {"lr": 1}}).ppo.lr) is float


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
    (tmp_path / "part.json").write_text('{"ppo": {"lr": 2}}')
    assert read_document(Train, tmp_path / "part.json", partial=True)[1] == {"ppo": {"lr": 2}}
    with pytest.raises(UserError, match="it is not a saved configuration"):
        load_config(Train, tmp_path / "part.json")


def test_a_folder_whose_configuration_has_another_name(tmp_path):
    config = Train(ppo=PPO(lr=3e-4))
    with pytest.raises(UserError, match=r"is not a run folder \(no config.json\): give the file of a saved Train"):
        load_config(Train, tmp_path)
    (tmp_path / "damaged.json").write_text("{")
    (tmp_path / "report.json").write_text(json.dumps({"config": config_document(config)}))
    save_config(PPO(), tmp_path / "other.json")
    save_config(config, tmp_path / "train.json")
    assert load_config(Train, tmp_path) == config
    save_config(config, tmp_path / "again.json")
    with pytest.raises(UserError, match=r"holds several: again.json, train.json"):
        load_config(Train, tmp_path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "cannot be read as JSON"),
        ('{"schema": 1', "cannot be read as JSON"),
        ("[]", "does not hold a JSON object"),
        ('{"ppo": {}}', 'no "schema"'),
        ('{"schema": 1, "type": "x.Train", "config": {"ppo": {"lr": NaN}}}', "NaN is not a JSON number"),
        ('{"schema": 1, "schema": 2}', '"schema" is there twice'),
        ('{"schema": 1, "config": {}}', "of type None"),
        ('{"schema": 1e999}', "too large"),
        ('{"schema": "a"}', 'schema "a"'),
        ("[" * 100_000, "nested too deeply"),
        ('{"schema": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ("\x89HDF\r\n", "cannot be read as JSON"),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, word):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(Train, tmp_path / "c.json")
    assert word in str(caught.value)
    assert "c.json" in str(caught.value)


def test_bytes_are_not_json_and_a_folder_is_not_a_file(tmp_path):
    (tmp_path / "data.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UserError, match=r"data.hdf5 is not a JSON file: it does not hold text.$"):
        load_config(Train, tmp_path / "data.hdf5")
    with pytest.raises(UserError, match="is a folder, and a file is expected"):
        read_json(tmp_path)


def test_a_key_given_twice_costs_no_more_than_any_other():
    keys = ",".join(f'"k{i}": 0' for i in range(200_000))
    start = time.process_time()
    with pytest.raises(ValueError, match='"k199999" is there twice'):
        parse_json("{" + keys + ', "k199999": 1}')
    assert len(parse_json("{" + keys + "}")) == 200_000
    assert time.process_time() - start < 60, "quadratic time would be many minutes"


# Paths


def test_replace_in():
    config = Train()
    changes = {
        "ppo.lr": 1,
        "sizes": (1, np.int64(2), 3),
        "learner": ES(sigma=2),
        "probe.epochs": 2,
        "data": Path("x"),
    }
    assert replace_in(config, changes) == Train(
        ppo=PPO(lr=1.0), sizes=(1, 2, 3), learner=ES(sigma=2),
        probe=PPO(epochs=2), data=Path("x"),
    )  # fmt: skip
    assert config == Train()
    assert replace_in(config, {"learner.sigma": 3, "learner.type": "es"}).learner == ES(sigma=3.0)
    assert replace_in(config, {"ppo.s5.blocks": 4, "ppo.s5.state": 8}).ppo.s5 == S5(state=8, blocks=4)
    for path, word in [
        ("ppo.lrr", '"ppo.lr"'),
        ("layers.1.width", "Train.layers is {'1'"),
        ("ppo.lr.x", "Train.ppo.lr is {'x': 1}; it must be a number"),
        ("learner.sigma", "learner.sigma"),
    ]:
        assert word in refusal(lambda path=path: replace_in(config, {path: 1}))
    assert refusal(lambda: replace_in(config, {"ppo.lr": -1})) == "Train.ppo.lr is -1; it must be above 0."
    with pytest.raises(UserError, match=r'"probe.epochs" contradicts null for "probe": leave one of them out'):
        replace_in(config, {"probe.epochs": 2, "probe": None})


def test_ordinary_dataclasses_keep_working(tmp_path):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Plain:
        lr: float = 0.5
        sizes: tuple[int, ...] = (1,)

    assert from_dict(Plain, {"sizes": [2]}) == Plain(sizes=(2,))
    assert to_dict(Plain(lr=1)) == {"lr": 1.0, "sizes": [1]}
    assert replace_in(Plain(), {"lr": 2}) == Plain(lr=2.0)
    assert refusal(lambda: replace_in(Plain(), {"lr": True})) == "Plain.lr is True; it must be a finite number."
    holder = dataclasses.make_dataclass("Holder", [("inner", Ordinary, Ordinary())], frozen=True)
    assert refusal(lambda: from_dict(holder, {"inner": {"n": 1.5}})) == (
        "config.json: inner.n is 1.5; it must be an integer."
    )
    assert refusal(lambda: replace_in(holder(), {"inner.m": 1})).startswith('there is no setting "inner.m"')
    save_config(Plain(lr=3), tmp_path / "c.json")
    assert load_config(Plain, tmp_path / "c.json") == Plain(lr=3.0)


# Words


def test_the_nearest_name():
    presets = ["maze13_paired", "s5_paired", "paired_long", "small"]
    assert did_you_mean("paired", ["paired", *presets]) == '; did you mean "paired"?'
    assert did_you_mean("paired", presets) == '; did you mean "paired_long"?'
    assert did_you_mean("paired", presets[:2]) == '; did you mean "maze13_paired" or "s5_paired"?'
    assert did_you_mean("smal", presets) == '; did you mean "small"?'
    assert did_you_mean("zzz", ["a", "b"]) == "; known are a, b."
    assert did_you_mean("zzz", []) == "; nothing is known here."
    assert nearest("levels", ["levels-ahead", "mazes"], separators=".", cutoff=0.7) == []
    assert nearest("lr", ["ppo.lr", "seed"], separators=".") == ["ppo.lr"]


def test_a_setting_in_python_and_printable_names():
    assert setting("drop_nonfinite", True) == "drop_nonfinite=True"
    assert setting("loading.semantics", "d4rl") == "loading.semantics='d4rl'"
    assert setting("seed") == "seed"
    assert printable("a\x1b[31mb\u202e\x9b\udc80ü") == "a\\x1b[31mb\\u202e\\x9b\\udc80ü"


def test_errors_and_settings_import_little():
    code = """
import sys
heavy = {"numpy", "jax", "torch", "rich", "tyro"}
import paperloop.errors
assert not {*heavy, "pydantic"} & {*sys.modules}
import paperloop.settings
import paperloop.cli
assert not heavy & {*sys.modules}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_rules_without_range_are_plain():
    @settings
    class Odd:
        a: Annotated[float, Gt(-1), Lt(2)] = 0.0
        b: Annotated[int, Field(gt=2)] = 3
        c: Annotated[tuple[Count, ...], Field(min_length=1)] = (1,)
        d: Annotated[str, Field(min_length=1)] = "x"
        e: Share | None = None

    for values, message in [
        ({"a": 2}, "Odd.a is 2; it must be above -1 and below 2."),
        ({"b": 2}, "Odd.b is 2; it must be above 2."),
        ({"c": ()}, "Odd.c is (); it must be one or more integers of at least 1."),
        ({"d": ""}, "Odd.d is ''; it must be text that is not empty."),
        ({"e": 2}, "Odd.e is 2; it must be from 0 to 1, or None."),
    ]:
        assert refusal(lambda values=values: Odd(**values)) == message


def test_a_list_of_equal_kinds_is_said_once():
    @settings
    class Game:
        payoffs: tuple[float, float, float] = (0.0, 0.0, 0.0)

    with pytest.raises(SettingsError, match="it must be a list of 3 finite numbers"):
        Game(payoffs=(1.0,))


def test_what_an_annotation_names_is_defined_first():
    with pytest.raises(TypeError, match="define what it names first"):

        @settings
        class Early:
            later: Later  # noqa: F821  # ty: ignore
