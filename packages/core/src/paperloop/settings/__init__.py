"""Settings: frozen, keyword-only dataclasses that check themselves and survive a round trip through JSON.

    @settings
    class PPO:
        '''Proximal policy optimisation.

Attributes:
            lr: Adam's step size.
        '''

        type: Literal["ppo"] = "ppo"
        lr: Positive = 3e-4
        clip: Positive | None = 0.2

    @settings
    class Train:
        learner: Annotated[PPO | SAC, Field(discriminator="type")] = PPO()
        sizes: tuple[Count, ...] = (64, 64)

    Train(learner=PPO(lr=-1))                         # SettingsError: PPO.lr is -1; it must be above 0.
    from_dict(Train, {"learner": {"lr": 1e-3}})       # missing keys take their defaults
    replace_in(Train(), {"learner.lr": 1e-3})         # the same by dotted path
    save_config(Train(), Path("config.json"))         # {"schema": 1, "type": "module.Train", "config": {...}}

A field holds a bool, int, float, str, None, `Path`, `Literal`, other settings, a tuple of these, or a union of these.
Of a union of settings each member has a literal `type`. Numbers are finite; a bool is not a number; 1.5 is not an
integer, and 6e5 is. Unknown names are refused. pydantic does the checking, once, from the outermost settings inwards,
so that every error knows its whole path.
"""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from paperloop.errors import did_you_mean, nearest
from paperloop.files import parse_json, read_json
from paperloop.settings.model import from_dict, merge, nested, replace_in, settings, to_dict, validate
from paperloop.settings.problems import Problem, SettingsError, fault
from paperloop.settings.saved import config_document, config_hash, json_hash, load_config, read_document, save_config
from paperloop.settings.shapes import Note, defaults, flatten

__all__ = [
    "Count", "CountOrZero", "Ge", "Gt", "Le", "Lt", "NotNegative", "Note", "Positive", "PositiveShare", "Problem",
    "Seed", "SettingsError", "Share", "config_document", "config_hash", "defaults", "did_you_mean", "fault",
    "flatten", "from_dict", "json_hash", "load_config", "merge", "nearest", "nested", "parse_json",
    "read_document", "read_json", "replace_in", "save_config", "settings", "to_dict", "validate",
]  # fmt: skip

#: Numbers above 0; from 0 on; in [0, 1]; in (0, 1].
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
PositiveShare = Annotated[float, Gt(0), Le(1)]
#: Integers from 1 on; from 0 on; seeds.
Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Seed = Annotated[int, Ge(0), Le(2**63 - 1)]
