package cpu

import "loco/kernels"

// lossBlock is the number of rows a task takes.
const lossBlock = 16

// lossJob is CrossEntropy.
type lossJob struct {
	*path
	losses, logits []float32
	targets        []int32
	rows, vocab    int
	scale          float32
}

// CrossEntropy implements kernels.Device. The sum over a row has the tree of the lanes, and
// its logarithm is taken in float64.
func (d *Device) CrossEntropy(losses, logits kernels.Buffer, targets kernels.Tokens, first, rows, vocab int, scale float32) {
	const op = "cross-entropy"
	ids := cpuIDs(op, targets)
	kernels.CheckCrossEntropy(losses, logits, ids, first, rows, vocab)
	d.loss = lossJob{d.path, d.written(op, losses)[first:], d.written(op, logits), ids[first:], rows, vocab, scale}
	d.run(&d.loss, blocks(rows, lossBlock))
}

func (j *lossJob) do(_, task int) {
	for r := task * lossBlock; r < min((task+1)*lossBlock, j.rows); r++ {
		row, target := j.logits[r*j.vocab:][:j.vocab], j.targets[r]
		if target < 0 {
			clear(row)
			j.losses[r] = 0
			continue
		}
		highest, own := j.greatest(row), row[target]
		sum := j.expSum(row, row, highest)
		j.losses[r] = float32(log64(float64(sum)) - float64(own-highest))
		j.path.scale(row, j.scale/sum)
		row[target] -= j.scale
	}
}
