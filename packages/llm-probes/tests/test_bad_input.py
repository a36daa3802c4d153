"""Bad input, each case with its message; what one room checks alone is next to that room's other tests."""

import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from llm_probes.cli import app
from llm_probes.config import PcfgConfig, Pretrain
from llm_probes.diversity.embedders import TextEncoder, load_embedder
from llm_probes.diversity.measure import measure
from llm_probes.implicature.examples import read_examples
from llm_probes.models.lines import read_lines, read_rows
from llm_probes.models.loading import load_model
from llm_probes.pcfg_trainer import PcfgTrainer
from llm_probes.rlhf.sampling import equal_groups
from llm_probes.wrapped.instruments import CausalView, Examples
from llm_probes.wrapped.probes import probe
from llm_probes.wrapped.tasks import read_task
from paperloop import UserError


@pytest.fixture
def folder(tmp_path, make_model, tokenizer):
    make_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_not_a_table(tmp_path):
    with pytest.raises(UserError, match="is a folder, and a file is expected"):
        read_examples(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b'{"prompt": "a"}\n{"prompt"', "line 2: this is not JSON"),
        (b'["prompt"]', "line 1: this is not a JSON object"),
        (b'{"prompt": "caf\xe9"}', r"is not UTF-8 text \(invalid continuation byte at byte 15\)"),
        (b'{"other": "a"}', "line 1 has no prompt; it needs prompt"),
        (b'{"prompt": ["a"]}', "line 1: prompt is not a text"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_rows(tmp_path / "x.jsonl", ("prompt",))


def test_only_newlines_end_a_line(tmp_path):
    """A JSON text may hold other marks of a new line as they are."""
    rows = [{"prompt": "a\u2028b\u0085c\x1cd"}, {"prompt": "e"}]
    text = "\ufeff" + "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "x.jsonl").write_text(text, encoding="utf-8", newline="")
    assert [row for _, row in read_lines(tmp_path / "x.jsonl")] == rows


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"has no config\.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be loaded as a language model: .* not a valid JSON"),
        (
            lambda f: (f / "model.safetensors").unlink(),
            r"cannot be loaded as a causal model: .* no file named model",
        ),
        (lambda f: cut(f / "model.safetensors"), "cannot be loaded as a causal model: .* incomplete"),
        (lambda f: [file.unlink() for file in f.glob("token*")], "has no tokeniser that can be loaded"),
    ],
)
def test_a_damaged_model_folder_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_model_that_is_not_there_is_taken_for_a_name(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="no such folder here, so it is taken for a name on the hub"):
        load_model("nobody/nothing/at-all")


def test_a_copy_shares_no_weights(folder):
    from llm_probes.rlhf.model import frozen_copy

    model, _ = load_model(folder)
    copy = frozen_copy(model)
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in copy.parameters()}


def test_the_share_of_outputs_that_an_embedder_cuts_is_reported(tmp_path, tokenizer):
    config = transformers.BertConfig(
        vocab_size=400, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path / "e")
    tokenizer.save_pretrained(tmp_path / "e")
    embed = load_embedder(str(tmp_path / "e"))
    assert embed.limit == 8
    long = "a b c d e f g h i j k l m n o p"
    (warning,) = measure([[long, "yes yes yes yes yes"], [long, "no no no no no"]], embed=embed)["warnings"]
    assert warning == "2 of 4 outputs (50.0 %) have more than the embedder's 8 tokens: their ends do not count"
    np.testing.assert_allclose(embed([long]), embed([long + " q r s"]), atol=1e-6)  # they do not
    free = TextEncoder(embed.encode, embed.count, None)
    assert free.cut([long]) == 0


