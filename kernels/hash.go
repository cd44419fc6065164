package kernels

import "crypto/sha256"

// HashLeaf is the number of values in a leaf of [HashLeaves]. SHA-256 is one chain, and a
// vector's leaves are many: threads and GPUs hash them at once. The one digest of a vector,
// [Digest], is the hash of their hashes.
const HashLeaf = 1024

// HashLen is the number of bytes of the hashes of n values: 32 for each leaf begun.
func HashLen(n int) int { return sha256.Size * pieces(n, HashLeaf) }

// HashLeaves sets dst to the SHA-256 (FIPS 180-4, section 6.2) of each 4·HashLeaf bytes of b,
// one after the other; the last may be of fewer. It panics unless dst has 32 bytes for each.
func HashLeaves(dst, b []byte) {
	const leaf = 4 * HashLeaf
	CheckSame("hash leaves", "dst", len(dst), sha256.Size*pieces(len(b), leaf))
	for ; len(b) > 0; dst, b = dst[sha256.Size:], b[min(leaf, len(b)):] {
		sum := sha256.Sum256(b[:min(leaf, len(b))])
		copy(dst, sum[:])
	}
}
