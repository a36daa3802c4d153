"""Scores of answers: against a loop without tricks, whatever the layout, batch and family."""

import json
import math
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from llm_probes.implicature.evaluate import build_prompts, complete, rank, strictly_better
from llm_probes.implicature.examples import Example
from llm_probes.implicature.harness import write_harness_tasks
from llm_probes.implicature.human import Block, human_baseline
from llm_probes.implicature.report import table_rows, write_result
from llm_probes.implicature.summary import summarise
from llm_probes.implicature.templates import TEMPLATES
from llm_probes.models.encode import encode
from llm_probes.models.loading import kind_of, load_model
from llm_probes.models.score import score_trees
from llm_probes.models.slots import score_masked, score_seq2seq
from paperloop import UserError

TEST = [
    Example("Are you coming to the party?", "I have to work.", "no"),
    Example("Is it far to the station, or can we walk?", "You will need good shoes.", "yes"),
    Example("Did he eat?", "He is a cat.", "yes"),
]
DEVELOPMENT = [Example(f"Is it {i}?", f"It is {i + 1}.", "no" if i % 2 else "yes") for i in range(6)]


def trees_of(tokenizer, answers=(" yes", " no", " not really far")):
    prefixes = [assembled.prefix for _, _, assembled in build_prompts(TEST, DEVELOPMENT, TEMPLATES, shots=1)]
    return [encode(tokenizer, prefix, answers, name="x") for prefix in prefixes]


def by_hand(model, tree):
    """Sum, last and mean log-likelihood of each answer, one text at a time."""
    rows = []
    for branch in tree.branches:
        text = torch.tensor(tree.trunk + branch)
        with torch.no_grad():
            scores = torch.log_softmax(model(text[None]).logits[0].double(), -1)
        each = [float(scores[i - 1, text[i]]) for i in range(1, len(text))]
        rows.append((sum(each[tree.start - 1 :]), each[-1], sum(each) / len(each)))
    return np.array(rows).T


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_scores_equal_one_text_at_a_time(family, make_model, tokenizer):
    model, trees = make_model(family), trees_of(tokenizer)
    assert {len(branch) for tree in trees for branch in tree.branches} > {1}
    expected = np.stack([by_hand(model, tree) for tree in trees], axis=1)
    for layout, tokens in [("auto", 512), ("auto", 90), ("padded", 300)]:
        found = score_trees(model, trees, ["x"] * len(trees), mean_all=True, layout=layout, pack_tokens=tokens)
        assert found.layout == ("padded" if layout == "padded" or family == "bloom" else "packed")
        values = np.stack([found.continuation, found.last_token, found.mean_all])
        np.testing.assert_allclose(values, expected, atol=1e-4)
    without = score_trees(model, trees, ["x"] * len(trees))
    np.testing.assert_allclose(without.continuation, expected[0], atol=1e-4)
    assert without.mean_all is None


def test_the_space_belongs_to_the_answer(tokenizer):
    tree = encode(tokenizer, "which means", (" yes", " no"), name="x")
    assert [tokenizer.convert_ids_to_tokens(list(branch)) for branch in tree.branches] == [["Ġyes"], ["Ġno"]]
    assert tree.start == len(tree.trunk)


def test_prompts_are_never_truncated(make_model, tokenizer):
    model = make_model(positions=16)
    prompts = build_prompts(TEST, DEVELOPMENT, TEMPLATES[:1])
    with pytest.raises(UserError, match=r"example 0, template 1 has \d+ tokens and the model's context 16"):
        rank(model, tokenizer, prompts)


def test_a_likelihood_that_is_not_finite_makes_the_item_invalid_and_wrong(make_model, tokenizer):
    model = make_model()
    with torch.no_grad():
        model.lm_head.weight[7] = math.nan
    items, _ = rank(model, tokenizer, build_prompts(TEST, DEVELOPMENT, TEMPLATES[:1]))
    assert not any(item.valid or item.correct for item in items)
    assert summarise(items, TEST, TEMPLATES[:1])["valid"] == 0


def test_ties_are_wrong_and_both_directions_count():
    right, wrong = np.array([1.0, 1.0, 2.0, np.nan]), np.array([1.0, 2.0, 1.0, 0.0])
    assert strictly_better(right, wrong).tolist() == [False, False, True, False]
    assert strictly_better(right, wrong, higher_is_better=False).tolist() == [False, True, False, False]


def test_a_model_that_likes_yes_scores_as_the_constant_answer(make_model, tokenizer):
    """The control: a preference that ignores the text earns exactly the share of that label."""
    model = make_model("gpt2")
    yes = encode(tokenizer, "x", (" yes", " no"), name="x").branches[0][0]
    head = torch.nn.Linear(32, 400)
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[yes] = 100
    model.lm_head = head
    items, _ = rank(model, tokenizer, build_prompts(TEST, DEVELOPMENT, TEMPLATES, shots=2))
    summary = summarise(items, TEST, TEMPLATES, types=["Idiom", "Other", "Other"])
    assert summary["mean"] == pytest.approx(summary["always"]["yes"]) == pytest.approx(200 / 3)
    assert summary["std_over_templates"] == pytest.approx(0, abs=1e-9)
    assert summary["answered"] == {"yes": 100}
    assert {kind: v["mean"] for kind, v in summary["by_type"].items()} == {"Idiom": 0, "Other": 100}
    # The correction by a prompt without content takes that preference away again.
    corrected, _ = rank(model, tokenizer, build_prompts(TEST, DEVELOPMENT, TEMPLATES, shots=2), by="corrected")
    right, wrong = np.array([item.scores["corrected"] for item in corrected]).T
    assert np.abs(right - wrong).max() < 90


