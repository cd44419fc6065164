package kernels

// matmulJob is one matmul. Where op(b)'s columns are not next to each other in memory
// a first phase packs them into panels, which all tasks then read. A task computes a
// block of c, for one block of k after the other, so that what it reads of b stays in
// the first-level cache and what it reads of a in the second.
type matmulJob struct {
	*path
	packing bool // in the first phase

	c, a, b    []float32
	m, n, k    int
	aRow, aCol int // strides of op(a)
	transB     bool
	accumulate bool

	first, last        int // columns of c in this pass
	taskRows, taskCols int // of a task's block of c
	taskDepth          int // values of k at a time

	packed []float32   // op(b)'s columns first to last: panels of (k, cols)
	sums   [][]float32 // by worker: a block of c whose chains are not finished
}

const (
	packPanels = 4 // panels a packing task
	// maxDepth values of k, for 12 rows of a and 32 columns of b, take 66 kB; with
	// k in blocks each chain goes through memory between them.
	maxDepth    = 384
	maxTaskRows = 96
	maxTaskCols = 256
	// maxPacked values are packed at a time: 64 MiB.
	maxPacked = 16 << 20
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
	j.m, j.n, j.k, j.transB, j.accumulate = m, n, k, transB, accumulate
	j.aRow, j.aCol = k, 1
	if transA {
		j.aRow, j.aCol = 1, m
	}
	j.plan(d.threads)
	width := n
	if transB {
		width = max(maxPacked/max(k, 1)/j.cols, 1) * j.cols
	}
	for j.first = 0; j.first < n; j.first += width {
		j.last = min(j.first+width, n)
		if panels := blocks(j.last-j.first, j.cols); transB {
			j.packed = grown(j.packed, panels*j.cols*k)
			j.packing = true
			d.run(j, blocks(panels, packPanels))
			j.packing = false
		}
		d.run(j, blocks(m, j.taskRows)*blocks(j.last-j.first, j.taskCols))
	}
}

// plan chooses the sizes of a task.
func (j *matmulJob) plan(threads int) {
	j.taskDepth = max(blocks(j.k, max(blocks(j.k, maxDepth), 1)), 1)
	j.taskRows, j.taskCols = maxTaskRows, maxTaskCols
	if threads > 1 {
		// Four tasks a thread even out what other processes take from one of them.
		for blocks(j.m, j.taskRows)*blocks(j.n, j.taskCols) < 4*threads && j.taskRows > 24 {
			j.taskRows /= 2
		}
	}
	if j.accumulate && j.k > j.taskDepth {
		for w := range j.sums {
			j.sums[w] = grown(j.sums[w], j.taskRows*j.taskCols)
		}
	}
}

func (j *matmulJob) do(worker, task int) {
	if j.packing {
		col := j.first + task*packPanels*j.cols
		count := min(packPanels*j.cols, j.last-col)
		j.packTransposed(j.packed[(col-j.first)*j.k:], j.b[col*j.k:], j.k, count, j.k)
		return
	}
	rows := blocks(j.m, j.taskRows)
	row, col := task%rows*j.taskRows, j.first+task/rows*j.taskCols
	j.block(worker, row, min(row+j.taskRows, j.m), col, min(col+j.taskCols, j.last))
}

// block computes the block of c from (row, col) to before (rowEnd, colEnd).
func (j *matmulJob) block(worker, row, rowEnd, col, colEnd int) {
	x := product{
		c: j.c[row*j.n+col:], cRow: j.n, aRow: j.aRow, aCol: j.aCol,
		m: rowEnd - row, mode: productSet,
	}
	apart := j.accumulate && j.k > j.taskDepth
	switch {
	case apart:
		x.c, x.cRow = j.sums[worker], j.taskCols
	case j.accumulate:
		x.mode = productAdd
	}
	c := x.c
	for p := 0; p < max(j.k, 1); p += j.taskDepth {
		x.k = min(j.taskDepth, j.k-p)
		x.a = j.a[row*j.aRow+p*j.aCol:]
		for at := col; at < colEnd; at += j.cols {
			x.n = min(j.cols, colEnd-at)
			if j.transB {
				x.b, x.bRow = j.packed[(at-j.first)*j.k+p*j.cols:], j.cols
			} else {
				x.b, x.bRow = j.b[p*j.n+at:], j.n
			}
			x.c = c[at-col:]
			j.product(&x)
		}
		x.mode = productChain
	}
	if apart {
		for i := range rowEnd - row {
			j.add(j.c[(row+i)*j.n+col:(row+i)*j.n+colEnd], c[i*j.taskCols:][:colEnd-col])
		}
	}
}
