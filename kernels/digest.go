package kernels

import (
	"crypto/sha256"
	"runtime"
	"sync"
)

// DigestPiece is how many bytes of a vector one thread hashes at a time: whole leaves.
const DigestPiece = 256 * 4 * HashLeaf

// Digest returns the SHA-256 of what [HashLeaves] gives for b: the one digest of a vector's
// little-endian bytes. Long ones are hashed by all processors.
func Digest(b []byte) [32]byte {
	return DigestOf(len(b), func(dst []byte, lo, hi int) { HashLeaves(dst, b[lo:hi]) })
}

// DigestOf is Digest of n bytes that leaves hashes, the range [lo, hi) into dst, at most
// DigestPiece at a time. It is called from several goroutines.
func DigestOf(n int, leaves func(dst []byte, lo, hi int)) [32]byte {
	const ratio = 4 * HashLeaf / sha256.Size
	hashes := make([]byte, sha256.Size*pieces(n, 4*HashLeaf))
	parts := pieces(n, DigestPiece)
	var wg sync.WaitGroup
	threads := min(parts, runtime.GOMAXPROCS(0))
	for k := range threads {
		wg.Go(func() {
			for i := k; i < parts; i += threads {
				lo, hi := i*DigestPiece, min((i+1)*DigestPiece, n)
				leaves(hashes[lo/ratio:min(lo/ratio+DigestPiece/ratio, len(hashes))], lo, hi)
			}
		})
	}
	wg.Wait()
	return sha256.Sum256(hashes)
}
