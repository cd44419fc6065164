package cpu

import "loco/kernels"

// roundedRows is an output of RMSNorm or LinearSwiGLU as the rows of op(a) that the
// next product reads in bf16. The operation that computes a row rounds it while it is in the
// cache, so that the product neither reads float32 nor packs.
type roundedRows struct {
	home        *cpuMemory // of the float32 values
	at          int        // in home
	rows, width int
	valid       bool
	round       func(dst, src *float32, n int)
	stride      int       // words from row to row
	words       []float32 // (rows, stride)
}

// keepRounded returns room for the rows of b, which an operation is about to write;
// nil in float32. The operation calls keep for each row, and keptAll at the end.
func (d *Device) keepRounded(b kernels.Buffer, rows, width int) *roundedRows {
	if d.half == nil || rows == 0 || width == 0 {
		return nil
	}
	d.rounded[0], d.rounded[1] = d.rounded[1], d.rounded[0]
	r, c := &d.rounded[0], b.(*cpuBuffer)
	*r = roundedRows{
		home: c.home, at: c.at, rows: rows, width: width, round: d.half.round,
		stride: packing{d.path, d.half}.words(width) + rowGap, words: r.words,
	}
	r.words = grownFloats(r.words, rows*r.stride)
	return r
}

// roundedOf returns the rounded rows of x (rows, width), or nil.
func (d *Device) roundedOf(x kernels.Buffer, rows, width int) *roundedRows {
	c := x.(*cpuBuffer)
	for i := range d.rounded {
		r := &d.rounded[i]
		if r.valid && r.home == c.home && r.at == c.at && r.width == width && rows <= r.rows {
			return r
		}
	}
	return nil
}

// keep rounds row i.
func (r *roundedRows) keep(i int, row []float32) {
	r.round(&r.words[i*r.stride], &row[0], r.width)
}

// forget makes the rows invalid where what was rounded is written again.
func (r *roundedRows) forget(c *cpuBuffer) {
	if r.home == c.home && r.at < c.at+len(c.v) && c.at < r.at+r.rows*r.width {
		r.valid = false
	}
}

// keptAll makes the rows valid.
func (r *roundedRows) keptAll() {
	if r != nil {
		r.valid = true
	}
}
