#!/usr/bin/env python3
"""Writes fixture_tied.json and fixture_untied.json beside this file: what PyTorch
computes for a small Llama (weights, logits, loss, gradients, ten AdamW steps).

Run: python3 fixture.py, with any PyTorch from 1.13 on (Debian: python3-torch). The
Go tests read the files and need neither. The model is written from plain tensor
operations in float64, so what the tests tolerate is loco's own rounding.

Tensors are float32, tokens int32 (steps, batch, context + 1), little endian, base64.
"""
import base64
import json
import math
import pathlib

import torch

CONFIG = dict(vocab=29, layers=2, width=16, heads=4, kv_heads=2, ffn=24, context=12,
              rope_theta=10000.0, norm_eps=1e-5)
BATCH = 2
STEPS = 10
ADAMW = dict(lr=3e-3, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, clip=1.0)


def shapes(c, tied):
    kv = c["width"] // c["heads"] * c["kv_heads"]
    out = {"model.embed_tokens.weight": (c["vocab"], c["width"])}
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        out[p + "input_layernorm.weight"] = (c["width"],)
        out[p + "self_attn.q_proj.weight"] = (c["width"], c["width"])
        out[p + "self_attn.k_proj.weight"] = (kv, c["width"])
        out[p + "self_attn.v_proj.weight"] = (kv, c["width"])
        out[p + "self_attn.o_proj.weight"] = (c["width"], c["width"])
        out[p + "post_attention_layernorm.weight"] = (c["width"],)
        out[p + "mlp.gate_proj.weight"] = (c["ffn"], c["width"])
        out[p + "mlp.up_proj.weight"] = (c["ffn"], c["width"])
        out[p + "mlp.down_proj.weight"] = (c["width"], c["ffn"])
    out["model.norm.weight"] = (c["width"],)
    if not tied:
        out["lm_head.weight"] = (c["vocab"], c["width"])
    return out


def rms_norm(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def rotate(x, theta):
    """x is (batch, heads, positions, size); value i turns together with i + size/2."""
    half = x.shape[-1] // 2
    frequency = theta ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * frequency
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def attention(w, p, x, c):
    b, t, width = x.shape
    size = width // c["heads"]

    def heads(name, n):
        return (x @ w[p + name + ".weight"].T).view(b, t, n, size).transpose(1, 2)

    q = rotate(heads("q_proj", c["heads"]), c["rope_theta"])
    k = rotate(heads("k_proj", c["kv_heads"]), c["rope_theta"])
    v = heads("v_proj", c["kv_heads"])
    share = c["heads"] // c["kv_heads"]
    k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
    score = q @ k.transpose(-1, -2) / math.sqrt(size)
    ahead = torch.ones(t, t, dtype=torch.bool).triu(1)
    y = score.masked_fill(ahead, -math.inf).softmax(-1) @ v
    return y.transpose(1, 2).reshape(b, t, width) @ w[p + "o_proj.weight"].T


def feed_forward(w, p, x):
    gate = x @ w[p + "gate_proj.weight"].T
    return (gate * torch.sigmoid(gate) * (x @ w[p + "up_proj.weight"].T)) @ w[p + "down_proj.weight"].T


def forward(w, tokens, c):
    x = w["model.embed_tokens.weight"][tokens]
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        x = x + attention(w, p + "self_attn.", rms_norm(x, w[p + "input_layernorm.weight"], c["norm_eps"]), c)
        x = x + feed_forward(w, p + "mlp.", rms_norm(x, w[p + "post_attention_layernorm.weight"], c["norm_eps"]))
    x = rms_norm(x, w["model.norm.weight"], c["norm_eps"])
    return x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


def text(t, dtype=torch.float32):
    return base64.b64encode(t.detach().to(dtype).contiguous().numpy().tobytes()).decode()


def fixture(tied):
    torch.manual_seed(20 + tied)
    c = CONFIG
    w = {}
    for name, shape in shapes(c, tied).items():
        values = 0.3 * torch.randn(shape) if len(shape) > 1 else 1 + 0.2 * torch.randn(shape)
        w[name] = values.float().double().requires_grad_()  # exact in the float32 of the file
    tokens = torch.randint(c["vocab"], (STEPS, BATCH, c["context"] + 1))
    out = dict(config=dict(c, tied=tied), batch=BATCH, adamw=ADAMW, tokens=text(tokens, torch.int32),
               weights={n: text(t) for n, t in w.items()})

    matrices = [t for t in w.values() if t.dim() > 1]
    norms = [t for t in w.values() if t.dim() == 1]
    optimizer = torch.optim.AdamW(
        [dict(params=matrices, weight_decay=ADAMW["weight_decay"]), dict(params=norms, weight_decay=0.0)],
        lr=ADAMW["lr"], betas=(ADAMW["beta1"], ADAMW["beta2"]), eps=ADAMW["eps"])
    losses, grad_norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        logits = forward(w, tokens[step, :, :-1], c)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[step, :, 1:].flatten())
        loss.backward()
        if step == 0:
            out["logits"] = text(logits)
            out["gradients"] = {n: text(t.grad) for n, t in w.items()}
        grad_norms.append(torch.nn.utils.clip_grad_norm_(list(w.values()), ADAMW["clip"]).item())
        losses.append(loss.item())
        optimizer.step()
    out["losses"], out["gradient_norms"] = losses, grad_norms
    out["trained"] = {n: text(t) for n, t in w.items()}
    name = "fixture_tied.json" if tied else "fixture_untied.json"
    pathlib.Path(__file__).with_name(name).write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    fixture(True)
    fixture(False)
