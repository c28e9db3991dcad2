"""Golden files for the forward and backward pass and for reading Hugging Face folders.

Makes tiny random models with transformers and writes, for each, a model folder as transformers saves it
plus `expected.safetensors` and `expected.json`. The engine's tests read only these files; Python is not
needed to run them.

    python -m venv venv
    venv/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
    venv/bin/python make_golden.py write ../../engine/tests/golden    # replaces the three folders there
    venv/bin/python make_golden.py check FOLDER GOLDEN                # a folder the engine wrote, see below

Models (all weights random, norms and biases too, so that nothing hides behind a 0 or a 1):

    llama     grouped-query attention 4:2, head_dim unlike hidden / heads, untied; F32, one file
    qwen2     biases on q, k and v, grouped-query attention 4:1, rope_theta 1e6, untied; F16, one file
    smollm    a Llama with tied embeddings, grouped-query attention 6:2; BF16, sharded with an index

`expected.safetensors` holds, for a batch of 2 x 17 tokens and the tokens that follow each,

    input_ids  I64 [2, 17]
    targets    I64 [2, 17]
    logits     F32 [2, 17, vocab]  computed in f32 from the stored (already rounded) weights, eager attention
    loss       F32 [1]             mean cross-entropy over the 34 targets
    grad       F32 [parameters]    its gradient in the engine's declared order (engine/src/model/layout.rs)

and `expected.json` holds `parameters` (their number), `flat_sha256` (SHA-256 of all parameters in declared
order as little-endian f32) and the `versions` used. The declared order is written down here a second time,
independently of the Rust code. The same versions on the same kind of CPU give the same files; other
versions change the last bits of logits, loss and grad.

`check` opens a folder that the engine wrote from one of the golden models, in transformers, and fails
unless the parameters are the same bits and the logits agree with the golden ones to 1e-5.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import sys

import numpy
import safetensors.torch
import torch
import transformers

BATCH, TOKENS = 2, 17
SHARD_BYTES = 12_000


def models():
    common = dict(attention_dropout=0.0, bos_token_id=None, eos_token_id=None)
    yield "llama", torch.float32, None, transformers.LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, max_position_embeddings=64, rms_norm_eps=1e-5,
        tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1e4}, **common)
    yield "qwen2", torch.float16, None, transformers.Qwen2Config(
        vocab_size=50, hidden_size=32, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, max_position_embeddings=64, rms_norm_eps=1e-6, use_sliding_window=False,
        tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, **common)
    yield "smollm", torch.bfloat16, SHARD_BYTES, transformers.LlamaConfig(
        vocab_size=49, hidden_size=36, intermediate_size=44, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e5}, **common)


def randomise(model, generator):
    """Weights that make every part matter: attention far from uniform, norms and biases far from 1 and 0."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            value = 1.0 + 0.25 * noise
        elif name.endswith("bias"):
            value = 0.4 * noise
        elif "embed" in name or "lm_head" in name:
            value = 0.5 * noise
        else:
            value = noise * (1.3 / parameter.shape[1] ** 0.5)
        parameter.data.copy_(value)


def flat(model, values):
    """All parameters in the engine's declared order; `values` maps a parameter to what is wanted of it."""
    parameters = model.named_parameters()
    named = {name: values(parameter).detach().float().numpy().ravel() for name, parameter in parameters}
    config = model.config
    order = ["model.embed_tokens.weight"]
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        order += [prefix + "input_layernorm.weight"]
        order += [prefix + f"self_attn.{part}_proj.weight" for part in "qkv"]
        if config.model_type == "qwen2":
            order += [prefix + f"self_attn.{part}_proj.bias" for part in "qkv"]
        order += [prefix + "self_attn.o_proj.weight", prefix + "post_attention_layernorm.weight"]
        order += [prefix + f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
    order += ["model.norm.weight"]
    if not config.tie_word_embeddings:
        order += ["lm_head.weight"]
    assert sorted(order) == sorted(named), set(order) ^ set(named)
    return numpy.concatenate([named[name] for name in order]).astype("<f4")


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True).eval()


def digest(values):
    return hashlib.sha256(values.tobytes()).hexdigest()


def write(root):
    root.mkdir(parents=True, exist_ok=True)
    for seed, (name, dtype, shard_bytes, config) in enumerate(models(), start=1):
        generator = torch.Generator().manual_seed(seed)
        folder = root / name
        if folder.exists():
            shutil.rmtree(folder)
        model = transformers.AutoModelForCausalLM.from_config(config)
        randomise(model, generator)
        model.to(dtype).save_pretrained(folder, max_shard_size=shard_bytes or "1GB")
        (folder / "generation_config.json").unlink(missing_ok=True)

        model = load(folder)
        shape = (BATCH, TOKENS)
        ids = torch.randint(config.vocab_size, shape, generator=generator)
        last = torch.randint(config.vocab_size, (shape[0], 1), generator=generator)
        targets = torch.cat((ids[:, 1:], last), dim=1)
        logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        values = flat(model, lambda parameter: parameter)
        expected = {
            "input_ids": ids,
            "targets": targets,
            "logits": logits.detach().contiguous(),
            "loss": loss.detach().reshape(1),
            "grad": torch.from_numpy(flat(model, lambda parameter: parameter.grad)),
        }
        facts = {
            "parameters": values.size,
            "flat_sha256": digest(values),
            "versions": f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}",
        }
        safetensors.torch.save_file(expected, folder / "expected.safetensors")
        (folder / "expected.json").write_text(json.dumps(facts, indent=2) + "\n")
        for file in folder.iterdir():
            file.chmod(0o644)
        print(f"{name}: {values.size} parameters, loss {loss.item():.6f}, "
              f"{sum(f.stat().st_size for f in folder.iterdir())} bytes")


def check(folder, golden):
    facts = json.loads((golden / "expected.json").read_text())
    expected = safetensors.torch.load_file(golden / "expected.safetensors")
    ids, logits = expected["input_ids"], expected["logits"]
    model = load(folder)
    if digest(flat(model, lambda parameter: parameter)) != facts["flat_sha256"]:
        sys.exit(f"{folder}: the parameters differ from those of {golden}")
    with torch.no_grad():
        difference = (model(input_ids=ids, use_cache=False).logits - logits).abs().max().item()
    if not difference <= 1e-5:
        sys.exit(f"{folder}: a logit differs from {golden} by {difference}")
    print(f"{folder}: same parameters as {golden}, logits within {difference:.1e}")


def main():
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write").add_argument("root", type=pathlib.Path)
    command = commands.add_parser("check")
    command.add_argument("folder", type=pathlib.Path)
    command.add_argument("golden", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if arguments.command == "write":
        write(arguments.root)
    else:
        check(arguments.folder, arguments.golden)


if __name__ == "__main__":
    main()
