"""Adapters of PEFT wherever a model is accepted, and TRL's trainers; each skips where the library is absent."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from llm_probes.implicature.evaluate import build_prompts, rank
from llm_probes.implicature.examples import Example
from llm_probes.implicature.templates import TEMPLATES
from llm_probes.models.loading import load_model
from llm_probes.wrapped.instruments import CausalView, Examples
from llm_probes.wrapped.probes import probe
from llm_probes.wrapped.prune import prune
from paperloop import UserError

EXAMPLES = [Example("Is it far?", "You will need good shoes.", "yes"), Example("Are you coming?", "I work.", "no")]


@pytest.fixture
def base(tmp_path, make_model, tokenizer):
    make_model("gpt2").save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base, make_model):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(0)
    options = {"r": 2, "target_modules": ["c_attn"], "fan_in_fan_out": True, "init_lora_weights": False}
    model = peft.get_peft_model(load_model(base)[0], peft.LoraConfig(task_type="CAUSAL_LM", **options))
    model.save_pretrained(base.parent / "adapter")
    return base.parent / "adapter"


def test_a_folder_with_an_adapter_is_scored_probed_and_pruned(base, adapter):
    prompts = build_prompts(EXAMPLES, [], TEMPLATES[:2])
    found = {}
    for folder in (base, adapter):
        model, tokenizer = load_model(folder, dtype="float32")
        items, _ = rank(model, tokenizer, prompts)
        padded, layout = rank(model, tokenizer, prompts, layout="padded")
        assert layout == "padded"
        for one, other in zip(items, padded, strict=True):
            assert one.scores["continuation"] == pytest.approx(other.scores["continuation"], abs=1e-4)
        found[folder] = items[0].scores["continuation"]
    assert abs(found[base][0] - found[adapter][0]) > 1e-3  # the adapter changes the model
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(10, 60, (60, 5), generator=generator)
    data, view = Examples(tokens, tokens[:, -1] % 3), CausalView([20, 21, 22])
    assert len(probe(view, model, data, data).accuracy) == 3
    result = prune(view, model, data, data, sizes=[0, 2], unit="row", start=0.0, random_draws=1)
    assert len(result.units) == 2
    assert any(not parameter.requires_grad for parameter in model.parameters())  # still frozen


def test_trl_trains_from_the_same_files(base, tmp_path):
    pytest.importorskip("trl", reason="trl is not installed")
    from llm_probes.rlhf.with_trl import dpo, rloo

    rows = [{"prompt": f"Is it {i}?", "chosen": " yes", "rejected": " no"} for i in range(8)]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    log = rloo(
        base, data, lambda prompts, texts: [len(text) for text in texts], tmp_path / "rloo", steps=1, batch=4,
        generations=2, length=4, use_cpu=True,
    )  # fmt: skip
    assert log
    assert load_model(tmp_path / "rloo")[0].config.n_layer == 2
    assert dpo(base, data, tmp_path / "dpo", steps=1, batch=4, use_cpu=True)


def test_without_trl_the_message_says_what_to_install(base, tmp_path, monkeypatch):
    from llm_probes.rlhf.with_trl import rloo

    monkeypatch.setitem(__import__("sys").modules, "trl", None)
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}')
    with pytest.raises(UserError, match=r"need TRL .* pip install 'llm-probes\[trl\]'"):
        rloo(base, tmp_path / "p.jsonl", lambda prompts, texts: [0.0], tmp_path / "x", steps=1)


def test_a_folder_that_lacks_weights_is_refused(base):
    """As after saving a compiled model: every name has a prefix, and the weights would silently be random."""
    from safetensors.torch import load_file, save_file

    file = base / "model.safetensors"
    save_file({f"_orig_mod.{name}": value for name, value in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks \d+ of the model's weights, such as lm_head"):
        load_model(base)
