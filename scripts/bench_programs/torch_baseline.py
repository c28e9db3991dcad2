"""Speed of one PyTorch training step of the engine's architecture on the CPU, for comparison.

    python -m venv venv && venv/bin/pip install torch==2.15.0
    venv/bin/python torch_baseline.py --threads 1                      # the preset nano, 8 x 128 tokens
    venv/bin/python torch_baseline.py --config micro.json --seq 256    # keys of --config are the flags' names

One step is forward, mean cross-entropy, backward, clipping to a global norm of 1 and fused AdamW, all in
f32, on the same random tokens every time. The model is the one of engine/src/model: RMSNorm, rotate-half
rotary positions, grouped-query causal attention (F.scaled_dot_product_attention), SwiGLU, stacked q/k/v and
gate/up projections.

Prints one JSON object: the shape, the number of parameters, the median, the fastest and the slowest step in
seconds of wall time, the median of CPU seconds per step, and tokens per second from the median wall time.
On a shared machine compare the fastest steps and the CPU seconds: they suffer least from the neighbours.
"""

import argparse
import json
import pathlib
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn


def rotate_half(x):
    left, right = x.chunk(2, dim=-1)
    return torch.cat((-right, left), dim=-1)


class Block(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = a.heads, a.kv_heads, a.head_dim
        rows = (a.heads + 2 * a.kv_heads) * a.head_dim
        self.norm1 = nn.RMSNorm(a.hidden, eps=1e-5)
        self.qkv = nn.Linear(a.hidden, rows, bias=a.qkv_bias)
        self.o = nn.Linear(a.heads * a.head_dim, a.hidden, bias=False)
        self.norm2 = nn.RMSNorm(a.hidden, eps=1e-5)
        self.gate_up = nn.Linear(a.hidden, 2 * a.ffn, bias=False)
        self.down = nn.Linear(a.ffn, a.hidden, bias=False)

    def forward(self, x, cos, sin):
        batch, seq, _ = x.shape
        stacked = self.qkv(self.norm1(x)).view(batch, seq, -1, self.head_dim).transpose(1, 2)
        q, k, v = stacked.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        grouped = self.heads != self.kv_heads
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        x = x + self.o(y.transpose(1, 2).reshape(batch, seq, -1))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.embed = nn.Embedding(a.vocab, a.hidden)
        self.blocks = nn.ModuleList(Block(a) for _ in range(a.layers))
        self.norm = nn.RMSNorm(a.hidden, eps=1e-5)
        self.head = nn.Linear(a.hidden, a.vocab, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
        if a.tied_embeddings:
            self.head.weight = self.embed.weight
        frequencies = a.rope_theta ** -(torch.arange(0, a.head_dim, 2).float() / a.head_dim)
        angles = torch.outer(torch.arange(a.seq).float(), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))


def arguments():
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("--config", type=pathlib.Path, help="JSON object with any of the flags below")
    sizes = dict(vocab=256, hidden=128, layers=4, heads=4, kv_heads=2, head_dim=32, ffn=352, seq=128, batch=8,
                 steps=50, warmup=5, threads=1)
    for name, default in sizes.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default)
    parser.add_argument("--rope-theta", type=float, default=10000.0)
    parser.add_argument("--tied-embeddings", action="store_true")
    parser.add_argument("--qkv-bias", action="store_true")
    given = parser.parse_args()
    if given.config:
        # Flags on the command line win over the file, the file over the defaults.
        known = vars(given).keys() - {"config"}
        stated = json.loads(given.config.read_text())
        parser.set_defaults(**{key: value for key, value in stated.items() if key in known})
        given = parser.parse_args()
    return given


def main():
    a = arguments()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = Model(a)
    decayed = [p for p in model.parameters() if p.dim() == 2]
    plain = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)
    ids, targets = (torch.randint(a.vocab, (a.batch, a.seq)) for _ in range(2))

    wall, cpu, losses = [], [], []
    for _ in range(a.warmup + a.steps):
        wall_before, cpu_before = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        wall.append(time.perf_counter() - wall_before)
        cpu.append(time.process_time() - cpu_before)
        losses.append(loss.item())
    wall, cpu = wall[a.warmup:], cpu[a.warmup:]
    if not losses[-1] < losses[0]:
        raise SystemExit(f"the loss did not fall ({losses[0]} to {losses[-1]}): this measures nothing")
    median = statistics.median(wall)
    result = {key: value for key, value in vars(a).items() if key not in ("config", "warmup")}
    result |= {
        "torch": torch.__version__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds_per_step_median": round(median, 6),
        "seconds_per_step_fastest": round(min(wall), 6),
        "seconds_per_step_slowest": round(max(wall), 6),
        "cpu_seconds_per_step_median": round(statistics.median(cpu), 6),
        "tokens_per_second": round(a.batch * a.seq / median, 1),
        "loss_first": round(losses[0], 4),
        "loss_last": round(losses[-1], 4),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
