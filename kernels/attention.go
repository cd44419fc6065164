package kernels

import "math"

// attentionJob is Attention, or its backward pass. A task is one key-value head of
// one batch item with the query heads that read it, so that nothing else adds to the
// gradients of its keys and values. Queries go in panels of tileRows rows: a panel
// meets all keys up to its own rows, so that at most tileRows·T scores exist.
//
// A panel's square on the diagonal is worked row by row: a key or value after a row,
// which may hold anything, must not reach it, not even times zero.
type attentionJob struct {
	backward      bool
	out, lse, qkv []float32
	dqkv, delta   []float32
	dout          []float32
	s             AttentionShape
	scale         float32            // 1/√HeadDim
	scratch       []attentionScratch // by worker
}

// attentionScratch is what one task needs, linear in T.
type attentionScratch struct {
	keys   []bStep // Kᵀ: ⌈T/2⌉ panels of ⌈D/2⌉ steps
	values []bStep // V: ⌈D/2⌉ panels of ⌈T/2⌉ steps; backward Vᵀ as keys is
	rows   []bStep // backward: K as values is
	queries,
	weights []aStep // one panel of Q or dO, one of P or dS
	scores, grads []float32 // (tileRows, T rounded up to even): P, dS
	width         int       // of a row of scores
}

// Attention implements Device. Scores are rounded to float32 after they are scaled; a
// row's sum has the tree of the 8 lanes, and its output is divided by it at the end.
func (d *CPU) Attention(out, lse, qkv Buffer, s AttentionShape) {
	checkAttention(out, lse, qkv, s)
	j := &d.attention
	j.backward = false
	j.out, j.lse, j.qkv = f32("attention", out), f32("attention", lse), f32("attention", qkv)
	d.runAttention(s)
}

func (d *CPU) runAttention(s AttentionShape) {
	j := &d.attention
	j.s, j.scale = s, 1/float32(math.Sqrt(float64(s.HeadDim)))
	for w := range j.scratch {
		j.scratch[w].grow(s, j.backward)
	}
	if s.Seq > 0 {
		d.run(j, s.Batch*s.KVHeads)
	}
}

func (w *attentionScratch) grow(s AttentionShape, backward bool) {
	seqSteps, headSteps := tileSteps(s.Seq), tileSteps(s.HeadDim)
	size := blocks(s.Seq, tileCols) * headSteps
	w.width = blocks(s.Seq, tileCols) * tileCols
	w.keys = grown(w.keys, size)
	w.queries = grown(w.queries, headSteps)
	w.weights = grown(w.weights, seqSteps)
	w.scores = grown(w.scores, tileRows*w.width)
	if !backward {
		w.values = grown(w.values, blocks(s.HeadDim, tileCols)*seqSteps)
		return
	}
	w.values = grown(w.values, size)
	w.rows = grown(w.rows, blocks(s.HeadDim, tileCols)*seqSteps)
	w.grads = grown(w.grads, tileRows*w.width)
}

func (j *attentionJob) do(worker, task int) {
	batch, kv := task/j.s.KVHeads, task%j.s.KVHeads
	group := j.s.Heads / j.s.KVHeads
	w := &j.scratch[worker]
	first := j.s.head(batch, kv*group)
	packHead(w.keys, j.qkv, first, first.k, true)
	packHead(w.values, j.qkv, first, first.v, j.backward)
	if j.backward {
		packHead(w.rows, j.qkv, first, first.k, false)
		clearHead(j.dqkv, first, first.k)
		clearHead(j.dqkv, first, first.v)
	}
	for h := range group {
		head := j.s.head(batch, kv*group+h)
		for row := 0; row < j.s.Seq; row += tileRows {
			if j.backward {
				j.panelBackward(w, head, row)
			} else {
				j.panel(w, head, row)
			}
		}
	}
}

