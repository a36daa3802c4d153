"""Compiled models, and instruments on models of which the truth is known."""

import json
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from llm_probes.wrapped.counting import draw_strings, majority
from llm_probes.wrapped.instruments import CausalView, CompiledView, Examples, accuracy, answer_loss
from llm_probes.wrapped.planted import plant_deletion, plant_wrapper
from llm_probes.wrapped.probes import ProbeResult, fit_probes, probe
from llm_probes.wrapped.prune import late, prune, scores
from llm_probes.wrapped.rasp import compile_counter, compile_nth_largest, tokens_of
from llm_probes.wrapped.tasks import read_task
from llm_probes.wrapped.tune import revival, steps_to, warmup_cosine
from llm_probes.wrapped.verdict import Evidence, _probe_evidence, conclude, examine, recovered
from paperloop import UserError

VIEW = CompiledView()
SIZE = {"symbols": 6, "length": 10}


def examples(number, seed, letter=0, correlated=0.0):
    drawn = draw_strings(number, **SIZE, correlated=correlated, generator=torch.Generator().manual_seed(seed))
    return Examples(drawn.tokens, drawn.counts[:, letter])


def draw(number, generator):
    drawn = draw_strings(number, **SIZE, correlated=0.0, generator=generator)
    return Examples(drawn.tokens, drawn.counts[:, 0])


@pytest.fixture(scope="module")
def counter():
    return compile_counter(**SIZE)


@pytest.mark.parametrize("length", [3, 10, 47])
def test_the_counter_is_exact_at_every_count_and_position(length):
    model = compile_counter(length=length, letter=2)
    rows = [[2] * k + [(3 + i) % 9 if (3 + i) % 9 != 2 else 0 for i in range(length - k)] for k in range(length + 1)]
    found = model(tokens_of(rows)).argmax(-1)[:, 1:]
    assert (found == torch.arange(length + 1)[:, None]).all()
    shorter = model(tokens_of([row[:2] for row in rows])).argmax(-1)[:, 1:]  # than the model was compiled for
    assert (shorter == torch.tensor([row[:2].count(2) for row in rows])[:, None]).all()


def test_too_little_exactness_warns_and_is_wrong_at_large_counts():
    with pytest.warns(UserWarning, match="counts up to 30 need an exactness above 1984; with 100"):
        model = compile_counter(length=30, exactness=100.0)
    rows = [[0] * k + [1] * (30 - k) for k in range(31)]
    found = model(tokens_of(rows)).argmax(-1)[:, 1]
    assert (found[:10] == torch.arange(10)).all()
    assert (found != torch.arange(31)).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile_counter(length=30)


def test_the_nth_largest_of_different_letters():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randperm(16, generator=generator)[:10].tolist() for _ in range(200)]
    for rank in (1, 5, 10):
        found = compile_nth_largest(rank=rank)(tokens_of(rows)).argmax(-1)[:, 1:]
        assert (found == torch.tensor([sorted(row)[rank - 1] for row in rows])[:, None]).all()
    with pytest.raises(UserError, match="rank 11 is not between 1 and 10"):
        compile_nth_largest(rank=11)


def test_attention_maps_show_what_is_counted(counter):
    (row,) = counter.attention(tokens_of([[0, 3, 0, 1, 2, 5, 4, 1, 1, 2]]))[1, :, -1].tolist()
    assert row[:5] == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3, 0], abs=1e-6)  # BOS and the two letters


