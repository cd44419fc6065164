package cpu

import (
	"math"

	"loco/kernels"
)

// attentionJob is Attention, or its backward pass. A task is one key-value head of
// one batch item with the query heads that read it, so that nothing else adds to the
// gradients of its keys and values. Queries go in panels of panelRows rows: a panel
// meets all keys up to its own rows, so that at most panelRows·T scores exist.
//
// A key or value after a row, which may hold anything, must not reach it, not even
// times zero: the squares on the diagonal have kernels of their own.
type attentionJob struct {
	*path
	backward      bool
	out, lse, qkv []float32
	dqkv, delta   []float32
	dout          []float32
	s             kernels.AttentionShape
	factor        float32            // 1/√HeadDim
	scratch       []attentionScratch // by worker
}

// panelRows is a multiple of every path's rows of a triangle.
const panelRows = 96

// attentionScratch is what one task needs, linear in T.
type attentionScratch struct {
	keys   []float32 // Kᵀ in panels of (D, cols)
	values []float32 // backward: Vᵀ likewise
	scores []float32 // (panelRows, width): scores, then probabilities
	grads  []float32 // backward: likewise their gradients
	width  int
}

// Attention implements kernels.Device. A score is one chain over the head's values, rounded
// once more when it is scaled; a row's sum has the tree of the lanes; an output is one
// chain over the keys in ascending order, multiplied by the inverse sum at the end.
func (d *Device) Attention(out, lse, qkv kernels.Buffer, s kernels.AttentionShape) {
	kernels.CheckAttention(out, lse, qkv, s)
	j := &d.attention
	j.backward = false
	j.out, j.lse, j.qkv = d.written("attention", out), d.written("attention", lse), f32("attention", qkv)
	d.runAttention(s)
}

func (d *Device) runAttention(s kernels.AttentionShape) {
	j := &d.attention
	j.path, j.s, j.factor = d.path, s, 1/float32(math.Sqrt(float64(s.HeadDim)))
	for w := range j.scratch {
		j.scratch[w].grow(s, j.cols, j.backward)
	}
	if s.Seq > 0 {
		d.run(j, s.Batch*s.KVHeads)
	}
}

func (w *attentionScratch) grow(s kernels.AttentionShape, cols int, backward bool) {
	packed := blocks(s.Seq, cols) * cols * s.HeadDim
	// Rows an odd number of cache lines apart do not compete for the same few places
	// in the cache.
	w.width = blocks(s.Seq, 32)*32 + 16
	w.keys = grownFloats(w.keys, packed)
	w.scores = grownFloats(w.scores, panelRows*w.width)
	if backward {
		w.values = grownFloats(w.values, packed)
		w.grads = grownFloats(w.grads, panelRows*w.width)
	}
}

func (j *attentionJob) do(worker, task int) {
	batch, kv := task/j.s.KVHeads, task%j.s.KVHeads
	group := j.s.Heads / j.s.KVHeads
	w := &j.scratch[worker]
	first := j.s.Head(batch, kv*group)
	j.packTransposed(w.keys, j.qkv[first.At(0, first.K):], j.s.QKVWidth(), j.s.Seq, j.s.HeadDim)
	if j.backward {
		j.packTransposed(w.values, j.qkv[first.At(0, first.V):], j.s.QKVWidth(), j.s.Seq, j.s.HeadDim)
		clearHead(j.dqkv, first, first.K)
		clearHead(j.dqkv, first, first.V)
	}
	for h := range group {
		head := j.s.Head(batch, kv*group+h)
		for row := 0; row < j.s.Seq; row += panelRows {
			count := min(panelRows, j.s.Seq-row)
			if j.backward {
				j.panelBackward(w, head, row, count)
			} else {
				j.panel(w, head, row, count)
			}
		}
	}
}

func clearHead(dqkv []float32, head kernels.Head, col int) {
	at, stride, d := head.At(0, col), head.Shape.QKVWidth(), head.Shape.HeadDim
	for range head.Shape.Seq {
		clear(dqkv[at : at+d])
		at += stride
	}
}

// panel computes count rows of one head's output.
func (j *attentionJob) panel(w *attentionScratch, head kernels.Head, row, count int) {
	j.products(w.scores, w.width, j.qkv[head.At(row, head.Q):], j.s.QKVWidth(), w.keys, row, count)
	var highest, sum [panelRows]float32
	for r := range count {
		scores := w.scores[r*w.width:][:row+r+1]
		highest[r] = j.scaleGreatest(scores, j.factor)
		sum[r] = j.expSum(scores, scores, highest[r])
	}
	// A loop of its own, because logarithms that do not wait for each other overlap.
	lse := j.lse[head.Statistics+row:][:count]
	for r := range lse {
		lse[r] = float32(float64(highest[r]) + log64(float64(sum[r])))
	}
	out, stride := j.out[head.OutAt(row):], j.s.OutWidth()
	j.combine(out, stride, w.scores, w.width, j.qkv[head.At(0, head.V):], row, count)
	for r := range count {
		j.scale(out[r*stride:][:j.s.HeadDim], 1/sum[r])
	}
}

// products sets dst, count rows of width values, to the products of the rows of x,
// stride apart, with the packed keys that the last of them sees. A row's values after
// its own are no result.
func (j *attentionJob) products(dst []float32, width int, x []float32, stride int, packed []float32, row, count int) {
	d := j.s.HeadDim
	for key := 0; key < row+count; key += j.cols {
		first := max(key-row, 0) // no row before it sees these keys
		j.product(&product{
			c: dst[first*width+key:], cRow: width,
			a: x[first*stride:], aRow: stride, aCol: 1,
			b: packed[key*d:], bRow: j.cols,
			m: count - first, n: min(j.cols, row+count-key), k: d, mode: productSet,
		}, nil)
	}
}

// combine sets count rows of dst, stride apart, to weights·x, where x is the rows
// (T, D) of a head and row r of weights ends at row+r.
func (j *attentionJob) combine(dst []float32, stride int, weights []float32, width int, x []float32, row, count int) {
	d, xRow := j.s.HeadDim, j.s.QKVWidth()
	for r := 0; r < count; r += j.rows {
		rows := min(j.rows, count-r)
		j.product(&product{
			c: dst[r*stride:], cRow: stride,
			a: weights[r*width:], aRow: width, aCol: 1,
			b: x, bRow: xRow,
			m: rows, n: d, k: row + r, mode: productSet,
		}, nil)
		j.diagonal(dst[r*stride:], stride, weights[r*width+row+r:], width, x[(row+r)*xRow:], xRow, rows, d, false)
	}
}
