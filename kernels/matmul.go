package kernels

// matmulJob is one matmul. It runs in two phases: first the tasks pack op(b) into
// panels, which all of them then read; then each computes a block of c, for one block
// of k after the other, so that what it reads of a panel stays in the first-level cache
// and what it reads of op(a) in the second.
type matmulJob struct {
	*path
	packing bool // in the first phase

	c, a, b        []float32
	m, n, k        int
	transA, transB bool
	accumulate     bool

	packA, packB       bool // or read where they are
	first, last        int  // columns of c in this pass
	taskRows, taskCols int  // of a task's block of c
	taskDepth          int  // values of k at a time

	columns []float32       // op(b)'s columns first to last: panels of (k, cols)
	scratch []matmulScratch // by worker
}

// matmulScratch is what a task needs.
type matmulScratch struct {
	rows []float32 // its block of op(a): (taskRows, taskDepth), rows rowGap further apart
	sums []float32 // its block of c (taskRows, taskCols), while chains are not finished
}

const (
	packPanels = 4 // panels a packing task
	// maxDepth values of k, for 12 rows of a and 32 columns of b, take 45 kB; with
	// k in blocks each chain goes through memory between them.
	maxDepth    = 256
	minTaskRows = 48
	maxTaskRows = 192
	maxTaskCols = 512
	// maxPacked values are packed at a time: 64 MiB.
	maxPacked = 16 << 20
	// rowGap keeps rows from competing for the same few places in the cache.
	rowGap = 16
	// A value is packed where at least so many rows, or columns, read it. Rows of a
	// are fast where they are, and so is a narrow op(b), unless they are transposed.
	packRows    = 96
	packColumns = 96
	narrow      = 256
)

// MatMul implements Device.
func (d *CPU) MatMul(c, a, b Buffer, m, n, k int, transA, transB, accumulate bool) {
	checkMatMul(c, a, b, m, n, k)
	if m == 0 || n == 0 {
		return
	}
	j := &d.matmul
	j.path = d.path
	j.c, j.a, j.b = f32("matmul", c), f32("matmul", a), f32("matmul", b)
	j.m, j.n, j.k, j.transA, j.transB, j.accumulate = m, n, k, transA, transB, accumulate
	j.plan(d.threads)
	width := n
	if j.packB {
		width = max(maxPacked/max(k, 1)/j.cols, 1) * j.cols
	}
	for j.first = 0; j.first < n; j.first += width {
		j.last = min(j.first+width, n)
		if panels := blocks(j.last-j.first, j.cols); j.packB {
			j.columns = grownFloats(j.columns, panels*j.cols*k)
			j.packing = true
			d.run(j, blocks(panels, packPanels))
			j.packing = false
		}
		d.run(j, blocks(m, j.taskRows)*blocks(j.last-j.first, j.taskCols))
	}
}

// plan chooses the sizes of a task and what is packed.
func (j *matmulJob) plan(threads int) {
	vector := j.panel != nil
	j.packB = j.transB || vector && j.m >= packRows && j.n > narrow
	j.packA = vector && j.transA && j.n >= packColumns
	j.taskDepth = max(blocks(j.k, max(blocks(j.k, maxDepth), 1)), 1)
	j.taskRows, j.taskCols = maxTaskRows, maxTaskCols
	if threads > 1 {
		// Four tasks a thread even out what other processes take from one of them.
		for blocks(j.m, j.taskRows)*blocks(j.n, j.taskCols) < 4*threads && j.taskRows > minTaskRows {
			j.taskRows /= 2
		}
	}
	for w := range j.scratch {
		s := &j.scratch[w]
		if j.packA {
			s.rows = grownFloats(s.rows, j.taskRows*(j.taskDepth+rowGap))
		}
		if j.apart() {
			s.sums = grownFloats(s.sums, j.taskRows*j.taskCols)
		}
	}
}

// apart says whether chains are finished in scratch memory before they are added to c.
func (j *matmulJob) apart() bool { return j.accumulate && j.k > j.taskDepth }

func (j *matmulJob) do(worker, task int) {
	if j.packing {
		col := j.first + task*packPanels*j.cols
		count := min(packPanels*j.cols, j.last-col)
		dst := j.columns[(col-j.first)*j.k:]
		if j.transB {
			j.packTransposed(dst, j.b[col*j.k:], j.k, count, j.k)
		} else {
			j.pack(dst, j.b[col:], j.n, count, j.k)
		}
		return
	}
	rows := blocks(j.m, j.taskRows)
	row, col := task%rows*j.taskRows, j.first+task/rows*j.taskCols
	j.block(&j.scratch[worker], row, min(j.taskRows, j.m-row), col, min(col+j.taskCols, j.last))
}

// block computes the block of c of count rows from row on and of the columns from col
// to before end.
func (j *matmulJob) block(s *matmulScratch, row, count, col, end int) {
	x := product{c: j.c[row*j.n+col:], cRow: j.n, m: count, mode: productSet}
	if j.apart() {
		x.c, x.cRow = s.sums, j.taskCols
	} else if j.accumulate {
		x.mode = productAdd
	}
	c := x.c
	for p := 0; p < max(j.k, 1); p += j.taskDepth {
		x.k = min(j.taskDepth, j.k-p)
		j.operandA(&x, s, row, p)
		for at := col; at < end; at += j.cols {
			x.n = min(j.cols, end-at)
			x.b, x.bRow = j.b, j.n
			if j.packB {
				x.b, x.bRow = j.columns[(at-j.first)*j.k+p*j.cols:], j.cols
			} else if x.k > 0 {
				x.b = j.b[p*j.n+at:]
			}
			x.c = c[at-col:]
			j.product(&x)
		}
		x.mode = productChain
	}
	if j.apart() {
		for i := range count {
			j.add(j.c[(row+i)*j.n+col:(row+i)*j.n+end], c[i*j.taskCols:][:end-col])
		}
	}
}

// operandA makes x read op(a)'s rows from row on and its values of k from p on.
func (j *matmulJob) operandA(x *product, s *matmulScratch, row, p int) {
	switch {
	case x.k == 0:
	case j.packA:
		x.a, x.aRow, x.aCol = s.rows, x.k+rowGap, 1
		j.turn(s.rows, x.aRow, j.a[p*j.m+row:], j.m, x.k, x.m)
	case j.transA:
		x.a, x.aRow, x.aCol = j.a[p*j.m+row:], 1, j.m
	default:
		x.a, x.aRow, x.aCol = j.a[row*j.k+p:], j.k, 1
	}
}
