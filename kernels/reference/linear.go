package reference

import "loco/kernels"

// refWeight is a [kernels.Weight] of the reference: the parameters.
type refWeight struct {
	params  *refBuffer
	out, in int
}

// Shape implements Weight.
func (w *refWeight) Shape() (out, in int) { return w.out, w.in }

func refWeightOf(op string, w kernels.Weight) *refWeight {
	r, ok := w.(*refWeight)
	if !ok {
		kernels.PanicForeign(op, w)
	}
	return r
}

// NewWeight implements kernels.Device.
func (*Device) NewWeight(params kernels.Buffer, out, in int, _ bool) (kernels.Weight, error) {
	if err := kernels.CheckWeight(params, out, in); err != nil {
		return nil, err
	}
	return &refWeight{&refBuffer{f64("weight", params)[:out*in]}, out, in}, nil
}

// Linear implements kernels.Device.
func (d *Device) Linear(y, x kernels.Buffer, w kernels.Weight, residual kernels.Buffer, rows int) {
	kernels.CheckLinear("linear", y, x, w, residual, rows)
	r := refWeightOf("linear", w)
	if residual != nil {
		n := rows * r.out
		d.Copy(y.Slice(0, n), residual.Slice(0, n))
	}
	d.MatMul(y, x, r.params, rows, r.out, r.in, false, true, residual != nil)
}

// Project implements kernels.Device.
func (d *Device) Project(y, x kernels.Buffer, w kernels.Weight, rows int) {
	d.Linear(y, x, w, nil, rows)
}

// LinearSwiGLU implements kernels.Device.
func (d *Device) LinearSwiGLU(out, gateUp, x kernels.Buffer, w kernels.Weight, rows int) {
	kernels.CheckLinearSwiGLU(out, gateUp, x, w, rows)
	d.Linear(gateUp, x, w, nil, rows)
	n, _ := w.Shape()
	d.SwiGLU(out, gateUp, rows, n/2)
}

// LinearBackward implements kernels.Device.
func (d *Device) LinearBackward(dx, dy kernels.Buffer, w kernels.Weight, rows int) {
	kernels.CheckLinearBackward(dx, dy, w, rows)
	r := refWeightOf("linear backward", w)
	d.MatMul(dx, dy, r.params, rows, r.in, r.out, false, false, false)
}

// UpdateWeight implements kernels.Device.
func (d *Device) UpdateWeight(w kernels.Weight, g, m, v kernels.Buffer, step kernels.AdamWStep) {
	r := refWeightOf("update weight", w)
	kernels.CheckUpdateWeight(r.params.Len(), g, m, v)
	d.AdamW(r.params, g, m, v, step)
}
