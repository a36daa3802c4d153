"""What each command of `llm-probes` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from paperloop.cli import Device, Positional
from paperloop.settings import Count, CountOrZero, Ge, Gt, Lt, NotNegative, Positive, Seed, fault, settings

__all__ = []


@settings
class ImplicatureOptions:
    """One evaluation of implicature resolution.

    Attributes:
        model: a folder of a Hugging Face model, of a PEFT adapter, or a name on the hub
        data: CSV of test examples: Context utterance, Response utterance, Implicature
        out: a new folder for summary.json, items.jsonl and items.html
        dev: CSV of the development examples, from which worked examples are drawn
        shots: worked examples in each prompt
        mode: ranking: compare the two texts; contrastive: ask which text is coherent; completion: read a free answer
        score: what ranks: continuation (sum), last_token, mean_all (of the whole text) or corrected (for the prior)
        templates: a template file to use instead of the paper's six
        types: CSV of type labels: Utterance, Response, Type
        published_types: join the type labels as for the published figures, by the utterance alone
        human: CSV files of annotators' votes in the order of the test set
        random_labels: give the worked examples random labels (an ablation)
        drop_unlabelled: leave out rows whose label is neither yes nor no
        limit: use the first so many test examples
        seed: of the draws of worked examples; 0 is the paper's
        kind: how the model predicts; read from its architecture by default
        special_tokens: let the tokeniser open every text with its special tokens
        layout: how prompts are laid out; auto packs them where the model allows it
        pack_tokens: tokens of one forward pass
        max_new_tokens: length of a completion
        batch: prompts of one pass in completion mode
        chat: use the tokeniser's chat template in completion mode
        opening: a text file that stands before every prompt in completion mode, such as worked chains of thought
        dtype: precision of the weights
        device: where to compute
    """

    model: Positional[str]
    data: Path
    out: Path
    dev: Path | None = None
    shots: CountOrZero = 0
    mode: Literal["ranking", "contrastive", "completion"] = "ranking"
    score: Literal["continuation", "last_token", "mean_all", "corrected"] = "continuation"
    templates: Path | None = None
    types: Path | None = None
    published_types: bool = False
    human: tuple[Path, ...] = ()
    random_labels: bool = False
    drop_unlabelled: bool = False
    limit: Count | None = None
    seed: Seed = 0
    kind: Literal["causal", "seq2seq", "masked"] | None = None
    special_tokens: bool = False
    layout: Literal["auto", "packed", "padded"] = "auto"
    pack_tokens: Count = 512
    max_new_tokens: Count = 500
    batch: Count = 16
    chat: bool = False
    opening: Path | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Device = "auto"

    def __post_init__(self) -> None:
        """Check what concerns several settings."""
        if self.shots and self.dev is None:
            raise fault(self, "dev", f"needed for {self.shots} worked examples in each prompt")
        if self.published_types and self.types is None:
            raise fault(self, "types", "needed, because published_types says how they are joined")
        if self.random_labels and not self.shots:
            raise fault(self, "shots", "above 0, because random_labels changes worked examples")
        if self.mode == "contrastive" and self.score == "corrected":
            raise fault(self, "score", "another one: the answers A and B have no prior of their own")
        if self.mode != "completion" and (self.chat or self.opening):
            raise fault(self, "mode", '"completion", because the chat template and an opening are for completions')


@settings
class HarnessOptions:
    """Task files for lm-evaluation-harness.

    Attributes:
        data: CSV of test examples
        out: a new folder for the task files
        dev: CSV of the development examples
        shots: worked examples in each prompt
        mode: ranking or contrastive
        templates: a template file to use instead of the paper's six
        limit: use the first so many test examples
        seed: of the draws of worked examples
        drop_unlabelled: leave out rows whose label is neither yes nor no
    """

    data: Path
    out: Path
    dev: Path | None = None
    shots: CountOrZero = 0
    mode: Literal["ranking", "contrastive"] = "ranking"
    templates: Path | None = None
    limit: Count | None = None
    seed: Seed = 0
    drop_unlabelled: bool = False

    def __post_init__(self) -> None:
        """Check what concerns several settings."""
        if self.shots and self.dev is None:
            raise fault(self, "dev", f"needed for {self.shots} worked examples in each prompt")


@settings
class DiversityOptions:
    """Diversity of generations.

    Attributes:
        file: JSON lines: an input (input, prompt ...) with a list of outputs, or one output a line; policy is optional
        out: a JSON file for the figures
        outputs: use the first so many outputs of every input
        embedder: a folder of a text encoder or a sentence-transformers model, for cosine and Vendi diversity
        nli: a folder of a natural-language inference model, for NLI diversity
        vocabulary: V of expectation-adjusted distinct n-grams; the original's is 50257
        skip_undefined: leave out n-gram orders that no output is long enough for, instead of counting them as 0
        length: words at which length-controlled means are taken; by default the mean over all policies
        seed: of the bootstrap
        device: where to compute
    """

    file: Positional[Path]
    out: Path | None = None
    outputs: Count | None = None
    embedder: str | None = None
    nli: str | None = None
    vocabulary: Count = 50257
    skip_undefined: bool = False
    length: Positive | None = None
    seed: Seed = 0
    device: Device = "auto"


@settings
class WrappedOptions:
    """Whether fine-tuning removed a capability or wrapped it.

    Attributes:
        before: folder or name of the model before fine-tuning
        after: folder or name of the model after it
        task: JSON lines of the old capability: "prompt" and a one-token "answer", without the spurious relation
        out: a JSON file for the evidence
        control: a model that never had the capability, to compare probes and revival with
        test: share of the examples that the instruments are tested on
        unit: what is pruned: rows of weight matrices, the neurons, or single weights
        start: prune only blocks from this share of the depth on
        sizes: numbers of pruned units to try
        candidates: 0 prunes in one step, as published; otherwise the best of so many units by the loss without it
        steps: of fine-tuning back
        lr: of fine-tuning back
        optimiser: of fine-tuning back
        seed: of the split and of everything random
    """

    before: str
    after: str
    task: Path
    out: Path | None = None
    control: str | None = None
    test: Annotated[float, Gt(0), Lt(1)] = 0.3
    unit: Literal["row", "weight"] = "row"
    start: Annotated[float, Ge(0), Lt(1)] = 0.5
    sizes: tuple[CountOrZero, ...] = (0, 1, 2, 3, 5, 10, 15, 20)
    candidates: CountOrZero = 0
    steps: Count = 100
    lr: Positive = 1e-4
    optimiser: Literal["adamw", "sgd"] = "adamw"
    seed: Seed = 0


@settings
class DemoOptions:
    """What `demo` takes.

    Attributes:
        out: a folder for the run and the figures
    """

    out: Path


@settings
class GenerateOptions:
    """Responses of a policy, for `llm-probes diversity` or a judge.

    Attributes:
        model: folder or name of the policy
        data: JSON lines with prompt
        out: a JSON lines file with prompt, outputs and policy on every line
        policy: the policy's name in the file; the model's by default
        outputs: responses to each prompt; 16 in the paper
        length: the most tokens of a response
        temperature: of the samples; 0 takes the most likely token
        limit: use the first so many prompts
        seed: of the samples
        device: where to compute
    """

    model: Positional[str]
    data: Path
    out: Path
    policy: str | None = None
    outputs: Count = 16
    length: Count = 48
    temperature: NotNegative = 1.0
    limit: Count | None = None
    seed: Seed = 0
    device: Device = "auto"


@settings
class DocstringOptions:
    """The data of docstring TL;DR and a model of random weights to start from.

    Attributes:
        out: a new folder for start/, demonstrations.jsonl, prompts.jsonl, test.jsonl and far.jsonl
        libraries: installed packages in distribution
        far: installed packages out of distribution; stdlib is Python's own library
        held_out: test prompts of either kind
        prompt_length: the most tokens of a prompt
        length: the most tokens of a response
        vocabulary: tokens
        layers: of the model
        width: of the model, a multiple of 32
        seed: of splits and weights
    """

    out: Path
    libraries: tuple[str, ...] = ("numpy", "torch")
    far: tuple[str, ...] = ("stdlib",)
    held_out: Count = 200
    prompt_length: Count = 64
    length: Count = 24
    vocabulary: Annotated[int, Ge(300)] = 2048
    layers: Count = 3
    width: Annotated[int, Field(ge=32, multiple_of=32)] = 128
    seed: Seed = 0


@settings
class WorldOptions:
    """A synthetic world of implicatures and a model of random weights to start from.

    Attributes:
        out: a new folder for start/, base.jsonl, tune.jsonl, test.csv and no-facts.csv
        held_out: the rule family that is only tested: a verb
        nouns: made-up nouns of each verb, a multiple of 8
        layers: of the model
        width: of the model, a multiple of 32
        seed: of the world and the weights
    """

    out: Path
    held_out: Literal["own", "sold", "found", "painted", "miss", "repaired", "want", "hid"] = "own"
    nouns: Annotated[int, Field(ge=8, multiple_of=8)] = 16
    layers: Count = 2
    width: Annotated[int, Field(ge=32, multiple_of=32)] = 64
    seed: Seed = 0


@settings
class ExportOptions:
    """A model folder from a run.

    Attributes:
        run: the run folder of a stage
        out: a new folder that transformers can read; a reward model's has score_head.safetensors too
    """

    run: Positional[Path]
    out: Path
