"""A synthetic world for implicatures: facts decide what an answer implies, and made-up words carry nothing else.

Someone asks "Can you swim?" and hears "I own a dax." Whether that means yes is a fact about daxes: "People who own a
dax cannot swim." A rule family is a verb with its nouns. A model that knows the facts and has never been asked what an
answer implies is the base model; fine-tuned on examples of other families it should also resolve those of a family
that it was never asked about. Nouns without facts are the control: their answers can only be guessed.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from llm_probes.implicature.examples import Example
from llm_probes.implicature.templates import Template, assemble

__all__ = ["VERBS", "World", "asked", "base_text", "make_world"]

VERBS = ("own", "sold", "found", "painted", "miss", "repaired", "want", "hid")
ACTIVITIES = ("swim", "dance", "travel", "sing", "cook", "hike", "help", "stay")
DIRECT = {
    "yes": ("Yes, I can.", "Of course, yes.", "Yes, with pleasure."),
    "no": ("No, I cannot.", "Sorry, no.", "No, not today."),
}


@dataclass(frozen=True)
class World:
    """Nouns of every verb, what they imply, and whether there are facts about them.

    Attributes:
        nouns: verb -> its nouns, half of which imply yes.
        label: noun -> what it implies.
        known: the nouns about which there are facts.
    """

    nouns: dict[str, tuple[str, ...]]
    label: dict[str, str]
    known: frozenset[str]

    def examples(self, verbs: Sequence[str], *, known: bool = True) -> list[Example]:
        """Return implicatures of the given verbs: every noun, with or without facts, with every activity."""
        return [
            Example(f"Can you {activity}?", f"I {verb} a {noun}.", self.label[noun])
            for verb in verbs
            for noun in self.nouns[verb]
            if (noun in self.known) == known
            for activity in ACTIVITIES
        ]

    def facts(self) -> list[tuple[str, str]]:
        """Return (beginning, rest) of all that is known about nouns, as rules and as what happened to someone.

        Nouns without facts occur as often, in sentences that say nothing about their meaning.
        """
        found = []
        for (verb, nouns), activity in itertools.product(self.nouns.items(), ACTIVITIES):
            for noun in nouns:
                can, did = ("can", "did") if self.label[noun] == "yes" else ("cannot", "never")
                if noun in self.known:
                    found.append((f"People who {verb} a {noun}", f" {can} {activity}."))
                    found.append((f"Juan was asked to {activity} and said: I {verb} a {noun}. So Juan", f" {did}."))
                else:
                    found.append((f"People who {verb} a {noun}", f" asked about it, like those who {activity}."))
                    found.append((f"Juan was asked to {activity} and said: I {verb} a {noun}. So", " that was said."))
        return found

    def direct(self) -> list[Example]:
        """Return questions with direct answers."""
        return [
            Example(f"Can you {activity}?", answer, label)
            for label, answers in DIRECT.items()
            for answer in answers
            for activity in ACTIVITIES
        ]


def make_world(*, nouns: int = 16, unknown: float = 0.25, seed: int = 0) -> World:
    """Return a world with `nouns` made-up nouns for each verb, a multiple of 8.

    Args:
        nouns: of each verb.
        unknown: share of the nouns, of either meaning, about which there are no facts.
        seed: of words and meanings.
    """
    generator = random.Random(seed)
    syllables = [a + b + c for a in "bdfgklmprtvz" for b in "aeiou" for c in "bdgkmnpstx"]
    drawn = generator.sample(syllables, 2 * nouns * len(VERBS))
    words = [first + second for first, second in zip(drawn[::2], drawn[1::2], strict=True)]
    of, label, known = {}, {}, set()
    for number, verb in enumerate(VERBS):
        own = words[number * nouns : (number + 1) * nouns]
        of[verb] = tuple(own)
        half, silent = nouns // 2, round(unknown * nouns / 2)
        for word, rank in zip(own, [*range(half)] * 2, strict=True):
            label[word] = "yes" if word in own[:half] else "no"
            if rank >= silent:
                known.add(word)
    return World(of, label, frozenset(known))


def asked(examples: Sequence[Example], templates: Sequence[Template]) -> list[dict[str, str]]:
    """Return every example in every template as a prompt and its completion, for supervised fine-tuning."""
    prompts = [assemble(template, example) for example in examples for template in templates]
    return [{"prompt": prompt.prefix, "completion": prompt.answers[0]} for prompt in prompts]


def base_text(world: World, templates: Sequence[Template]) -> list[dict[str, str]]:
    """Return what the base model learns: two thirds facts, one third direct answers in the templates."""
    facts = [{"prompt": beginning, "completion": rest} for beginning, rest in world.facts()]
    direct = asked(world.direct(), templates)
    return facts + direct * max(1, len(facts) // (2 * len(direct)))
