package kernels

// A matmul is computed in tiles of tileRows × tileCols outputs, whose sums stay in
// registers while k runs. Operands are first packed into panels, in the order in
// which a tile reads them: tileRows rows of op(a), or tileCols columns of op(b), two
// values of k a step. An odd k, and rows and columns past the edge, are padded with
// zeros, which change no sum: a sum that begins at +0 is never −0.
//
// 4×2 with two values of k a step runs at the limit of a core's three floating-point
// ports (11.7 GFLOP/s at 3.9 GHz, where a tile of 4×4, which spills, has 5.7).
const (
	tileRows = 4
	tileCols = 2
	tileStep = 2
)

// aStep holds op(a)[i..i+3][p] and then op(a)[i..i+3][p+1].
type aStep [tileRows * tileStep]float32

// bStep holds op(b)[p][j..j+1] and then op(b)[p+1][j..j+1].
type bStep [tileCols * tileStep]float32

// aTile is a tile of outputs, row by row.
type aTile [tileRows * tileCols]float32

// tileSteps is the number of steps that k values take.
func tileSteps(k int) int { return (k + tileStep - 1) / tileStep }

// tile sets c to the product of one panel of op(a) and one of op(b), which have the
// same number of steps. Each output sums over k in ascending order from 0, every
// product rounded to float32 before it is added.
func tile(c *aTile, a []aStep, b []bStep) {
	b = b[:len(a)]
	var c00, c01, c10, c11, c20, c21, c30, c31 float32
	for p := range a {
		x, y := &a[p], &b[p]
		y0, y1 := y[0], y[1]
		x0 := x[0]
		c00 += float32(x0 * y0)
		c01 += float32(x0 * y1)
		x1 := x[1]
		c10 += float32(x1 * y0)
		c11 += float32(x1 * y1)
		x2 := x[2]
		c20 += float32(x2 * y0)
		c21 += float32(x2 * y1)
		x3 := x[3]
		c30 += float32(x3 * y0)
		c31 += float32(x3 * y1)

		y2, y3 := y[2], y[3]
		x4 := x[4]
		c00 += float32(x4 * y2)
		c01 += float32(x4 * y3)
		x5 := x[5]
		c10 += float32(x5 * y2)
		c11 += float32(x5 * y3)
		x6 := x[6]
		c20 += float32(x6 * y2)
		c21 += float32(x6 * y3)
		x7 := x[7]
		c30 += float32(x7 * y2)
		c31 += float32(x7 * y3)
	}
	*c = aTile{c00, c01, c10, c11, c20, c21, c30, c31}
}

// packA packs rows (1 to 4) rows of op(a) into one panel: value p of row i is
// src[i·rowStride + p·colStride].
func packA(dst []aStep, src []float32, rows, k, rowStride, colStride int) {
	whole := k / tileStep
	switch {
	case rows == tileRows && colStride == 1:
		r0, r1 := src[:k], src[rowStride:][:k]
		r2, r3 := src[2*rowStride:][:k], src[3*rowStride:][:k]
		for s := range dst[:whole] {
			p := s * tileStep
			u, v, w, x := r0[p:p+2], r1[p:p+2], r2[p:p+2], r3[p:p+2]
			dst[s] = aStep{u[0], v[0], w[0], x[0], u[1], v[1], w[1], x[1]}
		}
	case rows == tileRows && rowStride == 1:
		for s := range dst[:whole] {
			u, v := src[2*s*colStride:][:4], src[(2*s+1)*colStride:][:4]
			dst[s] = aStep{u[0], u[1], u[2], u[3], v[0], v[1], v[2], v[3]}
		}
	default:
		whole = 0
	}
	for s := whole; s < len(dst); s++ {
		dst[s] = aStep{}
		for p := s * tileStep; p < min(k, (s+1)*tileStep); p++ {
			for i := range rows {
				dst[s][p%tileStep*tileRows+i] = src[i*rowStride+p*colStride]
			}
		}
	}
}

// packB packs cols (1 or 2) columns of op(b) into one panel: value p of column j is
// src[j·colStride + p·rowStride].
func packB(dst []bStep, src []float32, cols, k, rowStride, colStride int) {
	whole := k / tileStep
	switch {
	case cols == tileCols && rowStride == 1:
		c0, c1 := src[:k], src[colStride:][:k]
		for s := range dst[:whole] {
			p := s * tileStep
			u, v := c0[p:p+2], c1[p:p+2]
			dst[s] = bStep{u[0], v[0], u[1], v[1]}
		}
	case cols == tileCols && colStride == 1:
		for s := range dst[:whole] {
			u, v := src[2*s*rowStride:][:2], src[(2*s+1)*rowStride:][:2]
			dst[s] = bStep{u[0], u[1], v[0], v[1]}
		}
	default:
		whole = 0
	}
	for s := whole; s < len(dst); s++ {
		dst[s] = bStep{}
		for p := s * tileStep; p < min(k, (s+1)*tileStep); p++ {
			for j := range cols {
				dst[s][p%tileStep*tileCols+j] = src[j*colStride+p*rowStride]
			}
		}
	}
}
