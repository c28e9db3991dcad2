"""Opens with transformers what `watershed-miner local --out` wrote, and makes a model for it to start from.

    hf_check.py make FOLDER                            a small random Qwen2 in BF16 shards, as transformers saves it
    hf_check.py check MODEL TEXT SEQ LOSS TOLERANCE    the held-out loss by transformers must be LOSS
    hf_check.py copy MODEL FOLDER                      MODEL as transformers saves it again

Which text is held out and where its windows lie is written down here a second time, independently of the Rust code
(miner/src/local/corpus.rs).
"""

import hashlib
import pathlib
import sys

import tokenizers
import torch
import transformers

WINDOWS, BATCH = 64, 8


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True).eval()


def make(folder):
    torch.manual_seed(1)
    config = transformers.Qwen2Config(
        vocab_size=320, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True, use_sliding_window=False)
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="40KB")
    shards = len(list(pathlib.Path(folder).glob("*.safetensors")))
    assert shards > 1, shards
    print(f"a Qwen2 of {model.num_parameters()} parameters in {shards} shards")


def held_out(text, model):
    """The tokens that are held out: of whole texts in the order of their hashes, a twentieth of all."""
    file = pathlib.Path(model) / "tokenizer.json"
    if file.exists():
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
        separator = [tokenizer.token_to_id("<|endoftext|>")]
        encode = lambda data: tokenizer.encode(data.decode(), add_special_tokens=False).ids
    else:
        separator, encode = list(b"\n"), list
    paths = [path for path in pathlib.Path(text).rglob("*") if path.suffix in (".txt", ".md")]
    texts = {hashlib.sha256(data).digest(): data for data in (path.read_bytes() for path in paths) if data}
    texts = [encode(texts[digest]) for digest in sorted(texts)]
    assert len(texts) > 1, text
    total = sum(map(len, texts))
    held = []
    for tokens in texts:
        if len(held) < total // 20 and len(tokens) <= total // 5:
            held += tokens + separator
    return held


def check(folder, text, seq, loss, tolerance):
    model, tokens = load(folder), torch.tensor(held_out(text, folder))
    count = min(WINDOWS, (len(tokens) - 1) // seq)
    starts = [i * (len(tokens) - seq - 1) // (count - 1) for i in range(count)]
    losses = []
    for first in range(0, count, BATCH):
        windows = torch.stack([tokens[s : s + seq + 1] for s in starts[first : first + BATCH]])
        with torch.no_grad():
            logits = model(input_ids=windows[:, :-1], use_cache=False).logits
        losses.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item())
    found = sum(losses) / len(losses)
    print(f"{type(model).__name__}: held-out loss {found:.6f}, ours {loss:.6f}, difference {abs(found - loss):.1e}")
    if not abs(found - loss) <= tolerance:
        sys.exit(f"{folder}: they differ by more than {tolerance}")


def main():
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    match sys.argv[1:]:
        case ["make", folder]:
            make(folder)
        case ["check", folder, text, seq, loss, tolerance]:
            check(folder, text, int(seq), float(loss), float(tolerance))
        case ["copy", folder, to]:
            load(folder).save_pretrained(to)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
