"""Times PyTorch at loco's shapes: rates.py cases.json rates.json.

Rates are in TFLOP/s of the same work that loco counts. Products are of bf16 into bf16, attention is
scaled_dot_product_attention, a training step has float32 parameters, autocast to bf16 and fused
AdamW; of eager and torch.compile the faster one counts. Where heads share keys, SDPA runs as it is
faster: told of it, or on keys and values that are repeated in the time that is measured.
"""

import functools
import gc
import json
import os
import sys
import time

import torch
import torch.nn.functional as F

BF16 = dict(device="cuda", dtype=torch.bfloat16)


def rate(work, call, least=0.2):
    """The best of three turns of at least so many seconds."""
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
        if took < least:
            count *= max(2, int(0.625 * least / max(took, 1e-3)))
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


class RMSNorm(torch.nn.Module):
    """For PyTorch before 2.4."""

    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(width))

    def forward(self, x):
        return (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * self.weight


Norm = getattr(torch.nn, "RMSNorm", RMSNorm)


def grouped(q, k, v):
    """SDPA that is told of groups: PyTorch 2.5 and later."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def repeated(q, k, v):
    """SDPA whose keys and values are repeated for each head first, which takes its time too."""
    n = q.shape[1] // k.shape[1]
    if n > 1:
        k, v = k.repeat_interleave(n, 1), v.repeat_interleave(n, 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def heads(n, s):
    return torch.randn(s["Batch"], n, s["Seq"], s["HeadDim"], requires_grad=True, **BF16)


@functools.lru_cache(None)
def fastest_sdpa(batch, seq, many, few, dim):
    """The faster of both ways for a shape, forward and backward, that this PyTorch has."""
    if many == few:
        return repeated
    best = {}
    for way in (grouped, repeated):
        try:
            s = dict(Batch=batch, Seq=seq, HeadDim=dim)
            q, k, v = heads(many, s), heads(few, s), heads(few, s)
            dout = torch.randn_like(q)
            best[way] = rate(1, lambda: torch.autograd.grad(way(q, k, v), (q, k, v), dout), least=0.02)
        except (TypeError, RuntimeError) as e:
            print(f"attention, {way.__name__} keys: {e.__class__.__name__}: {str(e).splitlines()[0]}")
    return max(best, key=best.get)


def attention(kernel, s):
    sdpa = fastest_sdpa(s["Batch"], s["Seq"], s["Heads"], s["KVHeads"], s["HeadDim"])
    q, k, v = heads(s["Heads"], s), heads(s["KVHeads"], s), heads(s["KVHeads"], s)
    if kernel == "attention forward":
        return lambda: sdpa(q, k, v)
    out = sdpa(q, k, v)
    dout = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, (q, k, v), dout, retain_graph=True)


class Block(torch.nn.Module):
    def __init__(self, c, sdpa):
        super().__init__()
        w, d = c["Width"], c["Width"] // c["Heads"]
        self.sdpa = sdpa
        self.heads, self.kv, self.d = c["Heads"], c["KVHeads"], d
        self.norm1, self.norm2 = Norm(w), Norm(w)
        self.qkv = torch.nn.Linear(w, (c["Heads"] + 2 * c["KVHeads"]) * d, bias=False)
        self.out = torch.nn.Linear(w, w, bias=False)
        self.up = torch.nn.Linear(w, 2 * c["FFN"], bias=False)
        self.down = torch.nn.Linear(c["FFN"], w, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, -1, self.d).transpose(1, 2)
        q, k, v = qkv.split([self.heads, self.kv, self.kv], dim=1)
        y = self.sdpa(rotate(q, cos, sin), rotate(k, cos, sin), v)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, -1))
        gate, up = self.up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


class Llama(torch.nn.Module):
    def __init__(self, c, sdpa):
        super().__init__()
        self.embed = torch.nn.Embedding(c["Vocab"], c["Width"])
        self.blocks = torch.nn.ModuleList(Block(c, sdpa) for _ in range(c["Layers"]))
        self.norm = Norm(c["Width"])
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
    c = config
    sdpa = fastest_sdpa(batch, c["Context"], c["Heads"], c["KVHeads"], c["Width"] // c["Heads"])
    with torch.device("cuda"):
        model = Llama(config, sdpa)
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


def calls(cases):
    """Every case's name, work, way and what makes its call: those that a time limit must not cost first."""
    steps = [c for c in cases if "Step" in c]

    def ways(compiled):
        for c in steps:
            way = "torch.compile" if compiled else "eager"
            yield c, way, lambda c=c: step(c["Step"]["Config"], c["Step"]["Batch"], compiled)

    yield from ways(False)
    for c in cases:
        if "Linear" in c:
            yield c, "matmul", lambda c=c: linear(c["Kernel"], c["Linear"])
        elif "Attention" in c:
            yield c, "SDPA", lambda c=c: attention(c["Kernel"], c["Attention"])
    yield from ways(True)


def write(rates, path):
    """Whole or not at all, should time run out."""
    with open(path + ".new", "w") as f:
        json.dump(rates, f)
    os.replace(path + ".new", path)


def main():
    sys.stdout.reconfigure(line_buffering=True)
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = True
    with open(sys.argv[1]) as f:
        cases = json.load(f)
    rates = {}
    print(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}")
    for c, way, make in calls(cases):
        name = c["Name"]
        try:
            new = rate(c["Work"], make())
            print(f"{name}: {way} {new:.1f} TFLOP/s")
            rates[name] = max(new, rates.get(name, 0))
            write(rates, sys.argv[2])
        except Exception as e:  # one that does not run here leaves the others
            print(f"{name}: {way}: {e.__class__.__name__}: {(str(e).splitlines() or [''])[0]}")
        make = None
        gc.collect()
        torch.cuda.empty_cache()


main()
