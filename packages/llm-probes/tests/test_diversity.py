"""Diversity metrics against formulas by hand and loops over pairs."""

import itertools
import json

import numpy as np
import pytest

from llm_probes.diversity.generations import read_generations
from llm_probes.diversity.measure import at_length, bootstrap_mean, measure
from llm_probes.diversity.ngrams import count_ngrams, distinct, ead, words_of
from llm_probes.diversity.similarity import cosine_diversity, nli_diversity, vendi
from paperloop import UserError

WORDS = [f"w{i}" for i in range(30)]


def sample(generator, sets, outputs, words, temperature=1.0):
    """Texts from one distribution over words, sharper at a low temperature."""
    weights = np.exp(-np.arange(30) / 6 / temperature)
    weights /= weights.sum()
    draw = lambda: " ".join(generator.choice(WORDS, words, p=weights))  # noqa: E731
    return [[draw() for _ in range(outputs)] for _ in range(sets)]


def slow_counts(texts, n):
    grams = [tuple(w[i : i + n]) for w in map(words_of, texts) for i in range(len(w) - n + 1)]
    return len(set(grams)), len(grams)


def test_words_by_the_originals_rule():
    assert words_of("A cat. a  cat,\nsat.") == ["A", "cat", "a", "cat,sat"]


def test_counts_equal_loops_over_tuples():
    sets = sample(np.random.default_rng(0), 7, 5, 9)
    sets[2] = ["", "one two", "one two three four five six", "", "one"]
    counts = count_ngrams(sets)
    for i, texts in enumerate(sets):
        for n in range(1, 6):
            assert (counts.unique[i, n - 1], counts.total[i, n - 1]) == slow_counts(texts, n)


def test_limits():
    text = " ".join(WORDS)
    one = count_ngrams([[text]])
    # All n-grams different: EAD_n = C / (V (1 - (1 - 1/V)^C)), about 1 + (C - 1) / (2 V)
    expected = np.mean([1 + (31 - n - 1) / (2 * 50257) for n in range(1, 6)])
    assert ead(one)[0] == pytest.approx(expected, abs=1e-6)
    assert distinct(one)[0] == 1
    assert distinct(count_ngrams([[text] * 8]))[0] == pytest.approx(1 / 8)
    sets = count_ngrams(sample(np.random.default_rng(1), 3, 4, 10))
    np.testing.assert_allclose(ead(sets, vocabulary=10**12), distinct(sets), rtol=1e-6)


def test_short_outputs_count_as_zero_or_are_skipped():
    counts = count_ngrams([["a b c", "d e f"]])
    assert distinct(counts)[0] == pytest.approx(3 / 5)
    assert distinct(counts, skip_undefined=True)[0] == 1
    assert distinct(count_ngrams([["", ""]]))[0] == 0
    assert np.isnan(distinct(count_ngrams([["", ""]]), skip_undefined=True)[0])


def test_cosine_diversity_in_closed_form():
    vectors = np.random.default_rng(0).normal(size=(3, 6, 4))
    for found, rows in zip(cosine_diversity(vectors), vectors, strict=True):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        pairs = [rows[i] @ rows[j] for i, j in itertools.combinations(range(6), 2)]
        assert found == pytest.approx(1 - np.mean(pairs))
    assert cosine_diversity(np.eye(3)) == pytest.approx(1)
    assert cosine_diversity(np.ones((4, 2))) == pytest.approx(0)
    assert cosine_diversity(np.array([[1.0, 0], [-1, 0]])) == pytest.approx(2)
    assert np.isnan(cosine_diversity(np.ones((1, 2))))
    assert np.isnan(cosine_diversity(np.array([[1.0, 0], [0, 0]])))


def test_vendi_score_counts_what_differs():
    assert vendi(np.eye(7)) == pytest.approx(7)
    assert vendi(np.ones((5, 3))) == pytest.approx(1)
    assert vendi(np.repeat(np.eye(3), 4, axis=0)) == pytest.approx(3)  # three equal blocks
    assert vendi(np.eye(4), order=2) == pytest.approx(4)
    vectors = np.random.default_rng(0).normal(size=(5, 9))
    assert vendi(vectors) == pytest.approx(vendi(np.pad(vectors, [(0, 0), (0, 40)])))
    primal = np.random.default_rng(0).normal(size=(12, 4))  # n > d: through the covariance
    values = np.linalg.eigvalsh((u := primal / np.linalg.norm(primal, axis=1, keepdims=True)) @ u.T / 12)
    values = values[values > 1e-12]
    assert vendi(primal) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-6)


def test_nli_has_the_right_sign_and_judges_a_pair_once():
    calls = []

    def judge(premises, hypotheses):
        calls.extend(zip(premises, hypotheses, strict=True))
        return [
            ("entailment" if a[0] == b[0] else "CONTRADICTION", 0.5) for a, b in zip(premises, hypotheses, strict=True)
        ]

    assert nli_diversity(["yes", "no", "maybe"], judge) == (1.0, 0.0)
    assert nli_diversity(["yes", "yes"], judge) == (-1.0, 2.0)
    calls.clear()
    cache = {}
    nli_diversity(["yes", "yes", "no"], judge, cache=cache)
    nli_diversity(["no", "yes"], judge, cache=cache)
    assert sorted(calls) == [("no", "yes"), ("yes", "no"), ("yes", "yes")]


