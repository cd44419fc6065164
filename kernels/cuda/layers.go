//go:build cuda && linux && amd64

package cuda

import (
	"slices"

	"loco/kernels"
)

// RMSNorm implements kernels.Device.
func (d *Device) RMSNorm(out, rstd, x, weight kernels.Buffer, rows, width int, eps float32) {
	const op = "rmsnorm"
	kernels.CheckRMSNorm(out, rstd, x, weight, rows, width)
	from, w := d.either(op, x, rows*width), d.read(op, weight, width, floats)
	to, scale := d.result(op, out, rows*width), d.write(op, rstd, rows, floats)
	d.launch("rmsnorm", rows, 1, 1, rowThreads(width, 256), 0, to.at, from.at, w, scale, uint64(width), bits(eps),
		forms(to.form, from.form)|vector(width, to.at, from.at, w))
}

// RMSNormBackward implements kernels.Device. dx is what the products of the next layer read, so
// it gets its halves at once.
func (d *Device) RMSNormBackward(dx, dweight, dout, x, weight, rstd kernels.Buffer, rows, width int) {
	const op = "rmsnorm backward"
	kernels.CheckRMSNormBackward(dx, dweight, dout, x, weight, rstd, rows, width)
	if rows == 0 || width == 0 {
		return
	}
	n := rows * width
	gradient, in := d.either(op, dout, n), d.either(op, x, n)
	w, scale := d.read(op, weight, width, floats), d.read(op, rstd, rows, floats)
	sums := d.update(op, dweight, width)
	to, copied := d.updateBoth(op, dx, n)
	groups := blocks(rows, 64)
	partial := d.scratch(&d.columns, 4*int64(groups)*int64(width))
	flags := forms(floats, gradient.form, in.form) | vector(width, gradient.at, in.at, w, to, copied, partial)
	if threads := rowThreads(width, 512); flags&vector(0) != 0 && width <= 8*threads {
		d.launch("rmsnorm_backward_once", groups, 1, 1, threads, 0, to, partial, gradient.at, in.at, w, scale, copied, uint64(rows), uint64(width), flags)
	} else {
		d.launch("rmsnorm_columns", groups, blocks(width, columnsOf(flags)), 1, 128, 0, partial, gradient.at, in.at, scale, uint64(rows), uint64(width), flags)
		d.launch("rmsnorm_backward", rows, 1, 1, rowThreads(width, 256), 0, to, gradient.at, in.at, w, scale, copied, uint64(width), flags)
	}
	d.launch("add_rows", blocks(width, 256), 1, 1, 256, 0, sums, partial, uint64(groups), uint64(width))
}

// columnsOf is the number of columns that a block of 128 threads takes, one or eight each.
func columnsOf(flags uint64) int {
	if flags&vector(0) != 0 {
		return 128 * 8
	}
	return 128
}

// RoPE implements kernels.Device.
func (d *Device) RoPE(qkv, cos, sin kernels.Buffer, s kernels.AttentionShape, inverse bool) {
	const op = "rope"
	kernels.CheckRoPE(qkv, cos, sin, s)
	n, half := s.Rows()*s.QKVWidth(), s.HeadDim/2
	from := d.either(op, qkv, n)
	c, sn := d.read(op, cos, s.Seq*half, floats), d.read(op, sin, s.Seq*half, floats)
	to := d.result(op, qkv, n)
	sign := float32(1)
	if inverse {
		sign = -1
	}
	turned, all := s.Heads+s.KVHeads, s.Heads+2*s.KVHeads
	d.launch("rope", s.Rows(), 1, 1, rowThreads(turned*half, 256), 0, to.at, from.at, c, sn, uint64(s.Seq), uint64(turned), uint64(all), uint64(s.HeadDim),
		bits(sign), forms(to.form, from.form)|vector(half, to.at, from.at, c, sn))
}

// SwiGLU implements kernels.Device.
func (d *Device) SwiGLU(out, gateUp kernels.Buffer, rows, width int) {
	const op = "swiglu"
	kernels.CheckSwiGLU(out, gateUp, rows, width)
	from := d.either(op, gateUp, 2*rows*width)
	to := d.result(op, out, rows*width)
	d.launch("swiglu", rows, elements(width), 1, 256, 0, to.at, from.at, uint64(width), forms(to.form, from.form)|vector(width, to.at, from.at))
}

// SwiGLUBackward implements kernels.Device.
func (d *Device) SwiGLUBackward(dgateUp, dout, gateUp kernels.Buffer, rows, width int) {
	const op = "swiglu backward"
	kernels.CheckSwiGLUBackward(dgateUp, dout, gateUp, rows, width)
	gradient, from := d.either(op, dout, rows*width), d.either(op, gateUp, 2*rows*width)
	to := d.result(op, dgateUp, 2*rows*width)
	d.launch("swiglu_backward", rows, elements(width), 1, 256, 0, to.at, gradient.at, from.at, uint64(width),
		forms(to.form, gradient.form, from.form)|vector(width, to.at, gradient.at, from.at))
}

// Embedding implements kernels.Device.
func (d *Device) Embedding(out, table kernels.Buffer, ids kernels.Tokens, vocab, width int) {
	const op = "embedding"
	t := d.idsOf(op, ids)
	kernels.CheckEmbedding(op, out, table, t.ids, vocab, width)
	from, to := d.read(op, table, vocab*width, floats), d.write(op, out, len(t.ids)*width, floats)
	d.launch("embedding", len(t.ids), 1, 1, rowThreads(width, 256), 0, to, from, uint64(t.at), uint64(width), vector(width, to, from))
}

// EmbeddingBackward implements kernels.Device. The host, which is ahead of the device, sorts the
// positions by token.
func (d *Device) EmbeddingBackward(dtable, dout kernels.Buffer, ids kernels.Tokens, vocab, width int) {
	const op = "embedding backward"
	t := d.idsOf(op, ids)
	n := len(t.ids)
	kernels.CheckEmbedding(op, dout, dtable, t.ids, vocab, width)
	if n == 0 {
		return
	}
	d.keys = slices.Grow(d.keys[:0], n)[:n]
	for r, id := range t.ids {
		d.keys[r] = uint64(id)<<32 | uint64(r)
	}
	slices.Sort(d.keys)
	order := d.scratch(&d.order, 8*int64(n))
	d.in(order, bytesOf(d.keys))
	gradient := d.either(op, dout, n*width)
	to := d.update(op, dtable, vocab*width)
	d.launch("embedding_backward", n, 1, 1, rowThreads(width, 256), 0, to, gradient.at, order, uint64(n), uint64(width),
		forms(floats, gradient.form)|vector(width, to, gradient.at))
}

// CrossEntropy implements kernels.Device.
func (d *Device) CrossEntropy(losses, logits kernels.Buffer, targets kernels.Tokens, first, rows, vocab int, scale float32) {
	const op = "cross-entropy"
	t := d.idsOf(op, targets)
	kernels.CheckCrossEntropy(losses, logits, t.ids, first, rows, vocab)
	if rows == 0 {
		return
	}
	from := d.read(op, logits, rows*vocab, floats)
	loss := d.update(op, losses, losses.Len()) + 4*uint64(first)
	to := d.result(op, logits, rows*vocab)
	d.launch("cross_entropy", rows, 1, 1, rowThreads(vocab, 512), 0, to.at, from, loss, uint64(t.at)+4*uint64(first), uint64(vocab), bits(scale),
		forms(to.form)|vector(vocab, to.at, from))
}
