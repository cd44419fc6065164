package cpu

import "loco/kernels"

// matmulJob is one matmul. It runs in two phases: first the tasks pack op(b) into
// panels, which all of them then read; then each computes a block of c, for one block
// of k after the other, so that what it reads of a panel stays in the first-level cache
// and what it reads of op(a) in the second. A weight is packed already.
type matmulJob struct {
	packing
	filling bool // in the first phase

	c, a, b        []float32
	m, n, k        int
	transA, transB bool
	accumulate     bool
	residual       []float32    // (m, n), or nil: c begins as this, and accumulate is set
	gated          []float32    // (m, n/2), or nil: SwiGLU of c
	rounded        *roundedRows // op(a), or nil
	keeping        *roundedRows // gated, or nil

	depth              int  // words of k
	packA, packB       bool // or read where they are
	first, last        int  // columns of c in this pass
	taskRows, taskCols int  // of a task's block of c
	taskDepth          int  // words of k at a time

	columns []float32       // op(b)'s columns first to last, packed
	own     []float32       // memory for columns
	scratch []matmulScratch // by worker
}

// matmulScratch is what a task needs.
type matmulScratch struct {
	rows []float32 // its block of op(a): (taskRows, taskDepth), rows rowGap further apart
	sums []float32 // its block of c (taskRows, taskCols), while chains are not finished
	tmp  []float32 // of packing
}

const (
	packPanels = 4 // panels a packing task
	// With k in blocks of maxDepth words each chain goes through memory between them,
	// which costs more than panels of 64 kB that the first-level cache does not hold.
	maxDepth    = 512
	minTaskRows = 48
	minTaskCols = 128
	maxTaskRows = 192
	maxTaskCols = 1024
	// maxBlock is the number of words of op(a) in a task's block: a larger one leaves
	// too little of the second-level cache to c and op(b).
	maxBlock = 48 << 10
	// maxTask is the number of values that a task's block of c has when its columns
	// are all of c's: 512 kB, for the second-level cache.
	maxTask = 128 << 10
	// maxPacked words are packed at a time: 64 MiB.
	maxPacked = 16 << 20
	// rowGap keeps rows from competing for the same few places in the cache.
	rowGap = 16
	// A value is packed where at least so many rows, or columns, read it. Rows of a
	// are fast where they are, and so is a narrow op(b), unless they are transposed.
	packRows    = 96
	packColumns = 32
	narrow      = 256
)

// MatMul implements kernels.Device.
func (d *Device) MatMul(c, a, b kernels.Buffer, m, n, k int, transA, transB, accumulate bool) {
	kernels.CheckMatMul(c, a, b, m, n, k)
	if m == 0 || n == 0 {
		return
	}
	j := &d.matmul
	j.packing = packing{d.path, d.half}
	j.c, j.a, j.b = d.written("matmul", c), f32("matmul", a), f32("matmul", b)
	j.m, j.n, j.k, j.transA, j.transB, j.accumulate = m, n, k, transA, transB, accumulate
	j.residual, j.gated, j.rounded, j.keeping = nil, nil, nil, nil
	vector := j.panel != nil
	j.packB = j.half != nil || j.transB || vector && j.m >= packRows && j.n > narrow
	j.plan(d.threads)
	width := n
	if j.packB {
		width = max(maxPacked/max(j.depth, 1)/j.cols, 1) * j.cols
	}
	for j.first = 0; j.first < n; j.first += width {
		j.last = min(j.first+width, n)
		if panels := blocks(j.last-j.first, j.cols); j.packB {
			j.own = grownFloats(j.own, panels*j.cols*j.depth)
			j.columns = j.own
			j.filling = true
			d.run(j, blocks(panels, packPanels))
			j.filling = false
		}
		d.run(j, blocks(m, j.taskRows)*blocks(j.last-j.first, j.taskCols))
	}
}

// multiply runs j, whose operands are set, on an op(b) that is packed already.
func (d *Device) multiply(j *matmulJob, columns []float32) {
	if j.m == 0 || j.n == 0 {
		return
	}
	j.packing = packing{d.path, d.half}
	j.transA, j.packB, j.columns, j.first, j.last = false, true, columns, 0, j.n
	j.accumulate = j.residual != nil
	j.plan(d.threads)
	d.run(j, blocks(j.m, j.taskRows)*blocks(j.n, j.taskCols))
}

// plan chooses the sizes of a task and whether op(a) is packed.
func (j *matmulJob) plan(threads int) {
	j.depth = j.words(j.k)
	j.packA = j.half != nil || j.panel != nil && j.transA && j.n >= packColumns
	j.taskDepth = max(blocks(j.depth, max(blocks(j.depth, maxDepth), 1)), 1)
	j.taskRows, j.taskCols = maxTaskRows, maxTaskCols
	if j.half != nil {
		j.taskDepth = blocks(j.taskDepth, halfWords) * halfWords
		j.taskCols = 4 * maxTaskCols // rounding a row again costs more than reading a panel again
	} else if j.taskRows*j.taskDepth > maxBlock {
		j.taskRows /= 2
	}
	if j.gated != nil {
		j.taskCols = j.n
		for j.taskRows*j.n > maxTask && j.taskRows > minTaskRows {
			j.taskRows /= 2
		}
	}
	if threads > 1 {
		j.share(4 * threads) // which evens out what other processes take from a thread
	}
	for w := range j.scratch {
		s := &j.scratch[w]
		if j.packA {
			s.rows = grownFloats(s.rows, j.taskRows*(j.taskDepth+rowGap))
		}
		if j.apart() {
			s.sums = grownFloats(s.sums, j.taskRows*j.taskCols)
		}
		s.tmp = grownFloats(s.tmp, j.packing.scratch(j.k))
	}
}