def test_metrics_rise_with_the_temperature():
    """The test of metrics of Tevet & Berant (2021): a rank correlation with the sampling temperature above 0.9."""
    temperatures = np.linspace(0.2, 1.2, 6)
    embed = lambda texts: np.array([[t.split(" ").count(w) for w in WORDS] for t in texts], dtype=float)  # noqa: E731
    rows = []
    for temperature in temperatures:
        found = measure(sample(np.random.default_rng(0), 40, 8, 12, temperature), embed=embed)["metrics"]
        rows.append([found[name]["per_input"]["mean"] for name in ("ead", "distinct", "cosine", "vendi")])
    for column in np.array(rows).T:
        assert np.corrcoef(column.argsort().argsort(), np.arange(6))[0, 1] > 0.9


def test_per_input_and_across_input_differ():
    """Outputs that repeat within an input but not across: a collapsed policy."""
    sets = [[f"about {w} only and nothing else"] * 4 for w in WORDS]
    varied = [[f"{v} {w} is one of many words" for v in WORDS[:4]] for w in WORDS]
    collapsed, wide = measure(sets)["metrics"]["ead"], measure(varied)["metrics"]["ead"]
    assert collapsed["per_input"]["mean"] == pytest.approx(0.25, abs=0.01)
    assert collapsed["per_input"]["mean"] < 0.7 * wide["per_input"]["mean"]
    assert collapsed["across_input"]["std"] == 0
    assert measure(sets)["inputs"] == 30


def test_undefined_values_are_none_with_a_warning():
    one = measure([["a b c d e"], ["b c d e f"]])
    assert one["metrics"]["ead"]["per_input"]["mean"] is None
    assert one["warnings"] == ["one output per input: per-input diversity is undefined"]
    empty = measure([["", "a b"], ["", ""]], embed=lambda texts: np.array([[float(len(t)), 0] for t in texts]))
    assert empty["warnings"][0] == "3 of 4 outputs are empty"
    assert empty["metrics"]["cosine"]["per_input"]["mean"] is None
    json.dumps(empty, allow_nan=False)
    assert "across-input diversity is undefined" in measure([["a", "b"]])["warnings"][-1]


def test_intervals_and_length_control():
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_mean(values)
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.1)
    assert low < values.mean() < high
    lengths = np.arange(10.0)
    assert at_length(2 - 0.1 * lengths, lengths, 20) == pytest.approx(0)
    assert at_length(np.ones(3), np.ones(3), 9) == 1


def write(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_generations_in_either_form(tmp_path):
    path = write(
        tmp_path / "a.jsonl", [{"prompt": "p", "completions": ["a", "b"]}, {"prompt": "q", "completions": ["c", "d"]}]
    )
    (one,) = read_generations(path)
    assert (one.inputs, one.outputs) == (("p", "q"), (("a", "b"), ("c", "d")))
    rows = [{"input": p, "output": f"{p}{k}", "policy": m} for m in ("sft", "ppo") for k in range(3) for p in "pq"]
    two = read_generations(write(tmp_path / "b.jsonl", rows), outputs=2)
    assert [g.policy for g in two] == ["sft", "ppo"]
    assert two[0].outputs == (("p0", "p1"), ("q0", "q1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1: this is not JSON"),
        ("[1]", "not a JSON object"),
        ('{"prompt": "p"}', r"line 1 has no outputs .*its keys are \['prompt'\]"),
        ('{"outputs": ["a"]}', "has no input"),
        ('{"prompt": "p", "outputs": [1]}', "not a list of texts"),
        ("", "is empty"),
        ('{"prompt": "p", "outputs": ["a"]}\n{"prompt": "q", "outputs": ["a", "b"]}', "between 1 and 2 outputs"),
    ],
)
def test_bad_generations_are_named(tmp_path, text, message):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        read_generations(tmp_path / "x.jsonl")


def test_embedders_of_hugging_face_models(tmp_path, tokenizer):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from llm_probes.diversity.embedders import load_embedder, load_judge

    size = {"vocab_size": 400, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "pad_token_id": 1}
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(intermediate_size=16, **size)).save_pretrained(tmp_path / "e")
    tokenizer.save_pretrained(tmp_path / "e")
    embed = load_embedder(str(tmp_path / "e"))
    alone, longer = embed(["a cat"])[0], embed(["a cat", "a cat and many other things", "a cat"])
    np.testing.assert_allclose(longer[[0, 2]], [alone, alone], atol=1e-5)  # padding changes nothing
    config = transformers.BertConfig(
        intermediate_size=16, id2label={0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"}, **size
    )
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "n")
    tokenizer.save_pretrained(tmp_path / "n")
    verdicts = load_judge(str(tmp_path / "n"))(["a", "b c"], ["b", "a"])
    assert all(label in ("contradiction", "neutral", "entailment") and 1 / 3 <= p <= 1 for label, p in verdicts)
    two = transformers.BertConfig(intermediate_size=16, **size)
    transformers.BertForSequenceClassification(two).save_pretrained(tmp_path / "n")
    with pytest.raises(UserError, match="not contradiction, entailment and neutral"):
        load_judge(str(tmp_path / "n"))
