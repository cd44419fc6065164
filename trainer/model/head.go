package model

import "loco/kernels"

// head is the last norm, the matmul to the vocabulary and the loss. It works
// through the rows in chunks, so that (R, V) logits never exist at once.
type head struct {
	rows    int            // R
	chunk   int            // rows of one chunk; the last may be shorter
	in      kernels.Buffer // (R, C) normalised stream
	rstd    kernels.Buffer // (R)
	targets kernels.Tokens // (R)
	losses  kernels.Buffer // (R)
	logits  kernels.Buffer // (chunk, V); its gradient after the loss
	din     kernels.Buffer // (R, C), trained models only
	chunks  []headChunk
	row     kernels.Buffer // (V), a view: the logits of Logits
}

type headChunk struct {
	first, rows int
	in, din     kernels.Buffer // (rows, C)
}

// chunkRows is the number of rows whose logits take 256 MiB, but 64 to 2048 of them, in multiples
// of a GPU's tile of 128: fewer starve the matmul and read the gradient of its weight and write it
// again more often, more gain nothing.
func (c Config) chunkRows(rows int) int {
	chunk := max(64, min(2048, (256<<20)/(4*c.Vocab)))
	if chunk > 128 {
		chunk &^= 127
	}
	return min(rows, chunk)
}

func buildHead(a *allocator, cfg Config, rows int, train bool) head {
	h := head{rows: rows, chunk: cfg.chunkRows(rows), in: a.operand(rows, cfg.Width), rstd: a.floats(rows), targets: a.tokens(rows), losses: a.floats(rows)}
	h.logits = a.shared(h.chunk, cfg.Vocab)
	if train {
		h.din = a.operand(rows, cfg.Width)
	}
	return h
}

func (h *head) view(cfg Config) {
	for first := 0; first < h.rows; first += h.chunk {
		rows := min(h.chunk, h.rows-first)
		c := headChunk{first: first, rows: rows, in: h.in.Slice(first*cfg.Width, (first+rows)*cfg.Width)}
		if h.din != nil {
			c.din = h.din.Slice(first*cfg.Width, (first+rows)*cfg.Width)
		}
		h.chunks = append(h.chunks, c)
	}
	h.row = h.logits.Slice(0, cfg.Vocab)
}

// headForwardBackward sets the losses, adds the gradients of the head and of the
// last norm for scale·Σ loss, and sets scratch.dx to that of the stream that leaves
// the last block.
func (m *Model) headForwardBackward(p *pass, scale float32) {
	d, h, x, vocab, width := m.dev, &m.head, p.x[len(p.x)-1], m.cfg.Vocab, m.cfg.Width
	m.finalNorm(p)
	for i, c := range h.chunks {
		m.chunkLoss(c, scale)
		d.MatMul(m.dW.head, h.logits, c.in, vocab, width, c.rows, true, false, m.begun || i > 0)
		d.LinearBackward(c.din, h.logits, m.weights.head, c.rows)
	}
	d.Zero(m.scratch.dx)
	d.RMSNormBackward(m.scratch.dx, m.dW.norm, h.din, x, m.weights.norm, h.rstd, h.rows, width)
}

// headLoss returns Σ loss.
func (m *Model) headLoss(p *pass) float64 {
	m.finalNorm(p)
	for _, c := range m.head.chunks {
		m.chunkLoss(c, 0)
	}
	return m.dev.Sum(m.head.losses)
}

func (m *Model) finalNorm(p *pass) {
	m.dev.RMSNorm(m.head.in, m.head.rstd, p.x[len(p.x)-1], m.weights.norm, p.shape.Rows(), m.cfg.Width, float32(m.cfg.NormEps))
}

// chunkLoss sets the losses of one chunk and leaves the logits' gradient in
// head.logits.
func (m *Model) chunkLoss(c headChunk, scale float32) {
	h := &m.head
	m.dev.Linear(h.logits, c.in, m.weights.head, nil, c.rows)
	m.dev.CrossEntropy(h.losses, h.logits, h.targets, c.first, c.rows, m.cfg.Vocab, scale)
}
