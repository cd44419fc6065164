package kernels

// matmulJob is one matmul. It runs in two phases: first the tasks pack op(b), which
// all of them then read; then each packs some rows of op(a) and computes their rows of
// c. Sums are never split over k, so a panel is as long as k: scalar code asks so
// little of the caches that blocking k would only cost a second pass over c.
type matmulJob struct {
	packing bool // in the first phase

	c, a, b    []float32
	m, n, k    int
	aRow, aCol int // strides of op(a)
	bRow, bCol int // strides of op(b)
	accumulate bool
	taskRows   int // rows of c a task, a multiple of tileRows

	columns []bStep   // op(b): ⌈n/tileCols⌉ panels
	panels  [][]aStep // by worker: taskRows/tileRows panels
}

const (
	packPanels  = 16 // panels of op(b) a packing task
	maxTaskRows = 32 // keeps a task's panels in the second-level cache
)

// MatMul implements Device.
func (d *CPU) MatMul(c, a, b Buffer, m, n, k int, transA, transB, accumulate bool) {
	checkMatMul(c, a, b, m, n, k)
	j := &d.matmul
	j.c, j.a, j.b = f32("matmul", c), f32("matmul", a), f32("matmul", b)
	j.m, j.n, j.k, j.accumulate = m, n, k, accumulate
	j.aRow, j.aCol = k, 1
	if transA {
		j.aRow, j.aCol = 1, m
	}
	j.bRow, j.bCol = n, 1
	if transB {
		j.bRow, j.bCol = 1, k
	}
	// Four tasks a thread even out what other processes take from one of them.
	perTask := blocks(blocks(m, tileRows), 4*d.threads) * tileRows
	j.taskRows = min(perTask, maxTaskRows)

	steps := tileSteps(k)
	j.columns = grown(j.columns, blocks(n, tileCols)*steps)
	for w := range j.panels {
		j.panels[w] = grown(j.panels[w], j.taskRows/tileRows*steps)
	}
	j.packing = true
	d.run(j, blocks(blocks(n, tileCols), packPanels))
	j.packing = false
	if m > 0 && n > 0 {
		d.run(j, blocks(m, j.taskRows))
	}
}

func (j *matmulJob) do(worker, task int) {
	if j.packing {
		j.pack(task)
		return
	}
	j.multiply(j.panels[worker], task*j.taskRows)
}

// pack packs one task's columns of op(b).
func (j *matmulJob) pack(task int) {
	steps := tileSteps(j.k)
	if steps == 0 {
		return
	}
	last := min((task+1)*packPanels, blocks(j.n, tileCols))
	for panel := task * packPanels; panel < last; panel++ {
		col := panel * tileCols
		packB(j.columns[panel*steps:][:steps], j.b[col*j.bCol:], min(tileCols, j.n-col), j.k, j.bRow, j.bCol)
	}
}

// multiply computes the rows of c from row on that make one task.
func (j *matmulJob) multiply(rows []aStep, row int) {
	steps := tileSteps(j.k)
	count := min(j.taskRows, j.m-row)
	for i := 0; i < count && steps > 0; i += tileRows {
		packA(rows[i/tileRows*steps:][:steps], j.a[(row+i)*j.aRow:], min(tileRows, count-i), j.k, j.aRow, j.aCol)
	}
	var t aTile
	for i := 0; i < count; i += tileRows {
		panel := rows[i/tileRows*steps:][:steps]
		c := j.c[(row+i)*j.n : (row+min(i+tileRows, count))*j.n]
		for col := 0; col < j.n; col += tileCols {
			tile(&t, panel, j.columns[col/tileCols*steps:][:steps])
			storeTile(c, &t, col, j.n, j.accumulate)
		}
	}
}

// storeTile writes, or adds, a tile to columns col and col+1 of c, whose rows of n
// values are 1 to tileRows.
func storeTile(c []float32, t *aTile, col, n int, accumulate bool) {
	if len(c) < tileRows*n || col+1 >= n {
		storeEdge(c, t, col, n, accumulate)
		return
	}
	c0, c1 := c[col:][:2], c[n+col:][:2]
	c2, c3 := c[2*n+col:][:2], c[3*n+col:][:2]
	if accumulate {
		c0[0], c0[1] = c0[0]+t[0], c0[1]+t[1]
		c1[0], c1[1] = c1[0]+t[2], c1[1]+t[3]
		c2[0], c2[1] = c2[0]+t[4], c2[1]+t[5]
		c3[0], c3[1] = c3[0]+t[6], c3[1]+t[7]
		return
	}
	c0[0], c0[1] = t[0], t[1]
	c1[0], c1[1] = t[2], t[3]
	c2[0], c2[1] = t[4], t[5]
	c3[0], c3[1] = t[6], t[7]
}

func storeEdge(c []float32, t *aTile, col, n int, accumulate bool) {
	for i := range len(c) / n {
		for x := range min(tileCols, n-col) {
			v := t[i*tileCols+x]
			if accumulate {
				v += c[i*n+col+x]
			}
			c[i*n+col+x] = v
		}
	}
}
