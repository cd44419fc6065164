"""Times PyTorch at loco's shapes: rates.py cases.json rates.json.

Rates are in TFLOP/s of the same work that loco counts. Products are of bf16 into bf16, attention is
scaled_dot_product_attention, a training step has float32 parameters, autocast to bf16 and fused
AdamW; of eager and torch.compile the faster one counts.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F

BF16 = dict(device="cuda", dtype=torch.bfloat16)


def rate(work, call):
    """The best of three turns of about a fifth of a second."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    count, best, turns = 1, 0.0, 0
    while turns < 3:
        began = time.perf_counter()
        for _ in range(count):
            call()
        torch.cuda.synchronize()
        took = time.perf_counter() - began
        if took < 0.2:
            count *= max(2, int(0.125 / max(took, 1e-3)))
            continue
        best = max(best, work * count / took / 1e12)
        turns += 1
    return best


def linear(kernel, s):
    x = torch.randn(s["Rows"], s["In"], **BF16)
    y = torch.randn(s["Rows"], s["Out"], **BF16)
    w = torch.randn(s["Out"], s["In"], **BF16)
    return {
        "linear forward": lambda: torch.matmul(x, w.t(), out=y),
        "linear dX": lambda: torch.matmul(y, w, out=x),
        "matmul dW": lambda: torch.matmul(y.t(), x, out=w),
    }[kernel]


def attention(kernel, s):
    def heads(n):
        return torch.randn(s["Batch"], n, s["Seq"], s["HeadDim"], requires_grad=True, **BF16)

    q, k, v = heads(s["Heads"]), heads(s["KVHeads"]), heads(s["KVHeads"])

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)

    if kernel == "attention forward":
        return lambda: forward()
    out = forward()
    dout = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)


class Block(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        w, d = c["Width"], c["Width"] // c["Heads"]
        self.heads, self.kv, self.d = c["Heads"], c["KVHeads"], d
        self.norm1, self.norm2 = torch.nn.RMSNorm(w), torch.nn.RMSNorm(w)
        self.qkv = torch.nn.Linear(w, (c["Heads"] + 2 * c["KVHeads"]) * d, bias=False)
        self.out = torch.nn.Linear(w, w, bias=False)
        self.up = torch.nn.Linear(w, 2 * c["FFN"], bias=False)
        self.down = torch.nn.Linear(c["FFN"], w, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, -1, self.d).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.kv, self.kv], dim=1)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, -1))
        gate, up = self.up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


class Llama(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed = torch.nn.Embedding(c["Vocab"], c["Width"])
        self.blocks = torch.nn.ModuleList(Block(c) for _ in range(c["Layers"]))
        self.norm = torch.nn.RMSNorm(c["Width"])
        self.head = torch.nn.Linear(c["Width"], c["Vocab"], bias=False)
        if c["Tied"]:
            self.head.weight = self.embed.weight
        d = c["Width"] // c["Heads"]
        angle = torch.outer(torch.arange(c["Context"]), c["RopeTheta"] ** (-torch.arange(0, d, 2) / d))
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, tokens, targets):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def step(config, batch, compiled):
    torch.manual_seed(1)
    with torch.device("cuda"):
        model = Llama(config)
        tokens = torch.randint(config["Vocab"], (batch, config["Context"] + 1))
    run = torch.compile(model) if compiled else model
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def call():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = run(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad(set_to_none=True)

    return call


def main():
    torch.backends.cuda.matmul.allow_tf32 = True
    with open(sys.argv[1]) as f:
        cases = json.load(f)
    rates = {}
    print(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")
    for c in cases:
        if "Linear" in c:
            rates[c["Name"]] = rate(c["Work"], linear(c["Kernel"], c["Linear"]))
        elif "Attention" in c:
            rates[c["Name"]] = rate(c["Work"], attention(c["Kernel"], c["Attention"]))
        else:
            ways = {}
            for way in ("eager", "torch.compile"):
                try:
                    ways[way] = rate(c["Work"], step(c["Step"]["Config"], c["Step"]["Batch"], way != "eager"))
                except Exception as e:  # one that cannot be compiled here leaves the other
                    print(f"{c['Name']}: {way}: {type(e).__name__}")
                torch.cuda.empty_cache()
            if ways:
                rates[c["Name"]] = max(ways.values())
                print(c["Name"] + ": PyTorch " + ", ".join(f"{k} {v:.1f}" for k, v in ways.items()) + " TFLOP/s")
        torch.cuda.empty_cache()
        with open(sys.argv[2], "w") as f:  # what there is, should time run out
            json.dump(rates, f)


main()