// share makes tasks smaller until there are as many as asked for, or none can be.
func (j *matmulJob) share(tasks int) {
	j.taskRows, j.taskCols = min(j.taskRows, j.m), min(j.taskCols, blocks(j.n, j.cols)*j.cols)
	for blocks(j.m, j.taskRows)*blocks(j.n, j.taskCols) < tasks {
		switch {
		case j.taskRows > 2*minTaskRows:
			j.taskRows = blocks(j.taskRows, 2)
		case j.taskCols > minTaskCols && j.gated == nil:
			j.taskCols = blocks(j.taskCols/2, j.cols) * j.cols
		case j.taskRows > minTaskRows:
			j.taskRows = blocks(j.taskRows, 2)
		default:
			return
		}
	}
}

// apart says whether chains are finished in scratch memory before they are added to c.
func (j *matmulJob) apart() bool { return j.half == nil && j.accumulate && j.depth > j.taskDepth }

func (j *matmulJob) do(worker, task int) {
	s := &j.scratch[worker]
	if j.filling {
		col := j.first + task*packPanels*j.cols
		count := min(packPanels*j.cols, j.last-col)
		dst := j.columns[(col-j.first)*j.depth:]
		switch {
		case j.k == 0:
		case j.transB:
			j.transposed(dst, j.b[col*j.k:], j.k, count, j.k, s.tmp)
		default:
			j.straight(dst, j.depth, j.b[col:], j.n, count, j.k)
		}
		return
	}
	rows := blocks(j.m, j.taskRows)
	row, col := task%rows*j.taskRows, j.first+task/rows*j.taskCols
	count, end := min(j.taskRows, j.m-row), min(col+j.taskCols, j.last)
	if j.residual != nil {
		for i := row; i < row+count; i++ {
			copy(j.c[i*j.n+col:i*j.n+end], j.residual[i*j.n+col:i*j.n+end])
		}
	}
	j.block(s, row, count, col, end)
	if j.gated != nil {
		width := j.n / 2
		for i := row; i < row+count; i++ {
			row := j.gated[i*width:][:width]
			j.swiglu(row, j.c[i*j.n:][:width], j.c[i*j.n+width:][:width])
			if j.keeping != nil {
				j.keeping.keep(i, row)
			}
		}
	}
}

// block computes the block of c of count rows from row on and of the columns from col
// to before end.
func (j *matmulJob) block(s *matmulScratch, row, count, col, end int) {
	x := product{c: j.c[row*j.n+col:], cRow: j.n, m: count, mode: productSet}
	switch {
	case j.apart():
		x.c, x.cRow = s.sums, j.taskCols
	case j.accumulate && j.half != nil:
		x.mode = productChain
	case j.accumulate:
		x.mode = productAdd
	}
	c := x.c
	for p := 0; p < max(j.depth, 1); p += j.taskDepth {
		x.k = min(j.taskDepth, j.depth-p)
		j.operandA(&x, s, row, p)
		for at := col; at < end; at += j.cols {
			x.n = min(j.cols, end-at)
			x.b, x.bRow = j.b, j.n
			if j.packB {
				x.b, x.bRow = j.columns[(at-j.first)*j.depth+p*j.cols:], j.cols
				x.next = nil
				if next := at + j.cols; next < end {
					x.next = j.columns[(next-j.first)*j.depth+p*j.cols:]
				}
			} else if x.k > 0 {
				x.b = j.b[p*j.n+at:]
			}
			x.c = c[at-col:]
			j.product(&x, j.half)
		}
		x.mode = productChain
	}
	if j.apart() {
		for i := range count {
			j.add(j.c[(row+i)*j.n+col:(row+i)*j.n+end], c[i*j.taskCols:][:end-col])
		}
	}
}

// operandA makes x read op(a)'s rows from row on and its words of k from p on.
func (j *matmulJob) operandA(x *product, s *matmulScratch, row, p int) {
	k := x.k // values of k
	if j.half != nil {
		p *= 2
		k = min(2*k, j.k-p)
	}
	src, srcRow := j.a, j.k
	switch {
	case x.k == 0:
		return
	case j.transA:
		src, srcRow = src[p*j.m+row:], j.m
	default:
		src = src[row*j.k+p:]
	}
	switch {
	case j.rounded != nil:
		x.a, x.aRow, x.aCol = j.rounded.words[row*j.rounded.stride+p/2:], j.rounded.stride, 1
	case j.packA:
		x.a, x.aRow, x.aCol = s.rows, x.k+rowGap, 1
		j.rows(s.rows, x.aRow, src, srcRow, x.m, k, j.transA, s.tmp)
	case j.transA:
		x.a, x.aRow, x.aCol = src, 1, srcRow
	default:
		x.a, x.aRow, x.aCol = src, srcRow, 1
	}
}