def test_strings_have_the_relation_or_lack_it():
    for share in (0.0, 0.6, 1.0):
        generator = torch.Generator().manual_seed(0)
        drawn = draw_strings(600, symbols=9, length=24, correlated=share, generator=generator)
        has = (drawn.counts[:, 1] == drawn.counts[:, 0] + 1).float().mean()
        assert abs(float(has) - share) <= 4 * np.sqrt(share * (1 - share) / 600)
    natural = draw_strings(4000, symbols=9, length=24, correlated=None, generator=torch.Generator().manual_seed(0))
    assert (natural.tokens[:, 0] == 0).all()
    assert natural.counts.sum(1).eq(24).all()
    # Uniform letters: binomial with mean 24/9 and variance 24 * 8 / 81.
    assert abs(float(natural.counts[:, 0].float().mean()) - 24 / 9) < 4 * np.sqrt(24 * 8 / 81 / 4000)
    with pytest.raises(UserError, match=r"1\.5, which is outside \[0, 1\]"):
        draw_strings(1, **SIZE, correlated=1.5, generator=torch.Generator())


def test_schedule():
    """20 % warm-up, then a cosine to a hundredth of the peak at the last step."""
    factors = [warmup_cosine(step, steps=100) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 20)
    assert factors[19] == pytest.approx(1)
    assert factors[59] == pytest.approx(0.01 + 0.99 * 0.5)
    assert factors[-1] == pytest.approx(0.01)


def test_a_planted_feature_is_read_and_permuted_labels_earn_the_majority():
    generator = torch.Generator().manual_seed(0)
    targets = (torch.rand(600, generator=generator) * 3).long().clamp(max=2)
    targets[:300] = 1
    one_hot = torch.nn.functional.one_hot(targets, 3).float() + 0.01 * torch.randn(600, 3, generator=generator)

    class Planted:
        def read(self, model, part):
            return part.tokens, [torch.randn(len(part), 4, generator=generator), part.tokens]

    order = torch.randperm(600, generator=generator)
    data = Examples(one_hot, targets)
    result = probe(Planted(), None, data.take(order[:400]), data.take(order[400:]))
    share = majority(targets[order[400:]])
    assert result.majority == pytest.approx(share, abs=1e-4)
    assert result.accuracy[1] == 100
    assert result.best == 1
    assert abs(result.accuracy[0] - share) < 8
    assert max(result.control) < share + 8
    assert result.selectivity[1] > 25
    with pytest.raises(UserError, match="2 examples are too few to fit a probe with 3 classes"):
        probe(Planted(), None, data.take(order[:2]), data)


def test_probes_fitted_together_equal_probes_fitted_alone():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 200, 5, generator=generator)
    targets = torch.stack([(features[i] @ torch.randn(5, 3, generator=generator)).argmax(1) for i in (0, 1)])
    together, _ = fit_probes(features, targets, 3, steps=200)
    alone, _ = fit_probes(features[1:], targets[1:], 3, steps=200)
    torch.testing.assert_close(together[1], alone[0], rtol=0.05, atol=0.02)


def test_scores_are_the_first_order_change_of_the_loss(counter):
    """L(w (1 - e)) - L(w) = -e w g + O(e^2), weight by weight, in float64."""
    model = plant_wrapper(counter).double()
    batch = examples(64, 0)
    found = scores(VIEW, model, batch)
    name = "blocks.2.out.weight"
    index = int(found[name].abs().flatten().argmax())
    parameter = dict(model.named_parameters())[name]
    with torch.no_grad():
        before = answer_loss(VIEW, model, batch)
        parameter.view(-1)[index] *= 1 - 1e-4
        after = answer_loss(VIEW, model, batch)
    assert float(after - before) == pytest.approx(-1e-4 * float(found[name].flatten()[index]), rel=1e-2)


def test_the_wrapper_is_right_with_the_relation_only(counter):
    model = plant_wrapper(counter)
    assert accuracy(VIEW, model, examples(200, 1, letter=1, correlated=1.0)) == 100
    assert accuracy(VIEW, model, examples(200, 1, letter=1, correlated=0.0)) == 0
    assert accuracy(VIEW, model, examples(200, 1)) == 0
    assert accuracy(VIEW, counter, examples(200, 1)) == 100  # the original is as it was


