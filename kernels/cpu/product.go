package cpu

// Modes of a product.
const (
	productSet   = 0 // c = Σ
	productAdd   = 1 // c = c + Σ, the sum formed from 0
	productChain = 2 // c = c + a₀·b₀ + a₁·b₁ + ..., the chain going on from c
)

// A product is a product of matrices on one goroutine: c (m, n) = a (m, k)·b (k, n).
// Each output is one chain of fused multiply-adds over ascending k; it begins at +0 or
// goes on from c, so that a caller may cut k in blocks. Strides are in values; columns
// of b and c are next to each other.
type product struct {
	c          []float32
	cRow       int
	a          []float32
	aRow, aCol int
	b          []float32
	bRow       int
	m, n, k    int
	mode       int
	next       []float32 // what the next product reads of b, to prefetch; or nil
}

// product computes x, in bf16 if half is set: then k counts words.
func (p *path) product(x *product, half *half) {
	switch {
	case x.m == 0 || x.n == 0:
	case x.k == 0:
		x.nothing()
	case p.panel == nil:
		p.plainProduct(x)
	default:
		// The assembly reads up to these.
		_, _, _ = x.c[(x.m-1)*x.cRow+x.n-1], x.a[(x.m-1)*x.aRow+(x.k-1)*x.aCol], x.b[(x.k-1)*x.bRow+x.n-1]
		f := p.panel
		if half != nil {
			f = half.product
		}
		next := &x.b[0]
		if len(x.next) > 0 {
			next = &x.next[0]
		}
		for j := 0; j < x.n; j += p.cols {
			f(&x.c[j], 4*x.cRow, &x.a[0], 4*x.aRow, 4*x.aCol, &x.b[j], 4*x.bRow, x.m, min(p.cols, x.n-j), x.k, x.mode, next)
		}
	}
}

// nothing is the product with k = 0.
func (x *product) nothing() {
	for i := range x.m {
		row := x.c[i*x.cRow:][:x.n]
		switch x.mode {
		case productSet:
			clear(row)
		case productAdd:
			for j := range row {
				row[j] += 0
			}
		}
	}
}

// diagonal adds to count rows of c (count, n) the square on the diagonal of causal
// attention: row i takes w[i][u]·x[u] for u = 0 to i or, transposed, w[t][i]·x[t] for
// t = i to count−1, each as a chain that goes on from c. w has p.rows rows in memory.
func (p *path) diagonal(c []float32, cRow int, w []float32, wRow int, x []float32, xRow, count, n int, transposed bool) {
	if count == 0 || n == 0 {
		return
	}
	f := p.triangle
	if transposed {
		f = p.triangleT
	}
	if f == nil {
		plainTriangle(c, cRow, w, wRow, x, xRow, count, n, transposed)
		return
	}
	_, _, _ = c[(count-1)*cRow+n-1], x[(count-1)*xRow+n-1], w[(count-1)*wRow+count-1]
	if !transposed {
		_ = w[(p.rows-1)*wRow+count-1]
	}
	for j := 0; j < n; j += p.cols {
		f(&c[j], 4*cRow, &w[0], 4*wRow, &x[j], 4*xRow, count, min(p.cols, n-j))
	}
}

// packTransposed packs the rows (n, k) of src, srcRow apart, as panels of (k, cols)
// with the rows as columns. Columns past n stay as they are: no product reads them.
func (p *path) packTransposed(dst, src []float32, srcRow, n, k int) {
	for j := 0; j < n; j += p.cols {
		p.turn(dst[j*k:][:k*p.cols], p.cols, src[j*srcRow:], srcRow, min(p.cols, n-j), k)
	}
}

// turn sets dst (k, n) to the transposed src (n, k); their rows are dstRow and srcRow
// apart.
func (p *path) turn(dst []float32, dstRow int, src []float32, srcRow, n, k int) {
	row, whole := 0, 0
	if p.square > 0 {
		whole = k / p.square * p.square
		for ; row+p.square <= n && whole > 0; row += p.square {
			_, _ = src[(row+p.square-1)*srcRow+k-1], dst[(whole-1)*dstRow+row+p.square-1]
			p.transpose(&dst[row], 4*dstRow, &src[row*srcRow], 4*srcRow, whole/p.square)
		}
	}
	for i := range n {
		first := 0
		if i < row {
			first = whole
		}
		for l, v := range src[i*srcRow:][:k][first:] {
			dst[(first+l)*dstRow+i] = v
		}
	}
}

