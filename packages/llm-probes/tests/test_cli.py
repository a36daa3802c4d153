"""The commands end to end, on models made in the test."""

import json

import pytest

from llm_probes.cli import app
from llm_probes.commands.options import ImplicatureOptions
from paperloop.settings import SettingsError

ROWS = (
    'Context utterance,Response utterance,Implicature\nIs it far?,"You need shoes.",Yes.\nDid he eat?,He is a cat.,No\n'
)


@pytest.fixture
def folder(tmp_path, make_model, tokenizer):
    make_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "test.csv").write_text(ROWS)
    (tmp_path / "dev.csv").write_text(ROWS + "Are you in?,I am out.,No\n")
    votes = "Utterance,Response,Ground truth,Annotator 1,Annotator 2\nIs it far?,x,Yes,Yes,No\nDid he eat?,y,No,No,No\n"
    (tmp_path / "votes.csv").write_text(votes)
    return tmp_path


def test_implicature_ranked(folder, capsys):
    data = ["--data", str(folder / "test.csv"), "--dev", str(folder / "dev.csv"), "--human", str(folder / "votes.csv")]
    command = ["implicature", str(folder / "model"), *data, "--device", "cpu", "--shots", "2"]
    assert app.main([*command, "--out", str(folder / "r")]) == 0
    shown = capsys.readouterr().out
    assert "people" in shown
    assert "always yes" in shown
    summary = json.loads((folder / "r" / "summary.json").read_text())
    assert summary["examples"] == 2
    assert summary["human"]["mean"] == 75
    assert summary["config"]["shots"] == 2
    assert len((folder / "r" / "items.jsonl").read_text().splitlines()) == 12
    assert app.main([*command, "--out", str(folder / "r")]) == 2  # nothing is overwritten
    assert "is not an empty folder" in capsys.readouterr().err


def test_implicature_completed_and_tasks_written(folder, capsys):
    data = ["--data", str(folder / "test.csv")]
    command = ["implicature", str(folder / "model"), *data, "--out", str(folder / "c"), "--device", "cpu"]
    assert app.main([*command, "--mode", "completion", "--max-new-tokens", "4"]) == 0
    assert "original parser" in capsys.readouterr().out
    assert app.main(["harness-tasks", *data, "--out", str(folder / "tasks")]) == 0
    assert "--tasks implicature_1,implicature_2" in capsys.readouterr().out


def test_what_cannot_be_is_said_before_a_model_is_loaded(folder, capsys):
    command = ["implicature", "nowhere", "--data", str(folder / "test.csv"), "--out", str(folder / "x")]
    assert app.main([*command, "--shots", "5"]) == 2
    assert "--dev" in capsys.readouterr().err
    assert app.main([*command, "--shots", "5", "--dev", str(folder / "dev.csv")]) == 2
    assert "5 worked examples cannot be drawn from a development set of 3" in capsys.readouterr().err
    assert app.main([*command, "--human", str(folder / "votes.csv"), "--limit", "0"]) == 2
    with pytest.raises(SettingsError, match="random_labels"):
        ImplicatureOptions(model="m", data="d", out="o", random_labels=True)


def test_diversity(tmp_path, capsys):
    rows = [{"prompt": p, "outputs": [f"{p} {k} and more words here" for k in range(3)]} for p in "abc"]
    file = tmp_path / "g.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    assert app.main(["diversity", str(file), "--out", str(tmp_path / "d.json")]) == 0
    assert "ead, per input" in capsys.readouterr().out
    found = json.loads((tmp_path / "d.json").read_text())["policies"]["all"]
    assert found["inputs"] == 3
    assert found["metrics"]["distinct"]["per_input"]["mean"] > 0
    file.write_text("{")
    assert app.main(["diversity", str(file)]) == 2
    assert "line 1: this is not JSON" in capsys.readouterr().err


def test_a_stage_is_trained_continued_and_exported(folder, capsys):
    transformers = pytest.importorskip("transformers")
    data = folder / "d.jsonl"
    data.write_text("\n".join(json.dumps({"prompt": f"Is it {i}?", "completion": " yes"}) for i in range(8)))
    command = ["train", "--model", str(folder / "model"), "--stage.type", "sft", "--stage.data", str(data)]
    command += ["--length", "3", "--stage.batch", "2", "--out", str(folder / "run"), "--device", "cpu", "--quiet"]
    assert app.main([*command, "--steps", "2"]) == 0
    assert app.main([*command, "--steps", "2"]) == 0  # complete: nothing is left
    assert app.main(["export", str(folder / "run"), "--out", str(folder / "exported")]) == 0
    capsys.readouterr()
    assert transformers.AutoModelForCausalLM.from_pretrained(folder / "exported").config.vocab_size == 400
    assert app.main([*command, "--steps", "2", "--stage.beta", "1"]) == 2  # an option of another stage
    assert "beta" in capsys.readouterr().err


def test_tasks_are_made_and_sampled(folder, capsys):
    made = folder / "data"
    options = ["--libraries", "email", "--far", "logging", "--held-out", "4", "--vocabulary", "400", "--width", "32"]
    assert app.main(["docstrings", "--out", str(made), *options, "--layers", "1", "--prompt-length", "30"]) == 0
    assert "4 test prompts of either kind" in capsys.readouterr().out
    assert app.main(["docstrings", "--out", str(made)]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    out = folder / "g.jsonl"
    sampling = ["--outputs", "2", "--length", "5", "--device", "cpu", "--policy", "start"]
    assert (
        app.main(["generate", str(made / "start"), "--data", str(made / "far.jsonl"), "--out", str(out), *sampling])
        == 0
    )
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(len(row["outputs"]), row["policy"]) for row in rows] == [(2, "start")] * 4
    assert app.main(["diversity", str(out)]) == 0
    world = folder / "w"
    assert app.main(["world", "--out", str(world), "--nouns", "8", "--width", "32", "--layers", "1"]) == 0
    capsys.readouterr()
    data = ["--data", str(world / "test.csv"), "--limit", "2", "--device", "cpu", "--out", str(folder / "r")]
    assert app.main(["implicature", str(world / "start"), *data]) == 0
    assert len((world / "no-facts.csv").read_text().splitlines()) == 17
