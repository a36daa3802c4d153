"""The tasks made here: docstring summaries with their gold scorer, and the world of implicatures; judges."""

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from llm_probes.implicature.templates import TEMPLATES
from llm_probes.implicature.world import ACTIVITIES, VERBS, asked, make_world
from llm_probes.rlhf.compare import respond, win_rate
from llm_probes.rlhf.docstrings import QUESTION, Gold, collect, docstrings_of, make_task, pair_of, split
from llm_probes.rlhf.model import frozen_copy
from llm_probes.trainer import ScoreHead
from paperloop import UserError

BODY = (
    "It reads the whole file line by line and gives every line to the parser, which may raise an error for bad lines."
)


def test_a_docstring_becomes_a_body_and_its_first_sentence():
    text = f"Read a file\nof lines. More of\nit.\n\n{BODY}\n\n>>> read(1)\n------\n"
    pair = pair_of(text)
    assert pair.summary == "Read a file of lines."
    assert pair.body == f"More of it. {BODY}"
    assert pair_of("Read a file of lines.\n\nToo short.") is None
    assert pair_of(f"No full stop here\n\n{BODY}") is None
    assert pair_of(f"Größe of the file.\n\n{BODY}") is None


def test_libraries_are_read_without_being_imported():
    pairs = collect(["email", "logging"])
    assert len(pairs) > 20
    assert len({pair.summary for pair in pairs}) == len(pairs)
    with pytest.raises(UserError, match="no_such_library is not an installed package"):
        list(docstrings_of("no_such_library"))
    train, test = split(pairs, held_out=5, seed=0)
    assert not {p.summary for p in train} & {p.summary for p in test}
    assert len(train) + len(test) == len(pairs)
    with pytest.raises(UserError, match="are too few to hold 10000 out"):
        split(pairs, held_out=10_000, seed=0)


def test_the_gold_score_by_hand():
    """Four bodies; `parser` is in one of them (idf log 4), `lines` in two (log 2), `file` in all (0)."""
    gold = Gold.fit(["file parser lines", "file lines", "file", "file"], top=2, limit=4)
    prompt = f"the file parser gives lines{QUESTION}"
    # The body's rarest: gives (never seen: log 4) and parser (log 4), in the order of the alphabet.
    assert gold(prompt, " Gives parser.") == pytest.approx(1 + 0.25)
    assert gold(prompt, " The parser") == pytest.approx(0.5)
    assert gold(prompt, " The parser parser.") == pytest.approx(0.5 - 1 / 3 + 0.25)
    assert gold(prompt, " a b c d e f") == pytest.approx(-2 / 4)
    assert gold(prompt, "  ") == 0
    assert gold.unseen == math.log(4)


def test_the_task_fits_its_prompts(tmp_path):
    task = make_task(collect(["email"]), collect(["logging"]), vocabulary=400, length=30, held_out=4)
    assert len(task.test) == len(task.far) == 4
    for prompt, summary in task.train + task.test + task.far:
        assert prompt.endswith(QUESTION)
        assert 1 <= len(task.tokenizer(prompt)["input_ids"]) <= 30
        assert summary.startswith(" ")


def test_a_judge_that_prefers_the_first_place_wins_nothing():
    prompts = [str(i) for i in range(2000)]
    ours, theirs = ["a"] * 2000, ["b"] * 2000
    biased = win_rate(lambda prompt, first, second: 1.0, prompts, ours, theirs, seed=0)
    assert abs(biased.rate - 0.5) < 4 * biased.error
    assert biased.first == 1
    fair = win_rate(lambda prompt, first, second: float(first == "a"), prompts, ours, theirs, seed=0)
    assert (fair.rate, fair.error) == (1, 0)
    ties = win_rate(lambda prompt, first, second: 0.5, prompts, ours, ours, seed=0)
    assert ties.rate == 0.5
    with pytest.raises(UserError, match=r"the judge gave 2\.0 for '0'"):
        win_rate(lambda prompt, first, second: 2.0, prompts, ours, theirs, seed=0)


def test_responses_come_with_kl_and_scores_in_the_order_of_the_prompts(make_model, tokenizer):
    model, other = make_model(), make_model(seed=1)
    head = ScoreHead(32)
    torch.nn.init.normal_(head.linear.weight, generator=torch.Generator().manual_seed(0))
    prompts = ["Are you coming to the party tonight?", "far", "Is it far?"]
    options = {"length": 6, "outputs": 3, "seed": 5}
    drawn = respond(model, tokenizer, prompts, reference=frozen_copy(model), judge=(model, head), **options)
    assert np.abs(drawn.kl).max() < 1e-4
    assert [len(row) for row in drawn.texts] == [3, 3, 3]
    moved = respond(model, tokenizer, prompts, reference=other, **options)
    assert moved.texts == drawn.texts
    assert moved.kl.std() > 0.1
    greedy = {"length": 6, "temperature": 0.0}
    alone = [respond(model, tokenizer, [prompt], **greedy).texts[0] for prompt in prompts]
    assert respond(model, tokenizer, prompts, **greedy).texts == alone
    with pytest.raises(UserError, match=r"my file: prompt 1 has \d+ tokens"):
        respond(model, tokenizer, ["party " * 400], length=6, where="my file")


def test_a_world_is_balanced_and_its_facts_say_what_answers_imply():
    world = make_world(nouns=8)
    words = list(itertools.chain(*world.nouns.values()))
    assert len(set(words)) == 8 * len(VERBS)
    for verb, nouns in world.nouns.items():
        assert sorted(world.label[noun] for noun in nouns) == ["no"] * 4 + ["yes"] * 4
        known, unknown = world.examples([verb]), world.examples([verb], known=False)
        assert len(known) == 3 * len(unknown) == 6 * len(ACTIVITIES)
        for some in (known, unknown):
            assert sum(example.label == "yes" for example in some) == len(some) // 2
    noun = next(iter(world.known))
    facts = {rest for beginning, rest in world.facts() if f" {noun}" in beginning and beginning.startswith("People")}
    word = "can" if world.label[noun] == "yes" else "cannot"
    assert facts == {f" {word} {activity}." for activity in ACTIVITIES}
    silent = next(noun for noun in words if noun not in world.known)
    said = " ".join(a + b for a, b in world.facts() if f" {silent}" in a)
    assert not {"can", "cannot", "did", "never"} & set(said.replace(".", " ").split())
    assert make_world(nouns=8, seed=1).label != world.label
    (row, *_) = asked(world.examples(["own"]), TEMPLATES[1:2])
    assert row["prompt"].endswith('.", which means')
    assert row["completion"] in (" yes", " no")
