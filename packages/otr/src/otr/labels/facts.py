"""What a labelled file says of its labels, read with care: anybody can have written it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from otr.labels.labelling import ATTRIBUTE
from paperloop.errors import UserError
from paperloop_data import EpisodeDataset

__all__ = ["EpisodeFacts", "LabelFacts", "read_facts"]

_RULES = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


@dataclass(frozen=True, config=_RULES)
class EpisodeFacts:
    """Numbers by episode, each empty where they are not known.

    Attributes:
        demonstration: (E,) the demonstration that was chosen.
        marginal_error: (E,) of the transport plans.
    """

    demonstration: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    marginal_error: list[Annotated[float, Field(ge=0)]] = Field(default_factory=list)


@dataclass(frozen=True, config=_RULES)
class LabelFacts:
    """What `otr.labels.labelling.label` and `otr label` wrote into the attribute "otr"; defaults for what is not there.

    Attributes:
        schema: of these facts; 0 of a file by a version that did not say.
        labeller: its name; None of a dataset that has no labels of otr.
        solver: the back end.
        config: the labeller's settings, as JSON.
        demonstrations_by: how demonstrations were named: "spec" and, for top:K, "score".
        demonstration_lengths: steps of each demonstration.
        scale_factor: what rewards were multiplied by.
        scale_guarded: whether that is 1 because all episodes have one return.
        vanished: the share of labels that an exponential took to next to nothing.
        drop_time_outs: whether steps that time out were left out of the comparison.
        episodes: numbers by episode.
    """

    schema: int = 0
    labeller: str | None = None
    solver: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    demonstrations_by: dict[str, str] = Field(default_factory=dict)
    demonstration_lengths: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    scale_factor: float | None = None
    scale_guarded: bool = False
    vanished: Annotated[float, Field(ge=0, le=1)] | None = None
    drop_time_outs: bool = False
    episodes: EpisodeFacts = Field(default_factory=EpisodeFacts)


_READER = TypeAdapter(LabelFacts)


def read_facts(data: EpisodeDataset) -> LabelFacts:
    """Return what a dataset says of its labels.

    Raises:
        UserError: it says something that `otr` does not write.
    """
    said = data.attributes.get(ATTRIBUTE, {})
    try:
        facts = _READER.validate_json(json.dumps(said, default=_plain))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (ATTRIBUTE, *first["loc"])))
        raise _damaged(data, f"{where}: {first['msg']}") from None
    for name in ("demonstration", "marginal_error"):
        values = getattr(facts.episodes, name)
        if values and len(values) != data.num_episodes:
            raise _damaged(
                data, f"{ATTRIBUTE}.episodes.{name} has {len(values)} entries for {data.num_episodes} episodes"
            )
    known = len(facts.demonstration_lengths)
    if max(facts.episodes.demonstration, default=-1) >= known:
        raise _damaged(data, f"{ATTRIBUTE}.episodes.demonstration names one of more than {known} demonstrations")
    return facts


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else repr(value)


def _damaged(data: EpisodeDataset, what: str) -> UserError:
    return UserError(f"{data.where}: what it says of its labels is damaged ({what}): label the data again.")