def test_odd_outputs_are_counted():
    odd, plain = ["a\tb c d e f g", "a\u00a0b c d e f g"], ["one two three four five six", "b c d e f"]
    found = measure([odd, plain], vocabulary=4)["warnings"]
    assert found[0].startswith("2 of 4 outputs have tabs or other white space")
    assert found[1].endswith("different words, more than EAD's vocabulary of 4: EAD is too large")
    with pytest.raises(UserError, match=r"same number of outputs, one or more; here are \[1, 2\]"):
        measure([["a"], ["a", "b"]])


def test_groups_with_equal_scores_are_counted():
    assert equal_groups(torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 1.0], [0.0, 0.0, 0.0]])) == 2


def test_rewards_that_teach_nothing_are_refused(folder, tmp_path):
    pytest.importorskip("trl", reason="trl is not installed")
    from llm_probes.rlhf.with_trl import rloo

    (tmp_path / "p.jsonl").write_text('{"prompt": "Is it far?"}\n{"prompt": "Is it near?"}')
    options = {"steps": 1, "batch": 4, "generations": 2, "length": 4, "use_cpu": True}
    for value, message in ((math.nan, "is nan; it must be finite"), (1.0, "nothing could be learned")):
        with pytest.raises(UserError, match=message):
            rloo(folder, tmp_path / "p.jsonl", lambda p, t, v=value: [v] * len(t), tmp_path / "out", **options)


def test_an_operand_that_was_never_asked_about_is_noted():
    trainer = PcfgTrainer(PcfgConfig(phase=Pretrain(prior=(0.0, 1.0, 0.0)), length=12, reach=6, nth=1))
    (note,) = trainer.final_notes(None)
    assert note.startswith("a was never asked about")


def test_answers_without_training_examples_are_counted(folder):
    model, _ = load_model(folder, dtype="float32")
    tokens = torch.randint(10, 60, (30, 4), generator=torch.Generator().manual_seed(0))
    train, test = Examples(tokens, torch.arange(30) % 2), Examples(tokens, torch.arange(30) % 3)
    view = CausalView([20, 21, 22])
    assert probe(view, model, train, test).unseen == 10
    with pytest.raises(UserError, match="2 examples are too few to fit a probe with 3 classes"):
        probe(view, model, train.take(slice(0, 2)), test)


def test_tied_and_quantised_weights(folder, make_model):
    model = make_model("gpt2")  # its output layer is its embedding
    assert model.lm_head.weight is model.transformer.wte.weight
    assert not {"transformer.wte.weight", "lm_head.weight"} & set(CausalView([1]).prunable(model))
    model.is_quantized = True
    with pytest.raises(UserError, match="quantised, so that single weights cannot be pruned"):
        CausalView([1]).prunable(model)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "a b"}], 'line 1 needs a "prompt" and an "answer", both texts'),
        ([{"prompt": "a b", "answer": " zebra"}], "the answer ' zebra' is . tokens after its prompt and must be one"),
        ([{"prompt": "a b", "answer": " no"}] * 2, "every answer is ' no'; a task needs two or more different ones"),
    ],
)
def test_bad_tasks_are_named(tmp_path, tokenizer, rows, message):
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=message):
        read_task(tmp_path / "t.jsonl", tokenizer)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["pcfg", "--phase.type", "pretrain", "--phase.prior", "0.5", "0.6", "0"], "phase.prior"),
        (["pcfg", "--length", "500", "--steps", "1", "--phase.layers", "1", "--phase.width", "32"], "at most 432"),
        (["pcfg", "--length", "20", "--reach", "40"], "--reach is 40; it must be below the length of 20"),
        (["counter", "--correlated", "-0.1"], "--correlated is -0.1; it must be from 0 to 1"),
        (["train", "--model", "m", "--stage.type", "sft", "--stage.data", "nope.jsonl"], "m cannot be loaded"),
    ],
)
def test_bad_settings_end_in_one_sentence(tmp_path, capsys, monkeypatch, command, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert app.main([*command, "--out", str(tmp_path / "run"), "--device", "cpu", "--quiet"]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.strip().splitlines()) == 1
