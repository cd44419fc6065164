package kernels

// A Head says where one query head, and the key-value head that it reads, lie in the
// operands of attention.
type Head struct {
	Shape      AttentionShape
	Base       int // first row of the batch item, in values
	Q, K, V    int // column of the head in a row
	Out        int // first row and column of the head in an output
	Statistics int // first of the head's Seq values in (B, Heads, T)
}

// Head returns query head h of a batch item.
func (s AttentionShape) Head(batch, h int) Head {
	kv := h * s.KVHeads / s.Heads
	return Head{
		Shape:      s,
		Base:       batch * s.Seq * s.QKVWidth(),
		Q:          h * s.HeadDim,
		K:          (s.Heads + kv) * s.HeadDim,
		V:          (s.Heads + s.KVHeads + kv) * s.HeadDim,
		Out:        batch*s.Seq*s.OutWidth() + h*s.HeadDim,
		Statistics: (batch*s.Heads + h) * s.Seq,
	}
}

// At is the index in qkv of row t of the column that begins at col.
func (h Head) At(t, col int) int { return h.Base + t*h.Shape.QKVWidth() + col }

// OutAt is the index in out of row t.
func (h Head) OutAt(t int) int { return h.Out + t*h.Shape.OutWidth() }