def test_pruning_finds_the_planted_weight_and_random_ones_do_nothing(counter):
    model = plant_wrapper(counter)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    train, test = examples(600, 2), examples(300, 3)
    result = prune(VIEW, model, train, test, sizes=[0, 1, 20], start=0.5, random_draws=20)
    assert result.units[0] == f"blocks.2.out.weight[{model.spare}, {model.blocks[2].out.weight.shape[1] - 1}]"
    assert result.accuracy[:2] == (0, 100)
    assert result.random[1] < 20
    assert result.classes[1] > 4  # several answers, not a constant
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    with pytest.raises(UserError, match="units are to be pruned and the model has"):
        prune(VIEW, model, examples(10, 2), examples(10, 3), sizes=[10**6])
    assert {name.split(".")[1] for name in late(VIEW.prunable(model), 0.5)} == {"2"}
    with pytest.raises(UserError, match="no block of the model's 3"):
        late(VIEW.prunable(model), 0.99)


def test_a_row_is_an_output_unit_however_the_matrix_is_stored(make_model):
    """GPT-2 stores inputs x outputs: without unit 40 of c_fc, its activation is that of 0."""
    from llm_probes.wrapped.prune import pruned

    model = make_model("gpt2")
    name, layer = "transformer.h.1.mlp.c_fc.weight", model.transformer.h[1].mlp.c_fc
    seen = []
    layer.register_forward_hook(lambda module, inputs, out: seen.append(out))
    torch.nn.init.ones_(layer.bias)
    with torch.no_grad(), pruned({name: layer.weight}, [(name, 40)], "row", {name: layer.bias}, {name}):
        model(torch.tensor([[5, 6, 7]]))
    assert (seen[0][..., 40] == 0).all()
    assert (seen[0][..., :40] != 0).all()
    tokens = torch.randint(10, 60, (30, 4), generator=torch.Generator().manual_seed(0))
    data, view = Examples(tokens, tokens[:, -1] % 3), CausalView([20, 21, 22])
    assert scores(view, model, data, unit="row")[name].shape == (128,)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    prune(view, model, data, data, sizes=[0, 200], unit="row", random_draws=1)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("plant", "word", "probe_share", "prune_share"),
    [
        (lambda model: model, "not lost", 1, 1),
        (plant_wrapper, "wrapped", 1, 1),
        (plant_deletion, "removed", 0, 0),
        (lambda model: compile_counter(**SIZE, letter=1), "removed", 0, 0),  # a model that never counted this letter
    ],
    ids=["itself", "wrapped", "deleted", "another task"],
)
def test_verdicts_on_planted_truths(counter, plant, word, probe_share, prune_share):
    train, test = examples(800, 4), examples(400, 5)
    verdict = examine(VIEW, counter, plant(counter), draw, train, test, sizes=(0, 1, 2, 5), steps=20)
    assert verdict.word == word
    by_name = {evidence.instrument: evidence for evidence in verdict.evidence}
    assert by_name["probe"].share == pytest.approx(probe_share, abs=0.2)
    assert by_name["prune"].share == pytest.approx(prune_share, abs=0.2)
    json.dumps(verdict.document(), allow_nan=False)


def test_shares_and_conclusions_by_hand():
    share, low, high = recovered(75.0, before=100.0, floor=50.0, examples=300)
    assert share == 0.5
    assert (low, high) == pytest.approx((0.402, 0.598), abs=1e-3)  # 1.96 sqrt(.75 * .25 / 300) = 4.9 points
    with pytest.raises(UserError, match="nothing to recover"):
        recovered(50.0, before=40.0, floor=50.0, examples=10)
    sure, none = Evidence("probe", 1, 0.9, 1, {}), Evidence("prune", 0, 0, 0.1, {})
    trained, unsure = Evidence("revive", 1, 0.9, 1, {}), Evidence("probe", 0.5, 0.3, 0.7, {})
    assert conclude(100, 0, 20, [sure, none]) == "wrapped"
    assert conclude(100, 0, 20, [none]) == "removed"
    assert conclude(100, 0, 20, [none, trained]) == "undecided"  # training alone may teach it anew
    assert conclude(100, 0, 20, [none, unsure]) == "undecided"
    assert conclude(100, 95, 20, [sure]) == "not lost"
    mute = Evidence("probe", None, None, None, {})  # it finds as much in a model that never had the capability
    assert conclude(100, 0, 20, [mute, none]) == "removed"
    assert conclude(100, 0, 20, [mute, trained]) == "undecided"


