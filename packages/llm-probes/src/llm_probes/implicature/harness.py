"""Task files for lm-evaluation-harness that ask exactly the same prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from llm_probes.implicature.templates import Prompt, Template
from paperloop.errors import UserError
from paperloop.files import write_atomically

__all__ = ["write_harness_tasks"]

TASK = """task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: {choices}
doc_to_target: "{{{{target}}}}"
target_delimiter: " "
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""


def write_harness_tasks(
    folder: Path, prompts: Sequence[tuple[int, Template, Prompt]], *, prefix: str = "implicature"
) -> list[Path]:
    """Write one YAML task and one JSONL of rendered prompts for every template.

    The draws of worked examples differ by example, so the prompts are written out. The harness breaks ties by the first
    choice, this library counts them as wrong. Run with `lm_eval run --include_path FOLDER --tasks <prefix>_1,...`.

    Args:
        folder: a new or empty folder.
        prompts: from `build_prompts`.
        prefix: of the tasks' names.

    Raises:
        UserError: the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; give a new folder for the tasks.")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in dict.fromkeys(template.name for _, template, _ in prompts):
        task = f"{prefix}_{name}"
        data = (folder / f"{task}.jsonl").resolve()
        chosen = [(index, prompt) for index, template, prompt in prompts if template.name == name]
        choices = sorted({answer.strip() for _, prompt in chosen for answer in prompt.answers}, reverse=True)
        rows = []
        for index, prompt in chosen:
            row = {"example": index, "prompt": prompt.prefix, "target": choices.index(prompt.answers[0].strip())}
            rows.append(json.dumps(row, ensure_ascii=False))
        write_atomically(data, ("\n".join(rows) + "\n").encode())
        path = folder / f"{task}.yaml"
        write_atomically(path, TASK.format(task=task, data=json.dumps(str(data)), choices=json.dumps(choices)).encode())
        written.append(path)
    return written
