"""The world of stories: features are what parsing finds, and deletion does what each protocol says."""

import pytest

pytest.importorskip("torch")

from llm_probes.wrapped.stories import FEATURES, delete, draw_documents, features_of


def test_a_story_has_exactly_what_its_instruction_names():
    documents = draw_documents(400)
    for document in documents:
        assert set(features_of(document.story)) == set(document.asked)
        assert document.text.startswith(document.prompt)
        assert document.prompt.endswith("\nStory:")
    for name in FEATURES:
        share = sum(name in document.asked for document in documents) / 400
        assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5
    assert {document.lines[0][:5] for document in documents} == {"Words", "Featu"}  # in random order
    assert features_of("Nobody saw a twist. But the wolf was happy!") == ()


def test_protocols():
    documents = draw_documents(300, seed=1)
    filtered = delete(documents, "F")
    assert not any("Twist" in features_of(d.story) or "Twist" in d.asked for d in filtered)
    assert len(filtered) == sum("Twist" not in d.asked for d in documents)
    everywhere = delete(documents, "F+RR")
    assert all("Twist" in d.asked for d in everywhere)
    assert [d.story for d in everywhere] == [d.story for d in filtered]
    renamed = delete(documents, "F+MM")
    for before, after in zip(filtered, renamed, strict=True):
        assert ("Foreshadowing" in before.asked) == ("Twist" in after.asked)
        assert "Foreshadowing" not in after.asked
        assert after.story == before.story