def test_a_probe_that_reads_the_control_as_well_says_nothing():
    def result(best):
        return ProbeResult((30.0, best), (30.0, 30.0), 25.0, 400)

    plain = _probe_evidence(result(99.0), result(98.0), None)
    assert plain.low > 0.9
    assert _probe_evidence(result(99.0), result(98.0), result(40.0)).share == pytest.approx((98 - 40) / (99 - 40))
    assert _probe_evidence(result(99.0), result(98.0), result(97.0)).share is None


def test_revival_curves(counter):
    model = plant_wrapper(counter)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    curves = [revival(VIEW, model, draw, examples(200, 6), marks=[0, 2, 5], lr=1e-3, seed=1) for _ in range(2)]
    assert curves[0] == curves[1]
    assert [step for step, _ in curves[0]] == [0, 2, 5]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert steps_to([(0, 0.0), (10, 50.0), (20, 100.0)], 75) == 15
    assert steps_to([(0, 0.0)], 1) == float("inf")


def test_any_causal_model_with_a_task_file(tmp_path, make_model, tokenizer, capsys):
    from llm_probes.cli import app

    for name, seed in (("before", 0), ("after", 1)):
        make_model(seed=seed).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    # The task is whatever the first model says, so that it is perfect at it.
    prompts = [f"question: {i * 37 % 101}\nimplicature:" for i in range(60)]
    model = make_model(seed=0)
    letters = [tokenizer(letter)["input_ids"][0] for letter in "abcdefgh"]
    rows = []
    for prompt in prompts:
        with torch.no_grad():
            logits = model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1, letters]
        rows.append({"prompt": prompt, "answer": "abcdefgh"[int(logits.argmax())]})
    task = tmp_path / "task.jsonl"
    task.write_text("\n".join(json.dumps(row) for row in rows))
    read = read_task(task, tokenizer)
    assert accuracy(read.view, model, read.examples) == 100  # padding at the left changes nothing
    common = ["--task", str(task), "--steps", "3", "--sizes", "0", "1", "--out", str(tmp_path / "v.json")]
    common += ["--before", str(tmp_path / "before"), "--control", str(tmp_path / "after")]
    assert app.main(["wrapped", *common, "--after", str(tmp_path / "before")]) == 0
    assert "the capability is not lost" in capsys.readouterr().out
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["before"] == found["after"] == 100
    assert [step for step, _ in found["control"]] == [0, 1, 3]
    (tmp_path / "bad.jsonl").write_text('{"prompt": "which means", "answer": " not at all"}')
    with pytest.raises(UserError, match=r"line 1: the answer ' not at all' is \d+ tokens"):
        read_task(tmp_path / "bad.jsonl", tokenizer)


def make(settings):
    from llm_probes.counter_trainer import CounterTrainer

    return CounterTrainer(settings)


def test_fine_tuning_a_counter_resumes_and_is_measured(tmp_path, capsys):
    from llm_probes.cli import app
    from llm_probes.config import CounterConfig
    from llm_probes.counter_trainer import CounterAccuracy

    trainer = make(CounterConfig(**SIZE))
    first = CounterAccuracy(trainer, examples=200)(trainer.init(0), 0)
    assert first == {
        "tuned_with": 0,
        "tuned_without": first["tuned_without"],
        "pretrained_with": 100,
        "pretrained_without": 100,
    }
    command = [
        "counter",
        "--length",
        "6",
        "--symbols",
        "4",
        "--device",
        "cpu",
        "--quiet",
        "--out",
        str(tmp_path / "run"),
    ]
    assert app.main([*command, "--steps", "3"]) == 0
    assert "the old count is not lost" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "plots" / "verdict.json").read_text())["before"] == 100
    assert app.main([*command, "--tuned", "4"]) == 2
    assert "below symbols, which is 4" in capsys.readouterr().err


