package kernels

// refWeight is a [Weight] of the reference: the parameters.
type refWeight struct {
	params  *refBuffer
	out, in int
}

// Shape implements Weight.
func (w *refWeight) Shape() (out, in int) { return w.out, w.in }

func refWeightOf(op string, w Weight) *refWeight {
	r, ok := w.(*refWeight)
	if !ok {
		PanicForeign(op, w)
	}
	return r
}

// NewWeight implements Device.
func (*Reference) NewWeight(params Buffer, out, in int, _ bool) (Weight, error) {
	if err := CheckWeight(params, out, in); err != nil {
		return nil, err
	}
	return &refWeight{&refBuffer{f64("weight", params)[:out*in]}, out, in}, nil
}

// Linear implements Device.
func (d *Reference) Linear(y, x Buffer, w Weight, residual Buffer, rows int) {
	CheckLinear("linear", y, x, w, residual, rows)
	r := refWeightOf("linear", w)
	if residual != nil {
		n := rows * r.out
		d.Copy(y.Slice(0, n), residual.Slice(0, n))
	}
	d.MatMul(y, x, r.params, rows, r.out, r.in, false, true, residual != nil)
}

// Project implements Device.
func (d *Reference) Project(y, x Buffer, w Weight, rows int) { d.Linear(y, x, w, nil, rows) }

// LinearSwiGLU implements Device.
func (d *Reference) LinearSwiGLU(out, gateUp, x Buffer, w Weight, rows int) {
	CheckLinearSwiGLU(out, gateUp, x, w, rows)
	d.Linear(gateUp, x, w, nil, rows)
	n, _ := w.Shape()
	d.SwiGLU(out, gateUp, rows, n/2)
}

// LinearBackward implements Device.
func (d *Reference) LinearBackward(dx, dy Buffer, w Weight, rows int) {
	CheckLinearBackward(dx, dy, w, rows)
	r := refWeightOf("linear backward", w)
	d.MatMul(dx, dy, r.params, rows, r.in, r.out, false, false, false)
}

// UpdateWeight implements Device.
func (d *Reference) UpdateWeight(w Weight, g, m, v Buffer, step AdamWStep) {
	r := refWeightOf("update weight", w)
	CheckUpdateWeight(r.params.Len(), g, m, v)
	d.AdamW(r.params, g, m, v, step)
}