// packHead packs the rows (T, D) of a head at a column of qkv as op(b): transposed to
// (D, T), or as they are.
func packHead(dst []bStep, qkv []float32, head headViews, col int, transposed bool) {
	n, k := head.s.HeadDim, head.s.Seq
	rowStride, colStride := head.s.QKVWidth(), 1
	if transposed {
		n, k = k, n
		rowStride, colStride = colStride, rowStride
	}
	steps := tileSteps(k)
	for c := 0; c < n; c += tileCols {
		packB(dst[c/tileCols*steps:][:steps], qkv[head.at(0, col)+c*colStride:], min(tileCols, n-c), k, rowStride, colStride)
	}
}

func clearHead(dqkv []float32, head headViews, col int) {
	for t := range head.s.Seq {
		clear(dqkv[head.at(t, col):][:head.s.HeadDim])
	}
}

// products sets dst (tileRows, width) to scale times the product of one panel of
// rows and the first cols columns, which are packed in panels.
func (w *attentionScratch) products(dst []float32, rows []aStep, columns []bStep, cols int, scale float32) {
	var t aTile
	r0, r1 := dst[:w.width], dst[w.width:][:w.width]
	r2, r3 := dst[2*w.width:][:w.width], dst[3*w.width:][:w.width]
	for c := 0; c < cols; c += tileCols {
		tile(&t, rows, columns[c/tileCols*len(rows):][:len(rows)])
		*(*[2]float32)(r0[c:]) = [2]float32{t[0] * scale, t[1] * scale}
		*(*[2]float32)(r1[c:]) = [2]float32{t[2] * scale, t[3] * scale}
		*(*[2]float32)(r2[c:]) = [2]float32{t[4] * scale, t[5] * scale}
		*(*[2]float32)(r3[c:]) = [2]float32{t[6] * scale, t[7] * scale}
	}
}

// panel computes up to tileRows rows of one head's output.
func (j *attentionJob) panel(w *attentionScratch, head headViews, row int) {
	d, count := j.s.HeadDim, min(tileRows, j.s.Seq-row)
	packA(w.queries, j.qkv[head.at(row, head.q):], count, d, j.s.QKVWidth(), 1)
	w.products(w.scores, w.queries, w.keys, row+count, j.scale)
	var inverse [tileRows]float32
	for r := range count {
		scores := w.scores[r*w.width:][:row+r+1]
		highest := maxOf(scores)
		expOf(scores, scores, highest)
		sum := sumLanes(scores)
		j.lse[head.statistics+row+r] = float32(float64(highest) + log64(float64(sum)))
		inverse[r] = 1 / sum
	}
	w.combine(j.out[head.outAt(row):], w.scores, w.values, j.qkv[head.at(row, head.v):], head.s, j.s.OutWidth(), row, count)
	for r := range count {
		out := j.out[head.outAt(row+r):][:d]
		for i := range out {
			out[i] *= inverse[r]
		}
	}
}

// combine sets count rows of dst, stride apart, to weights·x, where x is the rows
// (T, D) of a head, packed up to row and plain from there on, and row r of weights
// ends at row+r.
func (w *attentionScratch) combine(dst, weights []float32, packed []bStep, plain []float32, s AttentionShape, stride, row, count int) {
	d, steps := s.HeadDim, tileSteps(s.Seq)
	panel := w.weights[:row/tileStep]
	packA(panel, weights, tileRows, row, w.width, 1)
	var t aTile
	for c := 0; c < d; c += tileCols {
		tile(&t, panel, packed[c/tileCols*steps:][:len(panel)])
		for r := range count {
			out := dst[r*stride+c : r*stride+min(c+tileCols, d)]
			for i := range out {
				out[i] = t[(r*tileCols+i)&7]
			}
		}
	}
	for r := range count {
		out := dst[r*stride:][:d]
		for u := range r + 1 {
			factor := weights[r*w.width+row+u]
			for i, v := range plain[u*s.QKVWidth():][:len(out)] {
				out[i] += float32(factor * v)
			}
		}
	}
}