def test_contrastive_prompts_balance_a_and_b():
    examples = [Example(f"Is it {i}?", "Yes and no.", "yes") for i in range(400)]
    prompts = build_prompts(examples, DEVELOPMENT, TEMPLATES[:1], shots=1, mode="contrastive")
    counts = Counter(prompt.answers[0] for _, _, prompt in prompts)
    assert abs(counts[" A"] - 200) < 3 * 10
    again = build_prompts(examples, DEVELOPMENT, TEMPLATES[:1], shots=1, mode="contrastive")
    assert [p.prefix for _, _, p in prompts] == [p.prefix for _, _, p in again]


def test_a_limit_keeps_the_draws():
    whole = build_prompts(TEST, DEVELOPMENT, TEMPLATES, shots=3)
    assert build_prompts(TEST, DEVELOPMENT, TEMPLATES, shots=3, limit=2) == whole[:12]


def test_completions_do_not_depend_on_the_batch(make_model, tokenizer):
    prompts = build_prompts(TEST, DEVELOPMENT, TEMPLATES[:2])
    model = make_model()
    one = complete(model, tokenizer, prompts, max_new_tokens=6, batch=1)
    many = complete(model, tokenizer, prompts, max_new_tokens=6, batch=4)
    assert [item.completion for item in one] == [item.completion for item in many]
    summary = summarise(one, TEST, TEMPLATES[:2])
    assert set(summary["reference_parser"]) == {"valid", "mean"}


@pytest.mark.parametrize(("family", "score"), [("bert", score_masked), ("t5", score_seq2seq)])
def test_slot_filling_models_do_not_depend_on_the_batch(family, score, make_model, tokenizer):
    model = make_model(family)
    assert kind_of(model.config) == {"bert": "causal", "t5": "seq2seq"}[family]  # architectures are set on saving
    prefixes = [prompt.prefix for _, _, prompt in build_prompts(TEST, DEVELOPMENT, TEMPLATES)]
    answers = [(" yes", " not at all")] * len(prefixes)
    names = ["x"] * len(prefixes)
    one = score(model, tokenizer, prefixes, answers, names, batch=1)
    many = score(model, tokenizer, prefixes, answers, names, batch=7)
    np.testing.assert_allclose(one.continuation, many.continuation, atol=1e-5)
    assert (one.tokens[:, 0] < one.tokens[:, 1]).all()
    if family == "t5":  # against the model's own loss
        text = torch.tensor([tokenizer(prefixes[0])["input_ids"]])
        labels = torch.tensor([tokenizer("not at all")["input_ids"]])
        with torch.no_grad():
            loss = model(input_ids=text, labels=labels).loss
        assert float(one.continuation[0, 1]) == pytest.approx(-float(loss) * labels.numel(), abs=1e-4)


def test_a_saved_model_is_loaded_by_its_folder(tmp_path, make_model, tokenizer):
    for family, kind in [("llama", "causal"), ("bert", "masked"), ("t5", "seq2seq")]:
        folder = tmp_path / family
        make_model(family).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        model, again = load_model(folder)
        assert kind_of(model.config) == kind
        assert again(" yes")["input_ids"] == tokenizer(" yes")["input_ids"]
    with pytest.raises(UserError, match=r"has no config\.json"):
        load_model(tmp_path)
    make_model("llama", vocabulary=300).save_pretrained(folder)
    with pytest.raises(UserError, match="the tokeniser has 400 tokens and the embedding 300 rows"):
        load_model(folder, kind="causal")


def test_the_written_result(tmp_path, make_model, tokenizer):
    prompts = build_prompts(TEST, DEVELOPMENT, TEMPLATES)
    items, _ = rank(make_model(), tokenizer, prompts, by="mean_all")
    human = human_baseline([Block(np.array([0, 1, 1]), np.array([[0, 1, 1], [0, 0, 1]]))])
    types = ["Idiom", "Other", "Other"]
    summary = summarise(items, TEST, TEMPLATES, types=types, human=human)
    paths = write_result(tmp_path, summary, items, TEST, types, title="a <model>")
    assert json.loads(paths[0].read_text())["human"]["mean"] == pytest.approx(500 / 6)
    rows = [json.loads(line) for line in paths[1].read_text().splitlines()]
    assert len(rows) == 18
    assert rows[0]["scores"].keys() == {"continuation", "last_token", "mean_all"}
    page = paths[2].read_text()
    assert page.count("<tr") >= 3 + len(table_rows(summary))
    assert "a &lt;model&gt;" in page


def test_tasks_for_the_harness(tmp_path):
    prompts = build_prompts(TEST, DEVELOPMENT, TEMPLATES[:2], shots=1)
    written = write_harness_tasks(tmp_path / "tasks", prompts)
    assert [path.name for path in written] == ["implicature_1.yaml", "implicature_2.yaml"]
    rows = [json.loads(line) for line in (tmp_path / "tasks" / "implicature_1.jsonl").read_text().splitlines()]
    assert [row["target"] for row in rows] == [1, 0, 0]  # the choices are yes, no
    assert rows[0]["prompt"] == prompts[0][2].prefix
    with pytest.raises(UserError, match="is not empty"):
        write_harness_tasks(tmp_path / "tasks", prompts)
