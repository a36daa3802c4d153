"""The command `llm-probes`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from llm_probes.commands.options import (
    DemoOptions,
    DiversityOptions,
    DocstringOptions,
    ExportOptions,
    GenerateOptions,
    HarnessOptions,
    ImplicatureOptions,
    WorldOptions,
    WrappedOptions,
)
from llm_probes.config import CounterConfig, PcfgConfig, TrainConfig
from paperloop.cli import App, RunOptions, select_device
from paperloop.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app", "main"]

app = App(
    "llm-probes",
    "Implicature resolution, what RLHF costs in diversity, and whether fine-tuning removed a capability or wrapped it.",
)


@app.command(options=ImplicatureOptions, essentials=("data", "dev", "shots", "mode", "score", "human"))
def implicature(options: ImplicatureOptions) -> None:
    """Measure whether a model resolves implicatures: the right yes or no for an answer that only implies it."""
    from llm_probes.implicature.evaluate import complete, rank
    from llm_probes.implicature.examples import join_types
    from llm_probes.implicature.human import human_baseline, read_block
    from llm_probes.implicature.report import table_rows, write_result
    from llm_probes.implicature.summary import summarise
    from llm_probes.models.loading import kind_of, load_model
    from paperloop.loop.progress import Progress

    _new_folder(options.out)
    test, templates, prompts = _prompts(options)
    types = join_types(test, options.types, published=options.published_types) if options.types else None
    human = human_baseline([read_block(path) for path in options.human]) if options.human else None
    if human is not None and len(human.items) != len(test):
        raise UserError(f"the votes concern {len(human.items)} examples and {options.data} has {len(test)}.")
    opening = _text(options.opening) if options.opening else ""
    device = select_device(options.device, "torch")
    model, tokenizer = load_model(options.model, kind=options.kind, device=device, dtype=options.dtype)
    kind = options.kind or kind_of(model.config)
    with contextlib.closing(Progress(len(prompts), label="prompts")) as bar:
        if options.mode == "completion":
            items = complete(
                model,
                tokenizer,
                prompts,
                max_new_tokens=options.max_new_tokens,
                batch=options.batch,
                chat=options.chat,
                opening=opening,
                progress=bar.update,
            )
            layout = "batches"
        else:
            items, layout = rank(
                model,
                tokenizer,
                prompts,
                kind=kind,
                by=options.score,
                add_special_tokens=options.special_tokens,
                layout=options.layout,
                pack_tokens=options.pack_tokens,
                progress=bar.update,
            )
    summary = summarise(items, test, templates, types=types, human=human)
    summary |= {"config": _document(options), "kind": kind, "layout": layout}
    options.out.mkdir(parents=True, exist_ok=True)
    title = f"{options.model}, {options.shots}-shot {options.mode}"
    written = write_result(options.out, summary, items, test, types, title=title)
    _print_table(title, table_rows(summary))
    print(f"per item: {written[2]}")


@app.command(options=HarnessOptions)
def harness_tasks(options: HarnessOptions) -> None:
    """Write task files for lm-evaluation-harness that ask the same prompts and give the same numbers."""
    from llm_probes.implicature.harness import write_harness_tasks

    _, _, prompts = _prompts(options)
    written = write_harness_tasks(options.out, prompts)
    print(f"lm_eval run --include_path {options.out} --tasks {','.join(path.stem for path in written)}")


@app.command(options=DiversityOptions, essentials=("embedder", "nli", "outputs"))
def diversity(options: DiversityOptions) -> None:
    """Measure how different generations are, for one input and across inputs."""
    from llm_probes.diversity.embedders import load_embedder, load_judge
    from llm_probes.diversity.generations import read_generations
    from llm_probes.diversity.measure import measure
    from llm_probes.diversity.ngrams import word_counts
    from paperloop.files import write_json

    policies = read_generations(options.file, outputs=options.outputs)
    texts = [text for policy in policies for outputs in policy.outputs for text in outputs]
    length = options.length or float(word_counts(texts).mean())
    device = select_device(options.device, "torch") if options.embedder or options.nli else "cpu"
    embed = load_embedder(options.embedder, device=device) if options.embedder else None
    judge = load_judge(options.nli, device=device) if options.nli else None
    results = {}
    for policy in policies:
        found = measure(
            policy.outputs,
            embed=embed,
            judge=judge,
            vocabulary=options.vocabulary,
            skip_undefined=options.skip_undefined,
            length=length,
            seed=options.seed,
        )
        results[policy.policy or "all"] = found
        rows = [("words per output", f"{found['words']:.1f}")]
        for name, value in found["metrics"].items():
            own, across = value["per_input"], value["across_input"]
            rows.append(
                (f"{name}, per input", f"{_number(own['mean'])}  [{', '.join(map(_number, own['interval_95']))}]")
            )
            rows.append((f"{name}, per input at {length:.0f} words", _number(own["at_length"])))
            rows.append((f"{name}, across inputs", f"{_number(across['first'])}  (sd {_number(across['std'])})"))
        title = f"{policy.policy or options.file.name}: {found['inputs']} inputs, {found['outputs']} outputs each"
        _print_table(title, rows)
        for warning in found["warnings"]:
            print(f"warning: {warning}")
    if options.out is not None:
        write_json(options.out, {"config": _document(options), "length": length, "policies": results})
        print(f"figures: {options.out}")


@app.command(options=WrappedOptions, essentials=("before", "after", "task", "control"))
def wrapped(options: WrappedOptions) -> None:
    """Say whether fine-tuning removed a capability or only wrapped it, with the evidence of each instrument."""
    from llm_probes.models.loading import load_model
    from llm_probes.wrapped.tasks import draw_from, read_task
    from llm_probes.wrapped.tune import revival
    from llm_probes.wrapped.verdict import examine
    from paperloop.files import write_json

    before, tokenizer = load_model(options.before, kind="causal", dtype="float32")
    after, _ = load_model(options.after, kind="causal", dtype="float32")
    task = read_task(options.task, tokenizer)
    train, test = task.split(options.test, seed=options.seed)
    control = load_model(options.control, kind="causal", dtype="float32")[0] if options.control else None
    back: dict[str, Any] = {"lr": options.lr, "optimiser": options.optimiser, "seed": options.seed}
    verdict = examine(
        task.view,
        before,
        after,
        draw_from(train),
        train,
        test,
        control=control,
        unit=options.unit,
        start=options.start,
        sizes=options.sizes,
        candidates=options.candidates,
        steps=options.steps,
        **back,
    )
    rows = _verdict_rows(verdict)
    document = verdict.document() | {"config": _document(options)}
    if control is not None:
        marks = [step for step, _ in verdict.evidence[-1].detail["curve"]]
        curve = revival(task.view, control, draw_from(train), test, marks=marks, **back)
        rows.append(("control after fine-tuning", f"{curve[-1][1]:.1f} %"))
        document["control"] = curve
    _print_table(f"the capability is {verdict.word}", rows)
    if options.out is not None:
        write_json(options.out, document)
        print(f"evidence: {options.out}")


@app.command(options=RunOptions, config=CounterConfig, essentials=("correlated", "lr", "steps", "length"))
def counter(options: RunOptions, config: CounterConfig) -> None:
    """Fine-tune a compiled counter on another letter and say whether the old count is removed or wrapped."""
    import torch

    from llm_probes.counter_trainer import CounterAccuracy, CounterTrainer, counter_verdict
    from paperloop.files import write_json

    torch.set_num_threads(1)  # the matrices are so small that a second thread only costs
    trainer = CounterTrainer(config)
    state = _run(trainer, options, {"test": CounterAccuracy(trainer)})
    verdict = counter_verdict(trainer, state, seed=options.seed)
    write_json(options.out / "plots" / "verdict.json", verdict.document())
    _print_table(f"the old count is {verdict.word}", _verdict_rows(verdict))


@app.command(options=RunOptions, config=PcfgConfig, essentials=("phase.type", "phase.model", "length", "steps"))
def pcfg(options: RunOptions, config: PcfgConfig) -> None:
    """Train a model on strings of a grammar, or fine-tune it to count another letter; writes model/ and task.jsonl.

    Afterwards `llm-probes wrapped --before A/model --after B/model --task A/task.jsonl` says what became of the count.
    """
    from llm_probes.pcfg_trainer import PcfgAccuracy, PcfgTrainer, write_outcome

    trainer = PcfgTrainer(config, select_device(options.device, "torch"))
    state = _run(trainer, options, {"test": PcfgAccuracy(trainer)})
    write_outcome(trainer, state, options.out, seed=options.seed)
    print(f"model folder: {options.out / 'model'}")


@app.command(options=RunOptions, config=TrainConfig, essentials=("model", "stage.type", "stage.data", "steps"))
def train(options: RunOptions, config: TrainConfig) -> None:
    """Train one stage of RLHF: sft, reward or ppo. Continues what is in the run folder."""
    from llm_probes.trainer import HeldOutAccuracy, RewardTrainer, make_trainer

    trainer = make_trainer(config, select_device(options.device, "torch"))
    _run(trainer, options, {"held_out": HeldOutAccuracy(trainer)} if isinstance(trainer, RewardTrainer) else {})
    print(f"model folder: llm-probes export {options.out} --out FOLDER")


@app.command(options=ExportOptions)
def export(options: ExportOptions) -> None:
    """Write the newest checkpoint of a run as a model folder that transformers can read."""
    from llm_probes import trainer as stages
    from paperloop import restore
    from paperloop.settings import load_config

    trainer = stages.make_trainer(load_config(TrainConfig, options.run))
    stages.export(trainer, restore(trainer, options.run), options.out)
    print(f"model folder: {options.out}")


@app.command(options=GenerateOptions, essentials=("data", "out", "outputs", "length"))
def generate(options: GenerateOptions) -> None:
    """Sample responses of a policy into a file that `llm-probes diversity` reads."""
    from llm_probes.models.lines import read_rows, write_rows
    from llm_probes.models.loading import load_model
    from llm_probes.rlhf.compare import respond
    from paperloop.loop.progress import Progress

    prompts = [row["prompt"] for row in read_rows(options.data, ("prompt",))][: options.limit]
    model, tokenizer = load_model(options.model, kind="causal", device=select_device(options.device, "torch"))
    with contextlib.closing(Progress(len(prompts) * options.outputs, label="responses")) as bar:
        drawn = respond(
            model,
            tokenizer,
            prompts,
            outputs=options.outputs,
            length=options.length,
            temperature=options.temperature,
            seed=options.seed,
            where=str(options.data),
            progress=bar.update,
        )
    policy = options.policy or options.model
    rows = [{"prompt": p, "outputs": o, "policy": policy} for p, o in zip(prompts, drawn.texts, strict=True)]
    write_rows(options.out, rows)
    print(f"diversity: llm-probes diversity {options.out}")


@app.command(options=DocstringOptions, essentials=("libraries", "far"))
def docstrings(options: DocstringOptions) -> None:
    """Make docstring TL;DR from what is installed: demonstrations and prompts in and out of distribution."""
    from llm_probes.models.lines import write_rows
    from llm_probes.models.scratch import write_model
    from llm_probes.rlhf.docstrings import collect, make_task

    _new_folder(options.out)
    task = make_task(
        collect(options.libraries),
        collect(options.far),
        vocabulary=options.vocabulary,
        length=options.prompt_length,
        held_out=options.held_out,
        seed=options.seed,
    )
    size = {"layers": options.layers, "width": options.width, "positions": options.prompt_length + options.length}
    write_model(options.out / "start", task.tokenizer, **size, seed=options.seed)
    for name, pairs in (("demonstrations", task.train), ("test", task.test), ("far", task.far)):
        write_rows(options.out / f"{name}.jsonl", [{"prompt": p, "completion": s} for p, s in pairs])
    write_rows(options.out / "prompts.jsonl", [{"prompt": p} for p, _ in task.train])
    print(f"{len(task.train)} demonstrations, {options.held_out} test prompts of either kind in {options.out}")


@app.command(options=WorldOptions, essentials=("held_out", "nouns"))
def world(options: WorldOptions) -> None:
    """Make a world in which facts decide what answers imply: text for a base model, examples, a held-out rule."""
    import csv

    from llm_probes.implicature.examples import COLUMNS
    from llm_probes.implicature.templates import TEMPLATES
    from llm_probes.implicature.world import VERBS, asked, base_text, make_world
    from llm_probes.models.lines import write_rows
    from llm_probes.models.scratch import make_tokenizer, write_model

    _new_folder(options.out)
    made = make_world(nouns=options.nouns, seed=options.seed)
    base = base_text(made, TEMPLATES)
    tune = asked(made.examples([verb for verb in VERBS if verb != options.held_out]), TEMPLATES)
    tokenizer = make_tokenizer([row["prompt"] + row["completion"] for row in base + tune], size=1200)
    size = {"layers": options.layers, "width": options.width, "positions": 64}
    write_model(options.out / "start", tokenizer, **size, seed=options.seed)
    write_rows(options.out / "base.jsonl", base)
    write_rows(options.out / "tune.jsonl", tune)
    for name, known in (("test", True), ("no-facts", False)):
        with (options.out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = made.examples([options.held_out], known=known)
            csv.writer(file).writerows([COLUMNS, *((e.utterance, e.response, e.label.capitalize()) for e in rows)])
    print(f"{len(base)} texts for the base model, {len(tune)} examples of the other rules in {options.out}")


@app.command(options=DemoOptions)
def demo(options: DemoOptions) -> None:
    """Show it in half a minute: a counter is fine-tuned, and the instruments say what became of its count."""
    from llm_probes.demo import run_demo

    run_demo(options.out)


def _run(trainer: Any, options: RunOptions, evaluators: dict[str, Any]) -> Any:
    """Train into the run folder, draw its figures, and return the final state."""
    from paperloop import run
    from paperloop_lab.report import report, report_command
    from paperloop_lab.sinks import make_sinks

    arguments: dict[str, Any] = options.run_arguments()
    arguments |= {"evaluators": evaluators, "sinks": make_sinks(options.sinks)}
    state = run(trainer, options.out, steps=trainer.config.steps, **arguments)
    (report if options.quiet else report_command)([options.out], options.out / "plots")
    return state


def _verdict_rows(verdict: Any) -> list[tuple[str, str]]:
    rows = [("accuracy before", f"{verdict.before:.1f} %"), ("accuracy after", f"{verdict.after:.1f} %")]
    rows.append(("commonest answer", f"{verdict.floor:.1f} %"))
    for e in verdict.evidence:
        shown = f"{_number(e.share)}  [{_number(e.low)}, {_number(e.high)}]"
        rows.append((f"{e.instrument} recovers", "no more than in the control" if e.share is None else shown))
    return rows


def _prompts(options: Any) -> tuple[Any, Any, Any]:
    """Read the examples and templates and return (test examples, templates, prompts)."""
    from llm_probes.implicature.evaluate import build_prompts
    from llm_probes.implicature.examples import read_examples
    from llm_probes.implicature.templates import TEMPLATES, read_templates

    test, dropped = read_examples(options.data, drop_unlabelled=options.drop_unlabelled)
    if dropped:
        print(f"rows without a label that were left out: {dropped}")
    development = read_examples(options.dev, drop_unlabelled=options.drop_unlabelled)[0] if options.dev else []
    templates = read_templates(options.templates) if options.templates else list(TEMPLATES)
    prompts = build_prompts(
        test,
        development,
        templates,
        shots=options.shots,
        mode="contrastive" if options.mode == "contrastive" else "ranking",
        random_shot_labels=getattr(options, "random_labels", False),
        seed=options.seed,
        limit=options.limit,
    )
    return test, templates, prompts


def _new_folder(path: Any) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} is not an empty folder; give a new one with --out.")


def _text(path: Any) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from None


def _document(options: Any) -> dict[str, Any]:
    from paperloop.settings import to_dict

    return to_dict(options)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    print(title)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def main() -> int:
    """Run the command line."""
    return app.main()
