package main

// triangle holds the registers of the square on the diagonal of causal attention.
type triangle struct {
	*file
	columns
	c, cRow, w, wRow, x, xRow, count gp
	transposed                       bool
}

// triangle writes the square, whose sums go on from c: row i of c takes rows 0 to i of
// x or, transposed, rows i to count−1.
func (f *file) triangle(transposed bool) {
	name := "triangle"
	if transposed {
		name = "triangleT"
	}
	f.function(name, "c *float32, cRow int, w *float32, wRow int, x *float32, xRow, count, n int", "",
		"computes the square on the diagonal of causal attention; see path."+name+".")
	t := &triangle{file: f, transposed: transposed}
	t.c, t.cRow, t.w, t.wRow = f.param("c"), f.param("cRow"), f.param("w"), f.param("wRow")
	t.x, t.xRow, t.count = f.param("x"), f.param("xRow"), f.param("count")
	for _, w := range widths {
		t.columns = w
		skip := f.name("skip")
		f.scope(func() {
			n := f.param("n")
			if w.count == 16 {
				f.op("CMP", imm(16), n)
				f.op("BLT", skip)
			} else {
				f.op("TST", imm(w.count), n)
				f.op("BEQ", skip)
			}
			t.square()
		})
		f.op("ADD", imm(4*w.count), t.c)
		f.op("ADD", imm(4*w.count), t.x)
		f.label(skip)
	}
	f.ret()
}

// square writes the square of these columns. Rows after count are computed, from 0,
// and not stored.
func (t *triangle) square() {
	sums := make([][]vec, maxRows)
	for i := range sums {
		sums[i] = t.zeros(t.regs)
	}
	t.rows(sums, true)
	summed, x, rows := t.name("summed"), t.gp(), t.gpsOf(maxRows)
	t.op("MOVD", t.x, x)
	t.op("MOVD", t.w, rows[0])
	for i := 1; i < maxRows; i++ {
		t.op("ADD", t.wRow, rows[i-1], rows[i])
	}
	for p := range maxRows {
		t.op("CMP", imm(p+1), t.count)
		t.op("BLT", summed)
		t.scope(func() {
			first, last := p, maxRows-1
			if t.transposed {
				first, last = 0, p
			}
			factors := make([]vec, maxRows)
			for i := first; i <= last; i++ {
				factors[i] = t.vec()
				place := at(rows[i], 4*p)
				if t.transposed {
					place = at(rows[p], 4*i)
				}
				t.op("FMOVS", place, factors[i].F())
			}
			t.multiply(t.file, sums, func(row int) vec { return factors[row] }, first, last, 0, x)
		})
		if p < maxRows-1 {
			t.op("ADD", t.xRow, x)
		}
	}
	t.label(summed)
	t.rows(sums, false)
}

// rows moves count rows between c and the registers.
func (t *triangle) rows(sums [][]vec, into bool) {
	done := t.name("rows")
	t.scope(func() {
		row := t.gp()
		t.op("MOVD", t.c, row)
		for i := range sums {
			t.op("CMP", imm(i+1), t.count)
			t.op("BLT", done)
			t.store(t.file, sums[i], row, into)
			if i < len(sums)-1 {
				t.op("ADD", t.cRow, row)
			}
		}
	})
	t.label(done)
}

// transpose writes the transposition of squares of 8 rows: square after square along
// the rows of src, down the rows of dst.
func (f *file) transpose() {
	f.function("transpose", "dst *float32, dstRow int, src *float32, srcRow, squares int", "",
		"transposes squares; see path.transpose.")
	dst, dstRow := f.param("dst"), f.param("dstRow")
	src, srcRow, squares := f.param("src"), f.param("srcRow"), f.param("squares")
	row, square, done := f.gp(), f.name("square"), f.name("done")
	f.label(square)
	f.op("CBZ", squares, done)
	f.op("MOVD", src, row)
	var in [8][2]vec
	for i := range in {
		in[i] = [2]vec{f.vec(), f.vec()}
		f.op("FLDPQ", at(row, 0), pair(in[i][0], in[i][1]))
		f.op("ADD", srcRow, row)
	}
	for half := range 2 {
		f.scope(func() {
			upper := f.quad(in[0][half], in[1][half], in[2][half], in[3][half])
			lower := f.quad(in[4][half], in[5][half], in[6][half], in[7][half])
			for i := range upper {
				f.op("FSTPQ", pair(upper[i], lower[i]), at(dst, 0))
				f.op("ADD", dstRow, dst)
			}
		})
	}
	f.op("ADD", "$32", src)
	f.op("SUB", "$1", squares)
	f.op("B", square)
	f.label(done)
	f.ret()
}

// quad returns the columns of four rows of four.
func (f *file) quad(a, b, c, d vec) [4]vec {
	turn := func(name, shape string, x, y vec) vec {
		out := f.vec()
		f.op(name, y.as(shape), x.as(shape), out.as(shape))
		return out
	}
	even01, odd01 := turn("VTRN1", "S4", a, b), turn("VTRN2", "S4", a, b)
	even23, odd23 := turn("VTRN1", "S4", c, d), turn("VTRN2", "S4", c, d)
	return [4]vec{
		turn("VTRN1", "D2", even01, even23), turn("VTRN1", "D2", odd01, odd23),
		turn("VTRN2", "D2", even01, even23), turn("VTRN2", "D2", odd01, odd23),
	}
}
