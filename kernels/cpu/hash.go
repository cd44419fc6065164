package cpu

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"loco/kernels"
)

// hashTask is the number of leaves in a task.
const hashTask = 16

// hashJob hashes the leaves of x into dst.
type hashJob struct {
	dst []byte
	x   []float32
}

// Hash implements kernels.Exchanger.
func (d *Device) Hash(dst []byte, x kernels.Buffer) {
	kernels.CheckSame("hash", "dst", len(dst), kernels.HashLen(x.Len()))
	d.hashing = hashJob{dst, f32("hash", x)}
	d.run(&d.hashing, blocks(len(d.hashing.x), hashTask*kernels.HashLeaf))
}

func (j *hashJob) do(_, task int) {
	var leaf [4 * kernels.HashLeaf]byte // on the stack, and in the first-level cache
	first := task * hashTask
	for i := first; i < min(first+hashTask, len(j.dst)/sha256.Size); i++ {
		x := j.x[i*kernels.HashLeaf : min((i+1)*kernels.HashLeaf, len(j.x))]
		dst, v := leaf[:4*len(x)], x
		for ; len(v) >= 4 && len(dst) >= 16; v, dst = v[4:], dst[16:] { // without bounds checks
			binary.LittleEndian.PutUint32(dst, math.Float32bits(v[0]))
			binary.LittleEndian.PutUint32(dst[4:], math.Float32bits(v[1]))
			binary.LittleEndian.PutUint32(dst[8:], math.Float32bits(v[2]))
			binary.LittleEndian.PutUint32(dst[12:], math.Float32bits(v[3]))
		}
		for k, last := range v {
			binary.LittleEndian.PutUint32(dst[4*k:], math.Float32bits(last))
		}
		sum := sha256.Sum256(leaf[:4*len(x)])
		copy(j.dst[i*sha256.Size:], sum[:])
	}
}
