package cpu

import "loco/kernels"

// Rows a task copies, and columns a task of the backward pass adds: tokens may
// repeat, so there each task owns columns of the table, not rows.
const (
	embeddingRows    = 256
	embeddingColumns = 64
)

// embeddingJob is Embedding, or its backward pass.
type embeddingJob struct {
	*path
	backward    bool
	rows, table []float32
	ids         []int32
	width       int
}

// Embedding implements kernels.Device.
func (d *Device) Embedding(out, table kernels.Buffer, tokens kernels.Tokens, vocab, width int) {
	ids := cpuIDs("embedding", tokens)
	kernels.CheckEmbedding("embedding", out, table, ids, vocab, width)
	d.embedding = embeddingJob{d.path, false, d.written("embedding", out), f32("embedding", table), ids, width}
	d.run(&d.embedding, blocks(len(ids), embeddingRows))
}

// EmbeddingBackward implements kernels.Device.
func (d *Device) EmbeddingBackward(dtable, dout kernels.Buffer, tokens kernels.Tokens, vocab, width int) {
	const op = "embedding backward"
	ids := cpuIDs(op, tokens)
	kernels.CheckEmbedding(op, dout, dtable, ids, vocab, width)
	d.embedding = embeddingJob{d.path, true, f32(op, dout), d.written(op, dtable), ids, width}
	d.run(&d.embedding, blocks(width, embeddingColumns))
}

func (j *embeddingJob) do(_, task int) {
	if !j.backward {
		lo := task * embeddingRows
		for r, id := range j.ids[lo:min(lo+embeddingRows, len(j.ids))] {
			copy(j.rows[(lo+r)*j.width:][:j.width], j.table[int(id)*j.width:])
		}
		return
	}
	lo := task * embeddingColumns
	hi := min(lo+embeddingColumns, j.width)
	for r, id := range j.ids {
		j.add(j.table[int(id)*j.width+lo:int(id)*j.width+hi], j.rows[r*j.width+lo:r*j.width+hi])
	}
}
