package cpu

import "loco/kernels"

//go:generate go -C _asm run . -out ../vector_amd64.s -stubs ../vector_amd64.go -pkg cpu
//go:generate go -C _asm run ./neon -out ../neon_arm64.s -stubs ../neon_arm64.go

// A path is one way in which a CPU computes: plain Go, or the assembly for one set of
// its instructions. All paths give the same bits: the plain functions, beside the
// operations that use them, define each sum's order and each rounding.
//
// Functions on slices take the length of their first operand; the others must be as
// long.
type path struct {
	name string
	// cols is the number of columns a panel has at most, rows the number of rows of a
	// triangle, square the side of transpose's squares.
	cols, rows, square int

	// panel computes a product of m, n ≤ cols and k values, none of them 0; the strides
	// of rows and columns are in bytes. What next points at is prefetched. triangle and
	// triangleT compute count ≤ rows rows of the square on the diagonal. They are nil in
	// plain Go: see [product].
	panel     func(c *float32, cRow int, a *float32, aRow, aCol int, b *float32, bRow, m, n, k, mode int, next *float32)
	triangle  func(c *float32, cRow int, w *float32, wRow int, x *float32, xRow, count, n int)
	triangleT func(c *float32, cRow int, w *float32, wRow int, x *float32, xRow, count, n int)
	// fused makes products use fusedTile where panel is nil.
	fused bool
	// transpose turns square rows of src, squares·square long, into as many rows of
	// dst, square long.
	transpose func(dst *float32, dstRow int, src *float32, srcRow, squares int)
	// copyPanels copies rows of panels·cols values each to panels, dstPanel bytes apart;
	// nil in plain Go.
	copyPanels func(dst *float32, dstPanel int, src *float32, srcRow, rows, panels int)

	add   func(dst, x []float32)            // dst += x
	scale func(x []float32, factor float32) // x *= factor
	// axpby and axpbSum are Exchanger's. dst may be any of the others.
	axpby   func(dst, x, y []float32, a, b float32)
	axpbSum func(dst, x, y, z []float32, a, b, c float32)

	dot           func(x, y []float32) float32              // Σ x·y
	greatest      func(x []float32) float32                 // maximum of a row that is not empty
	scaleGreatest func(x []float32, factor float32) float32 // scale, then greatest
	// expSum sets dst to e^(x−shift) and returns its sum.
	expSum func(dst, x []float32, shift float32) float32
	// scoreGrad sets p to e^(p·factor − lse), the probabilities, and with them grad
	// to p·(grad − delta)·factor.
	scoreGrad func(p, grad []float32, factor, lse, delta float32)

	normRow     func(out, x, w []float32, rstd float32)
	normGradSum func(dweight, dout, x, w []float32, rstd float32) float32
	normGrad    func(dx, dout, x, w []float32, rstd, mean float32)
	rotate      func(lo, hi, cos, sin []float32, sign float32)
	swiglu      func(out, gate, up []float32)
	swigluGrad  func(dgate, dup, dout, gate, up []float32)
	adamw       func(p, g, m, v []float32, c *[10]float32)

	// sumLanes and squareLanes add a multiple of 32 values, or their squares, to the
	// lanes of a chunk.
	sumLanes, squareLanes func(lanes *[lanes]float64, x []float32)

	// peak does nothing but turns·peakFlop floating-point operations: what products
	// are measured against. Plain Go has none.
	peak     func(turns int)
	peakFlop int
	streams  *streams // nil in Go

	// formats are the codecs for the wire. The streams touch the memory that int8's
	// encode and decodeAdd touch, and do nothing else: what those are measured against.
	formats          [kernels.FormatCount]blockRuns
	streamEncode     func(dst []byte, src []float32)
	streamEncodePast func(dst []byte, src []float32)
	streamAdd        func(dst []float32, src []byte)
}

// plainPath runs everywhere.
var plainPath = path{
	name: "plain Go", cols: 8, rows: 4,
	add: plainAdd, scale: plainScale, axpby: plainAxpby, axpbSum: plainAxpbSum,
	dot: plainDot, greatest: plainGreatest, scaleGreatest: plainScaleGreatest,
	expSum: plainExpSum, scoreGrad: plainScoreGrad,
	normRow: plainNormRow, normGradSum: plainNormGradSum, normGrad: plainNormGrad,
	rotate: plainRotate, swiglu: plainSwiglu, swigluGrad: plainSwigluGrad,
	adamw: plainAdamW, sumLanes: plainSumLanes, squareLanes: plainSquareLanes,
}

// fusedName is the path of plain Go where the compiler fuses.
const fusedName = "Go with FMA"

// allPaths returns the paths that this machine can run, the fastest first.
func allPaths() []*path {
	paths := vectorPaths()
	if compilerFuses() {
		fused := plainPath
		fused.name, fused.fused = fusedName, true
		paths = append(paths, &fused)
	}
	return append(paths, &plainPath)
}
