"""Tiny models made from scratch, a tokeniser trained in a moment, and where shared data lies."""

import contextlib
import os
from pathlib import Path

import pytest

SENTENCES = [
    "question: Are you coming to the party tonight?\nresponse: I have to work.\nimplicature: no",
    'Esther asked "Is it far?" and Juan responded "You will need good shoes.", which means yes',
    "Does the following response to the question imply yes or no?",
    "The following are examples of the task: Finish the following text: what is the intent, Karen, William, Bob, Alice",
] * 4


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Compute on one thread, also in processes that tests start: how sums are split changes their last bits."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared():
    """The folder of data that is not part of the repository."""
    for parent in Path(__file__).resolve().parents:
        if (folder := parent / "shared" / "data").is_dir():
            return folder
    pytest.skip("the shared data folder is not here")


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE tokeniser of some 400 tokens, in which " yes" and " no" are single tokens."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<eos>", "<pad>", "<mask>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator([*SENTENCES, " yes no" * 50], trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token="<eos>", pad_token="<pad>", mask_token="<mask>"
    )


@pytest.fixture(scope="session")
def make_model():
    """Family -> a model of two layers with random weights, in evaluation mode."""
    torch = pytest.importorskip("torch")
    t = pytest.importorskip("transformers")

    def make(family="llama", seed=0, vocabulary=400, positions=256):
        size = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
        torch.manual_seed(seed)
        if family == "llama":
            config = t.LlamaConfig(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=positions,
                initializer_range=0.2,
                **size,
            )
            model = t.LlamaForCausalLM(config)
        elif family == "gpt2":
            config = t.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=positions, initializer_range=0.2, **size)
            model = t.GPT2LMHeadModel(config)
        elif family == "bloom":
            model = t.BloomForCausalLM(
                t.BloomConfig(hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2, **size)
            )
        elif family == "bert":
            config = t.BertConfig(
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=64,
                initializer_range=0.2,
                **size,
            )
            model = t.BertForMaskedLM(config)
        else:
            config = t.T5Config(
                d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=1, **size
            )
            model = t.T5ForConditionalGeneration(config)
        return model.eval()

    return make
