package kerneltest

import (
	"testing"

	"loco/kernels"
)

// Step returns a function that runs every operation once, in the order of a training
// step of one small layer, on memory that Step allocates. It is for tests of what a
// step as a whole does: what it allocates, which bits it gives. Every operation leaves
// its mark on the embedding table, which is returned too.
func Step(t testing.TB, d kernels.Device) (run func(), table kernels.Buffer) {
	t.Helper()
	s := kernels.AttentionShape{Batch: 2, Seq: 130, Heads: 4, KVHeads: 2, HeadDim: 16}
	const width, ffn, vocab, rows = 64, 96, 256, 260
	r := from(1)
	alloc := func(n int) kernels.Buffer {
		b, err := d.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		d.Upload(b, r.values(n, 0.1))
		return b
	}
	tokens, err := d.AllocTokens(rows)
	if err != nil {
		t.Fatal(err)
	}
	d.UploadTokens(tokens, r.ids(rows, vocab))

	table = alloc(vocab * width)
	norm := alloc(width)
	wqkv, wgate, wdown := alloc(s.QKVWidth()*width), alloc(2*ffn*width), alloc(width*ffn)
	dtable, dnorm, dw := alloc(vocab*width), alloc(width), alloc(2*ffn*width)
	x, normed, dx, rstd := alloc(rows*width), alloc(rows*width), alloc(rows*width), alloc(rows)
	qkv, dqkv := alloc(rows*s.QKVWidth()), alloc(rows*s.QKVWidth())
	angles, lse, delta := alloc(s.Seq*s.HeadDim/2), alloc(rows*s.Heads), alloc(rows*s.Heads)
	gateUp, hidden, dhidden := alloc(rows*2*ffn), alloc(rows*ffn), alloc(rows*ffn)
	logits, losses, m, v := alloc(rows*vocab), alloc(rows), alloc(vocab*width), alloc(vocab*width)
	d.Zero(m)
	d.Zero(v)
	adamw := kernels.AdamWStep{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, Correction1: 0.1, Correction2: 0.05, GradScale: 1}

	run = func() {
		d.Embedding(x, table, tokens, vocab, width)
		d.RMSNorm(normed, rstd, x, norm, rows, width, 1e-5)
		d.MatMul(qkv, normed, wqkv, rows, s.QKVWidth(), width, false, true, false)
		d.RoPE(qkv, angles, angles, s, false)
		d.Attention(dx, lse, qkv, s)
		d.Add(x, dx)
		d.MatMul(gateUp, x, wgate, rows, 2*ffn, width, false, true, false)
		d.SwiGLU(hidden, gateUp, rows, ffn)
		d.MatMul(x, hidden, wdown, rows, width, ffn, false, true, true)
		d.MatMul(logits, x, table, rows, vocab, width, false, true, false)
		d.CrossEntropy(losses, logits, tokens, 0, rows, vocab, 1.0/rows)

		d.MatMul(dtable, logits, x, vocab, width, rows, true, false, true)
		d.MatMul(dhidden, x, wdown, rows, ffn, width, false, false, false)
		d.SwiGLUBackward(gateUp, dhidden, gateUp, rows, ffn)
		d.MatMul(dw, gateUp, x, 2*ffn, width, rows, true, false, true)
		d.Copy(normed, dx)
		d.AttentionBackward(dqkv, delta, normed, dx, lse, qkv, s)
		d.RoPE(dqkv, angles, angles, s, true)
		d.MatMul(normed, dqkv, wqkv, rows, width, s.QKVWidth(), false, false, true)
		d.MatMul(normed, gateUp, wgate, rows, width, 2*ffn, false, false, true)
		d.RMSNormBackward(dx, dnorm, normed, x, norm, rstd, rows, width)
		d.EmbeddingBackward(dtable, dx, tokens, vocab, width)
		d.Scale(dnorm, 1e-3)
		d.Add(norm, dnorm)
		d.Zero(dnorm)
		d.Scale(dw, 1e-3)
		d.Add(wgate, dw)
		d.Zero(dw)
		d.Scale(dtable, 0.5)
		adamw.GradScale = float32(1 / (1 + d.SquaredNorm(dtable)))
		d.AdamW(table, dtable, m, v, adamw)
		d.Scale(norm, float32(d.Sum(losses)/(5.6*rows)))
		d.Zero(dtable)
	}
	return run, table
}