@pytest.mark.slow
def test_fine_tuning_a_counter_meets_the_contract(tmp_path):
    from llm_probes.config import CounterConfig
    from paperloop.conformance import check_trainer

    small, other = (CounterConfig(symbols=3, length=n, batch=8, steps=50) for n in (4, 5))
    assert len(check_trainer(make, small, folder=tmp_path, steps=2, kills=1, other_config=other)) >= 6


def test_verified_pruning_removes_what_lowers_the_loss(counter):
    model = plant_wrapper(counter)
    result = prune(VIEW, model, examples(200, 2), examples(200, 3), sizes=[0, 1, 5], start=0.5, candidates=10)
    assert result.accuracy == (0, 100, 100)
    assert result.units[0] == f"blocks.2.out.weight[{model.spare}, {model.blocks[2].out.weight.shape[1] - 1}]"
    assert len(result.units) < 5  # it stops when nothing is left to gain


def test_only_the_later_blocks_are_trained_and_frozen_weights_are_still_scored():
    from llm_probes.config import CounterConfig

    trainer = make(CounterConfig(**SIZE, trained=0.6))
    state = trainer.init(0)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    trainer.step(state)
    moved = {name for name, value in state.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("blocks.2.") for name in moved)
    found = scores(VIEW, state.model, examples(20, 0))
    assert any(name.startswith("blocks.0.") and value.any() for name, value in found.items())
    assert not dict(state.model.named_parameters())["blocks.0.out.weight"].requires_grad


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_members_of_an_ensemble_get_the_updates_they_would_get_alone(optimiser):
    """Against a loop over one model by its own forward pass, for both ways to stack members."""
    from llm_probes.wrapped.ensemble import by_vmap, train_together
    from llm_probes.wrapped.tune import add_noise, make_optimiser, warmup_cosine

    def members():
        found = []
        for seed in range(3):
            model = compile_counter(symbols=3, length=4)
            add_noise(model, 1e-3, torch.Generator().manual_seed(seed))
            model.token.weight.requires_grad_(False)
            found.append(model.double())
        return found

    batches = [[examples_of(step, seed) for seed in range(3)] for step in range(4)]
    options = {"steps": 4, "lr": 1e-4, "optimiser": optimiser}
    together, mapped = members(), members()
    losses = train_together(together, batches.__getitem__, **options)
    logits = by_vmap(mapped[0], lambda call, tokens: call(tokens)[:, -1])
    assert train_together(mapped, batches.__getitem__, logits=logits, **options) == pytest.approx(losses)
    for i, model in enumerate(members()):
        update = make_optimiser(model.parameters(), optimiser, 1e-4)
        for step in range(4):
            update.param_groups[0]["lr"] = 1e-4 * warmup_cosine(step, steps=4)
            update.zero_grad()
            loss = answer_loss(CompiledView(), model, batches[step][i])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            update.step()
        assert loss.item() == pytest.approx(losses[i])
        for one, *others in zip(model.parameters(), together[i].parameters(), mapped[i].parameters(), strict=True):
            for other in others:
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        assert torch.equal(model.token.weight, members()[i].token.weight)
    with pytest.raises(TypeError, match="by_vmap"):
        train_together([torch.nn.Linear(2, 2)], batches.__getitem__, steps=1, lr=1)


def examples_of(step, seed):
    generator = torch.Generator().manual_seed(10 * step + seed)
    drawn = draw_strings(16, symbols=3, length=4, correlated=1.0, generator=generator)
    return Examples(drawn.tokens, drawn.counts[:, 1])
