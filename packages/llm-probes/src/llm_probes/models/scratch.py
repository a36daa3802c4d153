"""Small models and tokenisers from scratch, for experiments that need no download."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["gpt2", "make_tokenizer", "word_tokenizer", "write_model"]


def make_tokenizer(texts: Iterable[str], *, size: int) -> Any:
    """Return a byte-level BPE tokeniser of at most `size` tokens, with an end and a padding token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<eos>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<pad>")


def word_tokenizer(words: Sequence[str], *, end: str, pad: str) -> Any:
    """Return a tokeniser whose tokens are the given words, in their order, between spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=pad))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=plain, eos_token=end, pad_token=pad)


def gpt2(tokenizer: Any, *, layers: int, width: int, positions: int, seed: int = 0, tied: bool = True) -> Any:
    """Return a GPT-2 with random weights and heads of 32 dimensions.

    There is no dropout, so that a small model on much data is not held back.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        n_layer=layers,
        n_embd=width,
        n_head=max(1, width // 32),
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def write_model(folder: Path, tokenizer: Any, **size: Any) -> Path:
    """Write a model of `gpt2` and its tokeniser into a folder that `transformers` reads; returns it."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer.save_pretrained(folder)
    gpt2(tokenizer, **size).save_pretrained(folder)
    return Path(folder)
