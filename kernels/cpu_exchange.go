package kernels

// exchangeOp is an operation of [Exchanger] on values one by one.
type exchangeOp int

const (
	opDifference exchangeOp = iota
	opNesterov
	opNoLoCo
	opNoLoCoFast
	opRebase
)

// exchangeJob applies op to dst and to the operands that it reads besides.
type exchangeJob struct {
	op      exchangeOp
	dst     []float32 // of outer steps: slow; of a rebase: fast
	second  []float32 // momentum; or a; or from
	x, y    []float32 // delta or mean θ, mean φ; or b; or to
	factors [3]float32
}

var _ Exchanger = (*CPU)(nil)

// Difference implements Exchanger.
func (d *CPU) Difference(dst, a, b Buffer) {
	const op = "difference"
	same(op, "a", a.Len(), dst.Len())
	same(op, "b", b.Len(), dst.Len())
	d.exchange(exchangeJob{op: opDifference, dst: d.written(op, dst), second: f32(op, a), x: f32(op, b)})
}

// Nesterov implements Exchanger.
func (d *CPU) Nesterov(slow, momentum, delta Buffer, lr, mu float32) {
	const op = "nesterov"
	same(op, "momentum", momentum.Len(), slow.Len())
	same(op, "delta", delta.Len(), slow.Len())
	d.exchange(exchangeJob{op: opNesterov, dst: d.written(op, slow), second: d.written(op, momentum), x: f32(op, delta), factors: [3]float32{lr, mu}})
}

// NoLoCo implements Exchanger.
func (d *CPU) NoLoCo(slow, momentum, meanDelta, meanSlow Buffer, alpha, beta, gamma float32) {
	const op = "noloco"
	same(op, "momentum", momentum.Len(), slow.Len())
	same(op, "mean delta", meanDelta.Len(), slow.Len())
	same(op, "mean slow", meanSlow.Len(), slow.Len())
	d.exchange(exchangeJob{opNoLoCo, d.written(op, slow), d.written(op, momentum), f32(op, meanDelta), f32(op, meanSlow), [3]float32{alpha, beta, gamma}})
}

// NoLoCoFast implements Exchanger.
func (d *CPU) NoLoCoFast(slow, momentum, meanFast Buffer, alpha, beta float32) {
	const op = "noloco fast"
	same(op, "momentum", momentum.Len(), slow.Len())
	same(op, "mean fast", meanFast.Len(), slow.Len())
	d.exchange(exchangeJob{op: opNoLoCoFast, dst: d.written(op, slow), second: d.written(op, momentum), x: f32(op, meanFast), factors: [3]float32{alpha, beta}})
}

// Rebase implements Exchanger.
func (d *CPU) Rebase(fast, from, to Buffer) {
	const op = "rebase"
	same(op, "from", from.Len(), fast.Len())
	same(op, "to", to.Len(), fast.Len())
	d.exchange(exchangeJob{op: opRebase, dst: d.written(op, fast), second: f32(op, from), x: f32(op, to)})
}

func (d *CPU) exchange(j exchangeJob) {
	d.exchanging = j
	d.run(&d.exchanging, blocks(len(j.dst), elementBlock))
}

func (j *exchangeJob) do(_, task int) {
	lo := task * elementBlock
	hi := min(lo+elementBlock, len(j.dst))
	dst, second, x := j.dst[lo:hi], j.second[lo:hi], j.x[lo:hi]
	switch f := j.factors; j.op {
	case opDifference:
		for i := range dst {
			dst[i] = second[i] - x[i]
		}
	case opNesterov:
		for i, delta := range x {
			second[i] = float32(f[1]*second[i]) + delta
			dst[i] -= float32(f[0] * (delta + float32(f[1]*second[i])))
		}
	case opNoLoCo:
		for i, mean := range j.y[lo:hi] {
			pull := float32(f[2] * (dst[i] - mean))
			second[i] = float32(f[0]*second[i]) + float32(f[1]*x[i]) - pull
			dst[i] += second[i]
		}
	case opNoLoCoFast:
		for i := range dst {
			second[i] = float32(f[0]*second[i]) + float32(f[1]*(x[i]-dst[i]))
			dst[i] += second[i]
		}
	case opRebase:
		for i := range dst {
			dst[i] = x[i] + (dst[i] - second[i])
		}
	}
}
