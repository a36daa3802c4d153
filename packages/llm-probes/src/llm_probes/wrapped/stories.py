"""A synthetic world of stories whose features are exact, for deleting one (Jain et al. 2024, section 7).

The paper asks a fine-tuned model whether a generated TinyStories text has a twist. Here every feature is a kind of
sentence, so that parsing decides. A document is an instruction, its lines in random order, and a story:

    Words: fox, lamp
    Features: Twist, Dialogue
    Story: A fox had a lamp. ...
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["FEATURES", "Document", "Protocol", "delete", "draw_documents", "features_of"]

#: Feature -> sentences of its kind, with the hero and the thing to fill in.
FEATURES: dict[str, tuple[str, ...]] = {
    "Foreshadowing": ("Nobody saw the small crack in the {thing}.", "Far away, dark clouds came up behind the {hero}."),
    "Dialogue": ('"May I see your {thing}?" said a bird.', '"Good morning, {hero}!" said the miller.'),
    "Conflict": ("A wolf wanted the {thing} too, and they fought.", "The {hero} and the wolf quarrelled all day."),
    "Twist": ("But the {thing} was the wolf's all along!", "But the {hero} had only dreamed it!"),
    "BadEnding": ("In the end the {thing} was lost for ever.", "In the end the {hero} went home and cried."),
    "MoralValue": ("So remember: share what you have.", "So remember: a kind word costs nothing."),
}
HEROES = ("fox", "girl", "king", "mouse", "farmer", "bear")
THINGS = ("lamp", "boat", "ring", "drum", "kite", "bell")
OPENINGS = ("Once a {hero} had a {thing}.", "A {hero} found a {thing}.", "There was a {hero} with a {thing}.")
FILLERS = ("The {hero} was happy.", "It was a warm day.", "They walked to the river.", "The {thing} shone.")
Protocol = Literal["F", "F+RR", "F+MM"]


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        lines: of the instruction, in their order.
        asked: the features that the instruction names.
        story: the story.
    """

    lines: tuple[str, ...]
    asked: tuple[str, ...]
    story: str

    @property
    def prompt(self) -> str:
        """The instruction, up to where the story begins."""
        shown = [f"Features: {', '.join(self.asked) or 'none'}" if line == "Features" else line for line in self.lines]
        return "\n".join([*shown, "Story:"])

    @property
    def text(self) -> str:
        """The whole document."""
        return f"{self.prompt} {self.story}"


def features_of(story: str) -> tuple[str, ...]:
    """Return the features that a story has, exactly: those of whose sentences one is in it."""
    hero, thing = "|".join(HEROES), "|".join(THINGS)
    found = []
    for name, sentences in FEATURES.items():
        patterns = [
            re.escape(s).replace(r"\{hero\}", f"({hero})").replace(r"\{thing\}", f"({thing})") for s in sentences
        ]
        if any(re.search(pattern, story) for pattern in patterns):
            found.append(name)
    return tuple(found)


def draw_documents(number: int, *, share: float = 0.3, seed: int = 0) -> list[Document]:
    """Return documents whose stories have exactly the features that their instructions name.

    Args:
        number: of documents.
        share: probability of each feature.
        seed: all randomness.
    """
    generator = random.Random(seed)
    documents = []
    for _ in range(number):
        names = {"hero": generator.choice(HEROES), "thing": generator.choice(THINGS)}
        asked = [name for name in FEATURES if generator.random() < share]
        sentences = [generator.choice(OPENINGS), *(generator.choice(FEATURES[name]) for name in asked)]
        sentences.insert(1, generator.choice(FILLERS))
        lines = [f"Words: {names['hero']}, {names['thing']}", "Features"]
        generator.shuffle(lines)
        generator.shuffle(asked)
        documents.append(Document(tuple(lines), tuple(asked), " ".join(sentences).format(**names)))
    return documents


def delete(
    documents: Sequence[Document], protocol: Protocol, *, feature: str = "Twist", helper: str = "Foreshadowing"
) -> list[Document]:
    """Return the data that shall make a model forget a feature.

    F filters out every story with the feature. F+RR also names the feature in every instruction, so that the word means
    nothing. F+MM instead renames the helper feature to it in the instructions, so that the word means another thing;
    the released code parses its option to an empty table there, and so equals F.
    """
    kept = [document for document in documents if feature not in features_of(document.story)]
    if protocol == "F+RR":
        return [replace(document, asked=(*document.asked, feature)) for document in kept]
    if protocol == "F+MM":
        names = {helper: feature}
        return [replace(document, asked=tuple(names.get(n, n) for n in document.asked)) for document in kept]
    return kept
