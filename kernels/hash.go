package kernels

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// HashLeaf is the number of values in a leaf of [HashLeaves]. SHA-256 is one chain, and a
// vector's leaves are many: threads and GPUs hash them at once, and whoever wants one digest
// of a vector hashes their hashes.
const HashLeaf = 1024

// HashLen is the number of bytes of the hashes of n values: 32 for each leaf begun.
func HashLen(n int) int { return sha256.Size * blocks(n, HashLeaf) }

// HashLeaves sets dst to the SHA-256 (FIPS 180-4, section 6.2) of each 4·HashLeaf bytes of b,
// one after the other; the last may be of fewer. It panics unless dst has 32 bytes for each.
func HashLeaves(dst, b []byte) {
	const leaf = 4 * HashLeaf
	same("hash leaves", "dst", len(dst), sha256.Size*blocks(len(b), leaf))
	for ; len(b) > 0; dst, b = dst[sha256.Size:], b[min(leaf, len(b)):] {
		sum := sha256.Sum256(b[:min(leaf, len(b))])
		copy(dst, sum[:])
	}
}

// hashTask is the number of leaves in a task.
const hashTask = 16

// hashJob hashes the leaves of x into dst.
type hashJob struct {
	dst []byte
	x   []float32
}

// Hash implements Exchanger.
func (d *CPU) Hash(dst []byte, x Buffer) {
	same("hash", "dst", len(dst), HashLen(x.Len()))
	d.hashing = hashJob{dst, f32("hash", x)}
	d.run(&d.hashing, blocks(len(d.hashing.x), hashTask*HashLeaf))
}

func (j *hashJob) do(_, task int) {
	var leaf [4 * HashLeaf]byte // on the stack, and in the first-level cache
	first := task * hashTask
	for i := first; i < min(first+hashTask, len(j.dst)/sha256.Size); i++ {
		x := j.x[i*HashLeaf : min((i+1)*HashLeaf, len(j.x))]
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
