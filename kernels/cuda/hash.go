//go:build cuda && linux && amd64

package cuda

import "loco/kernels"

const (
	hashBytes = 32 // of a leaf's SHA-256
	// hashLeaves is how many hashes fill a slot: those of 512 MiB, 31 warps for each
	// multiprocessor of an H200.
	hashLeaves = slotBytes / hashBytes
)

// Hash implements kernels.Exchanger: a thread hashes a leaf, and only hashes cross to the host.
// After an error of the device dst is zeros.
func (d *Device) Hash(dst []byte, x kernels.Buffer) {
	kernels.CheckSame("hash", "dst", len(dst), kernels.HashLen(x.Len()))
	d.hash(dst, x, hashLeaves)
}

// hash crosses in pieces of so many leaves, at most hashLeaves.
func (d *Device) hash(dst []byte, x kernels.Buffer, leaves int) {
	n := x.Len()
	if n == 0 {
		return
	}
	const threads = 128
	values := leaves * kernels.HashLeaf
	from, to := d.read("hash", x, n, floats), d.scratch(&d.encoded, slotCount*slotBytes)
	d.out(dst, leaves*hashBytes, func(i int) uint64 {
		at, first, count := to+uint64(i%slotCount)*slotBytes, from+4*uint64(i)*uint64(values), min(values, n-i*values)
		d.launch("hash_leaves", blocks(count, threads*kernels.HashLeaf), 1, 1, threads, 0, at, first, uint64(count), vector(0, first))
		return at
	})
	if d.err != nil {
		clear(dst)
	}
}
