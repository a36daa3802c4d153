"""Half a minute: a counter that is taught to count another letter, and what the instruments say about it."""

from __future__ import annotations

from pathlib import Path

import torch

from llm_probes.config import CounterConfig
from llm_probes.counter_trainer import VIEW, CounterAccuracy, CounterTrainer, counter_verdict
from llm_probes.wrapped.planted import plant_deletion
from llm_probes.wrapped.tune import revival
from paperloop import run
from paperloop_lab.plots import legend, new_figure, save_figure, style

__all__ = ["run_demo"]


def run_demo(out: Path) -> None:
    """Fill `out` with a run, and with figures of pruning, of fine-tuning back, and of what is attended to."""
    torch.set_num_threads(1)
    trainer = CounterTrainer(CounterConfig(symbols=6, length=8, trained=0.6, lr=1e-3, noise=1e-3, steps=300))
    state = run(trainer, out / "run", steps=trainer.config.steps)
    right = CounterAccuracy(trainer, 300)(state, 1)
    print(f"counts b: {right['tuned_with']:.0f} % where b = a + 1, {right['tuned_without']:.0f} % elsewhere")
    deleted = trainer.init(0)
    deleted.model = plant_deletion(trainer.compiled(0, 0))
    verdicts = {"fine-tuned": counter_verdict(trainer, state, examples=300)}
    verdicts["count deleted"] = counter_verdict(trainer, deleted, examples=300)
    figure, (left, back) = new_figure(8.4, 3.2, columns=2)
    for number, (name, verdict) in enumerate(verdicts.items()):
        shares = ", ".join(f"{one.instrument} {one.share:.2f}" for one in verdict.evidence)
        print(f"{name}: the count of a is {verdict.word} (recovered by {shares})")
        for axes, one in ((left, verdict.evidence[1]), (back, verdict.evidence[2])):
            axes.plot(*zip(*one.detail["curve"], strict=True), label=f"{name}: {verdict.word}", **style(number))
    test = trainer.draw(300, torch.Generator().manual_seed(5))
    marks = [step for step, _ in verdicts["fine-tuned"].evidence[2].detail["curve"]]
    control = revival(VIEW, trainer.compiled(1, 0), trainer.draw, test, marks=marks, lr=trainer.config.lr)
    back.plot(*zip(*control, strict=True), label="never counted a", **style(len(verdicts)))
    left.set_xlabel("pruned weights")
    left.set_ylabel("count of a, % right")
    back.set_xlabel("steps of fine-tuning back")
    legend(left)
    legend(back)
    save_figure(figure, out / "wrapped.png")
    figure, axes = new_figure(8.4, 2.6, columns=3)
    maps = state.model.attention(test.tokens[:1])[:, 0].detach()
    for number, (one, values) in enumerate(zip(axes, maps, strict=True)):
        one.imshow(values, cmap="Blues", vmin=0, vmax=1)
        one.set_title(f"attention of block {number}", fontsize=9)
    save_figure(figure, out / "attention.png")
    print(f"figures: {out / 'wrapped.png'}, {out / 'attention.png'}")