// plainProduct works in tiles of 4×2 outputs, whose sums stay in registers.
func (p *path) plainProduct(x *product) {
	for i := 0; i < x.m; i += 4 {
		for j := 0; j < x.n; j += 2 {
			if i+4 <= x.m && j+2 <= x.n {
				if p.fused {
					x.fusedTile(i, j)
				} else {
					x.tile(i, j)
				}
				continue
			}
			for r := i; r < min(i+4, x.m); r++ {
				for s := j; s < min(j+2, x.n); s++ {
					x.one(r, s)
				}
			}
		}
	}
}

// one computes one output.
func (x *product) one(i, j int) {
	at := &x.c[i*x.cRow+j]
	sum := 0.0
	if x.mode == productChain {
		sum = float64(*at)
	}
	for p := range x.k {
		sum = fuse(float64(x.a[i*x.aRow+p*x.aCol])*float64(x.b[p*x.bRow+j]), sum)
	}
	if x.mode == productAdd {
		*at += float32(sum)
	} else {
		*at = float32(sum)
	}
}

// tile computes 4×2 outputs.
func (x *product) tile(i, j int) {
	r0, r1 := x.c[i*x.cRow+j:][:2], x.c[(i+1)*x.cRow+j:][:2]
	r2, r3 := x.c[(i+2)*x.cRow+j:][:2], x.c[(i+3)*x.cRow+j:][:2]
	var c00, c01, c10, c11, c20, c21, c30, c31 float64
	if x.mode == productChain {
		c00, c01, c10, c11 = float64(r0[0]), float64(r0[1]), float64(r1[0]), float64(r1[1])
		c20, c21, c30, c31 = float64(r2[0]), float64(r2[1]), float64(r3[0]), float64(r3[1])
	}
	a0, a1 := x.a[i*x.aRow:], x.a[(i+1)*x.aRow:]
	a2, a3 := x.a[(i+2)*x.aRow:], x.a[(i+3)*x.aRow:]
	at, bt := 0, j
	for range x.k {
		y0, y1 := float64(x.b[bt]), float64(x.b[bt+1])
		v := float64(a0[at])
		c00, c01 = fuse(v*y0, c00), fuse(v*y1, c01)
		v = float64(a1[at])
		c10, c11 = fuse(v*y0, c10), fuse(v*y1, c11)
		v = float64(a2[at])
		c20, c21 = fuse(v*y0, c20), fuse(v*y1, c21)
		v = float64(a3[at])
		c30, c31 = fuse(v*y0, c30), fuse(v*y1, c31)
		at, bt = at+x.aCol, bt+x.bRow
	}
	if x.mode == productAdd {
		r0[0], r0[1], r1[0], r1[1] = r0[0]+float32(c00), r0[1]+float32(c01), r1[0]+float32(c10), r1[1]+float32(c11)
		r2[0], r2[1], r3[0], r3[1] = r2[0]+float32(c20), r2[1]+float32(c21), r3[0]+float32(c30), r3[1]+float32(c31)
		return
	}
	r0[0], r0[1], r1[0], r1[1] = float32(c00), float32(c01), float32(c10), float32(c11)
	r2[0], r2[1], r3[0], r3[1] = float32(c20), float32(c21), float32(c30), float32(c31)
}

func plainTriangle(c []float32, cRow int, w []float32, wRow int, x []float32, xRow, count, n int, transposed bool) {
	for i := range count {
		row := c[i*cRow:][:n]
		first, last := 0, i
		if transposed {
			first, last = i, count-1
		}
		for u := first; u <= last; u++ {
			factor := w[i*wRow+u]
			if transposed {
				factor = w[u*wRow+i]
			}
			for l, v := range x[u*xRow:][:n] {
				row[l] = float32(fuse(float64(factor)*float64(v), float64(row[l])))
			}
		}
	}
}
