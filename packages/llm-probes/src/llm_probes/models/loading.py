"""Models and tokenisers from a folder or a name, with what would go wrong later said at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from paperloop.errors import UserError

__all__ = ["Kind", "check_vocabulary", "context_limit", "kind_of", "load_model"]

Kind = Literal["causal", "seq2seq", "masked"]


def load_model(
    name: str | Path, *, kind: Kind | None = None, device: str = "cpu", dtype: str = "auto"
) -> tuple[Any, Any]:
    """Return (model in evaluation mode, tokeniser) from a local folder or a name on the Hugging Face hub.

    A folder that holds a PEFT adapter is loaded through `peft`, onto the base model that it names.

    Args:
        name: a folder with `config.json`, or a hub name.
        kind: how the model predicts; None reads it from its architecture.
        device: where it goes.
        dtype: "auto" keeps the checkpoint's; otherwise "float32", "bfloat16" or "float16".

    Raises:
        UserError: it cannot be loaded, or its vocabulary and embedding do not fit.
    """
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = Path(name)
    offline = folder.exists()
    if offline and not any((folder / file).exists() for file in ("config.json", "adapter_config.json")):
        raise UserError(f"{name} has no config.json: give the folder of a model saved by `save_pretrained`.")
    adapter = offline and (folder / "adapter_config.json").exists()
    try:
        base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] if adapter else name
        options = {"local_files_only": True} if offline else {}
        config = transformers.AutoConfig.from_pretrained(base, **options)
        kind = kind or kind_of(config)
        family = {
            "causal": transformers.AutoModelForCausalLM,
            "seq2seq": transformers.AutoModelForSeq2SeqLM,
            "masked": transformers.AutoModelForMaskedLM,
        }[kind]
        loaded: Any = family.from_pretrained(base, dtype=dtype, output_loading_info=True, **options)
        model, found = loaded
        if missing := sorted(found["missing_keys"]):  # they would silently be random
            raise UserError(
                f"{base} lacks {len(missing)} of the model's weights, such as {missing[0]}; weights saved from a "
                "compiled model have names that begin with _orig_mod., so save the original module."
            )
        if adapter:
            model = _with_adapter(model, folder)
        own = adapter and (folder / "tokenizer_config.json").exists()
        tokenizer = _tokenizer(name if own else base, options)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        where = "" if offline else " (there is no such folder here, so it is taken for a name on the hub)"
        raise UserError(f"{name} cannot be loaded as a {kind or 'language'} model{where}: {first}") from None
    check_vocabulary(model, tokenizer)
    return model.to(device).eval(), tokenizer


def kind_of(config: Any) -> Kind:
    """Return how a model predicts, from the architectures that its configuration names."""
    if getattr(config, "is_encoder_decoder", False):
        return "seq2seq"
    names = " ".join(getattr(config, "architectures", None) or [])
    return "masked" if "MaskedLM" in names or "ForPreTraining" in names else "causal"


def check_vocabulary(model: Any, tokenizer: Any) -> None:
    """Refuse a tokeniser that gives ids beyond the embedding.

    Raises:
        UserError: it does.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise UserError(
            f"the tokeniser has {len(tokenizer)} tokens and the embedding {rows} rows: they belong to different "
            "models, or `resize_token_embeddings` was forgotten."
        )


def context_limit(model: Any) -> int | None:
    """Return how many positions the model has, or None where it has no fixed number."""
    config = model.config
    for name in ("n_positions", "max_position_embeddings", "max_sequence_length", "n_ctx"):
        if isinstance(value := getattr(config, name, None), int) and value > 0:
            # RoBERTa's first positions are those of the padding token.
            return value - 2 if config.model_type in ("roberta", "xlm-roberta", "camembert") else value
    return None


def _tokenizer(name: str | Path, options: dict[str, Any]) -> Any:
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0].rstrip(":")
        raise UserError(f"{name} has no tokeniser that can be loaded: {first}") from None


def _with_adapter(model: Any, folder: Path) -> Any:
    try:
        import peft  # ty: ignore[import-not-found]
    except ImportError:
        raise UserError(f"{folder} is a PEFT adapter; loading it needs peft: pip install peft.") from None
    return peft.PeftModel.from_pretrained(model, str(folder))
